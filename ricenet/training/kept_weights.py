"""The weights of a training that are kept: averaged over the steps, with batch-norm statistics of their own.

Both act where the weights are validated, so that what is validated is what is kept.

Precise batch norm: the running averages of training lag behind the weights; after a short one-cycle schedule they
belong to weights of many steps ago. Here they are the mean over one pass through the training cases, both classes
equally often, no weight changed, as torch.optim.swa_utils.update_bn computes it (Wu and Johnson, "Rethinking 'Batch' in
BatchNorm", 2021).
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import lightning
import torch
from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from ricenet.training.datamodule import CasesDataModule, draw_seed
from ricenet.training.lightning_module import RiceClassifier


class AveragedWeights(WeightAveraging):
    """Keep the exponential moving average of the weights: after each step decay x average + (1 - decay) x weights.

    The first step's weights are the first average. Checkpoints hold both, `state_dict` the average.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, trainer: lightning.Trainer, pl_module: LightningModule, stage: str) -> None:
        # Not before: a process that is started for ddp_spawn is sent this object, and a local function cannot be sent.
        self._kwargs = {"multi_avg_fn": get_ema_multi_avg_fn(self.decay)}
        self._device = trainer.strategy.root_device  # pl_module is not there yet, and its average would stay behind
        super().setup(trainer, pl_module, stage)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        """Lightning's on_train_end, also where the checkpoint to resume from was the last: then that is not called."""
        self._copy_average_to_current(pl_module)


class PreciseBatchNorm(Callback):
    """Compute the statistics anew before a validation of weights that may be kept, so that it measures what is kept.

    These are the weights of the last epoch, or of every epoch where the best one is kept. Of several processes each
    goes through all training cases, so all have the same statistics.

    Args:
        limit: batches that are looked at, as of a training epoch; None: all.
    """

    def __init__(self, data: CasesDataModule, every_epoch: bool, limit: int | None = None) -> None:
        self.data, self.every_epoch, self.limit = data, every_epoch, limit
        self._loader: DataLoader | None = None

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: LightningModule) -> None:
        if self.every_epoch or trainer.current_epoch + 1 == trainer.max_epochs:
            assert isinstance(pl_module, RiceClassifier)
            self._loader = self._loader or self.data.statistics_dataloader()
            reestimate(trainer, pl_module, self.data, islice(self._loader, self.limit))


def reestimate(
    trainer: lightning.Trainer, model: RiceClassifier, data: CasesDataModule, batches: Iterable[Any]
) -> None:
    """Replace the running mean and variance of each batch norm of `model` by the mean over the batches.

    Those of a frozen part stay: its weights and statistics are kept together, as the file has them.
    Everything but batch norm is in evaluation mode; channels are blanked as in training, by a seed of their own.
    """
    frozen = {part for module in model.start.frozen for part in module.modules()}
    norms = [part for part in model.network.modules() if isinstance(part, _BatchNorm) and part not in frozen]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    # Not compiled: a momentum for each batch would compile the network anew for each.
    with torch.random.fork_rng(devices=[]), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for number, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = 1 / (number + 1)  # the mean of all batches so far; momentum=None is not for every stem
            torch.default_generator.manual_seed(draw_seed(model.seed, number))  # of the channels that are blanked
            on_device = data.on_after_batch_transfer(trainer.strategy.batch_to_device(batch), 0)
            with trainer.precision_plugin.val_step_context():
                model(*model.blanked(on_device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
