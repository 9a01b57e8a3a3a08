"""Choose how a model is run on copies of a volume with cubes of it blanked.

A 3D ResNet is run incrementally (ricenet.occlusion.incremental): a fraction of the work, the same logits to rounding.
Any other network takes one whole forward pass per cube.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ricenet.errors import WrongUsage
from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.incremental import IncrementalEngine
from ricenet.occlusion.receptive_windows import Cubes

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class OcclusionEngine(Protocol):
    """Computes one model's logits for one volume with cubes of it blanked; see IncrementalEngine.logits.

    Attributes:
        method: "incremental", or "plain" with a whole forward pass per cube.
        baseline: (K,) float64 logits of the untouched volume.
    """

    method: str
    baseline: Tensor

    def logits(
        self, cubes: Cubes, reference: Tensor, channels: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]: ...


def prepare(model: nn.Module, volume: Tensor, precision: str = "fp32", memory_gb: float = 8.0) -> OcclusionEngine:
    """Make the fastest engine for this model, exact in fp32; it runs the model once on the untouched `volume`.

    Args:
        model: in eval mode; (B, C, X, Y, Z) float32 -> logits (B, K), each row depending on its own volume only.
        volume: (C, X, Y, Z) float32, on the model's device.
        precision, memory_gb: see ricenet.occlusion.sensitivity.OcclusionPlan.

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
    engine: OcclusionEngine
    if folded is None:
        engine = PlainEngine(model, volume, dtype)
    else:
        engine = IncrementalEngine(folded, volume, dtype, int(memory_gb * 1e9))
    if engine.baseline.ndim != 1 or len(engine.baseline) < 2:
        shape = (1, *engine.baseline.shape)
        raise ValueError(f"the model should return logits of shape (1, K), at least two classes, got shape {shape}")
    return engine


class PlainEngine:
    """Runs a whole forward pass per cube: for any network."""

    method = "plain"

    def __init__(self, model: nn.Module, volume: Tensor, dtype: torch.dtype) -> None:
        self._model, self._volume, self._dtype = model, volume, dtype
        self.baseline = self._logits(volume[None])[0]

    def logits(
        self, cubes: Cubes, reference: Tensor, channels: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        for start in range(0, len(cubes.corner), batch_size):
            rows = np.arange(start, min(start + batch_size, len(cubes.corner)))
            batch = self._volume.repeat(len(rows), 1, 1, 1, 1)
            for volume, row in zip(batch, rows.tolist(), strict=True):
                inside = (list(channels), *cubes.slices(row))
                volume[inside] = reference[inside]
            yield rows, self._logits(batch)

    @torch.inference_mode()
    def _logits(self, batch: Tensor) -> Tensor:
        with torch.autocast(batch.device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._model(batch).double()


def find_device(accelerator: str) -> str:
    """Name torch's device ("cuda" or "cpu") for accelerator auto, cpu or gpu.

    Raises:
        WrongUsage: gpu, and there is none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise WrongUsage("accelerator=gpu, but torch finds no CUDA device here; use accelerator=cpu")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def exact_convolutions() -> AbstractContextManager[None]:
    """Switch TensorFloat-32 off inside the block: a GPU's convolutions would keep only ten bits of each factor."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic, allow_tf32=False)
