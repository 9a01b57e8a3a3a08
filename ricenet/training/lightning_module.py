"""LightningModule around a network: batches {volume (B, C, X, Y, Z), label} in; logits (B, 2) out.

A network with numbers (ricenet.networks.late_fusion) also takes the batch's `numbers` (B, N), nan where missing.
Loss: cross-entropy; optimiser: Adam. With `channel_dropout` channels are blanked at random in training, so that one
model answers for every modality set; a number is missing where a channel that it is measured on is blanked.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from ricenet import LABELS
from ricenet.errors import InvalidInput
from ricenet.networks.late_fusion import LateFusion
from ricenet.networks.pretrained import PretrainedPart


class RiceClassifier(lightning.LightningModule):
    """Train and score a network; validation metrics are torchmetrics objects, computed over the whole epoch.

    Args:
        network: (B, C, X, Y, Z) -> logits (B, 2); or a LateFusion, which takes numbers (B, N), too.
        schedule: of the learning rate: constant, one_cycle or cosine (to 0).
        label_smoothing: share of every label that is spread over both classes, in training.
        fused: Adam in one kernel.
        mixup: alpha of the shares by which training volumes are blended; 0: they are not.
        channels_last: memory layout of weights and volumes; changes the speed (1.2x on CPUs), not the function.
        channel_dropout: probability that a channel is blanked in training, where another is left.
        start: the part of `network` that starts from a file; None: there is none.

    Attributes:
        present: indices of the channels that are shown to the network in validation and prediction; None: all.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float,
        schedule: str,
        label_smoothing: float,
        fused: bool,
        mixup: float,
        seed: int,
        channels_last: bool = True,
        channel_dropout: float = 0.0,
        start: PretrainedPart | None = None,
    ) -> None:
        super().__init__()
        self.layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.learning_rate, self.weight_decay, self.schedule, self.fused = learning_rate, weight_decay, schedule, fused
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.seed, self.channel_dropout = seed, channel_dropout
        self.start = start or PretrainedPart()
        self.present: Sequence[int] | None = None
        self._last_loss: tuple[Tensor, list[str]] | None = None
        self._losses: list[tuple[Tensor, int]] = []
        self.validation_metrics = MetricCollection(
            {"macro_f1": MulticlassF1Score(len(LABELS), average="macro"), "auroc": MulticlassAUROC(len(LABELS))},
            prefix="val/",
        )
        self._keep_frozen()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self._keep_frozen()
        return self

    def _keep_frozen(self) -> None:
        """What is frozen is always in evaluation mode, so that its batch-norm statistics stay, too."""
        for module in self.start.frozen:
            module.eval()

    def forward(self, volume: Tensor, numbers: Tensor | None = None) -> Tensor:
        if self.present is not None:
            kept = torch.tensor([[channel in self.present for channel in range(volume.shape[1])]])
            volume, *rest = self._shown(volume, numbers, kept)
            numbers = rest[0] if rest else None
        volume = volume.contiguous(memory_format=self.layout)
        return self.network(volume) if numbers is None else self.network(volume, numbers)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout must not depend on what was drawn before: a run resumed at an epoch border goes on bit for bit.
        place = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        seed = int(np.random.SeedSequence(place).generate_state(1)[0])
        # torch.manual_seed takes milliseconds: it writes down a stack for each kind of accelerator that is not there.
        (torch.default_generator if self.device.type == "cpu" else torch).manual_seed(seed)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self._require_finite()
        self._last_loss = loss.detach(), batch["case"]
        self._losses.append((loss.detach(), len(batch["label"])))
        return loss

    def on_train_epoch_start(self) -> None:
        self._losses.clear()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the mean loss over the samples of an epoch with its last batch: each logging takes milliseconds."""
        if self.trainer.is_last_batch:
            losses, sizes = zip(*self._losses, strict=True)
            weights = torch.tensor(sizes, dtype=torch.float32, device=losses[0].device) / sum(sizes)
            mean = (torch.stack(losses).float() * weights).sum()
            self.log("train/loss", mean, on_step=False, on_epoch=True, prog_bar=True, batch_size=1, sync_dist=True)

    def _loss(self, batch: Mapping[str, Any]) -> Tensor:
        smoothing = self.label_smoothing
        if not self.mixup:
            return functional.cross_entropy(self(*self.blanked(batch)), batch["label"], label_smoothing=smoothing)
        blend = blended(batch, self.mixup)
        logits = self(*self.blanked(blend.batch))
        first, second = (
            functional.cross_entropy(logits, label, label_smoothing=smoothing)
            for label in (batch["label"], batch["label"][blend.partner])
        )
        return blend.share * first + (1 - blend.share) * second

    def blanked(self, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The volumes of a batch, and its numbers if any, with channels blanked at random where it is trained so."""
        volume: Tensor = batch["volume"]
        numbers: Tensor | None = batch.get("numbers")
        if not self.channel_dropout:
            return (volume,) if numbers is None else (volume, numbers)
        kept = channels_kept(len(volume), volume.shape[1], self.channel_dropout, batch.get("present"))
        return self._shown(volume, numbers, kept)

    def _shown(self, volume: Tensor, numbers: Tensor | None, kept: Tensor) -> tuple[Tensor, ...]:
        """`volume`, and `numbers` if any, without what `kept` leaves out."""
        if numbers is None:
            return (shown(volume, kept),)
        assert isinstance(self.network, LateFusion)
        return shown(volume, kept), self.network.shown(numbers, kept)

    def on_validation_start(self) -> None:
        self._require_finite()

    def _require_finite(self) -> None:
        """Look at the loss of the batch before: it is computed by now, so a GPU need not be waited for."""
        if self._last_loss is None:
            return
        (loss, cases), self._last_loss = self._last_loss, None
        if not torch.isfinite(loss):
            raise InvalidInput(
                f"the loss is {loss.item()} on the cases {', '.join(cases)}",
                "lower optimizer.learning_rate, or check these volumes (qc.html)",
                code="loss.not_finite",
            )

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        logits = self(batch["volume"], batch.get("numbers"))
        loss = functional.cross_entropy(logits, batch["label"])
        self.log("val/loss", loss, batch_size=len(batch["label"]), prog_bar=True)
        self.validation_metrics.update(logits.softmax(1), batch["label"])
        self.log_dict(dict(self.validation_metrics.items()), batch_size=len(batch["label"]))

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> tuple[list[str], Tensor]:
        return batch["case"], self(batch["volume"], batch.get("numbers")).float()

    def configure_optimizers(self) -> Any:
        # decoupled_weight_decay=True is AdamW; with weight_decay=0 both are the paper's Adam.
        optimizer = torch.optim.Adam(
            self._parameter_groups(),
            self.learning_rate,
            weight_decay=self.weight_decay,
            decoupled_weight_decay=True,
            fused=self.fused,
        )
        if self.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler: torch.optim.lr_scheduler.LRScheduler
        if self.schedule == "cosine":
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        else:
            highest = [group["lr"] for group in optimizer.param_groups]
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters that are trained; those that start from a file by themselves where their rate is another."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        factor = self.start.learning_rate_factor
        if factor == 1:
            return [{"params": trained}]
        slow = [parameter for module in self.start.trained for parameter in module.parameters()]
        of_slow = {id(parameter) for parameter in slow}
        others = [parameter for parameter in trained if id(parameter) not in of_slow]
        return [{"params": others}, {"params": slow, "lr": factor * self.learning_rate}]


