"""What occlusion maps say, in numbers: a map and the regions of its case in; a set's records in, one summary out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy.ndimage import maximum_filter
from scipy.stats import binomtest, rankdata

from ricenet.explanation.regions import POINTED
from ricenet.images.views import peak
from ricenet.statistics.metrics import proportion_interval

VERSION = 2  # of occlusion.json and summary.json; a higher one makes every case be explained again
CURVES = ("deletion", "insertion", "deletion_random", "insertion_random")


def measure(
    drop: np.ndarray,
    world_from_voxel: np.ndarray,
    cube: Sequence[int],
    brain: np.ndarray,
    regions: Mapping[str, np.ndarray],
    dose_gy: np.ndarray | None,
) -> dict[str, Any]:
    """Where a map lies, in numbers, each beside what a map spread evenly over the brain would show.

    The pointing game is that of Zhang et al., Top-down neural attention by excitation backprop (IJCV 2018): a hit is a
    maximum inside the region or within a tolerance of it, here half the cube's edge along each axis, rounded up, since
    a cube says no more exactly what in it mattered.

    Args:
        drop: (X, Y, Z) probability drop. world_from_voxel: (4, 4), RAS+, mm. cube: edge lengths of the cube in voxels.
        brain: (X, Y, Z) bool. regions: name -> (X, Y, Z) bool, see ricenet.explanation.regions; may be empty.
        dose_gy: (X, Y, Z) in Gy, or None where the case has no dose in Gy.

    Returns:
        `drop_max`, `drop_min` and `drop_max_world_mm` (see peak; None when nothing lowers the probability);
        `map_share`: share of the absolute map in the brain and in each region, None where the map is 0 everywhere;
        `brain_share`: that region's share of the brain's voxels; `dose_gy`, where known: mean over the brain weighted
        by the absolute map, and unweighted; `pointing`: for each region that can be pointed at, `hit`, never where
        nothing lowers the probability, and `chance`, the share of the brain's voxels where a maximum would be a hit.
    """
    weight, top = np.abs(drop), peak(drop)
    found = bool(drop.max() > 0)
    numbers: dict[str, Any] = {
        "drop_max": float(drop.max()),
        "drop_min": float(drop.min()),
        "drop_max_world_mm": apply_affine(world_from_voxel, top).round(3).tolist() if found else None,
        "map_share": {name: _share(weight, mask) for name, mask in {"brain": brain, **regions}.items()},
        "brain_share": {name: _share(brain, mask) for name, mask in regions.items()},
        "pointing": {},
    }
    reaches = {name: _within_reach(regions[name], cube) for name in POINTED if name in regions}
    for name, reach in reaches.items():
        numbers["pointing"][name] = {"hit": found and bool(reach[top]), "chance": _share(brain, reach)}
    if dose_gy is not None:
        weighted, plain = _mean(dose_gy[brain], weight[brain]), float(dose_gy[brain].mean(dtype=np.float64))
        numbers["dose_gy"] = {"weighted_by_map": weighted, "brain": plain}
    return numbers


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


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One modality set's cases taken together: `records` are its occlusion.json, as ricenet.explain writes them.

    Returns:
        Counts, distinct settings and methods, and medians over the cases that have the number in question (None, or no
        entry, where none has); `pointing`: see _pointing; `randomised`, `curves`: see there, None where no record has
        one.
    """
    agreements = [record["fold_agreement"] for record in records if record["fold_agreement"] is not None]
    return {
        "n": len(records),
        "n_correct": sum(record["predicted"] == record["label"] for record in records),
        "settings": _distinct(record["settings"] for record in records),
        "methods": _distinct(record["method"] for record in records),
        "cases": [record["case_key"] for record in records],
        "median_map_share": _medians(record["map_share"] for record in records),
        "median_brain_share": _medians(record["brain_share"] for record in records),
        "median_channel_share": _medians(record["channel_share"] for record in records),
        "median_dose_gy": _medians(record.get("dose_gy", {}) for record in records),
        "median_fold_agreement": _median(agreements),
        "pointing": _pointing(records),
        "randomised": _randomised([record for record in records if record["randomised"] is not None]),
        "curves": _curves([record["curves"] for record in records if record["curves"] is not None]),
    }


def at_least(hits: int, chances: Sequence[float]) -> float:
    """Probability of `hits` or more when case i hits with `chances[i]`, cases independent (Poisson-binomial, exact)."""
    distribution: np.ndarray = np.ones(1)  # of the hits among the cases so far
    for chance in chances:
        distribution = np.convolve(distribution, [1 - chance, chance])
    return min(1.0, float(distribution[hits:].sum()))


