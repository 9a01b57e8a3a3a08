"""Prepare the images of a new patient's page: a sampled case and its map in; layers and a picture out."""

import io

import numpy as np

from ricenet.cases.case_folder import Prepared
from ricenet.cases.crop import Window
from ricenet.cases.structures import TARGETS
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.cohort.table import LESION, Case
from ricenet.display.viewer import MAX_MASKS, Layer
from ricenet.explanation.explained_case import Scene
from ricenet.images.volume import Mask
from ricenet.prediction.prediction_record import PredictionRecord

TITLES = {"post": "Post-OP MRI", "event": "Event MRI", "rd": "Radiotherapy dose"}
ENHANCEMENT_SHARE = 0.3  # of the window of grey is left for what is brighter than the brain, so that both can be seen


def layers(view: Prepared, drop: np.ndarray | None) -> list[Layer]:
    """Make the layers of the viewer, of the brain alone: with the skull a face could be drawn from the page.

    Args:
        view: the case on the page's grid.
        drop: (X, Y, Z) on the same grid, or None.
    """
    brain = view.brain
    stack = []
    for role, image in view.view.items():
        inside = np.where(brain, image, 0).astype(np.float32)
        if role == "rd":
            stack.append(Layer("rd", TITLES[role], inside, "dose", 0.0, float(inside.max()), "Gy"))
        else:
            low, high = np.percentile(image[brain], (0.5, 98))
            high += ENHANCEMENT_SHARE * (high - low)
            stack.append(Layer(role, TITLES.get(role, role), inside, "mri", float(low), float(high), ""))
    if drop is not None:
        largest = float(np.abs(drop).max()) or 1.0  # a window needs a width
        stack.append(Layer("occlusion", "Occlusion map", drop, "map", -largest, largest, "probability"))
    if masks := _masks_to_show(view):
        bits = sum(mask.astype(np.float32) * 2**place for place, mask in enumerate(masks.values()))
        stack.append(Layer("structures", "Structures", bits, "masks", 0.0, float(2 ** len(masks)), "", tuple(masks)))
    return stack


def on_view(window: Window | None, prepared: Prepared, view: Prepared) -> Window | None:
    """A box of the model's grid, in the nearest voxels of the page's, which lies along the same axes."""
    if window is None:
        return None
    view_from_voxel = np.linalg.inv(view.record.affine) @ prepared.record.affine
    edges = np.array([window.start, np.add(window.start, window.shape)]) - 0.5
    first, end = np.rint(edges @ view_from_voxel[:3, :3].T + view_from_voxel[:3, 3] + 0.5).astype(int).tolist()
    x, y, z = first
    sizes = [b - a for a, b in zip(first, end, strict=True)]
    return Window((x, y, z), (sizes[0], sizes[1], sizes[2]))


def _masks_to_show(view: Prepared) -> dict[str, Mask]:
    """Those with a voxel on the grid, the lesion and the targets first, as many as the viewer can tell apart."""
    first = [name for name in (LESION, *TARGETS) if name in view.structures]
    names = dict.fromkeys([*first, *view.structures])
    return {name: view.structures[name] for name in [each for each in names if view.structures[each].any()][:MAX_MASKS]}


def draw_picture(
    case: Case, view: Prepared, drop: np.ndarray | None, prediction: PredictionRecord, seen: Window | None = None
) -> bytes:
    """A PNG of the map over the event MRI; of the volumes alone where there is no map.

    Args:
        view, drop: as of `layers`.
        seen: what the networks see, on the same grid; None: all.
    """
    from ricenet.cases import qc_picture
    from ricenet.explanation.map_figures import draw_case

    masked = {role: np.where(view.brain, image, 0) for role, image in view.view.items()}
    stream = io.BytesIO()
    if drop is None:
        qc_picture.draw_case(stream, masked, view.brain, case.key, structures=view.structures)
        return stream.getvalue()
    scene = Scene(
        case=ReadyCase(case.key, case.patient_key, case.label, case.split, ""),
        volume=view.volume,
        world_from_voxel=view.record.affine,
        brain=view.brain,
        dose_gy=masked.get("rd"),
        truth={},
        mri=masked["event"],
        mri_role="event",
        seen=seen,
    )
    title = (
        f"Case {prediction.case_key}: predicted {prediction.predicted}, "
        f"probability of RICE {prediction.probability:.2f}"
    )
    draw_case(scene, drop, title).savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
