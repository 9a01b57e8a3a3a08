"""What a page shows of a new patient's images: the brain alone, a lesion brighter than the brain, both signs alike."""

import io
from dataclasses import replace

import numpy as np
import pytest
from helpers import prediction_sample as sample
from PIL import Image

from ricenet.cases.case_folder import Prepared
from ricenet.cases.case_record import CaseRecord
from ricenet.cases.crop import Window
from ricenet.cohort.table import Case
from ricenet.prediction.case_view import draw_picture, layers, on_view

SHAPE = (30, 32, 28)


@pytest.fixture
def shown() -> Prepared:
    """A bright skull around a brain of 100 to 200 with a lesion of 400, and a dose that does not stop at the brain."""
    rng = np.random.default_rng(0)
    brain = np.zeros(SHAPE, bool)
    brain[5:25, 6:26, 5:23] = 1
    event = np.where(brain, rng.uniform(100, 200, SHAPE), 900).astype(np.float32)
    event[10:13, 10:13, 10:12] = 400
    dose = np.linspace(0, 66, SHAPE[0], dtype=np.float32)[:, None, None] * np.ones(SHAPE, np.float32)
    record = CaseRecord(
        version=3, case_key="c0", channels=("post", "event", "rd"), spacing_mm=3.0, dose_scale_gy=60.0,
        world_from_voxel=np.diag([3.0, 3, 3, 1]).tolist(),
    )  # fmt: skip
    view = {"post": np.where(brain, 150.0, 900).astype(np.float32), "event": event, "rd": dose}
    view["post"] += rng.normal(0, 10, SHAPE).astype(np.float32)
    return Prepared(np.stack([*view.values()]).astype(np.float16), brain, view, record)


def test_nothing_outside_the_brain_is_shown(shown: Prepared) -> None:
    for layer in layers(shown, None):
        assert not layer.voxels[~shown.brain].any(), layer.name
        assert layer.voxels[shown.brain].all(), layer.name


def test_the_brain_fills_three_quarters_of_the_grey_and_a_lesion_the_rest(shown: Prepared) -> None:
    event = next(one for one in layers(shown, None) if one.name == "event")
    grey = (event.voxels[shown.brain] - event.low) / (event.high - event.low)
    assert 0.7 < np.percentile(grey, 97) < 0.8
    assert (event.voxels[11, 11, 11] - event.low) / (event.high - event.low) > 1


def test_dose_is_in_gy_from_zero_and_a_maps_window_is_symmetric(shown: Prepared) -> None:
    drop = np.zeros(SHAPE, np.float32)
    drop[8, 8, 8] = -0.25
    stack = {one.name: one for one in layers(shown, drop)}
    assert list(stack) == ["post", "event", "rd", "occlusion"]
    assert (stack["rd"].low, stack["rd"].high, stack["rd"].unit) == (0, shown.view["rd"][24].max(), "Gy")
    assert (stack["occlusion"].low, stack["occlusion"].high) == (-0.25, 0.25)
    flat = layers(shown, np.zeros(SHAPE, np.float32))[-1]
    assert flat.low < flat.high


@pytest.mark.parametrize("drop", [None, np.full(SHAPE, 0.1, np.float32)], ids=["without a map", "with a map"])
def test_the_picture_is_a_picture(shown: Prepared, drop: np.ndarray | None) -> None:
    case = Case("c0123456789ab", "c0123456789ab", 0, -1, "", {})
    prediction = sample.prediction(case_key=case.key)
    drawn = np.asarray(Image.open(io.BytesIO(draw_picture(case, shown, drop, prediction))).convert("RGB"))
    assert min(drawn.shape[:2]) > 300
    assert drawn.std() > 30


def test_structures_are_a_layer_of_their_own_with_the_lesion_and_the_targets_first(shown: Prepared) -> None:
    masks = {}
    for place, name in enumerate(("Brainstem", "PTV", "GTV", "lesion", "Nothing")):
        masks[name] = np.zeros(SHAPE, dtype=bool)
        masks[name][place, :, :] = name != "Nothing"
    stack = layers(replace(shown, structures=masks), None)
    assert [layer.name for layer in stack] == ["post", "event", "rd", "structures"]
    assert stack[-1].names == ("lesion", "GTV", "PTV", "Brainstem")
    assert [int(value) for value in stack[-1].voxels[:5, 0, 0]] == [8, 4, 2, 1, 0]


def test_no_more_structures_than_the_viewer_can_tell_apart(shown: Prepared) -> None:
    masks = {f"S{number:02}": np.ones(SHAPE, dtype=bool) for number in range(20)} | {
        "lesion": np.ones(SHAPE, dtype=bool)
    }
    names = layers(replace(shown, structures=masks), None)[-1].names
    assert len(names) == 16
    assert names[0] == "lesion"


def test_what_the_models_see_lies_at_the_same_place_on_the_page(shown: Prepared) -> None:
    """On a page of voxels of 1 mm whose first one lies 4 mm before that of the model's grid of 3 mm."""
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = [-5.0, -5.0, -5.0]  # the outer face at -5.5, that of the model's grid at -1.5
    view = replace(shown, record=shown.record.model_copy(update={"world_from_voxel": affine.tolist(), "spacing_mm": 1}))
    assert on_view(Window((2, -1, 4), (6, 8, 10)), shown, view) == Window((10, 1, 16), (18, 24, 30))
    assert on_view(Window((2, -1, 4), (6, 8, 10)), shown, shown) == Window((2, -1, 4), (6, 8, 10))
    assert on_view(None, shown, view) is None
