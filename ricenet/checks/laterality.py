"""Find out whether one of a patient's two MRIs is mirrored left to right.

No header can tell: a wrong affine is as valid as a right one. But no head is its own mirror image, least of all one
with a resection cavity: the event MRI fits the post-OP MRI better as it is than mirrored, or it is mirrored.

The measure is the normalised mutual information inside the head after a coarse rigid registration, straight minus
mirrored. Measured on 12 phantoms (3 mm) and on a real patient's T1 and T1c in two poses: +.024 to +.157 as they are,
-.024 to -.157 with one flipped. On 13 pairs of MRIs of two different patients: within .015 of 0. 1.2 to 3.2 CPU s.
"""

from dataclasses import dataclass, replace

import numpy as np

from ricenet.errors import Finding
from ricenet.images.head import about_the_brain, coarse_head
from ricenet.images.registration import rigid
from ricenet.images.similarity import mutual_information
from ricenet.images.volume import Affine, Mask, Volume, covered, resample

MIRRORED_BELOW, DOUBTFUL_BELOW = -0.018, 0.010
MIN_COVERAGE = 0.9  # of what only roughly is the brain
BINS = 32


@dataclass(frozen=True)
class Sides:
    """straight, mirrored: similarity of the MRIs; event_coverage: share of the brain in post that event sees."""

    straight: float
    mirrored: float
    event_coverage: float

    @property
    def margin(self) -> float:
        """Above 0 where the event MRI fits better as it is."""
        return self.straight - self.mirrored


def compare_sides(post: Volume, event: Volume) -> Sides:
    """Register a coarse copy of `event`, as it is and mirrored, to one of `post`."""
    fixed, head = coarse_head(post)
    moving, _ = coarse_head(event)
    straight, event_from_post = _similarity(fixed, moving, head)
    mirrored, _ = _similarity(fixed, mirror(moving), head)
    brain = about_the_brain(head, fixed.world_from_voxel)
    seen = covered(event, head.shape, fixed.world_from_voxel, event_from_post)
    return Sides(straight, mirrored, float(seen[brain].mean()) if brain.any() else 1.0)


def mirror(image: Volume) -> Volume:
    """The same frame with left and right of the content exchanged."""
    return replace(image, voxels=np.ascontiguousarray(image.voxels[::-1]))


def check_sides(sides: Sides, case: str) -> list[Finding]:
    """What follows from the comparison; the event's field of view is judged only where the registration held."""
    got = f"similarity {sides.straight:.3f} as they are, {sides.mirrored:.3f} with one of them mirrored"
    if sides.margin < MIRRORED_BELOW:
        hint = "one of them is flipped left to right: export both again and compare them with the dose's side"
        return [Finding("geometry.flip", case, f"post and event are mirror images of each other: {got}", hint)]
    if sides.margin < DOUBTFUL_BELOW:
        hint = "look at the picture: another patient's image, one that is flipped, or a very different contrast?"
        message = f"post and event fit no better than mirrored: {got}"
        return [Finding("geometry.flip_doubtful", case, message, hint, "warning")]
    if sides.event_coverage < MIN_COVERAGE:
        message = f"the event MRI seems to show {sides.event_coverage:.0%} of the brain that the post-OP MRI shows"
        hint = "estimated without the brain's mask: is it a partial slab?"
        return [Finding("geometry.event_coverage", case, message, hint, "warning", "event")]
    return []


def _similarity(fixed: Volume, moving: Volume, head: Mask) -> tuple[float, Affine]:
    moving_from_fixed = rigid(fixed, moving, schedule="quick")
    place = (fixed.voxels.shape, fixed.world_from_voxel, moving_from_fixed)
    both = head & covered(moving, *place)
    sampled = resample(moving, *place)
    # Where nothing overlaps the registration has failed, and nothing is similar.
    return mutual_information(fixed.voxels[both], sampled[both], BINS) if both.any() else 1.0, moving_from_fixed
