"""Scans of phantom patients at a coarse spacing, drawn once a session, for tests of what only heads show."""

from dataclasses import replace
from functools import cache

import numpy as np

from ricenet.images.volume import Volume
from ricenet.phantoms.causal_model import draw_cohort
from ricenet.phantoms.scanner import Frame, Scans, scan_mri, scan_patient

SPACING_MM = 4.0
DRAWS = draw_cohort(4, 0, False)


@cache
def scans(number: int) -> Scans:
    """Patient `number` of a cohort of four; read only."""
    return scan_patient(DRAWS[number].quantities, DRAWS[number].seed, SPACING_MM)


def frame(number: int, role: str) -> Frame:
    return scans(number).frames[role]


def rescan(number: int, role: str) -> Volume:
    """The same head in the same place with other noise and another receive field."""
    patient = scans(number).patient
    return scan_mri(np.random.default_rng(99), frame(number, role), getattr(patient, role), patient.grid)


def brain(number: int, role: str = "post") -> Volume:
    """The true brain as 0 and 1 on the scan's grid."""
    patient = scans(number).patient
    return frame(number, role).scan(patient.brain, patient.grid)


def stripped(scans: Scans) -> Scans:
    """The patient without a skull, in both scans and in all that is drawn of it."""
    patient = scans.patient
    bare = replace(patient, post=patient.post * patient.brain, event=patient.event * patient.brain)
    volumes = {}
    for role, volume in scans.volumes.items():
        inside = scans.frames[role].scan(patient.brain, patient.grid).voxels > 0.5
        volumes[role] = Volume(volume.voxels * inside, volume.world_from_voxel)
    return Scans(bare, scans.frames, volumes)
