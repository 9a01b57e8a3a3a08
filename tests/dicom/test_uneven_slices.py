"""Slices at uneven steps become even ones without an error where the image is linear."""

import numpy as np
import pytest
from helpers.slice_planes import grid, leaning, planes
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from ricenet.dicom.uneven_slices import even_out, uneven_stack
from ricenet.errors import InvalidInput
from ricenet.images.volume import Volume

THIN = (0, 2, 4, 5, 6, 7, 8, 10, 12)  # of 1.7 mm
UNEVEN = (0, 1.5, 3.9, 5, 6.1, 9, 10)


@pytest.mark.parametrize("places", [THIN, UNEVEN])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (180, 0, 0), (0, 90, 0), (20, -15, 30), (180, 3, 1)])
def test_uneven_slices_of_what_is_linear_are_interpolated_without_an_error(degrees, places):
    affine = grid(degrees)
    uneven = uneven_stack(planes(affine, places))
    assert uneven.steps_mm == pytest.approx((1.7 * min(np.diff(places)), 1.7 * max(np.diff(places))))
    slope = np.array([0.7, -1.3, 2.1])
    columns, rows, slices = np.meshgrid(range(9), range(8), places, indexing="ij")
    index = np.stack([columns, rows, slices, np.ones(columns.shape)], axis=-1)
    voxels = ((index @ affine.T)[..., :3] @ slope).astype(np.float32)
    # As a converter gives it, on canonical axes, and as if its slices lay at even steps.
    orientation = io_orientation(uneven.even.world_from_voxel)
    canonical = uneven.even.world_from_voxel @ inv_ornt_aff(orientation, voxels.shape)
    volume = even_out(Volume(apply_orientation(voxels, orientation), canonical), uneven)
    index = np.moveaxis(np.indices(volume.voxels.shape), 0, -1)
    world = index @ volume.world_from_voxel[:3, :3].T + volume.world_from_voxel[:3, 3]
    np.testing.assert_allclose(volume.voxels, world @ slope, atol=1e-4)
    ends = [affine @ [0, 0, place, 1] for place in (places[0], places[-1])]
    corners = {tuple(np.round(world[i, j, k], 3)) for i in (0, -1) for j in (0, -1) for k in (0, -1)}
    assert {tuple(np.round(end[:3], 3)) for end in ends} <= corners
    assert max(volume.spacing_mm) <= 1.7 * min(np.diff(places)) + 1e-9


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ((0, 1, 2, 3, 10), "series.gap"),  # 11.9 mm
        ((0, 1, 2, 3.4, 10), "series.uneven"),
        ((0, 0.01, 5, 10, 15), "series.uneven"),  # 1,500 even slices
        ((0, 0, 1, 2), "series.repeated_positions"),
        ((0, 1), "series.few_slices"),
    ],
)
def test_slices_that_no_interpolation_makes_up_for(places, code):
    with pytest.raises(InvalidInput) as refused:
        uneven_stack(planes(grid(), places))
    assert refused.value.code == code


def test_a_leaning_stack_is_refused_whatever_its_steps():
    with pytest.raises(InvalidInput) as refused:
        uneven_stack(leaning(grid(), 5))
    assert refused.value.code == "series.tilt"
