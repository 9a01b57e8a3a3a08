"""What a cube is filled with, against hand-made volumes; the rest of a case's map is tested through explain."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import WrongUsage
from ricenet.explanation.case_map import ExplainSettings, fill_reference
from ricenet.explanation.explained_case import Scene

SHAPE, CUBE = (9, 12, 10), (4, 6, 2)
VOLUME = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
BRAIN = np.zeros(SHAPE, dtype=bool)
BRAIN[2:7, 3:9, 2:8] = True


def scene() -> Scene:
    case = ReadyCase("c0", "p0", 0, "cv", "c0")
    return Scene(case, VOLUME, np.eye(4), BRAIN, None, {}, VOLUME[0], "event")


def test_a_number_fills_all_and_names_fill_their_channels() -> None:
    np.testing.assert_array_equal(fill_reference(scene(), ["event", "rd"], 0.5, CUBE), np.full_like(VOLUME, 0.5))
    by_name = fill_reference(scene(), ["event", "rd"], {"rd": 1.25}, CUBE)
    np.testing.assert_array_equal(by_name[0], np.zeros(SHAPE))
    np.testing.assert_array_equal(by_name[1], np.full(SHAPE, 1.25))
    assert by_name.dtype == np.float32


def test_blur_smooths_each_channel_by_half_the_cube_inside_the_brain_alone() -> None:
    blurred = fill_reference(scene(), ["event", "rd"], "blur", CUBE)
    np.testing.assert_array_equal(blurred[:, ~BRAIN], VOLUME[:, ~BRAIN])
    for channel in range(2):
        expected = gaussian_filter(VOLUME[channel], (2, 3, 1), mode="nearest")
        np.testing.assert_allclose(blurred[channel][BRAIN], expected[BRAIN], atol=1e-6)
    assert blurred[0][BRAIN].std() < 0.5 * VOLUME[0][BRAIN].std()


@pytest.mark.parametrize(("fill", "words"), [({"flair": 1.0}, "among event, rd, got flair"), ("white", "got 'white'")])
def test_what_is_no_fill_is_refused(fill: object, words: str) -> None:
    with pytest.raises(WrongUsage, match=words):
        fill_reference(scene(), ["event", "rd"], fill, CUBE)


def test_recorded_is_what_decides_the_map() -> None:
    plain = ExplainSettings(16, 8)
    assert plain.recorded() == replace(plain, batch_size=1, device="cuda", memory_gb=1).recorded()
    for changed in ({"cube_mm": 15}, {"refine_mm": 2.0}, {"fill": "blur"}, {"precision": "bf16"}, {"curves": True}):
        assert replace(plain, **changed).recorded() != plain.recorded()
