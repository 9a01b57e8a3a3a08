"""Explain one case: its scene and the models' networks in; occlusion maps and the content of occlusion.json out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from ricenet import LABELS
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.explanation.attribution import channel_shares, measure, number_parts, rank_agreement
from ricenet.explanation.deletion_curves import curves
from ricenet.explanation.explained_case import Scene
from ricenet.explanation.map_record import (
    VERSION,
    MapHeading,
    MapNumbers,
    MapSettings,
    OcclusionRecord,
    SeenPart,
    ShuffledNumbers,
)
from ricenet.explanation.regions import regions
from ricenet.networks.late_fusion import for_case
from ricenet.occlusion.sensitivity import Occlusion, OcclusionPlan, drop_map, occlude, predicted_class
from ricenet.training.run_folder import FinishedRun

SIGN = "positive: blanking there lowers the probability of the predicted class, so the answer needs what is there"

Fill = float | str | Mapping[str, float]


@dataclass(frozen=True)
class ExplainSettings:
    """The keys of conf/explain.yaml that concern a case; see there."""

    cube_mm: float
    stride_mm: float
    refine_mm: float | None = None
    fill: Fill = 0.0
    per_channel: bool = False
    randomised: bool = True
    curves: bool = False
    precision: str = "fp32"
    batch_size: int = 8
    memory_gb: float = 8.0
    device: str = "cpu"
    masks: Path | None = None

    def recorded(self) -> MapSettings:
        """Those that decide the map and its numbers."""
        return MapSettings(
            cube_mm=self.cube_mm,
            stride_mm=self.stride_mm,
            refine_mm=self.refine_mm,
            fill=self.fill,
            per_channel=self.per_channel,
            randomised=self.randomised,
            curves=self.curves,
            precision=self.precision,
        )


@dataclass(frozen=True)
class FoldModel:
    """One fold's network, trained, and with its weights shuffled where that is asked for."""

    run: FinishedRun
    weights_hash: str
    network: nn.Module
    shuffled: nn.Module | None


@dataclass(frozen=True)
class CaseMap:
    """(X, Y, Z) float32 maps by name ("occlusion" with all channels blanked at once), and the record beside them."""

    maps: dict[str, np.ndarray]
    record: OcclusionRecord


def map_case(
    scene: Scene, members: Sequence[FoldModel], settings: ExplainSettings, fingerprint: str, label: str
) -> CaseMap:
    """Explain one case by the mean probability of the members.

    Args:
        fingerprint: of all that decides the map, for the record.
        label: of the progress bars.

    Raises:
        InvalidInput: a cube larger than the volume, or a prediction that is not finite.
    """
    channels, networks = members[0].run.channels, [for_case(one.network, scene.numbers) for one in members]
    plan = _plan(scene, settings)
    filler = fill_reference(scene, channels, settings.fill, plan.cube)
    volume, reference = (torch.from_numpy(scene.cut(each)).to(settings.device) for each in (scene.volume, filler))
    whole = list(range(len(channels)))
    blanked = {"occlusion": whole}
    if settings.per_channel:
        blanked |= {f"occlusion_{name}": [index] for index, name in enumerate(channels)}
    occlusions = occlude(networks, volume, reference, blanked, plan, f"{label} occlusion")
    _require_finite(occlusions)
    maps = {name: scene.whole(drop_map(each)) for name, each in occlusions.items()}
    case_regions = regions(scene)
    numbers = _numbers(scene, plan, maps["occlusion"], case_regions)
    alone = {name: maps[f"occlusion_{name}"] for name in channels if settings.per_channel}
    shuffled_numbers = None
    if settings.randomised:
        shuffled = [for_case(one.shuffled, scene.numbers) for one in members if one.shuffled is not None]
        meaningless = occlude(shuffled, volume, reference, {"": whole}, plan, f"{label} shuffled weights")
        _require_finite(meaningless)
        maps["randomised"] = scene.whole(drop_map(meaningless[""]))
        shuffled_numbers = _shuffled(scene, plan, maps, case_regions)
    curve_numbers = None
    if settings.curves:
        curve_numbers = curves(
            networks, volume, reference, scene.cut(maps["occlusion"]), scene.cut(scene.brain.astype(bool)), plan.stride,
            batch_size=plan.batch_size, progress=f"{label} curves",
        ).as_record()  # fmt: skip
    log_odds = [float(one.baseline[1] - one.baseline[0]) for one in occlusions["occlusion"]]
    parts = number_parts([one.network for one in members], scene.numbers, log_odds)
    record = OcclusionRecord(
        **_heading(scene, members, settings, plan, occlusions).model_dump(exclude_unset=True),
        **numbers.model_dump(exclude_unset=True),
        per_channel={name: _numbers(scene, plan, drop, case_regions) for name, drop in alone.items()},
        channel_share=channel_shares(alone),
        fold_agreement=_fold_agreement(occlusions["occlusion"], scene.cut(scene.brain)),
        randomised=shuffled_numbers,
        curves=curve_numbers,
        fingerprint=fingerprint,
    )
    if parts is not None:
        record = record.model_copy(update={"numbers": parts})
    return CaseMap(maps, record)


