"""What does a training step cost, ours by config and LightningModule, and plain MONAI + Lightning in fp32?

python benchmarks/step.py                       3 x 96^3 voxels, batch 2, one CPU thread (six minutes)
python benchmarks/step.py size=224 rounds=20    on a GPU: ms a sample, peak memory, hours for the grids

Writes outputs/bench/step.json (ours in fp32, the same function) and step_bf16.json. In both stands the network of
experiment=ricenet too, which is another function, for its crop of 96 mm at 1 mm. Plain is MONAI's resnet18, Adam and
cross-entropy, nothing set; on a GPU also with TF32. Each step is a batch of trainer.fit, timed from its start to its
end, forward, backward and optimiser; the models are trained in turn, one batch a round.
"""

import sys
from typing import Any

import lightning
import torch
from bench import CPU, WALL, Clock, compare
from lightning.pytorch.callbacks import Callback
from monai.networks.nets import resnet18
from torch.nn import functional
from torch.utils.data import DataLoader

from ricenet.command.schemas import TrainConfig, compose
from ricenet.training.fit import build_model

ON_GPU = torch.cuda.is_available()
# 7 modality sets x 5 folds x 800 epochs of 64 training and 16 validation cases; the latter have no backward pass.
TRAINED, SCORED, FORWARD_SHARE = 7 * 5 * 800 * 64, 7 * 5 * 800 * 16, 1 / 3
RECIPE_TRAINED = 7 * 5 * 4000 * 4  # steps of a batch of data=gpu
RECIPE = "experiment=ricenet"  # 11 channels of three volumes, all stages pooled: another function than the paper's


class Plain(lightning.LightningModule):
    """How a first version of the paper's training would look."""

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet18(spatial_dims=3, n_input_channels=3, num_classes=2)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return functional.cross_entropy(self.network(batch["volume"]), batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-4)


class StepTimer(Callback):
    """Seconds of each batch by a clock; on a GPU its work is waited for."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.begun = clock, list[float](), 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.begun = self._now()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds.append(self._now() - self.begun)

    def _now(self) -> float:
        if ON_GPU:
            torch.cuda.synchronize()
        return self.clock.read()


def main(size: int = 96, batch: int = 2, rounds: int = 3) -> None:
    torch.set_num_threads(1)
    clock = WALL if ON_GPU else CPU
    volume = torch.randn(3, size, size, size)
    items = [{"volume": volume, "label": number % 2, "case": "a"} for number in range(batch)]
    loader = DataLoader(items, batch_size=batch)
    models = variants()
    timers, peaks = {name: StepTimer(clock) for name in models}, dict[str, float]()
    for _ in range(rounds + 1):
        for name, (model, precision, tf32) in models.items():
            peaks[name] = one_step(model, precision, tf32, loader, timers[name])
    seconds = {name: timer.seconds[1:] for name, timer in timers.items()}  # the first warms up
    facts: dict[str, Any] = {"volume": [3, size, size, size], "batch": batch}
    if ON_GPU:
        facts["peak_gb"] = peaks
        facts["ms_per_sample"] = {name: 1000 * min(times) / batch for name, times in seconds.items()}
        facts["hours_of_the_grid"] = {name: grid_hours(name, min(times) / batch) for name, times in seconds.items()}
    fp32, bf16 = seconds.pop("ours"), seconds.pop("ours bf16")
    compare("step", fp32, seconds, clock.unit, **facts)
    compare("step_bf16", bf16, seconds, clock.unit, **facts)


def one_step(
    model: lightning.LightningModule, precision: Any, tf32: bool, loader: DataLoader, timer: StepTimer
) -> float:
    """Train for one batch; returns the peak of the GPU's memory in GB, 0 on a CPU."""
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats()
    trainer = lightning.Trainer(
        accelerator="gpu" if ON_GPU else "cpu", devices=1, precision=precision, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[timer],
    )  # fmt: skip
    trainer.fit(model, loader)
    peak = torch.cuda.max_memory_allocated() / 2**30 if ON_GPU else 0.0
    model.cpu()
    return round(peak, 2)


def grid_hours(name: str, seconds_per_sample: float) -> float:
    """Of one GPU for 7 x 5 runs: the published 800 epochs, or the recipe's steps if all sets were cropped."""
    samples = RECIPE_TRAINED if name.startswith(RECIPE) else TRAINED + SCORED * FORWARD_SHARE
    return round(samples * seconds_per_sample / 3600, 1)


def ours(*overrides: str) -> lightning.LightningModule:
    return build_model(compose("train", TrainConfig, ["cases=x", *overrides]))


def variants() -> dict[str, tuple[lightning.LightningModule, Any, bool]]:
    """name -> model, precision, TF32."""
    torch.manual_seed(0)
    found: dict[str, tuple[lightning.LightningModule, Any, bool]] = {
        "ours": (ours(), "32-true", False),
        "ours bf16": (ours(), "bf16-mixed", False),
        "plain": (Plain(), "32-true", False),
        "plain bf16": (Plain(), "bf16-mixed", False),
        RECIPE: (ours("experiment=ricenet"), "32-true", False),
        f"{RECIPE} bf16": (ours("experiment=ricenet"), "bf16-mixed", False),
    }
    if ON_GPU:
        found |= {
            "plain tf32": (Plain(), "32-true", True),
            "ours bf16, stem recomputed": (ours("step.recompute_stem=true"), "bf16-mixed", False),
            "ours bf16, compiled": (ours("step.compile=true"), "bf16-mixed", False),
        }
    return found


if __name__ == "__main__":
    main(**{key: int(value) for key, value in (argument.split("=", 1) for argument in sys.argv[1:])})
