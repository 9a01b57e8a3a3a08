"""The numbers of qc.csv: how images were moved, how alike they are, what of the brain they cover, what the dose is."""

import numpy as np

from ricenet import MODALITIES
from ricenet.cohort.table import further_dose_roles
from ricenet.images.registration import rotation_degrees, translation_mm
from ricenet.images.similarity import mutual_information
from ricenet.images.volume import Affine, Mask, Voxels


def qc_numbers(
    view: dict[str, Voxels], inside: Mask, seen: dict[str, Mask], maps: dict[str, Affine], grid: Affine, anchor: str
) -> dict[str, float]:
    """Of event and post only where there are both; dose and further MRIs against post, without one against event."""
    centre = _centre(inside, grid)
    reference = view[anchor][inside]
    anchor_inverse = np.linalg.inv(maps[anchor])
    numbers: dict[str, float] = {}
    if "post" in view:
        event_from_post = maps["event"] @ anchor_inverse
        numbers = {
            "similarity": mutual_information(reference, view["event"][inside]),
            **_movement("", event_from_post, centre),
        }
    numbers |= {
        "brain_ml": float(inside.sum() * np.linalg.det(grid[:3, :3]) / 1000),
        "event_coverage": float(seen["event"][inside].mean()),
    }
    if "rd" in view:
        dose_from_anchor = maps["rd"] @ anchor_inverse
        numbers |= {
            "dose_max_gy": float(view["rd"].max()),
            "dose_mean_gy": float(view["rd"][inside].mean()),
            "dose_coverage": float(seen["rd"][inside].mean()),
            **_movement("planning_", dose_from_anchor, centre),
        }
    for role in (role for role in view if role not in MODALITIES):
        further_from_anchor = maps[role] @ anchor_inverse
        numbers |= {
            f"{role}_similarity": mutual_information(reference, view[role][inside]),
            **_movement(f"{role}_", further_from_anchor, centre),
            f"{role}_coverage": float(seen[role][inside].mean()),
        }
    return {name: round(value, 4) for name, value in numbers.items()}


def further_dose_numbers(
    sampled: dict[str, Voxels], inside: Mask, maps: dict[str, Affine], grid: Affine, anchor: str
) -> dict[str, float]:
    """How far each further planning image was moved, and what its dose adds."""
    centre = _centre(inside, grid)
    numbers: dict[str, float] = {}
    for role in further_dose_roles(sampled):
        dose_from_anchor, planning = maps[role] @ np.linalg.inv(maps[anchor]), role.replace("rd", "planning")
        numbers |= {
            **_movement(f"{planning}_", dose_from_anchor, centre),
            f"{role}_max_gy": float(sampled[role].max()),
        }
    return {name: round(value, 4) for name, value in numbers.items()}


def _centre(inside: Mask, grid: Affine) -> Affine:
    """The middle of the brain, (3,) world mm."""
    return grid[:3, :3] @ np.argwhere(inside).mean(axis=0) + grid[:3, 3]


def _movement(prefix: str, world_map: Affine, centre: Affine) -> dict[str, float]:
    return {
        f"{prefix}rotation_degrees": rotation_degrees(world_map),
        f"{prefix}translation_mm": translation_mm(world_map, centre),
    }
