"""Occlusion map of one volume by one network, for notebooks: which regions the predicted probability depends on."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ricenet.occlusion.engines import exact_convolutions, prepare
from ricenet.occlusion.receptive_windows import Voxels, find_changes
from ricenet.occlusion.sensitivity import drop_map, positions, run_cubes


def occlusion_map(
    model: nn.Module,
    volume: np.ndarray | Tensor,
    cube: int | Sequence[int] = 16,
    stride: int | Sequence[int] | None = None,
    *,
    reference: float | Sequence[float] | np.ndarray | Tensor = 0.0,
    class_index: int | None = None,
    channels: Sequence[int] | None = None,
    brain: np.ndarray | Tensor | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> np.ndarray:
    """Map which regions of a volume the probability of a class depends on (Zeiler and Fergus, ECCV 2014).

    A cube is slid over the volume and what is inside it replaced by `reference`. A voxel's value is the drop in
    probability (softmax over the classes), averaged over the cubes that covered the voxel.

    A 3D ResNet of MONAI is run incrementally: only the part of each activation that a cube can change is computed, so
    that a map takes a fraction of the time and equals that of whole forward passes to rounding. This takes
    `monai.networks.nets.ResNet` itself, with BatchNorm and ReLU, of any width, depth, shortcut type and first
    convolution. Any other module, a subclass too, is run by one whole forward pass per cube: slower, the same map.

    Args:
        model: in eval mode; (B, C, X, Y, Z) float32 -> logits (B, K), K at least 2. It is not changed.
        volume: (C, X, Y, Z) or (1, C, X, Y, Z), preprocessed as the model expects it. Moved to the model's device.
        cube: edge length of the cube in voxels, one for all axes or three.
        stride: step between cubes in voxels, one or three; None: half the cube. Above the cube it leaves gaps, which
            are 0 in the map.
        reference: what replaces the cube: one number, one number per channel, or an array of the volume's shape.
        class_index: the class whose probability is followed; None: the one predicted for the untouched volume.
        channels: indices of the channels that are replaced; None: all at once.
        brain: (X, Y, Z), non-zero where something may be replaced. Elsewhere the volume stays as it is, and cubes that
            lie wholly outside are not run. None: everywhere.
        batch_size: cubes per forward pass. It decides speed and memory, not the map.
        progress: show a progress bar.

    Returns:
        (X, Y, Z) float32 on the volume's own grid, within [-1, 1]: positive where the region supports the class,
        negative where it speaks against it.

    Raises:
        ValueError: a model in training mode or without class logits, or an argument that does not fit the volume.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    values = _as_volume(volume).to(device)
    replacement = _as_reference(reference, values)
    if brain is not None:
        replacement = torch.where(_as_mask(brain, values), replacement, values)
    replaced_channels = _as_channels(channels, values)
    edge = _as_edges(cube, "cube")
    step = _as_edges(stride, "stride") if stride is not None else _half(edge)
    x, y, z = values.shape[1:]
    changed = (values != replacement)[replaced_channels].any(dim=0).cpu().numpy()
    cubes = find_changes(changed, positions((x, y, z), edge, step), edge)
    with exact_convolutions():
        engine = prepare(model, values)
        if class_index is not None and not 0 <= class_index < len(engine.baseline):
            raise ValueError(f"class_index should be from 0 to {len(engine.baseline) - 1}, got {class_index}")
        with tqdm(desc="occlusion map", unit="cube", disable=not progress, total=0) as bar:
            result = run_cubes(engine, cubes, values, replacement, replaced_channels, batch_size, bar)
    return drop_map([result], class_index)


def _as_volume(volume: np.ndarray | Tensor) -> Tensor:
    values = torch.as_tensor(volume).detach().to(torch.float32)
    if values.ndim == 5 and len(values) == 1:
        values = values[0]
    if values.ndim != 4:
        raise ValueError(f"volume should have shape (C, X, Y, Z) or (1, C, X, Y, Z), got {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError("volume holds NaN or infinite values; replace them first")
    return values


def _as_reference(reference: float | Sequence[float] | np.ndarray | Tensor, values: Tensor) -> Tensor:
    replacement = torch.as_tensor(reference, dtype=torch.float32, device=values.device)
    if replacement.ndim == 1 and len(replacement) == len(values):
        replacement = replacement.view(-1, 1, 1, 1)
    elif replacement.ndim > 0 and replacement.shape != values.shape:
        raise ValueError(
            f"reference should be a number, {len(values)} numbers (one per channel) or an array of shape "
            f"{tuple(values.shape)}, got shape {tuple(replacement.shape)}"
        )
    return replacement.expand_as(values)


def _as_mask(brain: np.ndarray | Tensor, values: Tensor) -> Tensor:
    mask = torch.as_tensor(brain, device=values.device) != 0
    if mask.shape != values.shape[1:]:
        raise ValueError(f"brain should have shape {tuple(values.shape[1:])}, got {tuple(mask.shape)}")
    return mask


def _as_channels(channels: Sequence[int] | None, values: Tensor) -> list[int]:
    indices = list(range(len(values)) if channels is None else channels)
    if not indices or not set(indices) <= set(range(len(values))):
        raise ValueError(f"channels should be indices from 0 to {len(values) - 1}, got {indices}")
    return indices


def _as_edges(length: int | Sequence[int], name: str) -> Voxels:
    edges = (length,) * 3 if isinstance(length, int) else tuple(length)
    if len(edges) != 3:
        raise ValueError(f"{name} should be one or three lengths in voxels, got {len(edges)}")
    x, y, z = map(int, edges)
    return x, y, z


def _half(edge: Voxels) -> Voxels:
    x, y, z = (max(1, length // 2) for length in edge)
    return x, y, z