def _pointing(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Hits by region, over the records that know it, beside those of a maximum anywhere in the brain.

    Returns:
        `n`, `hits`, `rate` with its 95% `interval` (Clopper-Pearson); `expected` hits and mean `chance` if the maximum
        fell on any voxel of the brain with equal probability; `p`: that of so many hits or more if it did (one-sided,
        exact, the cases being independent).
    """
    summary = {}
    for region in POINTED:
        judged = [record["pointing"][region] for record in records if region in record["pointing"]]
        if judged:
            hits, chances = sum(one["hit"] for one in judged), [one["chance"] for one in judged]
            summary[region] = {
                "n": len(judged),
                "hits": hits,
                "rate": hits / len(judged),
                "interval": list(proportion_interval(hits, len(judged), "clopper_pearson")),
                "expected": float(sum(chances)),
                "chance": float(np.mean(chances)),
                "p": at_least(hits, chances),
            }
    return summary


def _randomised(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The maps of networks with randomised weights: how they point, and how they resemble those of the trained ones.

    Bright lesions and steep doses draw the maps of untrained networks, too: those, and not a maximum anywhere in the
    brain, are what the trained ones must exceed.

    Returns:
        `n`; `pointing`: as that of the trained networks; `paired`: by region the cases in which only the trained
        networks' map hits, those in which only the randomised ones' does, and `p` of so many of the former or more if
        either were as likely (exact McNemar, one-sided); `median_similarity` and `similarity_range` [lowest, highest]
        over the cases whose similarity is known, None where it is of none.
    """
    if not records:
        return None
    found = [record["randomised"] for record in records]
    known = [one["similarity"] for one in found if one["similarity"] is not None]
    return {
        "n": len(found),
        "pointing": _pointing(found),
        "paired": {region: _paired(records, region) for region in _pointing(found)},
        "median_similarity": _median(known),
        "similarity_range": [min(known), max(known)] if known else None,
    }


def _paired(records: Sequence[Mapping[str, Any]], region: str) -> dict[str, Any]:
    judged = [record for record in records if region in record["pointing"]]
    hits = [(one["pointing"][region]["hit"], one["randomised"]["pointing"][region]["hit"]) for one in judged]
    only_trained, only_randomised = hits.count((True, False)), hits.count((False, True))
    n = only_trained + only_randomised
    p = float(binomtest(only_trained, n, alternative="greater").pvalue) if n else 1.0
    return {"only_trained": only_trained, "only_randomised": only_randomised, "p": p}


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Deletion and insertion curves over the cases whose fractions are the most common ones; the others are left out.

    Returns:
        `n`: cases that are in; `fraction`; the four curves: means over these cases at each fraction; medians of their
        areas; `n_deletion_better`, `n_insertion_better`: cases whose map deletes faster (smaller area) and inserts
        faster (larger area) than random order.
    """
    if not records:
        return None
    [(fraction, _)] = Counter(tuple(record["fraction"]) for record in records).most_common(1)
    alike = [record for record in records if tuple(record["fraction"]) == fraction]
    return {
        "n": len(alike),
        "fraction": list(fraction),
        **{name: np.mean([record[name] for record in alike], axis=0).tolist() for name in CURVES},
        **{f"median_{name}_area": _median([record[f"{name}_area"] for record in alike]) for name in CURVES},
        "n_deletion_better": sum(one["deletion_area"] < one["deletion_random_area"] for one in alike),
        "n_insertion_better": sum(one["insertion_area"] > one["insertion_random_area"] for one in alike),
    }


def _distinct(values: Iterable[Any]) -> list[Any]:
    """In the order of first appearance; also of what has no hash."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _medians(rows: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: _median(each) for name, each in values.items()}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _within_reach(mask: np.ndarray, cube: Sequence[int]) -> np.ndarray:
    """The mask, wider by half the cube's edge on both sides along each axis."""
    widths = [2 * -(-edge // 2) + 1 for edge in cube]
    return maximum_filter(mask.astype(np.uint8), widths, mode="constant") > 0  # faster than a dilation by this box


def _share(weight: np.ndarray, mask: np.ndarray) -> float | None:
    total = weight.sum(dtype=np.float64)
    return float(weight[mask].sum(dtype=np.float64) / total) if total else None


def _mean(values: np.ndarray, weight: np.ndarray) -> float | None:
    return float(np.average(values, weights=weight)) if weight.any() else None
