"""Scan a drawn phantom: its volumes in patient space in; what a scanner's frame and voxel grid would hold out.

Frame of `patient_to_world` maps: RAS+ mm, from the patient space of ricenet.phantoms.anatomy to the scanner's world.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ricenet.images.volume import Affine, Volume, resample
from ricenet.phantoms.anatomy import Array, Grid, Patient, draw_patient, smooth_noise
from ricenet.phantoms.appearance import SCANNERS, STANDARD_APPEARANCE, Appearance, Scanner

HEAD_MM = (216, 256, 232)  # what is drawn of a head
HEAD_CENTRE_MM = (0.0, -16.0, 20.0)  # its middle, in MNI space
FIELD_OF_VIEW_MM = (212, 252, 228)
BIAS = 0.10  # SD of the log of the receive field
SCANNER_UNITS = 800  # of white matter; scanners store whole numbers
DOSE_SPACING_MM = (2.5, 2.5, 3.0)
MAX_OVER_PRESCRIPTION = 1.19  # no plan is delivered with more, and preprocessing would refuse it


@dataclass(frozen=True)
class Frame:
    """Where a scan lies.

    Attributes:
        world_from_patient: (4, 4), the head's pose.
        axes: (3, 3), directions of the voxel axes as columns, orthonormal.
        spacing_mm: steps along them.
    """

    world_from_patient: Affine
    axes: Affine
    spacing_mm: tuple[float, float, float]

    def grid(self) -> tuple[tuple[int, int, int], Affine]:
        """Shape and world_from_voxel of a scan whose middle is the head's."""
        x, y, z = (round(extent / step) for extent, step in zip(FIELD_OF_VIEW_MM, self.spacing_mm, strict=True))
        affine = np.eye(4)
        affine[:3, :3] = self.axes @ np.diag(self.spacing_mm)
        middle = (self.world_from_patient @ np.array([*HEAD_CENTRE_MM, 1.0]))[:3]
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
        return (x, y, z), affine

    def scan(self, image: Array, drawn_on: Grid) -> Volume:
        """Sample (X, Y, Z) `image`, drawn on a grid in patient space, as this scan's voxels."""
        shape, affine = self.grid()
        source = Volume(image.astype(np.float32), drawn_on.world_from_voxel)
        patient_from_world = np.asarray(np.linalg.inv(self.world_from_patient), dtype=np.float64)
        return Volume(resample(source, shape, affine, patient_from_world), affine)


@dataclass(frozen=True)
class Scans:
    """A drawn patient and its two MRIs by role (post, event), each in its own frame; voxels are whole numbers."""

    patient: Patient
    frames: dict[str, Frame]
    volumes: dict[str, Volume]
    appearance: Appearance = STANDARD_APPEARANCE

    @property
    def event_from_post(self) -> Affine:
        """The true world map from the post-OP scan to the event scan."""
        post, event = (self.frames[role].world_from_patient for role in ("post", "event"))
        return np.asarray(event @ np.linalg.inv(post), dtype=np.float64)


def scan_patient(
    quantities: dict[str, float], seed: int, spacing_mm: float, appearance: Appearance = STANDARD_APPEARANCE
) -> Scans:
    """Draw a head and scan it twice: thick slices, right to left, after surgery; cubic oblique voxels at the event.

    The registration error of `appearance` is left out: the two poses make that of preprocessing the true one.
    """
    x, y, z = (round(extent / spacing_mm) for extent in HEAD_MM)
    appearance = replace(appearance, event_shift_mm=(0.0, 0.0, 0.0))
    patient = draw_patient(quantities, seed, Grid((x, y, z), spacing_mm, HEAD_CENTRE_MM), appearance)
    rng = np.random.default_rng([seed, 2])
    post_pose = random_pose(rng)
    event_pose = random_pose(rng)
    flipped = np.diag([-1.0, 1.0, 1.0])
    frames = {
        "post": Frame(post_pose, flipped, (0.9 * spacing_mm, 0.9 * spacing_mm, 1.5 * spacing_mm)),
        "event": Frame(event_pose, random_tilt(rng), (spacing_mm,) * 3),
    }
    volumes = {
        role: scan_mri(rng, frame, getattr(patient, role), patient.grid, appearance.scanner(role))
        for role, frame in frames.items()
    }
    return Scans(patient, frames, volumes, appearance)


def scan_mri(
    rng: np.random.Generator, frame: Frame, image: Array, drawn_on: Grid, scanner: Scanner = SCANNERS[0]
) -> Volume:
    """Scan an image of brightness relative to white matter as an MR scanner stores it, with noise and a bias field."""
    scan = frame.scan(image, drawn_on)
    voxels = SCANNER_UNITS * with_noise(rng, scan.voxels, frame.spacing_mm[0], scanner)
    return Volume(np.round(voxels), scan.world_from_voxel)


def calculate_dose(patient: Patient, world_from_patient: Affine, axes: Affine) -> Volume:
    """The dose in Gy on a planning system's grid; `axes` as of a Frame."""
    capped = np.minimum(patient.dose_gy, MAX_OVER_PRESCRIPTION * patient.prescription_gy)
    return Frame(world_from_patient, axes, DOSE_SPACING_MM).scan(capped, patient.grid)


def random_pose(rng: np.random.Generator) -> Affine:
    """A head's place in a scanner: up to 10 degrees about each axis and 12 mm, about the head's middle."""
    pose = np.eye(4)
    centre = np.array(HEAD_CENTRE_MM)
    pose[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-10, 10, 3), degrees=True).as_matrix()
    pose[:3, 3] = centre - pose[:3, :3] @ centre + rng.uniform(-12, 12, 3)
    return pose


def random_tilt(rng: np.random.Generator) -> Affine:
    """Directions of the voxel axes of an oblique scan: up to 10 degrees about left-right."""
    return Rotation.from_euler("x", rng.uniform(-10, 10), degrees=True).as_matrix()


def with_noise(
    rng: np.random.Generator, image: Array, spacing_mm: float, scanner: Scanner = SCANNERS[0]
) -> NDArray[np.float32]:
    """`image` in the scanner's contrast, under a smooth receive field and with Rician noise."""
    # A core that is drawn very dark, one in 30,000, is a hair below 0, and a power of that is no number.
    rendered = image if scanner.contrast == 1 else np.maximum(image, 0) ** scanner.contrast
    image = rendered * np.exp(BIAS * smooth_noise(rng, image.shape, 120 / spacing_mm))
    noisy = image + rng.normal(0, scanner.noise, image.shape)
    return np.hypot(noisy, rng.normal(0, scanner.noise, image.shape)).astype(np.float32)
