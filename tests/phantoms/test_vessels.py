"""Vessels and choroid plexus lie where their paths run, on both sides, on any grid."""

import numpy as np
import pytest

from ricenet.phantoms.vessels import PATHS, enhancing_vessels

SPACING_MM = 2.0
AFFINE = np.diag([SPACING_MM] * 3 + [1.0])
AFFINE[:3, 3] = (-80, -116, -60)
SHAPE = (81, 97, 81)
VESSELS = enhancing_vessels(AFFINE, SHAPE)


@pytest.mark.parametrize("path", [path for paths in PATHS.values() for path in paths])
def test_a_path_is_bright_on_both_sides_and_its_surroundings_are_not(path) -> None:
    for x, y, z in path:
        for side in (x, -x):
            i, j, k = np.round(np.linalg.inv(AFFINE)[:3] @ [side, y, z, 1]).astype(int)
            assert VESSELS[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].max() > 0.5


def test_vessels_are_a_small_share_of_a_head() -> None:
    assert (VESSELS.min(), VESSELS.max()) == (0, pytest.approx(1, abs=0.01))
    assert 20 < VESSELS.sum() * SPACING_MM**3 / 1000 < 150  # ml, most of it the dural sinuses
    assert VESSELS[40 + 12, 97 // 2 + 30, 60] == 0  # white matter of a frontal lobe
