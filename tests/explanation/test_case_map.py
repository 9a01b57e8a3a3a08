"""What a cube is filled with, against hand-made volumes; the rest of a case's map is tested through explain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_records import run_record
from helpers.small_networks import TINY
from scipy.ndimage import gaussian_filter

from ricenet.cases.case_record import LesionPlace
from ricenet.cases.crop import Window
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.explanation.case_map import ExplainSettings, FoldModel, fill_reference, map_case
from ricenet.explanation.explained_case import Scene
from ricenet.networks.network import build_network
from ricenet.occlusion.sensitivity import positions
from ricenet.training.run_folder import FinishedRun

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


PLACE = LesionPlace(source="difference", voxel=(11.0, 8.5, 3.0), contrast=3.0)


def cropped() -> tuple[Scene, list[FoldModel], Window]:
    """A case of 16^3 voxels of 2 mm, and two networks that see a cube of 10 voxels that leaves the volume."""
    rng = np.random.default_rng(1)
    brain = np.zeros((16, 16, 16), dtype=bool)
    brain[2:14, 3:15, 1:13] = True
    volume = (rng.normal(size=(2, 16, 16, 16)) * brain).astype(np.float32)
    window = Window((7, 4, -2), (10, 10, 10))
    case = ReadyCase("c0", "p0", 0, "cv", "c0")
    lesion = np.zeros_like(brain)
    lesion[8:11, 6:9, 2:5] = True
    scene = Scene(
        case, volume, np.diag([2.0, 2.0, 2.0, 1.0]), brain, None, {"lesion": lesion}, volume[0], "event",
        place=PLACE, seen=window,
    )  # fmt: skip
    members = []
    for fold in range(2):
        torch.manual_seed(fold)
        network = build_network(2, **TINY)
        with torch.no_grad():
            network(torch.randn(4, 2, 10, 10, 10))
            network.fc.weight.mul_(4)
        run = FinishedRun(Path("x"), run_record(fold=fold, crop={"at": "lesion", "size_mm": 20.0}))
        members.append(FoldModel(run, "w", network.eval(), None))
    return scene, members, window


@torch.inference_mode()
def test_the_map_of_a_crop_is_that_of_plain_passes_inside_and_0_outside() -> None:
    scene, members, window = cropped()
    result = map_case(scene, members, ExplainSettings(8, 4, randomised=False), "f", "c0")
    drop, record = result.maps["occlusion"], result.record
    cube = torch.from_numpy(window.cut(scene.volume))

    def probabilities(volume: torch.Tensor) -> np.ndarray:
        passes = [member.network(volume[None]).double().softmax(1)[0] for member in members]
        return torch.stack(passes).mean(0).numpy()

    clean = probabilities(cube)
    chosen = clean.argmax()
    total, covered = np.zeros(window.shape), np.zeros(window.shape)
    for x, y, z in positions(window.shape, (4, 4, 4), (2, 2, 2)):
        blanked = cube.clone()
        blanked[:, x : x + 4, y : y + 4, z : z + 4] = 0
        total[x : x + 4, y : y + 4, z : z + 4] += clean[chosen] - probabilities(blanked)[chosen]
        covered[x : x + 4, y : y + 4, z : z + 4] += 1
    expected = window.paste((total / covered).astype(np.float32), (16, 16, 16))
    np.testing.assert_allclose(drop, expected, atol=1e-6)
    assert np.abs(drop).max() > 1e-3
    assert not drop[:7].any(), "the networks do not see it"
    assert record.seen is not None
    assert (record.seen.place, record.seen.first_voxel, record.seen.size_mm) == (PLACE, (7, 4, -2), 20)
    assert record.probability == pytest.approx(clean.max())
    seen = scene.brain & (window.paste(np.ones(window.shape), (16, 16, 16)) > 0)
    assert record.brain_share["lesion"] == pytest.approx((scene.truth["lesion"] & seen).sum() / seen.sum())
    assert '"seen"' in record.as_json()


def test_a_cube_larger_than_the_crop_is_refused() -> None:
    scene, members, _ = cropped()
    with pytest.raises(InvalidInput, match="larger than the volume that its models see"):
        map_case(scene, members, ExplainSettings(22, 4, randomised=False), "f", "c0")


def test_curves_and_shuffled_weights_are_of_the_crop() -> None:
    scene, members, _ = cropped()
    members = [replace(member, shuffled=member.network) for member in members]
    result = map_case(scene, members, ExplainSettings(8, 4, curves=True), "f", "c0")
    np.testing.assert_array_equal(result.maps["randomised"], result.maps["occlusion"])
    assert result.record.randomised is not None
    assert result.record.randomised.similarity == pytest.approx(1)
    assert result.record.curves is not None
    assert result.record.curves.deletion[0] == pytest.approx(result.record.probability)
