"""What occlusion maps say, in numbers: a map and the regions of its case in; a set's records in, one summary out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import maximum_filter
from scipy.stats import binomtest, rankdata
from torch import nn

from ricenet.explanation.map_record import (
    CurveNumbers,
    CurveSummary,
    MapNumbers,
    MeanDose,
    NumberPart,
    NumberParts,
    NumberSummary,
    OcclusionRecord,
    PairedHits,
    Pointing,
    PointingSummary,
    SeenParts,
    SetSummary,
    ShuffledNumbers,
    ShuffledSummary,
)
from ricenet.explanation.regions import POINTED
from ricenet.images.views import peak
from ricenet.networks.late_fusion import LateFusion
from ricenet.statistics.metrics import proportion_interval

Value = TypeVar("Value")


def measure(
    drop: np.ndarray,
    world_from_voxel: np.ndarray,
    cube: Sequence[int],
    brain: np.ndarray,
    regions: Mapping[str, np.ndarray],
    dose_gy: np.ndarray | None,
) -> MapNumbers:
    """Where a map lies, in numbers, each beside what a map spread evenly over the brain would show.

    The pointing game is that of Zhang et al., Top-down neural attention by excitation backprop (IJCV 2018): a hit is a
    maximum inside the region or within a tolerance of it, here half the cube's edge along each axis, rounded up, since
    a cube says no more exactly what in it mattered. Where nothing lowers the probability there is no hit.

    Args:
        drop: (X, Y, Z) probability drop.
        world_from_voxel: (4, 4), RAS+, mm.
        cube: edge lengths of the cube in voxels.
        brain: (X, Y, Z) bool, as far as the models see it.
        regions: name -> (X, Y, Z) bool, see ricenet.explanation.regions; may be empty.
        dose_gy: (X, Y, Z) in Gy, or None where the case has no dose in Gy.
    """
    weight = np.abs(drop)
    maximum = peak(drop)
    lowers = bool(drop.max() > 0)
    reaches = {name: _within_reach(regions[name], cube) for name in POINTED if name in regions}
    numbers = MapNumbers(
        drop_max=float(drop.max()),
        drop_min=float(drop.min()),
        drop_max_world_mm=apply_affine(world_from_voxel, maximum).round(3).tolist() if lowers else None,
        map_share={name: _share(weight, mask) for name, mask in {"brain": brain, **regions}.items()},
        brain_share={name: _brain_share(brain, mask) for name, mask in regions.items()},
        pointing={
            name: Pointing(hit=lowers and bool(reach[maximum]), chance=_brain_share(brain, reach))
            for name, reach in reaches.items()
        },
    )
    if dose_gy is None:
        return numbers
    mean = float(dose_gy[brain].mean(dtype=np.float64))
    dose = MeanDose(weighted_by_map=_mean(dose_gy[brain], weight[brain]), brain=mean)
    return numbers.model_copy(update={"dose_gy": dose})


def channel_shares(maps: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Each channel's share of the sum of the absolute maps with that channel alone blanked; None where all are 0."""
    sums = {name: float(np.abs(drop).sum(dtype=np.float64)) for name, drop in maps.items()}
    total = sum(sums.values())
    return {name: value / total if total else None for name, value in sums.items()}


def rank_agreement(maps: Sequence[np.ndarray], brain: np.ndarray) -> float | None:
    """Mean of Spearman's rank correlation over the pairs of (X, Y, Z) maps inside the brain.

    None for fewer than two maps, and where one is constant there, which has no ranks.
    """
    values = [drop[brain] for drop in maps]
    if len(values) < 2 or any(np.ptp(one) == 0 for one in values):
        return None
    correlations = np.corrcoef(np.stack([rankdata(one) for one in values]))
    return float(correlations[np.triu_indices(len(values), 1)].mean())


