"""Contours of solids whose volume and surface are known from formulas, and areas from the shoelace formula."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import marching_cubes, points_in_poly

from ricenet.errors import InvalidInput
from ricenet.images.contours import coverage, fill_contours
from ricenet.images.volume import Volume

Points = NDArray[np.float64]
CENTRE = np.array([1.3, -0.7, 0.4])
INNER_CENTRE = np.array([4.3, 1.3, 1.4])


def image(spacing=(0.977, 0.977, 1.0), size=(84, 84, 90), first=(-40.0, -41.0, -45.0), turn=None) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = first
    if turn is not None:
        affine[:3] = turn @ affine[:3]
    return Volume(np.zeros(size, dtype=np.float32), affine)


def ring(radii, z: float, centre=CENTRE, backwards: bool = False) -> Points:
    angles = np.linspace(0, 2 * np.pi, max(24, int(2 * np.pi * max(radii))), endpoint=False)[:: -1 if backwards else 1]
    x, y = centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)
    return np.column_stack([x, y, np.full(len(angles), z)])


def ellipsoid(semi_axes, slices, centre=CENTRE, backwards: bool = False) -> list[Points]:
    a, b, c = semi_axes
    heights = [(z, np.sqrt(1 - ((z - centre[2]) / c) ** 2)) for z in slices if abs(z - centre[2]) < c]
    return [ring((a * share, b * share), z, centre, backwards) for z, share in heights]


def sphere(radius: float, slices, centre=CENTRE) -> list[Points]:
    return ellipsoid((radius,) * 3, slices, centre)


def on_image(mask: Volume, drawn: Volume) -> NDArray[np.float32]:
    """The mask on the whole grid of the image from whose voxels it is cut."""
    start = (np.linalg.inv(drawn.world_from_voxel) @ mask.world_from_voxel)[:3, 3]
    np.testing.assert_allclose(start, start.round(), atol=1e-6)
    whole = np.zeros(drawn.voxels.shape, dtype=np.float32)
    index = np.argwhere(mask.voxels > 0)
    whole[tuple((index + start.round().astype(int)).T)] = mask.voxels[tuple(index.T)]
    return whole


def surface_mm(mask: Volume) -> Points:
    """The points where the mask passes one half."""
    padded = np.pad(mask.voxels, 1)
    points = marching_cubes(padded, 0.5)[0] - 1
    return points @ mask.world_from_voxel[:3, :3].T + mask.world_from_voxel[:3, 3]


def from_sphere_mm(mask: Volume, radius: float, centre=CENTRE) -> NDArray[np.float64]:
    return abs(np.linalg.norm(surface_mm(mask) - centre, axis=1) - radius)


def square(low: float, high: float, z: float = 0.0) -> Points:
    return np.array([(low, low, z), (high, low, z), (high, high, z), (low, high, z)], dtype=float)


def shoelace(polygon: Points) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


@pytest.mark.parametrize(("radius", "step"), [(15, 1.0), (30, 1.0), (15, 2.0), (30, 3.0)])
def test_a_sphere_has_its_volume_and_its_surface(radius, step):
    drawn = image((0.977, 0.977, step), (84, 84, int(90 / step)))
    filled = fill_contours(sphere(radius, -45 + step * np.arange(90)), drawn)
    assert filled.ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
    assert from_sphere_mm(filled.mask, radius).mean() < 0.3
    assert filled.notes == ()


def test_contours_three_slices_apart_become_a_smooth_shape_on_every_slice():
    filled = fill_contours(sphere(30, np.arange(-45, 45, 3)), image())
    assert filled.ml == pytest.approx(4 / 3 * np.pi * 30**3 / 1000, rel=0.01)
    assert from_sphere_mm(filled.mask, 30).mean() < 0.15  # 0.25 where a slice is repeated three times


@pytest.mark.parametrize("technique", ["second contour", "same direction", "keyhole", "xor"])
def test_an_ellipsoid_with_a_hole_has_a_hole_however_the_hole_was_drawn(technique):
    slices, outer, inner = np.arange(-45.0, 45), (24, 18, 30), (10, 8, 12)
    outside = ellipsoid(outer, slices)
    hole = ellipsoid(inner, slices, INNER_CENTRE, backwards=technique != "same direction")
    contours = [*outside, *hole]
    if technique == "keyhole":  # one contour: around, over to the hole, around it and back the same way
        at = {points[0, 2]: points for points in hole}
        pairs = [(points, at.get(points[0, 2])) for points in outside]
        contours = [
            points if inside is None else np.concatenate([points, points[:1], inside, inside[:1]])
            for points, inside in pairs
        ]
    filled = fill_contours(contours, image(), exclusive=technique == "xor")
    true_ml = 4 / 3 * np.pi * (np.prod(outer) - np.prod(inner)) / 1000
    assert filled.ml == pytest.approx(true_ml, rel=0.01)
    points = surface_mm(filled.mask)
    # The distance to an ellipsoid, to first order: f / |grad f|.
    distances = []
    for centre, axes in ((CENTRE, outer), (INNER_CENTRE, inner)):
        scaled = (points - centre) / axes
        length = np.linalg.norm(scaled, axis=1)
        distances.append(abs(length - 1) * length / np.linalg.norm(scaled / axes, axis=1))
    assert np.min(distances, axis=0).mean() < 0.3
    assert filled.notes == ()


def test_coverage_is_the_area_of_the_polygon_not_a_count_of_centres():
    generator = np.random.default_rng(0)
    for _ in range(50):
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 40)))
        radii = generator.uniform(1, 12, len(angles))
        star = np.column_stack([15.3 + radii * np.cos(angles), 14.6 + radii * np.sin(angles)])
        if (np.diff([*angles, angles[0] + 2 * np.pi]) > np.pi).any():
            continue  # it does not surround its middle
        assert coverage([star], (31, 30)).sum() == pytest.approx(shoelace(star), rel=0.003)


def test_polygons_that_cut_themselves_and_each_other_are_even_and_odd_as_in_scikit_image():
    generator = np.random.default_rng(1)
    parts = (np.arange(10) + 0.5) / 10 - 0.5  # a hundred points in each pixel
    for _ in range(20):
        polygons = [generator.uniform(0, 15, (generator.integers(3, 9), 2)) for _ in range(3)]
        x, y, u, v = np.meshgrid(np.arange(16), np.arange(16), parts, parts, indexing="ij")
        points = np.stack([x + u, y + v], axis=-1).reshape(-1, 2)
        inside = np.logical_xor.reduce([points_in_poly(points, polygon) for polygon in polygons])
        truth = inside.reshape(16, 16, 100).mean(-1)
        assert abs(coverage(polygons, (16, 16)) - truth).max() < 0.12
        assert coverage(polygons, (16, 16)).sum() == pytest.approx(truth.sum(), rel=0.02)


def test_coverage_of_a_rectangle_is_exact_in_every_pixel():
    rectangle = np.array([(1.25, 0.0), (3.0, 0.0), (3.0, 2.25), (1.25, 2.25)])
    across, along = np.array([0, 0.25, 1, 0.5, 0]), np.array([0.5, 1, 0.75])
    assert coverage([rectangle], (5, 3)) == pytest.approx(np.outer(across, along), abs=1e-6)


def test_what_lies_outside_the_picture_is_lost_and_does_not_wrap():
    big = np.array([(-50.0, -50.0), (2.0, -50.0), (2.0, 50.0), (-50.0, 50.0)])
    assert coverage([big], (5, 4)) == pytest.approx(np.outer([1, 1, 0.5, 0, 0], [1] * 4))


def test_an_island_in_a_hole_is_inside():
    rings = [ring((20, 20), 0), ring((12, 12), 0), ring((5, 5), 0)]
    filled = fill_contours(rings, image())
    areas = [shoelace(points) for points in rings]
    assert filled.ml * 1000 == pytest.approx(areas[0] - areas[1] + areas[2], rel=3e-3)


def test_a_contour_that_is_drawn_twice_counts_once_and_does_not_become_a_hole():
    contours = sphere(15, np.arange(-45.0, 45))
    twice = fill_contours([*contours, *contours], image())
    assert twice.ml == pytest.approx(fill_contours(contours, image()).ml, rel=1e-6)
    assert twice.notes == (f"a contour that is drawn twice counts once ({len(contours)} planes)",)


def test_contours_that_cross_are_joined_unless_the_object_says_xor():
    contours = [square(-10, 6), square(-4, 12)]
    filled = fill_contours(contours, image())
    assert filled.ml * 1000 == pytest.approx(16**2 + 16**2 - 10**2, rel=0.01)
    assert filled.notes == ("contours that cross each other were joined",)
    assert fill_contours(contours, image(), exclusive=True).ml * 1000 == pytest.approx(2 * 16**2 - 2 * 10**2, rel=3e-3)


def test_two_contours_side_by_side_are_two_regions():
    filled = fill_contours([square(-20, -10), square(-10, 3)], image())
    assert filled.ml * 1000 == pytest.approx(10**2 + 13**2, rel=3e-3)
    assert filled.notes == ()


def test_between_two_lesions_of_one_structure_nothing_is_filled():
    slices = np.arange(-45.0, 45)
    far, between = (CENTRE + np.array([0, 0, up]) for up in (26, 13))
    filled = fill_contours([*sphere(8, slices), *sphere(8, slices, far)], image())
    assert filled.ml == pytest.approx(2 * 4 / 3 * np.pi * 8**3 / 1000, rel=0.01)
    assert filled.notes == ("1 gaps between its planes were left empty",)
    middle = np.rint(np.linalg.inv(image().world_from_voxel) @ [*between, 1]).astype(int)
    assert on_image(filled.mask, image())[:, :, middle[2]].max() == 0


def test_a_plane_that_lacks_its_contour_is_a_gap_even_if_it_is_one_slice():
    contours = [square(-10, 10, z) for z in (0.0, 1, 2, 3, 5, 6, 7)]
    filled = fill_contours(contours, image())
    assert filled.ml * 1000 == pytest.approx(400 * 7, rel=3e-3)
    assert filled.notes == ("1 gaps between its planes were left empty",)


def test_uneven_slices_are_one_shape_where_the_whole_structure_set_steps_like_that():
    slices = [-21.0, -14, -7, -3.5, 0, 3.5, 7, 14, 21]
    contours = [square(-10, 10, z) for z in slices[1:]]
    middles = np.array([(0.0, 0, z) for z in slices])  # of the outline of the head, say
    drawn = image((0.977, 0.977, 3.5), (84, 84, 30), (-40, -41, -42))
    filled = fill_contours(contours, drawn, middles)
    assert filled.notes == ()
    # From half a step below the first plane to half a step above the last one.
    assert filled.ml * 1000 == pytest.approx(400 * (3.5 + 35 + 3.5), rel=3e-3)
    inside = on_image(filled.mask, drawn)[41, 41]
    assert inside[(inside > 0).argmax() :][:9].min() > 0.4  # no slice in the middle is empty


def test_an_oblique_image_is_filled_in_its_own_slices():
    angle = np.radians(25)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    straight = sphere(15, np.arange(-45.0, 45))
    drawn = image(turn=turn)
    filled = fill_contours([points @ turn.T for points in straight], drawn)
    np.testing.assert_allclose(filled.mask.voxels, fill_contours(straight, image()).mask.voxels, atol=1e-4)
    assert from_sphere_mm(filled.mask, 15, turn @ CENTRE).mean() < 0.3


def test_sagittal_slices_are_filled_along_the_first_axis():
    turned = [points[:, [2, 0, 1]] for points in sphere(15, np.arange(-45.0, 45))]
    filled = fill_contours(turned, image((1.0, 0.9, 0.9), (90, 90, 90), (-45, -41, -40)))
    assert filled.ml == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=0.01)
    assert from_sphere_mm(filled.mask, 15, CENTRE[[2, 0, 1]]).mean() < 0.3


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_contours_of_another_orientation_than_the_image_are_brought_onto_it(step):
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    contours = [points @ turn.T for points in sphere(20, np.arange(-45.0, 45, step))]
    filled = fill_contours(contours, image())
    true_ml = 4 / 3 * np.pi * 20**3 / 1000
    assert filled.ml == pytest.approx(true_ml, rel=0.01)
    assert filled.mask.voxels.sum() * 0.977**2 / 1000 == pytest.approx(true_ml, rel=0.01)
    assert from_sphere_mm(filled.mask, 20, turn @ CENTRE).mean() < 0.3
    assert filled.share_outside == 0


def test_contours_in_several_orientations_are_refused():
    contours = [square(-10, 10), square(-10, 10)[:, [2, 0, 1]] + [0.3, 0.4, 0.5]]
    with pytest.raises(InvalidInput, match="parallel planes") as refused:
        fill_contours(contours, image())
    assert refused.value.code == "contours.planes"


def test_an_image_thicker_than_the_contours_step_holds_their_mean():
    filled = fill_contours(sphere(20, np.arange(-45.0, 45)), image((0.977, 0.977, 4.0), (84, 84, 23)))
    assert filled.ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.01)


def test_a_shape_that_leaves_the_image_says_how_much_of_it():
    half = image((0.977, 0.977, 1.0), (84, 84, 45), (-40, -41, 0.5))  # everything above z = 0
    filled = fill_contours(sphere(15, np.arange(-44.5, 45), np.array([0.0, 0, 0])), half)
    assert filled.share_outside == pytest.approx(0.5, abs=0.01)
    assert filled.ml == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=0.01)


def test_a_shape_outside_the_image_leaves_it_empty():
    filled = fill_contours(sphere(5, np.arange(-45.0, 45)), image(first=(400, 400, 400)))
    assert filled.share_outside == 1
    assert filled.mask.voxels.max() == 0


def test_points_and_lines_are_left_out_and_said():
    point, line = np.zeros((1, 3)), np.array([(0.0, 0, 0), (5, 5, 0), (9, 9, 0)])
    filled = fill_contours([square(-10, 10), point, line], image())
    assert filled.notes == ("2 contours without an area were left out",)
    with pytest.raises(InvalidInput) as refused:
        fill_contours([point, line], image())
    assert refused.value.code == "contours.none"


def test_the_first_vertex_repeated_at_the_end_changes_nothing():
    closed = [np.concatenate([points, points[:1]]) for points in sphere(15, np.arange(-45.0, 45))]
    assert fill_contours(closed, image()).ml == pytest.approx(
        fill_contours(sphere(15, np.arange(-45.0, 45)), image()).ml
    )
