"""Rigid registration of two volumes with ANTs, as the world map between their frames."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ricenet.images.volume import Affine, Volume

# ANTs works in LPS; our affines are RAS+, hence the sign flips.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# The pyramid: resolution and smoothing of its levels. ANTs counts in voxels, we in mm, so that a coarse grid is not
# blurred as if it were a fine one.
LEVELS_MM, SMOOTHING_MM = (6.0, 4.0, 2.0, 1.0), (3.0, 2.0, 1.0, 0.0)
# Iterations per level, and the share of a 1 mm grid's voxels that the metric looks at. `rigid` looks at ANTs' own
# fifth: a twentieth was as exact on phantoms, but .7 degrees off between a real thick-slice T1 and a T1c. ANTs' own
# iterations, 2100x1200x1200x10, go on long after convergence: ours end there and take half the time.
SCHEDULES = {"rigid": ((100, 50, 10, 4), 0.2), "quick": ((20, 20), 0.05)}


def rigid(fixed: Volume, moving: Volume, schedule: str = "rigid", seed: int = 0) -> Affine:
    """Find the rigid map that takes a world point of `fixed`'s frame to the same anatomy in `moving`'s frame.

    Single-threaded and seeded: the same volumes give the same bits in every process. Does not check its success:
    look at the similarity and at the picture.

    Args:
        fixed: finite and not constant, best 1 mm isotropic (volume.isotropic); with or without skull, both alike.
        moving: likewise; another contrast, grid and position are fine, up to about 30 degrees and any shift.
        schedule: a key of SCHEDULES.
        seed: of the metric's sampling of voxels.

    Returns:
        (4, 4) moving world from fixed world, RAS+ mm.
    """
    # Read by ITK when it loads; more threads sum in another order and give other bits.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    os.environ["ANTS_RANDOM_SEED"] = str(seed + 1)  # ANTs takes 0 for "not set"
    import ants

    (iterations, sampling), spacing_mm = SCHEDULES[schedule], float(fixed.spacing_mm.mean())
    levels = len(iterations)
    with tempfile.TemporaryDirectory(prefix="ricenet-") as folder:
        result = ants.registration(
            _ants_image(fixed),
            _ants_image(moving),
            type_of_transform="Rigid",
            outprefix=str(Path(folder) / "transform"),
            aff_iterations=iterations,
            aff_shrink_factors=tuple(max(1, round(mm / spacing_mm)) for mm in LEVELS_MM[:levels]),
            aff_smoothing_sigmas=tuple(mm / spacing_mm for mm in SMOOTHING_MM[:levels]),
            aff_random_sampling_rate=min(1.0, sampling * spacing_mm**2),
        )
        transform = ants.read_transform(result["fwdtransforms"][0])
    matrix = np.reshape(transform.parameters[:9], (3, 3))
    translation = np.asarray(transform.parameters[9:])
    centre = np.asarray(transform.fixed_parameters)
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = matrix, translation + centre - matrix @ centre
    return LPS @ lps @ LPS


def _ants_image(volume: Volume) -> Any:
    import ants

    lps_from_voxel = LPS @ volume.world_from_voxel
    spacing = volume.spacing_mm
    return ants.from_numpy(
        volume.voxels,
        origin=lps_from_voxel[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps_from_voxel[:3, :3] / spacing,
    )


def rotation_degrees(world_map: Affine) -> float:
    """The angle by which a rigid world map turns."""
    return float(np.degrees(np.arccos(np.clip((np.trace(world_map[:3, :3]) - 1) / 2, -1, 1))))


def translation_mm(world_map: Affine, at: Affine) -> float:
    """How far a world map moves the world point `at` (3,), mm; take the brain's centre, far from it rotation rules."""
    return float(np.linalg.norm(world_map[:3, :3] @ at + world_map[:3, 3] - at))
