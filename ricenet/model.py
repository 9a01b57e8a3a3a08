"""LightningModule around MONAI's 3D ResNet-18: batches {volume (B, C, X, Y, Z), label} in; logits (B, 2) out.

The network is the paper's by default: first 3D convolution, four residual stages (BatchNorm + ReLU), global average
pooling, one linear layer to recurrence and RICE. Loss: cross-entropy; optimiser: Adam.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from monai.networks.nets import ResNet
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score

from ricenet import LABELS
from ricenet.config import InvalidInput

STAGES = (2, 2, 2, 2)  # residual blocks of a ResNet-18
RICE = LABELS.index("rice")


def build_network(
    channels: int, width: int, conv1_size: int, conv1_stride: int, max_pool: bool, dropout: float
) -> nn.Module:
    """MONAI's 3D ResNet-18; the paper's: width 64 (then 128, 256, 512), first convolution 7^3, stride 1, pooled."""
    network = ResNet(
        block="basic",
        layers=list(STAGES),
        block_inplanes=[width * 2**stage for stage in range(len(STAGES))],
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_size=conv1_size,
        conv1_t_stride=conv1_stride,
        no_max_pool=not max_pool,
        num_classes=len(LABELS),
    )
    if dropout:
        # On the pooled features, in front of the linear layer; Flatten follows it in MONAI's forward, so shapes fit.
        network.avgpool = nn.Sequential(network.avgpool, nn.Dropout(dropout))  # type: ignore[assignment]
    return network


def load_network(folder: Path) -> nn.Module:
    """The finished network of a run folder in eval mode, from run.json and weights.safetensors (no pickle is read).

    Raises:
        InvalidInput: the weights are missing or do not fit the architecture in run.json.
    """
    record = json.loads((folder / "run.json").read_text())
    settings = {name: value for name, value in record["model"].items() if name != "name"}
    network = build_network(len(record["modalities"]["channels"]), **settings)
    try:
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, RuntimeError) as error:
        run = f"{record['modalities']['name']} fold {record['fold']}"
        raise InvalidInput(
            f"run {run}: weights.safetensors cannot be used ({str(error).splitlines()[0]}); train it again"
        ) from error
    return network.eval()


class RiceClassifier(lightning.LightningModule):
    """Train and score a network; validation metrics are torchmetrics objects, computed over the whole epoch."""

    def __init__(self, network: nn.Module, learning_rate: float, weight_decay: float, schedule: str, seed: int) -> None:
        super().__init__()
        # The memory layout changes the speed (1.2x to 1.8x on CPUs), not the function.
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.learning_rate, self.weight_decay, self.schedule, self.seed = learning_rate, weight_decay, schedule, seed
        self.validation_metrics = MetricCollection(
            {"macro_f1": MulticlassF1Score(len(LABELS), average="macro"), "auroc": MulticlassAUROC(len(LABELS))},
            prefix="val/",
        )

    def forward(self, volume: Tensor) -> Tensor:
        return self.network(volume.contiguous(memory_format=torch.channels_last_3d))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout must not depend on what was drawn before: a run resumed at an epoch border goes on bit for bit.
        place = (self.seed, self.current_epoch, batch_idx)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:
        loss = functional.cross_entropy(self(batch["volume"]), batch["label"])
        if not torch.isfinite(loss):
            raise InvalidInput(
                f"the loss is {loss.item()} on the cases {', '.join(batch['case'])}; lower optimizer.learning_rate"
            )
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        logits = self(batch["volume"])
        loss = functional.cross_entropy(logits, batch["label"])
        self.log("val/loss", loss, batch_size=len(batch["label"]), prog_bar=True)
        self.validation_metrics.update(logits.softmax(1), batch["label"])
        self.log_dict(dict(self.validation_metrics.items()), batch_size=len(batch["label"]))

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> tuple[list[str], Tensor]:
        return batch["case"], self(batch["volume"]).float()

    def configure_optimizers(self) -> Any:
        # decoupled_weight_decay=True is AdamW; with weight_decay=0 both are the paper's Adam.
        optimizer = torch.optim.Adam(
            self.parameters(), self.learning_rate, weight_decay=self.weight_decay, decoupled_weight_decay=True
        )
        if self.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