def fill_reference(scene: Scene, channels: Sequence[str], fill: Fill, cube: Sequence[int]) -> np.ndarray:
    """(C, X, Y, Z) float32, what a blanked cube is filled with.

    Args:
        fill: a value; a value for each channel by name, the others 0; or "blur": inside the brain the volume itself,
            smoothed until nothing of a cube's size is left (Gaussian, SD half the cube's edge), outside as it is.

    Raises:
        WrongUsage: a channel that the models do not have, or another word.
    """
    if isinstance(fill, Mapping):
        unknown = sorted(set(fill) - set(channels))
        if unknown:
            raise WrongUsage(f"fill should name channels among {', '.join(channels)}, got {', '.join(unknown)}")
        values = np.array([fill.get(name, 0.0) for name in channels], dtype=np.float32)
        return np.broadcast_to(values[:, None, None, None], scene.volume.shape).copy()
    if fill == "blur":
        smooth = gaussian_filter(scene.volume, (0, *(edge / 2 for edge in cube)), mode="nearest")
        return np.where(scene.brain.astype(bool), smooth, scene.volume)
    if isinstance(fill, str):
        raise WrongUsage(f"fill should be a number, blur, or numbers by channel, got {fill!r}")
    return np.full_like(scene.volume, fill)


def _plan(scene: Scene, settings: ExplainSettings) -> OcclusionPlan:
    cube = scene.voxels(settings.cube_mm)
    shape = scene.brain.shape if scene.seen is None else scene.seen.shape
    if any(edge > size for edge, size in zip(cube, shape, strict=True)):
        raise InvalidInput(
            f"cube_mm={settings.cube_mm:g} is larger than the volume that its models see",
            "choose a smaller cube",
            code="cube.too_large",
        )
    finest = None if settings.refine_mm is None else scene.voxels(settings.refine_mm)
    stride = scene.voxels(settings.stride_mm)
    return OcclusionPlan(cube, stride, finest, settings.batch_size, settings.precision, settings.memory_gb)


def _require_finite(occlusions: Mapping[str, Sequence[Occlusion]]) -> None:
    if not all(np.isfinite(one.logits).all() for each in occlusions.values() for one in each):
        raise InvalidInput(
            "a model's prediction is not finite",
            "check the case's volume and the fold's training",
            code="prediction.not_finite",
        )


def _heading(
    scene: Scene,
    members: Sequence[FoldModel],
    settings: ExplainSettings,
    plan: OcclusionPlan,
    occlusions: Mapping[str, Sequence[Occlusion]],
) -> MapHeading:
    first = occlusions["occlusion"][0]
    predicted, probability = predicted_class(occlusions["occlusion"])
    errors = [one.error for each in occlusions.values() for one in each if one.error is not None]
    seen = _seen_part(scene, members[0].run)
    return MapHeading(
        version=VERSION,
        case_key=scene.case.case_key,
        split=scene.case.split,
        modalities=members[0].run.modalities,
        channels=list(members[0].run.channels),
        label=LABELS[scene.case.label],
        predicted=LABELS[predicted],
        probability=probability,
        folds=[one.run.fold for one in members],
        sign=SIGN,
        settings=settings.recorded(),
        method=f"{first.method}, {settings.precision}",
        logit_error=max(errors, default=None),
        cube_voxels=list(plan.cube),
        stride_voxels=list(plan.stride),
        positions=len(first.positions),
        cubes_run=sum(one.passes for each in occlusions.values() for one in each),
        **({} if seen is None else {"seen": seen}),
    )


def _seen_part(scene: Scene, run: FinishedRun) -> SeenPart | None:
    crop = run.record.crop
    if crop is None or scene.place is None or scene.seen is None:
        return None
    return SeenPart(at=crop.at, size_mm=crop.size_mm, place=scene.place, first_voxel=scene.seen.start)


def _numbers(scene: Scene, plan: OcclusionPlan, drop: np.ndarray, case_regions: Mapping[str, np.ndarray]) -> MapNumbers:
    return measure(drop, scene.world_from_voxel, plan.cube, scene.seen_brain, case_regions, scene.dose_gy)


def _fold_agreement(members: Sequence[Occlusion], brain: np.ndarray) -> float | None:
    """Of the single models' maps for the class that they predict together."""
    chosen, _ = predicted_class(members)
    return rank_agreement([drop_map([one], chosen) for one in members], brain.astype(bool))


def _shuffled(
    scene: Scene, plan: OcclusionPlan, maps: Mapping[str, np.ndarray], case_regions: Mapping[str, np.ndarray]
) -> ShuffledNumbers:
    numbers = _numbers(scene, plan, maps["randomised"], case_regions)
    similarity = rank_agreement([maps["occlusion"], maps["randomised"]], scene.seen_brain)
    return ShuffledNumbers(drop_max=numbers.drop_max, pointing=numbers.pointing, similarity=similarity)
