"""Slices lie as radiologists look at them; isodoses are shares of the highest dose; a peak is the middle of a block."""

import numpy as np
import pytest

from ricenet.images.views import ISODOSES, isodoses_gy, peak, radiological_slice, upright


@pytest.mark.parametrize(
    ("axis", "row", "column"),
    [
        (2, 4, 8),  # axial: rows from back to front, columns from the patient's left (x = 9) to the right: 9 - x
        (1, 5, 8),  # coronal: rows from the feet up
        (0, 5, 4),  # sagittal: rows from the feet up, columns from back to front
    ],
)
def test_a_voxel_is_found_where_a_radiologist_expects_it(axis: int, row: int, column: int) -> None:
    volume = np.zeros((10, 12, 14))
    volume[1, 4, 5] = 1
    seen = radiological_slice(volume, axis, (1, 4, 5))
    assert np.argwhere(seen).tolist() == [[row, column]]
    np.testing.assert_array_equal(upright(volume.sum(axis=axis), axis), seen)


def test_isodoses_rise_to_the_highest_dose() -> None:
    levels_gy, colours = zip(*isodoses_gy(60.0), strict=True)
    assert levels_gy == pytest.approx((12, 30, 48, 57))
    assert colours == tuple(ISODOSES.values())


def test_the_peak_of_a_block_is_its_middle() -> None:
    drop = np.zeros((9, 9, 9))
    drop[2:5, 4:7, 6:9] = 0.3
    assert peak(drop) == (3, 5, 7)
