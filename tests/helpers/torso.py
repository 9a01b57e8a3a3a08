"""Synthetic CT of a thorax and a pelvis in Hounsfield units, and the same as MRI: what a planning image must not be."""

import numpy as np
from scipy import ndimage

from ricenet.images.volume import Volume

SIZE_MM = (400.0, 300.0, 280.0)
AIR, FAT, MUSCLE, LUNG, BONE = -1000.0, -100.0, 50.0, -780.0, 400.0
# Brightness of a T1 in place of Hounsfield units.
AS_T1 = {AIR: 0.0, FAT: 700.0, MUSCLE: 350.0, LUNG: 30.0, BONE: 200.0}


def torso(kind: str, seed: int = 0, spacing_mm: float = 3.0, mr: bool = False) -> Volume:
    """Somebody of his own size and place: `kind` thorax or pelvis, RAS+, with texture, noise and often a couch."""
    rng = np.random.default_rng([seed, kind == "pelvis"])
    shape = [round(mm / spacing_mm) for mm in SIZE_MM]
    x, y, z = (spacing_mm * (np.arange(n, dtype=np.float32) - (n - 1) / 2) for n in shape)
    at = np.meshgrid(x, y, z, indexing="ij")
    size = rng.uniform(0.88, 1.1)
    x, y, z = (axis / size + shift for axis, shift in zip(at, rng.uniform(-15, 15, 3), strict=True))
    image = {"thorax": _thorax, "pelvis": _pelvis}[kind](x, y, z)
    if not mr and rng.random() < 0.7:
        image[(abs(at[1] + 135) < 8) & (abs(at[0]) < 190)] = -300  # couch
    if mr:
        image = np.vectorize(AS_T1.__getitem__, otypes=[np.float32])(image)
    spread = 40.0 if mr else 12.0
    texture = ndimage.gaussian_filter(rng.normal(size=image.shape).astype(np.float32), 4 / spacing_mm)
    image = ndimage.gaussian_filter(image, 0.8) + spread * texture / texture.std()
    image += rng.normal(0, spread, image.shape).astype(np.float32)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = rng.uniform(-200, 200, 3) - spacing_mm * (np.array(shape) - 1) / 2
    return Volume(np.maximum(image, 0 if mr else AIR).astype(np.float32), affine)


def _ball(x, y, z, centre, radii) -> np.ndarray:
    return sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii, strict=True)) < 1


def _body(x, y, depth_mm: float, width_mm: float, fat_mm: float) -> np.ndarray:
    edge = np.hypot(x / width_mm, y / depth_mm)
    image = np.full(x.shape, AIR, np.float32)
    image[edge < 1] = FAT
    image[np.hypot(x / (width_mm - fat_mm), y / (depth_mm - fat_mm)) < 1] = MUSCLE
    return image


def _thorax(x, y, z) -> np.ndarray:
    image = _body(x, y, 105, 165, 15)
    rib = np.hypot(x / 138, y / 80)
    image[(abs(rib - 1) < 0.05) & (np.sin((z + 0.5 * y) / 4.2) > 0.2)] = BONE
    for side in (-1, 1):
        image[_ball(x, y, z, (70 * side, 5, 0), (52, 68, 130))] = LUNG
    image[_ball(x, y, z, (15, 25, -30), (50, 42, 60))] = MUSCLE  # heart
    image[np.hypot(x, y + 62) < 20] = BONE
    image[np.hypot(x, y + 80) < 9] = MUSCLE  # spinal canal
    image[np.hypot(x - 4, y + 25) < 8] = AIR  # trachea
    return image


def _pelvis(x, y, z) -> np.ndarray:
    image = _body(x, y, 115, 180, 30)
    for side in (-1, 1):
        wing = np.hypot((x - 60 * side) / 60, (y + 10) / 55)
        image[(abs(wing - 1) < 0.12) & (side * x > 30) & (z > -10)] = BONE
        image[_ball(x, y, z, (95 * side, 0, -40), (25, 25, 25))] = BONE
        image[(np.hypot(x - 100 * side, y) < 15) & (z < -60)] = BONE
    image[_ball(x, y, z, (0, -70, 30), (45, 18, 60))] = BONE  # sacrum
    image[_ball(x, y, z, (0, 25, -30), (35, 30, 35))] = MUSCLE  # bladder
    image[_ball(x, y, z, (0, -40, -30), (14, 14, 40))] = AIR  # gas in the rectum
    image[_ball(x, y, z, (0, 30, 70), (90, 40, 60))] = FAT
    return image
