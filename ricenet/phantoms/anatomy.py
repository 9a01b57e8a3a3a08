"""Draw one synthetic patient: physical quantities (causal_model) in; head, cavity, lesion and dose on one grid out.

Anatomy: the MNI152 T1 and grey- and white-matter maps that nilearn ships (1 mm, skull-stripped), warped per patient by
an affine and a smooth deformation, with synthetic CSF, skull and scalp shells. Nothing here knows the label. Frame:
RAS+, mm, MNI origin.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ricenet.phantoms.appearance import STANDARD_APPEARANCE, Appearance
from ricenet.phantoms.vessels import enhancing_vessels

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

FALL_OFF_MM = 4.0  # 80% to 20% of the dose over about 11 mm
HOT_SPOT_EXCESS = 0.22
HOT_SPOT_EDGE_MM = 2.0
# Dose inside the target, and scattered far from it: together 97% of the prescription.
PLATEAU = 0.90
BATH = 0.07
NODULE_BRIGHTNESS = 2.0  # contrast enhancement, relative to white matter
RIM_MM = 3.5
PATCH_FWHM_MM = 8.0  # of the texture of a lesion without a core
WARP_FWHM_MM = 40.0
WARP_STREAM, PATCH_STREAM = 8, 9  # of a patient's random numbers
EDGE_MM = 0.7  # half-width of every drawn border, so that borders are not aliased
# From the brain's surface outwards (mm): CSF, inner table, marrow, outer table, skin fat; brightness of T1 relative to
# white matter.
_SHELLS_MM = (4.0, 6.5, 9.0, 11.5, 13.0, 19.0, 21.0)
_SHELL_BRIGHTNESS = (0.18, 0.10, 0.5, 0.10, 0.35, 1.15, 0.5)


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid: shape, voxel size, and the world point of its centre."""

    shape: tuple[int, int, int]
    spacing_mm: float
    centre_mm: tuple[float, float, float] = (0.0, -18.0, 8.0)  # about the middle of the MNI brain

    @property
    def world_from_voxel(self) -> NDArray[np.float64]:
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = np.array(self.centre_mm) - self.spacing_mm * (np.array(self.shape) - 1) / 2
        return affine


@dataclass(frozen=True)
class Patient:
    """A drawn patient: (X, Y, Z) arrays on `grid`; MRI brightness relative to white matter, dose in Gy."""

    grid: Grid
    post: Array
    event: Array
    dose_gy: Array
    brain: Mask
    lesion: Mask
    cavity: Mask
    prescription_gy: float
    fractions: int