def summarise(records: Sequence[OcclusionRecord]) -> SetSummary:
    """One modality set's cases taken together."""
    agreements = [record.fold_agreement for record in records if record.fold_agreement is not None]
    optional = {
        "seen": _seen(records),
        "numbers": _numbers([record.numbers for record in records if record.numbers is not None]),
    }
    summary = SetSummary(
        n=len(records),
        n_correct=sum(record.predicted == record.label for record in records),
        settings=_distinct(record.settings for record in records),
        methods=_distinct(record.method for record in records),
        cases=[record.case_key for record in records],
        median_map_share=_medians(record.map_share for record in records),
        median_brain_share=_medians(record.brain_share for record in records),
        median_channel_share=_medians(record.channel_share for record in records),
        median_dose_gy=_medians(record.dose_gy.model_dump() for record in records if record.dose_gy is not None),
        median_fold_agreement=_median(agreements),
        pointing=_pointing([record.pointing for record in records]),
        randomised=_shuffled(records),
        curves=_curves([record.curves for record in records if record.curves is not None]),
    )
    return summary.model_copy(update={name: value for name, value in optional.items() if value is not None})


def number_parts(
    networks: Sequence[nn.Module], values: Mapping[str, float], log_odds: Sequence[float]
) -> NumberParts | None:
    """What a case's numbers do in its prediction; None where the networks see none.

    Args:
        networks: of one modality set.
        values: the case's numbers by name, as far as it has them.
        log_odds: of RICE, of each network for the whole case.
    """
    of_network = [network.log_odds(values) for network in networks if isinstance(network, LateFusion)]
    if not of_network:
        return None
    # A fold whose training cases have no such number does not see it.
    names = dict.fromkeys(name for parts in of_network for name in parts)
    means = {name: float(np.mean([parts.get(name, 0.0) for parts in of_network])) for name in names}
    largest_first = sorted(means, key=lambda name: -abs(means[name]))
    total = float(np.mean(log_odds))
    return NumberParts(
        log_odds=total,
        image_log_odds=total - sum(means.values()),
        parts={name: NumberPart(value=values.get(name), log_odds=means[name]) for name in largest_first},
    )


def _numbers(cases: Sequence[NumberParts]) -> NumberSummary | None:
    if not cases:
        return None
    parts = _medians({name: abs(part.log_odds) for name, part in case.parts.items()} for case in cases)
    return NumberSummary(
        image_log_odds=float(np.median([abs(case.image_log_odds) for case in cases])),
        numbers_log_odds=float(np.median([abs(case.log_odds - case.image_log_odds) for case in cases])),
        parts=dict(sorted(parts.items(), key=lambda item: -item[1])),
    )


def _seen(records: Sequence[OcclusionRecord]) -> SeenParts | None:
    parts = [record.seen for record in records if record.seen is not None]
    if not parts:
        return None
    sources = Counter(part.place.source for part in parts)
    return SeenParts(at=parts[0].at, size_mm=parts[0].size_mm, sources=dict(sources.most_common()))


def at_least(hits: int, chances: Sequence[float]) -> float:
    """Probability of `hits` or more when case i hits with `chances[i]`, cases independent (Poisson-binomial, exact)."""
    distribution: np.ndarray = np.ones(1)  # of the hits among the cases so far
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    return min(1.0, float(distribution[hits:].sum()))


def _pointing(cases: Sequence[Mapping[str, Pointing]]) -> dict[str, PointingSummary]:
    """By region, over the cases that know it; each case's own by region in."""
    summary = {}
    for region in POINTED:
        judged = [case[region] for case in cases if region in case]
        if judged:
            hits = sum(case.hit for case in judged)
            chances = [case.chance for case in judged]
            summary[region] = PointingSummary(
                n=len(judged),
                hits=hits,
                rate=hits / len(judged),
                interval=proportion_interval(hits, len(judged), "clopper_pearson"),
                expected=float(sum(chances)),
                chance=float(np.mean(chances)),
                p=at_least(hits, chances),
            )
    return summary


