import numpy as np
import pytest
from helpers.dicom_objects import linear
from scipy.spatial.transform import Rotation

from ricenet.images.dose_sum import add, common_grid, eqd2
from ricenet.images.volume import Volume


def grid(shape, spacing, origin=(0, 0, 0), turn=0.0, dose=linear) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", turn, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return Volume(dose(world(shape, affine)).astype(np.float32), affine)


def world(shape, affine) -> np.ndarray:
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize(
    ("dose_gy", "fractions", "alpha_beta", "expected"),
    [(60, 30, 3, 60), (60, 30, 10, 60), (40.05, 15, 10, 42.2861), (40.05, 15, 3, 45.4167), (34, 10, 10, 37.9667)],
)
def test_eqd2_by_hand(dose_gy, fractions, alpha_beta, expected):
    assert eqd2(dose_gy, fractions, alpha_beta) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(eqd2(np.full(2, dose_gy), fractions, alpha_beta), expected, atol=1e-3)


def test_one_volume_stays_as_it_is():
    volume = grid((4, 5, 6), (2.5, 2.5, 3), origin=(0.1, 0.2, 0.3), turn=17)
    total = add([(volume, 1)])
    np.testing.assert_array_equal(total.voxels, volume.voxels)
    np.testing.assert_array_equal(total.world_from_voxel, volume.world_from_voxel)
    np.testing.assert_array_equal(add([(volume, 30)]).voxels, 30 * volume.voxels)


def test_grids_on_one_lattice_are_added_voxel_by_voxel():
    large, small = grid((8, 8, 8), (2, 2, 2)), grid((3, 4, 5), (2, 2, 2), origin=(-4, 6, 8))
    total = add([(large, 1), (small, 2)])
    expected = np.zeros((10, 8, 9), np.float32)
    expected[2:10, :8, :8] += large.voxels
    expected[:3, 3:7, 4:9] += 2 * small.voxels
    np.testing.assert_array_equal(total.voxels, expected)
    np.testing.assert_allclose(total.world_from_voxel[:3, 3], (-4, 0, 0))


@pytest.mark.parametrize(("turn", "spacing", "origin"), [(0, 2, -8), (12, 2, -8), (0, 3, -8.5)])
def test_other_grids_are_interpolated_up_to_their_faces(turn, spacing, origin):
    """Linear doses are exact under interpolation: at every voxel the sum of those grids whose centres span it."""
    large = grid((20, 20, 14), (3, 3, 3), origin=(-28, -28, -20))
    small = grid((9, 9, 9), (spacing,) * 3, origin=(origin,) * 3, turn=turn)
    total = add([(large, 1), (small, 1)])
    points = world(total.voxels.shape, total.world_from_voxel)
    expected, certain = np.zeros(total.voxels.shape), np.ones(total.voxels.shape, bool)
    for volume in (large, small):
        index = (points - volume.world_from_voxel[:3, 3]) @ np.linalg.inv(volume.world_from_voxel[:3, :3]).T
        last = np.array(volume.voxels.shape) - 1
        inside = ((index >= -1e-6) & (index <= last + 1e-6)).all(axis=-1)
        outside = ((index < -0.51) | (index > last + 0.51)).any(axis=-1)
        certain &= inside | outside
        expected += np.where(inside, linear(points), 0)
    np.testing.assert_allclose(total.voxels[certain], expected[certain], atol=1e-3)
    assert certain.mean() > 0.5
    np.testing.assert_allclose(total.spacing_mm, spacing)


def test_the_common_grid_holds_every_centre_at_the_finest_steps():
    volumes = [grid((5, 5, 5), (3, 2, 3), origin=(-1, 0, 2)), grid((4, 4, 9), (2, 2.5, 1.5), turn=30)]
    shape, affine = common_grid(volumes)
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), (2, 2, 1.5))
    for volume in volumes:
        points = world(volume.voxels.shape, volume.world_from_voxel).reshape(-1, 3)
        index = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        assert index.min() > -1e-3
        assert (index.max(axis=0) < np.array(shape) - 1 + 1e-3).all()


def test_a_dose_keeps_its_value_up_to_the_outer_edges_of_its_voxels():
    coarse = grid((5, 5, 5), (3, 3, 3), dose=lambda points: np.full(points.shape[:-1], 10))
    fine = grid((28, 28, 28), (0.7, 0.7, 0.7), origin=(-3, -3, -3), dose=lambda points: np.zeros(points.shape[:-1]))
    total = add([(coarse, 1), (fine, 1)])
    points = world(total.voxels.shape, total.world_from_voxel)
    inside = ((points > -1.5) & (points < 13.5)).all(axis=-1)
    np.testing.assert_allclose(total.voxels, np.where(inside, 10, 0), atol=1e-4)
