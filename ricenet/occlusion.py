"""Occlusion sensitivity of a 3D classifier: a model and a volume in, a map of what its answer hangs on out.

A cube is blanked in all (or some) channels at once and slid over the volume. A voxel's value in the map is the mean,
over the cubes that covered it, of the drop in probability of the class the model predicts for the untouched volume:
positive where the answer needs what it sees there, negative where what it sees there speaks against the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from tqdm import tqdm

Voxels = tuple[int, int, int]


@dataclass(frozen=True)
class Occlusion:
    """What one model answered for every place of the cube; enough to build the map without the model.

    Attributes:
        shape: (X, Y, Z) of the volume; `cube`: its edge lengths in voxels.
        baseline: (K,) float64 logits of the untouched volume.
        positions: (P, 3) int64 lower corners of the cubes, in voxels.
        logits: (P, K) float64 logits with that cube blanked.
        passes: how many of the P were run; the others already equalled the fill, so their answer is the baseline's.
    """

    shape: Voxels
    cube: Voxels
    baseline: np.ndarray
    positions: np.ndarray
    logits: np.ndarray
    passes: int


def positions(shape: Sequence[int], cube: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Lower corners of the cubes: a regular grid, plus the last one flush with the far border, along each axis.

    Args:
        shape, cube, stride: three lengths in voxels each.

    Returns:
        (P, 3) int64 in C order, without duplicates.

    Raises:
        ValueError: a stride below 1, or a cube that is below 1 or larger than the volume.
    """
    if not all(1 <= edge <= size for edge, size in zip(cube, shape, strict=True)) or min(stride) < 1:
        raise ValueError(f"expected 1 <= cube <= volume and stride >= 1, got {cube=}, {stride=}, {shape=}")
    starts = [
        sorted({*range(0, size - edge + 1, step), size - edge})
        for size, edge, step in zip(shape, cube, stride, strict=True)
    ]
    return np.array(list(product(*starts)), dtype=np.int64)


@torch.inference_mode()
def occlude(
    model: torch.nn.Module,
    volume: torch.Tensor,
    cube: Voxels,
    stride: Voxels,
    fill: float = 0.0,
    batch_size: int = 8,
    channels: Sequence[int] | None = None,
    progress: str | None = None,
) -> Occlusion:
    """Run `model` with the cube blanked at every position.

    Args:
        model: in eval mode; (B, C, X, Y, Z) float32 -> logits (B, K), each row depending on its own volume only.
        volume: (C, X, Y, Z) float32, on the model's device.
        cube, stride: in voxels along X, Y, Z.
        fill: what the cube is blanked with; 0 is the background of a preprocessed case.
        batch_size: volumes per forward pass.
        channels: the channels to blank; None: all at once.
        progress: label of a progress bar with the time left, on a terminal; None: no bar.

    Raises:
        ValueError: a model in training mode, or a cube or stride that does not fit (see positions).
    """
    if model.training:
        raise ValueError("the model is in training mode, where BatchNorm mixes the cubes of a batch; call model.eval()")
    blanked = list(range(len(volume))) if channels is None else list(channels)
    shape: Voxels = tuple(volume.shape[1:])  # type: ignore[assignment]
    corners = positions(shape, cube, stride)
    windows = [_window(corner, cube) for corner in corners]
    changed = (volume[blanked] != fill).any(dim=0).cpu().numpy()
    todo = [index for index, window in enumerate(windows) if changed[window].any()]
    baseline = model(volume[None])[0].double()
    logits = baseline.repeat(len(corners), 1)
    silent = True if progress is None else None  # None: tqdm itself stays silent where there is no terminal
    with tqdm(total=len(todo), desc=progress, unit="cube", disable=silent, leave=False) as bar:
        for start in range(0, len(todo), batch_size):
            chunk = todo[start : start + batch_size]
            batch = volume.repeat(len(chunk), 1, 1, 1, 1)
            for row, index in zip(batch, chunk, strict=True):
                row[(blanked, *windows[index])] = fill
            logits[chunk] = model(batch).double()
            bar.update(len(chunk))
    return Occlusion(shape, cube, baseline.cpu().numpy(), corners, logits.cpu().numpy(), len(todo))


def predicted_class(members: Sequence[Occlusion]) -> tuple[int, float]:
    """The class that the mean probability of the models prefers for the untouched volume, and that probability."""
    probability = np.mean([_softmax(member.baseline) for member in members], axis=0)
    return int(probability.argmax()), float(probability.max())


def drop_map(members: Sequence[Occlusion]) -> np.ndarray:
    """Mean probability drop of the predicted class per voxel, for one model or the mean probability of several.

    Args:
        members: one Occlusion per model, all on the same volume, cube and stride.

    Returns:
        (X, Y, Z) float32 within [-1, 1]: each voxel the mean over the cubes that covered it, 0 where none did.
    """
    first = members[0]
    chosen, probability = predicted_class(members)
    drops = probability - np.mean([_softmax(member.logits)[:, chosen] for member in members], axis=0)
    total, covered = np.zeros(first.shape), np.zeros(first.shape)
    for corner, drop in zip(first.positions, drops, strict=True):
        window = _window(corner, first.cube)
        total[window] += drop
        covered[window] += 1
    return (total / np.maximum(covered, 1)).astype(np.float32)


def _window(corner: np.ndarray, cube: Voxels) -> tuple[slice, ...]:
    return tuple(slice(int(low), int(low) + edge) for low, edge in zip(corner, cube, strict=True))


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)
