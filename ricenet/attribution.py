"""What an occlusion map says: a map and the masks of its case in, shares by region and one picture out."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from nibabel.affines import apply_affine, voxel_sizes
from scipy.ndimage import binary_dilation

DOSE_CONTOURS_GY = {20.0: "#2a9fd6", 40.0: "#e0a800", 57.0: "#f0529c"}  # 57 = 95% of the common 60 Gy prescription


def measure(
    drop: np.ndarray,
    world_from_voxel: np.ndarray,
    cube: Sequence[int],
    brain: np.ndarray,
    regions: Mapping[str, np.ndarray],
    dose_gy: np.ndarray | None,
) -> dict:
    """Where a map lies, in numbers, each beside what a map spread evenly over the brain would show.

    Args:
        drop: (X, Y, Z) probability drop. world_from_voxel: (4, 4), RAS+, mm. cube: edge lengths of the cube in voxels.
        brain: (X, Y, Z) bool. regions: name -> (X, Y, Z) bool masks of the known truth, may be empty.
        dose_gy: (X, Y, Z) in Gy, or None where the case has no dose in Gy.

    Returns:
        `drop_max`, `drop_min` and `drop_max_world_mm` (None when nothing lowers the probability); `map_share`: share of
        the absolute map per region; `brain_share`: that region's share of the brain's voxels; `dose_gy`: mean over the
        brain weighted by the absolute map, and unweighted. With a region `lesion`: `hits_lesion`, whether a cube over
        the maximum can touch the lesion, and `hits_lesion_by_chance`, the share of the brain's voxels of which that is
        true.
    """
    weight = np.abs(drop)
    peak = _peak(drop)
    found = bool(drop[peak] > 0)
    numbers = {
        "drop_max": float(drop.max()),
        "drop_min": float(drop.min()),
        "drop_max_world_mm": apply_affine(world_from_voxel, peak).round(3).tolist() if found else None,
        "map_share": {name: _share(weight, mask) for name, mask in {"brain": brain, **regions}.items()},
        "brain_share": {name: _share(brain, mask) for name, mask in regions.items()},
    }
    if dose_gy is not None:
        weighted, plain = _mean(dose_gy[brain], weight[brain]), _mean(dose_gy[brain], np.ones(int(brain.sum())))
        numbers["dose_gy"] = {"weighted_by_map": weighted, "brain": plain}
    if "lesion" in regions:
        reach = binary_dilation(regions["lesion"], np.ones([2 * edge - 1 for edge in cube]))
        numbers["hits_lesion"] = found and bool(reach[peak])
        numbers["hits_lesion_by_chance"] = _share(brain, reach)
    return numbers


def summarise(records: Sequence[Mapping]) -> dict:
    """One modality set's cases taken together: `records` are its occlusion.json, as ricenet.explain writes them.

    Returns:
        Counts, medians of the shares over the cases, and how many maxima touch the lesion beside how many would if the
        maximum fell on any voxel of the brain with equal probability.
    """
    judged = [record for record in records if "hits_lesion" in record]
    settings = [record["settings"] for record in records]
    return {
        "n": len(records),
        "n_correct": sum(record["predicted"] == record["label"] for record in records),
        "settings": [one for index, one in enumerate(settings) if one not in settings[:index]],
        "median_map_share": _medians([record["map_share"] for record in records]),
        "median_brain_share": _medians([record["brain_share"] for record in records]),
        "n_with_truth": len(judged),
        "n_hits_lesion": sum(record["hits_lesion"] for record in judged),
        "n_hits_lesion_by_chance": sum(record["hits_lesion_by_chance"] for record in judged),
        "cases": [record["case_key"] for record in records],
    }


def _medians(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: float(np.median(each)) for name, each in values.items()}


def _peak(drop: np.ndarray) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(int(drop.argmax()), drop.shape))


def _share(weight: np.ndarray, mask: np.ndarray) -> float | None:
    total = weight.sum(dtype=np.float64)
    return float(weight[mask].sum(dtype=np.float64) / total) if total else None


def _mean(values: np.ndarray, weight: np.ndarray) -> float | None:
    return float(np.average(values, weights=weight)) if weight.any() else None


def draw(
    mri: np.ndarray,
    drop: np.ndarray,
    world_from_voxel: np.ndarray,
    dose_gy: np.ndarray | None,
    lesion: np.ndarray | None,
    title: str,
) -> Figure:
    """Axial, coronal and sagittal slices through the map's maximum: above the MRI, below the map over it.

    Args:
        mri, drop: (X, Y, Z) in RAS+ voxel order. world_from_voxel: (4, 4), RAS+, mm.
        dose_gy, lesion: (X, Y, Z) drawn as contours; None where not known.

    Returns:
        A figure in radiological convention: the patient's right is on the left.
    """
    peak, spacing_mm = _peak(drop), voxel_sizes(world_from_voxel)
    limit = float(np.abs(drop).max()) or 1.0
    gray = Normalize(*np.percentile(mri[mri != 0], (1, 99.5)) if mri.any() else (0, 1))
    background = np.where(mri == 0, gray.vmin or 0.0, mri)
    contours = _contours(dose_gy, lesion)
    figure = Figure(figsize=(7.2, 5.7), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, (axis, name) in enumerate(((2, "axial"), (1, "coronal"), (0, "sagittal"))):
        for row in axes[:, column]:
            row.imshow(_slice(background, axis, peak), cmap="gray", norm=gray, **_view(axis, spacing_mm))
            for _, color, volume, level in contours:
                shown = _slice(volume, axis, peak)
                if shown.min() < level < shown.max():
                    row.contour(shown, levels=[level], colors=[color], linewidths=1.2)
        position_mm = apply_affine(world_from_voxel, peak)[axis]
        axes[0, column].set_title(f"{name}, {'xyz'[axis]} = {position_mm:.0f} mm", fontsize=9)
        shown = _slice(drop, axis, peak)
        color = matplotlib.colormaps["RdBu_r"](Normalize(-limit, limit)(shown))
        color[..., 3] = np.minimum(1.6 * np.abs(shown) / limit, 0.85)
        axes[1, column].imshow(color, **_view(axis, spacing_mm))
        for row in axes[:, column]:
            _label(row, axis)  # last: every imshow turns the axes back
    scale = matplotlib.cm.ScalarMappable(Normalize(-limit, limit), "RdBu_r")
    bar = figure.colorbar(scale, ax=axes[1, :], location="bottom", shrink=0.6, aspect=40)
    bar.set_label("probability drop of the predicted class when blanked", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if contours:
        lines = [Line2D([], [], color=color, label=name) for name, color, _, _ in contours]
        figure.legend(handles=lines, fontsize=9, loc="outside lower center", ncols=len(lines), frameon=True)
    figure.suptitle(title, fontsize=10)
    return figure


def _contours(dose_gy: np.ndarray | None, lesion: np.ndarray | None) -> list[tuple[str, str, np.ndarray, float]]:
    """(name, colour, volume, level) of each line to draw."""
    lines = []
    if dose_gy is not None:
        doses = [(level, color) for level, color in DOSE_CONTOURS_GY.items() if level < dose_gy.max()]
        lines = [(f"{level:g} Gy", color, dose_gy, level) for level, color in doses]
    if lesion is not None:
        lines.append(("known lesion", "#2dc653", lesion.astype(np.float32), 0.5))
    return lines


def _slice(volume: np.ndarray, axis: int, at: Sequence[int]) -> np.ndarray:
    return np.take(volume, at[axis], axis=axis).T


def _view(axis: int, spacing_mm: np.ndarray) -> dict:
    across, up = (spacing for index, spacing in enumerate(spacing_mm) if index != axis)
    return {"origin": "lower", "aspect": up / across, "interpolation": "nearest"}


def _label(axes, axis: int) -> None:  # type: ignore[no-untyped-def]  # matplotlib's Axes, created by the figure
    """Radiological convention: R on the left of axial and coronal slices, A on the left of sagittal ones."""
    axes.invert_xaxis()
    left = "A" if axis == 0 else "R"
    style = {"color": "white", "fontsize": 9, "transform": axes.transAxes, "va": "top", "fontweight": "bold"}
    axes.text(0.03, 0.97, left, ha="left", **style)
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
