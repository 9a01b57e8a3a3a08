"""Cases laid upon one another, against shifts by hand; summary and pictures are tested through explain."""

import numpy as np
import pytest

from ricenet.explanation.cohort_map import centred

SHAPE = (9, 10, 7)


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -1, 1), (-3, 2, -1)])
def test_a_moved_brain_comes_to_lie_where_it_was(shift: tuple[int, int, int]) -> None:
    brain, volume = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE)
    brain[3:6, 3:7, 2:5] = True
    volume[brain] = np.random.default_rng(0).normal(size=brain.sum())
    moved = [np.roll(one, shift, (0, 1, 2)) for one in (volume, brain)]
    np.testing.assert_array_equal(centred(*moved), volume)


def test_nothing_comes_in_from_the_other_side() -> None:
    brain, volume = np.zeros(SHAPE, dtype=bool), np.ones(SHAPE)
    brain[0:3, 7:10, 2:5] = True  # to be moved 3 voxels up along x, 4 down along y
    expected = np.ones(SHAPE)
    expected[:3] = 0
    expected[:, 6:] = 0
    np.testing.assert_array_equal(centred(volume, brain), expected)
