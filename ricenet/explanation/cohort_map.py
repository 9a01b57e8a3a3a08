"""All explained cases taken together: the folders of one run's explanation in; summary.json and its pictures out."""

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from ricenet.command.records import read_version
from ricenet.display import words
from ricenet.display.figure_style import save
from ricenet.explanation.attribution import summarise
from ricenet.explanation.attribution_figures import draw_attribution, draw_curves
from ricenet.explanation.explained_case import Scene
from ricenet.explanation.map_figures import draw_cohort
from ricenet.explanation.map_record import RECORD, SUMMARY, VERSION, ExplanationSummary, OcclusionRecord, read_record
from ricenet.training.run_record import channels_of_rows

ReadScene = Callable[[str], Scene]

log = logging.getLogger(__name__)


def read_records(explanation: Path) -> dict[str, list[OcclusionRecord]]:
    """The occlusion.json of every case by modality set; those of another version are left out, with a warning.

    Raises:
        InvalidInput: one of this version that cannot be read.
    """
    # Names with a dot in front are folders another process is still writing.
    paths = sorted(explanation.glob(f"[!.]*/[!.]*/{RECORD}"))
    current = [path for path in paths if read_version(path) == VERSION]
    if len(current) < len(paths):
        log.warning(
            "%d of %d explained cases are of another version of ricenet, so not in the summary; explain them again",
            len(paths) - len(current),
            len(paths),
        )
    records = [read_record(path.parent) for path in current]
    names = dict.fromkeys(record.modalities for record in records)
    return {name: [record for record in records if record.modalities == name] for name in names}


def write_summary(explanation: Path) -> None:
    """Write summary.json over every explained case of every modality set, and the charts of it."""
    sets = {name: summarise(records) for name, records in read_records(explanation).items()}
    if not sets:
        return
    ExplanationSummary(version=VERSION, sets=sets).write(explanation / SUMMARY)
    channels_of = channels_of_rows(explanation.parent)
    figures = {"attribution": draw_attribution(sets, channels_of), "curves": draw_curves(sets, channels_of)}
    for name, figure in figures.items():
        if figure is None:
            (explanation / f"{name}.png").unlink(missing_ok=True)
        else:
            save(figure, explanation / name)


def draw_mean(explanation: Path, modalities: str, read: ReadScene) -> None:
    """Draw <modalities>/cohort.png and .svg: the mean map of the set's explained cases over their mean MRI.

    Args:
        read: the scene of a case key.
    """
    records = read_records(explanation).get(modalities, [])
    if not records:
        return
    first = read(records[0].case_key)
    shape = first.brain.shape
    mri, drop, dose_gy, n_with_dose = np.zeros(shape), np.zeros(shape), np.zeros(shape), 0
    for record in records:
        scene = read(record.case_key)
        drop_of_case = nib.nifti1.load(explanation / modalities / record.case_key / "occlusion.nii.gz").get_fdata()
        mri += centred(np.where(scene.brain, scene.mri, 0), scene.brain)
        drop += centred(drop_of_case, scene.brain)
        if scene.dose_gy is not None:
            dose_gy += centred(scene.dose_gy, scene.brain)
            n_with_dose += 1
    n = len(records)
    frame = np.diag([*first.spacing_mm, 1.0])
    frame[:3, 3] = -first.spacing_mm * (np.array(shape) - 1) / 2  # no case's own: the middle of the grid is 0
    title = f"{words.row_name(modalities, channels_of_rows(explanation.parent))}: mean map of {n} case{'s' * (n > 1)}"
    figure = draw_cohort(mri / n, drop / n, dose_gy / n if n_with_dose == n else None, frame, n, title)
    save(figure, explanation / modalities / "cohort")


def centred(volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """The volume moved by whole voxels so that the middle of the brain's box comes to lie in the middle of the grid.

    Args:
        volume: (X, Y, Z); 0 comes in where it does not reach. brain: (X, Y, Z) bool.
    """
    moved = volume
    for axis in range(3):
        inside = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
        size = brain.shape[axis]
        shift = (size - 1 - int(inside[0]) - int(inside[-1])) // 2
        moved = np.roll(moved, shift, axis)
        empty = slice(0, shift) if shift >= 0 else slice(size + shift, size)
        np.moveaxis(moved, axis, 0)[empty] = 0
    return moved