def _shuffled(records: Sequence[OcclusionRecord]) -> ShuffledSummary | None:
    """The maps of networks with shuffled weights, over the cases that have one.

    Bright lesions and steep doses draw the maps of untrained networks, too: those, and not a maximum anywhere in the
    brain, are what the trained ones must exceed.
    """
    pairs = [(record, record.randomised) for record in records if record.randomised is not None]
    if not pairs:
        return None
    pointing = _pointing([shuffled.pointing for _, shuffled in pairs])
    similarities = [shuffled.similarity for _, shuffled in pairs if shuffled.similarity is not None]
    return ShuffledSummary(
        n=len(pairs),
        pointing=pointing,
        paired={region: _paired(pairs, region) for region in pointing},
        median_similarity=_median(similarities),
        similarity_range=(min(similarities), max(similarities)) if similarities else None,
    )


def _paired(pairs: Sequence[tuple[OcclusionRecord, ShuffledNumbers]], region: str) -> PairedHits:
    """p: of so many hits of the trained networks alone, or more, if either were as likely to hit alone."""
    hits = [
        (trained.pointing[region].hit, shuffled.pointing[region].hit)
        for trained, shuffled in pairs
        if region in trained.pointing
    ]
    only_trained = hits.count((True, False))
    only_shuffled = hits.count((False, True))
    n = only_trained + only_shuffled
    p = float(binomtest(only_trained, n, alternative="greater").pvalue) if n else 1.0
    return PairedHits(only_trained=only_trained, only_randomised=only_shuffled, p=p)


def _curves(cases: Sequence[CurveNumbers]) -> CurveSummary | None:
    """Over the cases whose fractions are the most common ones; the others are left out."""
    if not cases:
        return None
    [(fraction, _)] = Counter(tuple(case.fraction) for case in cases).most_common(1)
    alike = [case for case in cases if tuple(case.fraction) == fraction]
    return CurveSummary(
        n=len(alike),
        fraction=list(fraction),
        deletion=_mean_curve([case.deletion for case in alike]),
        insertion=_mean_curve([case.insertion for case in alike]),
        deletion_random=_mean_curve([case.deletion_random for case in alike]),
        insertion_random=_mean_curve([case.insertion_random for case in alike]),
        median_deletion_area=float(np.median([case.deletion_area for case in alike])),
        median_insertion_area=float(np.median([case.insertion_area for case in alike])),
        median_deletion_random_area=float(np.median([case.deletion_random_area for case in alike])),
        median_insertion_random_area=float(np.median([case.insertion_random_area for case in alike])),
        n_deletion_better=sum(case.deletion_area < case.deletion_random_area for case in alike),
        n_insertion_better=sum(case.insertion_area > case.insertion_random_area for case in alike),
    )


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    mean: list[float] = np.mean(curves, axis=0).tolist()
    return mean


def _distinct(values: Iterable[Value]) -> list[Value]:
    """In the order of first appearance; also of what has no hash."""
    distinct: list[Value] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _medians(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: float(np.median(each)) for name, each in values.items()}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _within_reach(mask: np.ndarray, cube: Sequence[int]) -> np.ndarray:
    """The mask, wider by half the cube's edge on both sides along each axis."""
    widths = [2 * -(-edge // 2) + 1 for edge in cube]
    return maximum_filter(mask.astype(np.uint8), widths, mode="constant") > 0  # faster than a dilation by this box


def _share(weight: np.ndarray, mask: np.ndarray) -> float | None:
    total = weight.sum(dtype=np.float64)
    return float(weight[mask].sum(dtype=np.float64) / total) if total else None


def _brain_share(brain: np.ndarray, mask: np.ndarray) -> float:
    return float(brain[mask].sum(dtype=np.float64) / brain.sum(dtype=np.float64))


def _mean(values: np.ndarray, weight: np.ndarray) -> float | None:
    return float(np.average(values, weights=weight)) if weight.any() else None
