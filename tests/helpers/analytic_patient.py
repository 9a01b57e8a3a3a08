"""An analytic patient: brain, cavity, dose and poses in closed form, so every voxel is known; written as real NIfTI."""

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from ricenet import MODALITIES
from ricenet.cases.alignment import PreprocessingSettings
from ricenet.cases.case_folder import input_hashes
from ricenet.cohort.table import Case, read_cohort

# An analytic patient: an ellipsoid of 1,064 ml, waves for the cortex, a cavity; the dose falls off around the cavity.
HALF_AXES_MM = np.array([60, 77, 55])
CAVITY_MM = np.array([22.0, -14.0, 12.0])
WAVES = np.random.default_rng(5).normal(size=(12, 3))
WAVES *= (2 * np.pi / np.linspace(14, 40, 12) / np.linalg.norm(WAVES, axis=1))[:, None]
SPACING_MM, SIZE = 3.0, 56
SETTINGS = PreprocessingSettings(
    brain="none", hdbet_models=1, hdbet_tta=False, device="cpu", reference="post", brain_on="reference",
    registration="quick", spacing_mm=SPACING_MM, size=SIZE, dose_scaling="fixed", seed=0,
)  # fmt: skip
COLUMNS = "patient_id,label,split,post,event,rd,planning,rd_2,planning_2,dose_unit,fractions,prescription_gy"
ROW = {"label": "rice", "split": "cv", "dose_unit": "Gy", "fractions": "30", "prescription_gy": "60"}


def pose(degrees, shift) -> np.ndarray:
    world_map = np.eye(4)
    world_map[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    world_map[:3, 3] = shift
    return world_map


POST_POSE, EVENT_POSE, PLANNING_POSE = (
    pose((3, -2, 5), (6, -4, 3)),
    pose((-4, 5, -3), (-9, 8, 5)),
    pose((0, 0, 9), (30, 9, -4)),
)
EVENT_FROM_POST = EVENT_POSE @ np.linalg.inv(POST_POSE)


def points(shape, affine, world_from_head) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    back = np.linalg.inv(world_from_head) @ affine
    return index @ back[:3, :3].T + back[:3, 3]


def brain_of(at: np.ndarray, seed: int, contrast: float, cavity: bool = True) -> np.ndarray:
    waves = sum(np.cos(at @ wave + seed) for wave in WAVES)
    image = (400 + 30 * waves) * contrast + np.random.default_rng(seed).normal(0, 4, at.shape[:-1])
    if cavity:
        image *= 1 - 0.7 / (1 + np.exp(np.linalg.norm(at - CAVITY_MM, axis=-1) - 12))
    return (image * (np.linalg.norm(at / HALF_AXES_MM, axis=-1) < 1)).astype(np.float32)


def dose_of(at: np.ndarray) -> np.ndarray:
    return (62 / (1 + np.exp((np.linalg.norm(at - CAVITY_MM, axis=-1) - 28) / 6))).astype(np.float32)


def grid(shape, spacing_mm, axes=(1, 1, 1)) -> np.ndarray:
    affine = np.diag([*np.multiply(spacing_mm, axes), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def write_patient(root: Path, name: str, seed: int, dose_pose: np.ndarray = POST_POSE, **row: str) -> dict[str, str]:
    shape, affine = (52, 62, 44), grid((52, 62, 44), (3, 3, 3.4), axes=(-1, 1, 1))
    save(root / name / "post.nii.gz", brain_of(points(shape, affine, POST_POSE), seed, 1.0), affine)
    shape = (60, 64, 56)
    affine = pose((6, 0, 0), (0, 0, 0)) @ grid(shape, (3, 3.1, 3))
    save(root / name / "event.nii.gz", brain_of(points(shape, affine, EVENT_POSE), seed, 1.3), affine)
    shape, affine = (60, 64, 56), grid((60, 64, 56), (4, 4, 4))
    save(root / name / "rd.nii.gz", dose_of(points(shape, affine, dose_pose)), affine)
    files = {role: f"{name}/{role}.nii.gz" for role in MODALITIES}
    return {"patient_id": name, **ROW, **files, **row}


def write_table(root: Path, rows: list[dict[str, str]]) -> Path:
    with (root / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS.split(","), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return root


def one_case(root: Path) -> tuple[Case, dict[str, str]]:
    case = read_cohort(root)[0]
    return case, input_hashes(case)


def write_two(root: Path) -> Path:
    """A cohort of two patients, one of each class: a RICE in cv, a recurrence in test."""
    rows = [
        write_patient(root, "MUSTERMANN-1", 0),
        write_patient(root, "MUSTERMANN-2", 1, label="recurrence", split="test"),
    ]
    return write_table(root, rows)


def true_points(world_from_voxel: np.ndarray) -> np.ndarray:
    return points((SIZE,) * 3, world_from_voxel, POST_POSE)


def rewrite(role: str, change) -> Callable[[Path], None]:
    """A damage: `change` the voxels of the first patient's image."""

    def damage(root: Path) -> None:
        path = root / "MUSTERMANN-1" / f"{role}.nii.gz"
        image = nib.load(path)
        save(path, change(np.asarray(image.dataobj).copy()), image.affine)

    return damage


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels[20, 20, 20] = value
        return voxels

    return change


def truncate(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "event.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])


def flip_bit(root: Path) -> None:
    path = root / "MUSTERMANN-1" / "event.nii.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def edit(row: int, **values: str) -> Callable[[Path], None]:
    """A damage: other values in a row of the table."""

    def damage(root: Path) -> None:
        with (root / "cohort.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        rows[row].update(values)
        write_table(root, rows)

    return damage
