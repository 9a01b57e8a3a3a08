"""Occlusion sensitivity of 3D classifiers: which regions of a volume their prediction depends on.

A cube is blanked in all (or some) channels at once and slid over the volume. A voxel's value in the map is the mean,
over the cubes that covered it, of the drop in probability of the class that the models predict for the untouched
volume: positive where the prediction needs what is there, negative where what is there speaks against it. After Zeiler
and Fergus (ECCV 2014). How a model is run on blanked volumes: ricenet.occlusion.engines.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from ricenet.occlusion.engines import OcclusionEngine, exact_convolutions, prepare
from ricenet.occlusion.receptive_windows import Cubes, Voxels, find_changes, slices

_REFINED_CUBES = 8  # cubes around which a finer stride is tried
_CHECKED_CUBES = 16  # cubes that bf16 is compared with fp32 on


@dataclass(frozen=True)
class OcclusionPlan:
    """Which cubes are blanked, and how the models are run.

    Attributes:
        cube, stride: in voxels along X, Y, Z.
        finest: the stride is halved down to it around the cubes that lower the probability most; None: it is not.
            A region that every cube of the first stride misses is not found by the finer ones either.
        batch_size: cubes at a time.
        precision: fp32 (exact) or bf16.
        memory_gb: what a model's clean activations may take in memory; beyond it they are streamed.
    """

    cube: Voxels
    stride: Voxels
    finest: Voxels | None = None
    batch_size: int = 8
    precision: str = "fp32"
    memory_gb: float = 8.0


@dataclass(frozen=True)
class Occlusion:
    """One model's logits for every position of the cube: all that a map is built from.

    Attributes:
        shape: (X, Y, Z) of the volume.
        cube: edge lengths in voxels.
        baseline: (K,) float64 logits of the untouched volume.
        positions: (P, 3) int64 lower corners of the cubes, in voxels.
        logits: (P, K) float64 logits with that cube blanked.
        passes: how many of the P were run; in the others the volume equals the fill, so their logits are the baseline.
        method: "incremental" or "plain", see OcclusionEngine.
        error: in bf16 the largest difference of a logit to fp32, on the untouched volume and 16 cubes of each stride;
            None in fp32.
    """

    shape: Voxels
    cube: Voxels
    baseline: np.ndarray
    positions: np.ndarray
    logits: np.ndarray
    passes: int
    method: str
    error: float | None = None


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


def occlude(
    models: Sequence[nn.Module],
    volume: Tensor,
    reference: Tensor,
    blanked: Mapping[str, Sequence[int]],
    plan: OcclusionPlan,
    progress: str | None = None,
) -> dict[str, list[Occlusion]]:
    """Run each model with the cube blanked at every position, one model in memory after the other.

    Args:
        models, volume: see prepare; all models for the same volume.
        reference: (C, X, Y, Z) float32 on the same device, what a cube is blanked with; where the volume equals it
            nothing is run.
        blanked: name -> the channels blanked at once. All of them share a model's clean activations.
        progress: label of a progress bar with the time left, on a terminal; None: no bar.

    Returns:
        For each name of `blanked` one Occlusion per model.

    Raises:
        ValueError: a model in training mode, or a cube or stride that does not fit (see positions).
    """
    x, y, z = volume.shape[1:]
    changed = {name: (volume != reference)[list(some)].any(dim=0).cpu().numpy() for name, some in blanked.items()}
    corners = positions((x, y, z), plan.cube, plan.stride)
    cubes = {name: find_changes(changed[name], corners, plan.cube) for name in blanked}
    silent = True if progress is None else None  # None: tqdm itself stays silent where there is no terminal
    with tqdm(desc=progress, unit="cube", disable=silent, leave=False, total=0) as bar, exact_convolutions():
        occlusions = _run_models(models, volume, reference, blanked, cubes, plan, bar)
        for stride in _finer_strides(plan):
            cubes = {
                name: find_changes(changed[name], _around_the_highest(occlusions[name], stride), plan.cube)
                for name in blanked
            }
            more = _run_models(models, volume, reference, blanked, cubes, plan, bar)
            occlusions = {name: list(map(_joined, occlusions[name], more[name])) for name in blanked}
    return occlusions


def run_cubes(
    engine: OcclusionEngine,
    cubes: Cubes,
    volume: Tensor,
    reference: Tensor,
    channels: Sequence[int],
    batch_size: int,
    bar: tqdm,
) -> Occlusion:
    """The engine's logits with each of the cubes blanked; cubes that change nothing are not run.

    Args:
        engine: of the model and `volume`; the other arguments as its logits method's.
        volume: (C, X, Y, Z).
        bar: moves on by each cube that is run.
    """
    x, y, z = volume.shape[1:]
    baseline = engine.baseline.cpu().numpy()
    todo = np.flatnonzero(_todo(cubes))
    logits = np.tile(baseline, (len(cubes.corner), 1))
    for rows, batch_logits in engine.logits(cubes[todo], reference, channels, batch_size):
        logits[todo[rows]] = batch_logits.cpu().numpy()
        bar.update(len(rows))
    return Occlusion((x, y, z), cubes.edge, baseline, cubes.corner, logits, len(todo), engine.method)


def predicted_class(members: Sequence[Occlusion]) -> tuple[int, float]:
    """The class that the mean probability of the models prefers for the untouched volume, and that probability."""
    probability = np.mean([_softmax(member.baseline) for member in members], axis=0)
    return int(probability.argmax()), float(probability.max())


def drops(members: Sequence[Occlusion], chosen: int | None = None) -> np.ndarray:
    """(P,) float64, how much each cube lowers the mean probability of the class `chosen`; arguments as drop_map's."""
    chosen = predicted_class(members)[0] if chosen is None else chosen
    return np.mean([_softmax(one.baseline)[chosen] - _softmax(one.logits)[:, chosen] for one in members], axis=0)


