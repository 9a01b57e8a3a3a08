"""For tests of ricenet.predict: a model folder of untrained networks; phantom patients as NIfTI, good and spoilt."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.evaluated_grid import write_evaluated_grid
from helpers.nifti_twin import write_patient
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.command.schemas import PreprocessConfig, compose
from ricenet.images.volume import Volume, read_volume, write_volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.scanner import scan_patient
from ricenet.prediction import new_case
from ricenet.prediction.model_folder import export_model

NAME = "rd_event"
COARSE = ["brain=mask", "registration=quick", "spacing_mm=6", "size=36"]
SPACING_MM = 3.0


@pytest.fixture(scope="module", autouse=True)
def coarse_pages() -> Iterator[None]:
    """No finer than the scans: a page of voxels of a millimetre takes most of a test's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_case, "VIEW_SPACING_MM", SPACING_MM)
        yield


def write_model(root: Path, phantom_cases: Path, *keys: str, name: str = NAME, **grid: Any) -> Path:
    """A model folder whose training cases say that they were preprocessed with `keys`.

    name: of the row that is exported. grid: as of write_evaluated_grid.
    """
    config = asdict(compose("preprocess", PreprocessConfig, ["cohort=.", "cases=.", *COARSE, *keys]))
    fields = {name: config[name] for name in PreprocessingSettings.__annotations__ if name in config}
    parameters = PreprocessingSettings(**fields | {"device": "cpu"}).deciding()
    run, _ = write_evaluated_grid(root, phantom_cases, parameters, **grid)
    export_model(run, name, root / "model")
    return root / "model"


def write_nifti(folder: Path, number: int, seed: int = 3) -> Path:
    """Patient `number` of a cohort of four: post, event, planning, rd, and the true brain in the frame of post."""
    draw = draw_cohort(4, seed, swap_label_effects=False)[number]
    scans = scan_patient(draw.quantities, draw.seed, SPACING_MM)
    write_patient(folder.parent, int(folder.name), draw, scans)
    brain = scans.frames["post"].scan(scans.patient.brain, scans.patient.grid)
    write_volume(folder / "brain_mask.nii.gz", (brain.voxels > 0.5).astype(np.uint8), brain.world_from_voxel)
    return folder


def spoilt(patient: Path, to: Path, role: str, change: Callable[[Volume], Volume]) -> Path:
    """A copy of `patient` with one image changed."""
    folder = shutil.copytree(patient, to)
    changed = change(read_volume(folder / f"{role}.nii.gz"))
    write_volume(folder / f"{role}.nii.gz", changed.voxels, changed.world_from_voxel)
    return folder
