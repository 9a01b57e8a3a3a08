"""How exact is preprocessing where the truth is known? Raw phantoms in; registration error and brain Dice out.

python -m ricenet.phantom    out=outputs/truth format=nifti patients=5 spacing_mm=1 seed=11
python -m ricenet.preprocess cohort=outputs/truth cases=outputs/truth-cases folds=0
python benchmarks/registration_truth.py outputs/truth outputs/truth-cases
"""

import sys
from pathlib import Path

import numpy as np

from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cohort.ready_cases import read_cases
from ricenet.cohort.table import read_cohort
from ricenet.images.volume import read_volume, resample
from ricenet.phantoms.phantom_record import TruthRecord


def main(cohort: Path, cases: Path) -> None:
    folders = {case.case_key: cases / case.folder for case in read_cases(cases)}
    print(f"{'case':<16}{'mean mm':>9}{'max mm':>9}{'Dice':>8}")
    for case in read_cohort(cohort):
        truth = TruthRecord.read(cohort / "truth" / f"{case.images['post'].parent.name}.json")
        record = CaseRecord.read(folders[case.key] / CASE_FILE)
        true_brain = read_volume(cohort / truth.brain)
        error = registration_error_mm(true_brain, record.transforms["event_from_post"], truth.event_from_post)
        brain = np.load(folders[case.key] / "brain.npy")
        on_grid = resample(true_brain, brain.shape, record.affine) > 0.5
        dice = 2 * (brain & on_grid).sum() / (brain.sum() + on_grid.sum())
        print(f"{case.key:<16}{error.mean():>9.3f}{error.max():>9.3f}{dice:>8.4f}")


def registration_error_mm(brain, found, true) -> np.ndarray:
    """Distance between where the found and the true map take every voxel of the brain, mm."""
    voxels = np.argwhere(brain.voxels > 0.5)
    points = np.c_[voxels, np.ones(len(voxels))] @ brain.world_from_voxel.T
    return np.linalg.norm((points @ np.array(found).T - points @ np.array(true).T)[:, :3], axis=1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