def drop_map(members: Sequence[Occlusion], chosen: int | None = None) -> np.ndarray:
    """Mean probability drop of a class per voxel, for one model or the mean probability of several.

    Args:
        members: one Occlusion per model, all on the same volume and with the same positions.
        chosen: the class; None: the one that the members predict.

    Returns:
        (X, Y, Z) float32 within [-1, 1]: each voxel the mean over the cubes that covered it, 0 where none did.
    """
    first = members[0]
    total, covered = np.zeros(first.shape), np.zeros(first.shape)
    for corner, drop in zip(first.positions, drops(members, chosen), strict=True):
        window = slices(corner, first.cube)
        total[window] += drop
        covered[window] += 1
    return (total / np.maximum(covered, 1)).astype(np.float32)


def _run_models(
    models: Sequence[nn.Module],
    volume: Tensor,
    reference: Tensor,
    blanked: Mapping[str, Sequence[int]],
    cubes: Mapping[str, Cubes],
    plan: OcclusionPlan,
    bar: tqdm,
) -> dict[str, list[Occlusion]]:
    bar.total += len(models) * sum(int(_todo(each).sum()) for each in cubes.values())
    occlusions: dict[str, list[Occlusion]] = {name: [] for name in blanked}
    for model in models:
        engine = prepare(model, volume, plan.precision, plan.memory_gb)
        for name, channels in blanked.items():
            occlusions[name].append(run_cubes(engine, cubes[name], volume, reference, channels, plan.batch_size, bar))
        del engine  # its activations make room for those of fp32, or of the next model
        if plan.precision != "fp32":
            exact = prepare(model, volume, "fp32", plan.memory_gb)
            for name, channels in blanked.items():
                error = _error(exact, occlusions[name][-1], cubes[name], reference, channels, plan.batch_size)
                occlusions[name][-1] = replace(occlusions[name][-1], error=error)
            del exact
    return occlusions


def _error(
    exact: OcclusionEngine,
    occlusion: Occlusion,
    cubes: Cubes,
    reference: Tensor,
    channels: Sequence[int],
    batch_size: int,
) -> float:
    """The largest difference of a logit, on cubes spread over those that were run and on the untouched volume."""
    todo = np.flatnonzero(_todo(cubes))
    some = todo[np.unique(np.linspace(0, len(todo) - 1, _CHECKED_CUBES).round().astype(int))] if len(todo) else todo
    worst = float(np.abs(exact.baseline.cpu().numpy() - occlusion.baseline).max())
    for rows, logits in exact.logits(cubes[some], reference, channels, batch_size):
        worst = max(worst, float(np.abs(logits.cpu().numpy() - occlusion.logits[some[rows]]).max()))
    return worst


def _todo(cubes: Cubes) -> np.ndarray:
    return cubes.length[:, 0] > 0


def _finer_strides(plan: OcclusionPlan) -> Iterator[Voxels]:
    """The strides below the plan's, each half of the one before, down to its finest."""
    stride = plan.stride
    while plan.finest is not None and any(step > end for step, end in zip(stride, plan.finest, strict=True)):
        x, y, z = (max(step // 2, end) if step > end else step for step, end in zip(stride, plan.finest, strict=True))
        stride = (x, y, z)
        yield stride


def _around_the_highest(members: Sequence[Occlusion], stride: Voxels) -> np.ndarray:
    """(Q, 3) corners one stride away from the cubes with the largest drops, along any axes; those not run yet."""
    first = members[0]
    highest = first.positions[np.argsort(-drops(members), kind="stable")[:_REFINED_CUBES]]
    steps = np.array(list(product((-1, 0, 1), repeat=3))) * stride
    corners = np.clip(highest[:, None] + steps, 0, np.array(first.shape) - first.cube).reshape(-1, 3)
    earlier = set(map(tuple, first.positions.tolist()))
    new = [corner for corner in map(tuple, np.unique(corners, axis=0).tolist()) if corner not in earlier]
    return np.array(new, dtype=np.int64).reshape(-1, 3)


def _joined(first: Occlusion, more: Occlusion) -> Occlusion:
    errors = [error for error in (first.error, more.error) if error is not None]
    return replace(
        first,
        positions=np.concatenate([first.positions, more.positions]),
        logits=np.concatenate([first.logits, more.logits]),
        passes=first.passes + more.passes,
        error=max(errors, default=None),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)