def draw_patient(
    quantities: dict[str, float], seed: int, grid: Grid, appearance: Appearance = STANDARD_APPEARANCE
) -> Patient:
    """Draw the patient with these quantities; `seed` fixes anatomy, places and prescription."""
    rng = np.random.default_rng(seed)
    t1, white, brain, vessels = _warped_brain(rng, grid, with_vessels=any(appearance.vessels))
    outside_mm = ndimage.distance_transform_edt(~brain, sampling=grid.spacing_mm)
    inside_mm = ndimage.distance_transform_edt(brain, sampling=grid.spacing_mm)
    head = _with_skull(rng, grid, t1, brain, outside_mm)
    centre = _choose(rng, [(white > 0.5) & (inside_mm > 18), (white > 0.5) & (inside_mm > 12), brain])
    cavity_mm = _ball(grid, centre, quantities["cavity_mm"]) + 1.5 * smooth_noise(rng, grid.shape, 14 / grid.spacing_mm)
    lesion_radius = rng.uniform(10, 13)
    lesion_centre = _lesion_site(rng, grid, brain, inside_mm, cavity_mm, quantities["distance_mm"])
    lesion_mm = _ball(grid, lesion_centre, lesion_radius) + smooth_noise(rng, grid.shape, 10 / grid.spacing_mm)
    # The 50% isodose is placed from the lesion that was really drawn, so that the depth is exact.
    reach_mm = cavity_mm[lesion_centre] + quantities["depth_mm"]
    prescription_gy, fractions = (40.05, 15) if rng.random() < 0.15 else (60.0, 30)
    dose = _dose(rng, grid, centre, cavity_mm - reach_mm, quantities["hot_spot_mm"], outside_mm) * prescription_gy
    residual_mm = _residual(rng, grid, brain, inside_mm, cavity_mm, quantities["residual_mm"])
    shrunk_mm = cavity_mm + rng.uniform(1, 3)
    heads = [_with_vessels(head, vessels, brightness) for brightness in appearance.vessels]
    rims = list(zip(appearance.cavity_rim, appearance.cavity_rim_mm, strict=True))
    post = _with_nodule(_with_cavity(heads[0], brain, cavity_mm, *rims[0]), brain, residual_mm)
    event = _with_cavity(heads[1], brain, shrunk_mm, *rims[1])
    if appearance.has_core:
        event = _with_lesion(event, brain, lesion_mm, quantities["core_brightness"], appearance.lesion_rim)
    else:
        event = _with_patch(event, brain, lesion_mm, grid, seed, appearance.lesion_rim)
    return Patient(
        grid, post, displaced(event, grid, seed, appearance), dose.astype(np.float32),
        brain, (lesion_mm < 0) & brain, (cavity_mm < 0) & brain, prescription_gy, fractions,
    )  # fmt: skip


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], fwhm_voxels: float) -> Array:
    """Smooth Gaussian noise of unit SD, made on a coarse grid and interpolated."""
    step = max(1, int(fwhm_voxels / 4))
    coarse = ndimage.gaussian_filter(rng.standard_normal([n // step + 4 for n in shape]), fwhm_voxels / 2.355 / step)
    fine = ndimage.zoom(coarse / coarse.std(), [(n + 1) / m for n, m in zip(shape, coarse.shape, strict=True)], order=1)
    return fine[tuple(slice(n) for n in shape)].astype(np.float32)


@cache
def _template() -> tuple[NDArray[np.float64], tuple[Array, ...]]:
    folder = files("nilearn") / "datasets" / "data"
    images = [
        nib.Nifti1Image.from_filename(str(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"))
        for name in ("t1", "wm")
    ]
    return images[0].affine, tuple(np.asarray(image.dataobj, np.float32) / 255 for image in images)


@cache
def _template_vessels() -> NDArray[np.float32]:
    affine, images = _template()
    return enhancing_vessels(affine, images[0].shape)


def _warped_brain(
    rng: np.random.Generator, grid: Grid, *, with_vessels: bool
) -> tuple[Array, Array, Mask, Array | None]:
    """T1 relative to white matter, share of white matter, brain, and share of vessel where these are wanted."""
    template_affine, template = _template()
    warp = np.eye(4)
    turn = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    warp[:3, :3] = turn @ np.diag(rng.uniform(0.94, 1.06, 3))
    matrix = (np.linalg.inv(template_affine) @ warp @ grid.world_from_voxel).astype(np.float32)
    voxels = np.indices(grid.shape, np.float32)
    source = np.tensordot(matrix[:3, :3], voxels, 1) + matrix[:3, 3, None, None, None]
    for axis in range(3):
        source[axis] += 3.0 * smooth_noise(rng, grid.shape, 40 / grid.spacing_mm)
    t1, white = (ndimage.map_coordinates(image, source, order=1) for image in template)
    brain = ndimage.binary_fill_holes(t1 > 0.05)
    vessels = ndimage.map_coordinates(_template_vessels(), source, order=1) if with_vessels else None
    return t1 / np.percentile(t1[brain], 90), white, brain, vessels


def _with_skull(rng: np.random.Generator, grid: Grid, t1: Array, brain: Mask, outside_mm: Array) -> Array:
    distance = outside_mm + 1.5 * smooth_noise(rng, grid.shape, 40 / grid.spacing_mm)
    shells = np.select([distance < edge for edge in _SHELLS_MM], _SHELL_BRIGHTNESS, 0).astype(np.float32)
    return np.where(brain, t1, ndimage.gaussian_filter(shells, 0.6 / grid.spacing_mm))


def _choose(rng: np.random.Generator, masks: list[Mask]) -> tuple[int, int, int]:
    """A random voxel of the first mask that has any: the wish first, what must do last."""
    candidates = next(np.argwhere(mask) for mask in masks if mask.any())
    i, j, k = candidates[rng.integers(len(candidates))]
    return int(i), int(j), int(k)


def _lesion_site(
    rng: np.random.Generator, grid: Grid, brain: Mask, inside_mm: Array, cavity_mm: Array, distance_mm: float
) -> tuple[int, int, int]:
    shell = np.abs(cavity_mm - distance_mm) < max(1.5, 0.6 * grid.spacing_mm)
    nearest = np.abs(np.where(brain, cavity_mm, np.inf) - distance_mm) <= np.abs(cavity_mm - distance_mm)[brain].min()
    return _choose(rng, [shell & (inside_mm > 10), shell & (inside_mm > 6), shell & brain, nearest])


def _ball(grid: Grid, centre: tuple[int, int, int], radius_mm: float) -> Array:
    """Signed distance to a ball's surface in mm, negative inside; `centre` in voxels."""
    axes = [(np.arange(n, dtype=np.float32) - c) * grid.spacing_mm for n, c in zip(grid.shape, centre, strict=True)]
    squares = np.meshgrid(*[axis**2 for axis in axes], indexing="ij", sparse=True)
    return np.sqrt(squares[0] + squares[1] + squares[2]) - np.float32(radius_mm)


def _inside(signed_mm: Array, half_width_mm: float = EDGE_MM) -> Array:
    """1 inside, 0 outside of a signed distance, with a smooth edge."""
    return 1 / (1 + np.exp(np.clip(signed_mm / half_width_mm, -30, 30)))


def _dose(
    rng: np.random.Generator,
    grid: Grid,
    centre: tuple[int, int, int],
    edge_mm: Array,
    hot_spot_mm: float,
    outside_mm: Array,
) -> Array:
    """Dose relative to the prescription: `edge_mm` is the signed distance to the 50% isodose."""
    shift = rng.uniform(-6, 6, 3) / grid.spacing_mm
    hot_centre = tuple(round(float(c + s)) for c, s in zip(centre, shift, strict=True))
    hot = HOT_SPOT_EXCESS * _inside(_ball(grid, hot_centre, hot_spot_mm), HOT_SPOT_EDGE_MM)  # type: ignore[arg-type]
    plateau = PLATEAU + 0.005 * smooth_noise(rng, grid.shape, 18 / grid.spacing_mm) + hot
    bath = BATH * _inside(edge_mm - 35, 8.0) + 0.013 * _inside(outside_mm - 15, 4.0)
    return _inside(edge_mm, FALL_OFF_MM) * plateau + bath


def _residual(
    rng: np.random.Generator, grid: Grid, brain: Mask, inside_mm: Array, cavity_mm: Array, radius_mm: float
) -> Array:
    rim = np.abs(cavity_mm - 1) < max(1.5, 0.6 * grid.spacing_mm)
    site = _choose(rng, [rim & (inside_mm > 6), rim & brain, brain])
    return _ball(grid, site, radius_mm)


def _with_vessels(head: Array, vessels: Array | None, brightness: float) -> Array:
    return head if vessels is None else head * (1 - vessels) + brightness * vessels


def _with_cavity(head: Array, brain: Mask, cavity_mm: Array, rim_brightness: float, rim_mm: float) -> Array:
    fluid = _inside(cavity_mm) * brain
    rim = rim_brightness * np.exp(-((cavity_mm / rim_mm) ** 2)) * brain
    return head * (1 - fluid) + 0.2 * fluid + rim


def _with_nodule(image: Array, brain: Mask, nodule_mm: Array) -> Array:
    share = _inside(nodule_mm) * brain
    return image * (1 - share) + NODULE_BRIGHTNESS * share


def _with_lesion(image: Array, brain: Mask, lesion_mm: Array, core_brightness: float, rim_brightness: float) -> Array:
    core = _inside(lesion_mm) * brain
    oedema = _inside(lesion_mm - 8, 2.0) * (1 - core) * brain
    rim = rim_brightness * np.exp(-((lesion_mm / RIM_MM) ** 2)) * brain
    return image * (1 - 0.2 * oedema) * (1 - core) + core_brightness * core + rim


def _with_patch(image: Array, brain: Mask, lesion_mm: Array, grid: Grid, seed: int, brightness: float) -> Array:
    """A lesion without a core: the tissue stays, and enhances in patches."""
    texture = smooth_noise(np.random.default_rng([seed, PATCH_STREAM]), grid.shape, PATCH_FWHM_MM / grid.spacing_mm)
    patches = _inside(lesion_mm, RIM_MM / 2) * np.clip(1 + 0.4 * texture, 0.2, 1.5) * brain
    oedema = _inside(lesion_mm - 8, 2.0) * brain
    return image * (1 - 0.2 * oedema) + brightness * patches


def displaced(image: Array, grid: Grid, seed: int, appearance: Appearance) -> Array:
    """The image where a registration that errs would put it; as it is where the appearance has no displacement."""
    if not any(appearance.event_shift_mm) and not appearance.warp_mm:
        return image
    rng = np.random.default_rng([seed, WARP_STREAM])
    source = np.indices(grid.shape, np.float32)
    for axis, shift_mm in enumerate(appearance.event_shift_mm):
        warp_mm = appearance.warp_mm * smooth_noise(rng, grid.shape, WARP_FWHM_MM / grid.spacing_mm)
        source[axis] += (shift_mm + warp_mm) / grid.spacing_mm
    return ndimage.map_coordinates(image, source, order=1, mode="nearest").astype(np.float32)
