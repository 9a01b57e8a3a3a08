"""Tell an image without its skull from a head: a Volume in, what it looks like and its brain out.

A stripped image holds one piece no larger than a brain, and around it nothing that varies. The value around it may be
any (0, or the lowest of an image that was normalised afterwards) and need not be exact: an interpolation leaves rims,
a program noise of 1e-9. A head is larger, unless the field of view cuts it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ricenet.images.volume import Mask, Volume, Voxels

STRIPPED, HEAD, UNCLEAR = "stripped", "head", "unclear"
# Five of five real stripped heads: more than half of the image is background, one piece of 1,476 to 1,945 ml. Heads
# whose background is 0 as well: 3,460 ml and more.
MIN_BACKGROUND, MAX_BRAIN_ML = 0.3, 2200.0
# A whole adult head is larger than that. One that is not is cut by the field of view, over the area of a slice of a
# head (about 250 cm2); a brain touches it with its outermost voxels, or the brain stem.
MAX_CONTACT_CM2 = 150.0
FLAT = 0.01  # of the range of values: what varies less is background
THIN = 2  # voxels on either side: specks, and the border of a field of view inside another
MIN_ONE_PIECE, MIN_PIECE = 0.85, 0.01  # of all that is not background; of the largest piece


@dataclass(frozen=True)
class Look:
    """What an image shows.

    Attributes:
        kind: STRIPPED, HEAD, or UNCLEAR where a field of view cuts what may be either.
        background: share of the image that lies outside its largest piece and does not vary.
        ml: volume of that piece, filled.
    """

    kind: str
    background: float
    ml: float

    @property
    def words(self) -> str:
        """What people read of an image that looks stripped."""
        return f"looks stripped ({self.background:.0%} of it is background, around one piece of {self.ml:,.0f} ml)"


def look(image: Volume) -> Look:
    """Tell whether `image` looks stripped."""
    varies = _varies(image.voxels)
    if 1 - varies.mean() <= MIN_BACKGROUND:  # as in most heads: noise
        return Look(HEAD, float(1 - varies.mean()), _ml(int(varies.sum()), image))
    thick = ndimage.binary_opening(varies, iterations=THIN)
    pieces, count = ndimage.label(thick)
    if not count:
        return Look(HEAD, 1.0, 0.0)
    sizes = np.bincount(pieces.ravel())[1:]
    piece = ndimage.binary_fill_holes(pieces == 1 + sizes.argmax())
    background = float((~varies & ~piece).mean())
    ml = _ml(int(piece.sum()), image)
    if background <= MIN_BACKGROUND or ml > MAX_BRAIN_ML or sizes.max() < MIN_ONE_PIECE * sizes.sum():
        return Look(HEAD, background, ml)
    return Look(UNCLEAR if _contact_cm2(piece, image) > MAX_CONTACT_CM2 else STRIPPED, background, ml)


def stripped_brain(image: Volume) -> Mask:
    """The brain of an image that looks stripped: all that is not background, filled, without specks.

    Exactly what is not 0 where all around it is 0.
    """
    varies = _varies(image.voxels)
    thick = ndimage.binary_fill_holes(ndimage.binary_opening(varies, iterations=THIN))
    around = image.voxels[~ndimage.binary_dilation(thick, iterations=2 * THIN) & ~varies]
    inside = image.voxels != around[0] if around.size and np.ptp(around) == 0 else varies
    pieces, count = ndimage.label(inside)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        inside = (sizes >= MIN_PIECE * sizes.max())[pieces] & (pieces > 0)
    return ndimage.binary_fill_holes(inside)


def _varies(voxels: Voxels) -> Mask:
    """What lies in no block of 3 x 3 x 3 voxels whose values are one, but for FLAT of the image's range."""
    low, high = np.percentile(voxels, (1, 99))
    span = ndimage.maximum_filter(voxels, 3) - ndimage.minimum_filter(voxels, 3)
    return ~ndimage.maximum_filter(span <= FLAT * (high - low), 3)


def _contact_cm2(piece: Mask, image: Volume) -> float:
    """The area with which `piece` touches the border of the image."""
    total = 0.0
    for axis in range(3):
        face_mm2 = float(np.prod(np.delete(image.spacing_mm, axis)))
        planes = np.moveaxis(piece, axis, 0)
        total += float(planes[0].sum() + planes[-1].sum()) * face_mm2 / 100
    return total


def _ml(voxels: int, image: Volume) -> float:
    return float(voxels * np.prod(image.spacing_mm) / 1000)
