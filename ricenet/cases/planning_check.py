"""Check that a planning image, once registered, shows the head of the case's MRI: else its dose lies astray."""

import numpy as np
from scipy import ndimage

from ricenet.display.words import channel_name
from ricenet.errors import InvalidInput
from ricenet.images.similarity import edge_agreement
from ricenet.images.volume import Affine, Mask, Volume, covered, resample

SPACING_MM = 2.0
RIM_MM = (8.0, 10.0)  # inside and outside of the brain's surface: cortex, skull, scalp
BORDER_MM = 6.0  # of a field of view, whose border looks like an edge
MIN_OVERLAP = 0.25  # of the rim, below which there is nothing to compare
# Agreement of edges about the brain's surface after registration. One head: .86 and more (real and drawn MRI with MRI
# or CT, also in slices of 5 mm and with noise of 40 HU; 20 mm or 30 degrees off still .61 to .80). Another person's
# head: .79 to .87. A thorax or pelvis as CT or MRI: .61 and less (38 pairs with real MRIs and phantoms).
MIN_AGREEMENT = 0.7
# Voxels of as many mm along an edge, were they cubes; coarser ones blur a skull: .90 at 4 mm, .77 at 6, .63 at 8.
MAX_VOXEL_MM = 5.0


def check_planning(
    planning: str,
    head: Volume,
    mri: Volume,
    image: Volume,
    mri_from_head: Affine,
    image_from_head: Affine,
    compared_with: str = "post",
) -> None:
    """Refuse a planning image of another organ, or one that was registered to the wrong place.

    Images with voxels above MAX_VOXEL_MM are not judged; ricenet.verify warns of such voxels.

    Args:
        planning: its role, for the message.
        head: the brain as 0 and 1, in the reference's frame.
        mri: the post-OP MRI in its own frame; the event MRI of a case without one.
        image: the planning image in its own frame.
        mri_from_head: (4, 4) world map from the reference's frame to the MRI's; `image_from_head` likewise.
        compared_with: role of `mri`, for the message.

    Raises:
        InvalidInput: the edges of the two do not lie on each other.
    """
    if max(float(np.prod(volume.spacing_mm)) ** (1 / 3) for volume in (mri, image)) > MAX_VOXEL_MM:
        return
    agreement = planning_agreement(head, mri, image, mri_from_head, image_from_head)
    if agreement < MIN_AGREEMENT:
        raise InvalidInput(
            f"dose grid and {planning} image do not overlap the brain after registration: its edges agree with those "
            f"of the {channel_name(compared_with)} by {agreement:.2f}, at least {MIN_AGREEMENT:g} expected",
            f"a {planning} image of another organ or another patient? leave its dose out, or correct the path",
            code="dose.other_organ",
        )


def planning_agreement(
    head: Volume, mri: Volume, image: Volume, mri_from_head: Affine, image_from_head: Affine
) -> float:
    """Agreement of edges about the brain's surface; 0 where the image hardly overlaps it. Arguments: check_planning."""
    brain, grid = _coarse_brain(head)
    outside = ndimage.distance_transform_edt(~brain, SPACING_MM)
    inside = ndimage.distance_transform_edt(brain, SPACING_MM)
    rim = (outside <= RIM_MM[1]) & (inside <= RIM_MM[0])
    images, seen = [], rim
    for volume, to_volume in ((mri, mri_from_head), (image, image_from_head)):
        images.append(resample(volume, brain.shape, grid, to_volume))
        seen = seen & _well_inside(covered(volume, brain.shape, grid, to_volume))
    if seen.sum() < MIN_OVERLAP * rim.sum():
        return 0.0
    return edge_agreement(images[0], images[1], seen, SPACING_MM)


def _coarse_brain(head: Volume) -> tuple[Mask, Affine]:
    """The brain on cubic voxels of SPACING_MM along the axes of its grid, with room for the rim; and their affine."""
    step = SPACING_MM / head.spacing_mm
    room = (RIM_MM[1] + BORDER_MM) / head.spacing_mm
    at = np.nonzero(head.voxels >= 0.5)
    first = np.array([axis.min() for axis in at]) - room
    last = np.array([axis.max() for axis in at]) + room
    x, y, z = (int(size) for size in np.ceil((last - first) / step) + 1)
    scale = np.diag([*step, 1.0])
    scale[:3, 3] = first
    grid = head.world_from_voxel @ scale
    return resample(head, (x, y, z), grid) >= 0.5, grid


def _well_inside(seen: Mask) -> Mask:
    padded = np.pad(seen, 1, mode="edge")
    return ndimage.distance_transform_edt(padded, SPACING_MM)[1:-1, 1:-1, 1:-1] > BORDER_MM if seen.any() else seen
