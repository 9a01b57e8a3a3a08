"""A box holds its mask, and ends where the volume ends."""

import numpy as np

from ricenet.images.boxes import box_around, growing_boxes


def test_the_box_is_the_smallest_and_its_margin_ends_with_the_volume() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[0, 3, 5] = mask[2, 4, 5] = True
    assert box_around(mask) == (slice(0, 3), slice(3, 5), slice(5, 6))
    assert box_around(mask, 2) == (slice(0, 5), slice(1, 7), slice(3, 8))


def test_boxes_grow_until_they_are_the_volume() -> None:
    mask = np.zeros((80, 80, 80), dtype=bool)
    mask[40:43, 40, 40] = True
    (first, box), (second, larger), (last, whole) = growing_boxes(mask)
    assert (first, box) == (16, (slice(24, 59), slice(24, 57), slice(24, 57)))
    assert (second, larger[0]) == (32, slice(8, 75))
    assert (last, whole) == (np.inf, (slice(0, 80),) * 3)
    assert [margin for margin, _ in growing_boxes(mask[30:50, 30:50, 30:50])] == [np.inf]
