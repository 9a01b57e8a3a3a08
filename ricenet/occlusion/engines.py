"""What answers for a volume with cubes of it blanked: a model and its volume in, the engine that suits them out.

A ResNet is answered for incrementally (ricenet.occlusion.incremental), at a fraction of the work and to the same
digits; any other network by a whole forward pass per cube.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ricenet.errors import WrongUsage
from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.incremental import Incremental
from ricenet.occlusion.receptive_windows import Cubes

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Engine(Protocol):
    """One model's answers for one volume with cubes of it blanked; see ricenet.occlusion.incremental.Incremental.

    Attributes:
        method: "incremental", or "plain" with a whole forward pass per cube.
    """

    method: str
    baseline: Tensor

    def logits(
        self, cubes: Cubes, reference: Tensor, channels: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]: ...


def prepare(model: nn.Module, volume: Tensor, precision: str = "fp32", memory_gb: float = 8.0) -> Engine:
    """The fastest engine for this model, exact in fp32; the clean activations of `volume` are computed here.

    Args:
        model: in eval mode; (B, C, X, Y, Z) float32 -> logits (B, K), each row depending on its own volume only.
        volume: (C, X, Y, Z) float32, on the model's device.
        precision, memory_gb: see ricenet.occlusion.sensitivity.Plan.

    Raises:
        ValueError: a model in which BatchNorm mixes the cubes of a batch: in training mode, or without its statistics;
            or one that does not return logits of at least two classes.
    """
    layers = list(model.modules())
    if any(layer.training for layer in layers):
        raise ValueError("the model is in training mode, where BatchNorm mixes the cubes of a batch; call model.eval()")
    if any(isinstance(layer, nn.BatchNorm3d) and not layer.track_running_stats for layer in layers):
        raise ValueError("a BatchNorm3d without running statistics mixes the cubes of a batch; train it with them")
    folded, dtype = fold(model), PRECISIONS[precision]
    engine: Engine
    if folded is None:
        engine = Plain(model, volume, dtype)
    else:
        engine = Incremental(folded, volume, dtype, int(memory_gb * 1e9))
    if engine.baseline.ndim != 1 or len(engine.baseline) < 2:
        shape = (1, *engine.baseline.shape)
        raise ValueError(f"the model should return logits of shape (1, K), at least two classes, got shape {shape}")
    return engine


class Plain:
    """The same answers by a whole forward pass per cube, for networks whose layers look at the whole map."""

    method = "plain"

    def __init__(self, model: nn.Module, volume: Tensor, dtype: torch.dtype) -> None:
        self._model, self._volume, self._dtype = model, volume, dtype
        self.baseline = self._answer(volume[None])[0]

    def logits(
        self, cubes: Cubes, reference: Tensor, channels: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        for start in range(0, len(cubes.corner), batch_size):
            rows = np.arange(start, min(start + batch_size, len(cubes.corner)))
            batch = self._volume.repeat(len(rows), 1, 1, 1, 1)
            for volume, row in zip(batch, rows.tolist(), strict=True):
                inside = (list(channels), *cubes.slices(row))
                volume[inside] = reference[inside]
            yield rows, self._answer(batch)

    @torch.inference_mode()
    def _answer(self, batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._model(batch).double()


def find_device(accelerator: str) -> str:
    """cuda or cpu for auto, cpu or gpu.

    Raises:
        WrongUsage: gpu, and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise WrongUsage("accelerator=gpu, but torch finds no CUDA device here; use accelerator=cpu")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def exact_convolutions() -> AbstractContextManager[None]:
    """TensorFloat-32, what a GPU's convolutions take for fp32 otherwise, keeps ten bits of each factor: not in here."""
    now = torch.backends.cudnn
    return now.flags(now.enabled, now.benchmark, now.benchmark_limit, now.deterministic, allow_tf32=False)