class Blend(NamedTuple):
    """A batch of blended volumes: `share` of its own, the rest of its `partner`'s (B,), an index into the batch."""

    batch: Mapping[str, Any]
    share: float
    partner: Tensor


def blended(batch: Mapping[str, Any], alpha: float) -> Blend:
    """Mixup: every volume blended with another one's by a share from Beta(alpha, alpha), one for the batch.

    A blend has the channels that both cases have, and the numbers that both have, blended by the same share; a case
    that has no channel in common with its partner stays as it is.
    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    volume: Tensor = batch["volume"]
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(volume))
    present: Tensor | None = batch.get("present")
    both = {}
    if present is not None:
        available = present.cpu()
        in_common = (available & available[partner]).any(1)
        partner = torch.where(in_common, partner, torch.arange(len(volume)))
        both = {"present": available & available[partner]}
    partner = partner.to(volume.device)
    mixed = {
        name: share * batch[name] + (1 - share) * batch[name][partner]
        for name in ("volume", "numbers")
        if name in batch
    }
    return Blend({**batch, **mixed, **both}, share, partner)


def channels_kept(samples: int, channels: int, dropout: float, present: Tensor | None = None) -> Tensor:
    """(samples, channels) bool: each channel is left out with probability `dropout`; never all of a sample.

    Args:
        present: (samples, channels) bool, the channels that each case has, at least one; the others are always left
            out. None: all.
    """
    available = torch.ones(samples, channels, dtype=torch.bool) if present is None else present.cpu()
    kept = (torch.rand(samples, channels) >= dropout) & available
    while not kept.any(1).all():
        empty = ~kept.any(1)
        kept[empty] = (torch.rand(int(empty.sum()), channels) >= dropout) & available[empty]
    return kept


def shown(volume: Tensor, kept: Tensor) -> Tensor:
    """`volume` (B, C, X, Y, Z) with what `kept`, (B, C) or (1, C), leaves out at 0: the mean of MRI, no dose."""
    return volume * kept.to(volume.device, volume.dtype)[..., None, None, None]
