"""A box holds its mask, and ends where the volume ends."""

import numpy as np

from ricenet.images.boxes import box_around


def test_the_box_is_the_smallest_and_its_margin_ends_with_the_volume() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[0, 3, 5] = mask[2, 4, 5] = True
    assert box_around(mask) == (slice(0, 3), slice(3, 5), slice(5, 6))
    assert box_around(mask, 2) == (slice(0, 5), slice(1, 7), slice(3, 8))
