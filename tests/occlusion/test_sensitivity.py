"""Occlusion maps against a planted lesion, independent implementations (MONAI, captum) and hand-made numbers."""

import copy
import gc
import io
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from helpers.trained import blanked_logits, noise, normalised_by, require_exact, steep, trained
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.visualize import OcclusionSensitivity
from torch import Tensor, nn

from ricenet.occlusion.engines import PlainEngine, prepare
from ricenet.occlusion.sensitivity import Occlusion, OcclusionPlan, drop_map, drops, occlude, positions, predicted_class

LESION = (slice(8, 12), slice(4, 8), slice(6, 10))
COARSE = OcclusionPlan(cube=(4, 4, 4), stride=(2, 2, 2))
BOTH = {"both": [0, 1]}


class PlantedLesion(nn.Module):
    """Answers RICE with more confidence the brighter channel `channel` is inside LESION, and sees nothing else."""

    def __init__(self, channel: int = 0) -> None:
        super().__init__()
        self.channel = channel
        self.volumes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.volumes += len(x)
        signal = 4 * x[(slice(None), self.channel, *LESION)].mean(dim=(1, 2, 3)) - 2
        return torch.stack([-signal / 2, signal / 2], dim=1)


@pytest.fixture
def planted() -> PlantedLesion:
    return PlantedLesion().eval()


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """Narrow, with a linear layer steep enough for probabilities that vary."""
    return steep(trained())


def test_positions_are_a_grid_with_a_flush_end() -> None:
    assert positions((10, 4, 5), (4, 4, 2), (4, 4, 3)).tolist() == [
        [x, 0, z] for x in (0, 4, 6) for z in (0, 3)
    ]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)), min_size=3, max_size=3))
def test_positions_cover_every_voxel_when_cubes_touch(axes: list[tuple[int, int, int]]) -> None:
    shape = tuple(max(axis) for axis in axes)
    cube = tuple(sorted(axis)[1] for axis in axes)
    stride = tuple(min(axis) for axis in axes)
    corners = positions(shape, cube, stride)
    covered = np.zeros(shape, dtype=bool)
    for x, y, z in corners:
        covered[x : x + cube[0], y : y + cube[1], z : z + cube[2]] = True
    assert covered.all()
    assert (corners >= 0).all()
    assert (corners + cube <= shape).all()
    assert len(np.unique(corners, axis=0)) == len(corners)


@pytest.mark.parametrize(("cube", "stride"), [((0, 1, 1), (1, 1, 1)), ((9, 1, 1), (1, 1, 1)), ((2, 2, 2), (1, 0, 1))])
def test_positions_refuse_what_does_not_fit(cube: tuple, stride: tuple) -> None:
    with pytest.raises(ValueError, match="expected 1 <= cube <= volume"):
        positions((8, 8, 8), cube, stride)


def test_map_points_at_the_planted_lesion(planted: nn.Module) -> None:
    volume = noise(2, 18, 16, 17) + 0.5
    drop = drop_map(occlude([planted], volume, torch.zeros_like(volume), BOTH, COARSE)["both"])
    peak = np.unravel_index(drop.argmax(), drop.shape)
    assert all(axis.start <= index < axis.stop for index, axis in zip(peak, LESION, strict=True))
    assert drop.max() > 0.2
    outside = np.ones(drop.shape, dtype=bool)
    outside[5:15, 1:11, 3:13] = False  # no cube of edge 4 reaches from here into the lesion
    assert not drop[outside].any()


@pytest.mark.parametrize("recipe", [{}, {"pool": "multi", "computed": True}], ids=["plain", "recipe"])
def test_map_equals_monai(recipe: dict[str, Any]) -> None:
    resnet = steep(trained(**recipe))
    volume = noise(2, 16, 12, 13) * 3  # 16 and 13 are no multiple of the stride: the flush end differs from the grid
    plan = OcclusionPlan((6, 6, 6), (3, 3, 3), batch_size=5)
    ours = occlude([resnet], volume, torch.full_like(volume, 0.5), BOTH, plan)["both"]
    monai = OcclusionSensitivity(
        resnet, mask_size=6, n_batch=5, mode=0.5, overlap=0.5, activate=lambda y: y.softmax(1), verbose=False
    )
    probability = monai(volume[None])[0][0]  # (K, X, Y, Z), under occlusion
    chosen, confidence = predicted_class(ours)
    theirs = confidence - probability[chosen].numpy()
    assert np.ptp(theirs) > 5e-3, "a flat map would prove nothing"
    np.testing.assert_allclose(drop_map(ours), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [[0, 1], [0], [1]], ids=str)
def test_map_equals_captum(resnet: nn.Module, channels: list[int]) -> None:
    """All channels under one window, and a window a channel; its windows come without the flush end."""
    volume, reference = 3 * noise(2, 19, 16, 22), noise(2, 19, 16, 22, seed=1)
    ours = occlude([resnet], volume, reference, {"some": channels}, OcclusionPlan((7, 7, 7), (4, 3, 5)))["some"]
    chosen, _ = predicted_class(ours)
    depth = len(channels)
    found = captum.attr.Occlusion(lambda x: resnet(x).softmax(1)).attribute(
        volume[None], (depth, 7, 7, 7), strides=(1, 4, 3, 5), baselines=reference[None], target=chosen,
        perturbations_per_eval=5,
    )  # fmt: skip
    theirs = found[0, channels[0]].detach().numpy()
    assert np.ptp(theirs) > 1e-2, "a flat map would prove nothing"
    np.testing.assert_allclose(drop_map(ours), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_answers_are_the_networks_for_each_channel_and_model(resnet: nn.Module, batch_size: int) -> None:
    """A reference that is not constant and equals the volume in half of the voxels; three sets of channels."""
    volume = 3 * noise(2, 17, 16, 15)
    reference = torch.where(noise(17, 16, 15, seed=1) < 0.5, volume, noise(2, 17, 16, 15, seed=2))
    models = [resnet, trained(conv1_size=3, conv1_stride=2)]
    blanked = {"both": [0, 1], "first": [0], "second": [1]}
    plan = OcclusionPlan((7, 8, 9), (5, 8, 6), batch_size=batch_size)
    found = occlude(models, volume, reference, blanked, plan)
    corners = positions((17, 16, 15), plan.cube, plan.stride)
    for (name, channels), (row, model) in product(blanked.items(), enumerate(models)):
        one = found[name][row]
        expected = blanked_logits(model, volume, corners, plan.cube, reference, channels).numpy()
        np.testing.assert_array_equal(one.positions, corners)
        require_exact(one.logits, expected)
        np.testing.assert_allclose(one.baseline, model(volume[None])[0].detach().numpy(), rtol=0, atol=1e-5)
        assert (one.method, one.passes, one.error) == ("incremental", len(corners), None)
        assert (one.shape, one.cube) == ((17, 16, 15), (7, 8, 9))


def test_ignored_channel_gives_a_zero_map(planted: nn.Module) -> None:
    volume = noise(2, 18, 16, 17) + 0.5
    blanked = {"ignored": [1], "seen": [0], "together": [0, 1]}
    found = occlude([planted], volume, torch.zeros_like(volume), blanked, COARSE)
    assert not drop_map(found["ignored"]).any()
    ignored = found["ignored"][0]
    assert ignored.passes == len(ignored.positions), "channel 1 is nowhere at the fill: nothing may have been skipped"
    np.testing.assert_array_equal(found["seen"][0].logits, found["together"][0].logits)
    assert drop_map(found["seen"]).any()


def test_background_is_skipped_and_answers_the_baseline(planted: PlantedLesion, resnet: nn.Module) -> None:
    volume = torch.zeros(2, 18, 16, 17)
    volume[0, 8:12, 4:8, 6:10] = 1
    background = torch.zeros_like(volume)
    (result,) = occlude([planted], volume, background, BOTH, replace(COARSE, stride=(4, 4, 4)))["both"]
    assert planted.volumes == result.passes + 1
    assert 0 < result.passes < len(result.positions) / 2
    (nothing,) = occlude([planted], volume, background, {"": [1]}, COARSE)[""]
    assert nothing.passes == 0
    assert (nothing.logits == nothing.baseline).all()
    volume = torch.zeros(2, 16, 16, 16)
    volume[:, 4:9, 4:9, 4:9] = 3 * noise(2, 5, 5, 5) + 1
    plan = OcclusionPlan((4, 4, 4), (4, 4, 4), batch_size=1)
    (skipping,) = occlude([resnet], volume, torch.zeros_like(volume), BOTH, plan)["both"]
    assert skipping.passes == 8
    expected = blanked_logits(resnet, volume, skipping.positions, plan.cube, torch.zeros_like(volume), [0, 1]).numpy()
    require_exact(skipping.logits, expected)


def test_inputs_are_left_alone_and_training_mode_refused(planted: PlantedLesion, resnet: nn.Module) -> None:
    volume, reference = noise(2, 18, 16, 17), noise(2, 18, 16, 17, seed=1)
    before = volume.clone(), reference.clone()
    occlude([planted, resnet], volume, reference, BOTH, replace(COARSE, stride=(8, 8, 8)))
    assert torch.equal(volume, before[0])
    assert torch.equal(reference, before[1])
    with pytest.raises(ValueError, match="training mode"):
        occlude([planted.train()], volume, reference, BOTH, COARSE)


def test_cube_that_does_not_fit_is_refused_before_any_model_runs(planted: PlantedLesion) -> None:
    with pytest.raises(ValueError, match="expected 1 <= cube <= volume"):
        occlude([planted], noise(2, 18, 16, 17), noise(2, 18, 16, 17), BOTH, OcclusionPlan((4, 17, 4), (2, 2, 2)))
    assert planted.volumes == 0


def refined_by_hand(volume: Tensor, reference: Tensor, channels: list[int]) -> dict[tuple[int, ...], float]:
    """Drop by corner: cubes of 5 on a grid of 8, then around the 8 highest with ever smaller steps."""
    drop: dict[tuple[int, ...], float] = {}
    model = PlantedLesion().eval()

    def visit(corner: tuple[int, ...]) -> None:
        if corner not in drop:
            blank = blanked_logits(model, volume, np.array([corner]), (5, 5, 5), reference, channels)
            drop[corner] = float(model(volume[None])[0].double().softmax(0)[1] - blank[0].softmax(0)[1])

    for corner in product((0, 8, 13), (0, 8, 11), (0, 8, 12)):
        visit(corner)
    for stride in ((4, 4, 8), (2, 3, 8), (1, 3, 8)):
        for top in sorted(drop, key=lambda corner: -drop[corner])[:8]:
            for steps in product((-1, 0, 1), repeat=3):
                moved = [at + step * by for at, step, by in zip(top, steps, stride, strict=True)]
                visit(tuple(min(max(at, 0), end) for at, end in zip(moved, (13, 11, 12), strict=True)))
    return drop


def test_refinement_goes_around_the_highest_cubes_down_to_the_finest_stride(planted: PlantedLesion) -> None:
    volume, reference = noise(2, 18, 16, 17) + 0.5, noise(2, 18, 16, 17, seed=1) / 4
    plan = OcclusionPlan((5, 5, 5), (8, 8, 8), finest=(1, 3, 8))
    found = occlude([planted], volume, reference, BOTH | {"other": [1]}, plan)
    assert planted.volumes == 4 + sum(one.passes for (one,) in found.values()), "the baseline anew for each stride"
    (one,), (other,) = found["both"], found["other"]
    expected = refined_by_hand(volume, reference, [0, 1])
    visited = list(map(tuple, one.positions.tolist()))
    assert len(visited) == len(set(visited)) == one.passes
    assert set(visited) == set(expected)
    np.testing.assert_array_equal(one.positions[:27], positions((18, 16, 17), (5, 5, 5), (8, 8, 8)))
    np.testing.assert_allclose(drops([one]), [expected[corner] for corner in visited], atol=1e-6)
    assert drops([one]).max() > 1.5 * drops([one])[:27].max(), "between the coarse cubes lies a higher one"
    assert not drops([other]).any()
    assert {tuple(corner) for corner in other.positions.tolist()} != set(visited), "each map has its own highest cubes"


@pytest.mark.heavy
def test_refinement_of_several_models_visits_the_same_cubes_for_each(resnet: nn.Module) -> None:
    volume = 3 * noise(2, 20, 18, 16)
    models = [resnet, trained(architecture="resnet10")]
    plan = OcclusionPlan((7, 7, 7), (6, 6, 6), finest=(3, 3, 3))
    both = occlude(models, volume, torch.zeros_like(volume), BOTH, plan)["both"]
    np.testing.assert_array_equal(both[0].positions, both[1].positions)
    coarse = len(positions((20, 18, 16), plan.cube, plan.stride))
    assert both[0].passes == len(both[0].positions) > coarse
    for one, model in zip(both, models, strict=True):
        expected = blanked_logits(model, volume, one.positions, plan.cube, torch.zeros_like(volume), [0, 1]).numpy()
        require_exact(one.logits, expected)


def test_bfloat16_says_how_far_off_it_is(resnet: nn.Module) -> None:
    """Of 12 cubes all are compared, and the untouched volume."""
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    plan = OcclusionPlan((7, 7, 7), (5, 9, 11), precision="bf16")
    for model in (resnet, normalised_by(nn.InstanceNorm3d(8, affine=True))):
        (found,) = occlude([model], volume, reference, BOTH, plan)["both"]
        assert len(found.positions) == 12
        expected = blanked_logits(model, volume, found.positions, plan.cube, reference, [0, 1]).numpy()
        untouched = model(volume[None])[0].detach().numpy()
        error = max(np.abs(found.logits - expected).max(), np.abs(found.baseline - untouched).max())
        assert found.error == pytest.approx(error, rel=0, abs=2e-5)
        assert 1e-4 < error < 0.1 * np.ptp(expected, axis=0).max()
        (unchanged,) = occlude([model], volume, volume, BOTH, plan)["both"]
        assert unchanged.passes == 0
        assert unchanged.error == pytest.approx(np.abs(found.baseline - untouched).max(), rel=0, abs=2e-5)
    assert unchanged.error > 1e-4, "a whole pass in bfloat16 errs on the untouched volume, too"


@pytest.mark.heavy
def test_of_many_cubes_bfloat16_is_checked_on_some(resnet: nn.Module) -> None:
    volume = 3 * noise(2, 17, 16, 18)
    plan = OcclusionPlan((7, 7, 7), (3, 3, 3), finest=(2, 2, 2), precision="bf16")
    (found,) = occlude([resnet], volume, torch.zeros_like(volume), BOTH, plan)["both"]
    expected = blanked_logits(resnet, volume, found.positions, plan.cube, torch.zeros_like(volume), [0, 1]).numpy()
    errors = np.abs(found.logits - expected).max(axis=1)
    assert len(errors) > 100
    assert found.error is not None
    assert np.median(errors) < found.error <= errors.max() + 1e-5


def test_bfloat16_is_checked_on_the_cubes_of_finer_strides(resnet: nn.Module) -> None:
    """What differs from the reference lies between the coarse cubes, so none of these is run."""
    volume, reference = 3 * noise(2, 21, 18, 16), 3 * noise(2, 21, 18, 16)
    reference[:, 8:13] = 0
    plan = OcclusionPlan((7, 7, 7), (14, 11, 9), precision="bf16")
    (coarse,) = occlude([resnet], volume, reference, BOTH, plan)["both"]
    assert (coarse.passes, coarse.error) == (0, 0)
    (fine,) = occlude([resnet], volume, reference, BOTH, replace(plan, finest=(7, 11, 9)))["both"]
    assert (fine.passes, len(fine.positions)) == (4, 12)
    expected = blanked_logits(resnet, volume, fine.positions, plan.cube, reference, [0, 1]).numpy()
    assert fine.error == pytest.approx(np.abs(fine.logits - expected).max(), rel=0, abs=2e-5)
    assert fine.error > 1e-4


class Witness(PlantedLesion):
    """Counts the engines that are alive while it answers."""

    most = 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:  # the baseline, while the next model is prepared
            Witness.most = max(Witness.most, sum(isinstance(one, PlainEngine) for one in gc.get_objects()))
        return super().forward(x)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_models_activations_are_in_memory_at_a_time(precision: str) -> None:
    gc.collect()
    Witness.most = 0
    volume = noise(2, 18, 16, 17)
    plan = OcclusionPlan((8, 8, 8), (8, 8, 8), finest=(4, 4, 4), precision=precision)
    occlude([Witness().eval() for _ in range(3)], volume, torch.zeros_like(volume), BOTH, plan)
    assert Witness.most == 1


@pytest.mark.parametrize("memory_gb", [0.0, 1e-5, 8.0])
def test_memory_changes_no_answer(resnet: nn.Module, memory_gb: float) -> None:
    volume = 3 * noise(2, 17, 16, 18)
    plan = OcclusionPlan((7, 7, 7), (5, 9, 6))
    expected, found = (
        occlude([resnet], volume, torch.zeros_like(volume), BOTH, given)["both"][0]
        for given in (plan, replace(plan, memory_gb=memory_gb))
    )
    engine: Any = prepare(resnet, volume, "fp32", memory_gb)
    assert (engine.streamed_bytes > 0) == (memory_gb < 1)
    assert engine.cache_bytes - engine.streamed_bytes <= memory_gb * 1e9
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_a_plans_memory_reaches_the_engine(resnet: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no folder for temporary files, only what fits in memory is answered."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    volume, plan = noise(2, 17, 16, 18), OcclusionPlan((7, 7, 7), (10, 10, 10))
    occlude([resnet], volume, torch.zeros_like(volume), BOTH, plan)
    with pytest.raises(FileNotFoundError):
        occlude([resnet], volume, torch.zeros_like(volume), BOTH, replace(plan, memory_gb=0.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("memory_gb", [0.0, 8.0])
def test_a_gpu_answers_like_a_cpu(resnet: nn.Module, memory_gb: float) -> None:
    volume, reference = 3 * noise(2, 17, 16, 18), noise(2, 17, 16, 18, seed=1)
    plan = OcclusionPlan((7, 7, 7), (5, 9, 6), finest=(3, 9, 6), memory_gb=memory_gb)
    model = copy.deepcopy(resnet).cuda()
    (found,) = occlude([model], volume.cuda(), reference.cuda(), BOTH, plan)["both"]
    require_exact(found.logits, blanked_logits(resnet, volume, found.positions, plan.cube, reference, [0, 1]).numpy())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Slow(PlantedLesion):
    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.11 * (len(x) > 1))  # tqdm writes ten times a second at most
        return super().forward(x)


def test_progress_counts_cubes_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 cubes, 8 a model, and those of the finer stride."""
    volume, plan = noise(2, 18, 16, 17) + 0.5, OcclusionPlan((8, 8, 8), (10, 8, 9), finest=(5, 8, 9))
    for stream, label, shown in ((Terminal(), "case 7", True), (Terminal(), None, False), (io.StringIO(), "x", False)):
        monkeypatch.setattr(sys, "stderr", stream)
        models = [(Slow() if shown else PlantedLesion()).eval() for _ in range(2)]
        cubes = sum(one.passes for one in occlude(models, volume, torch.zeros_like(volume), BOTH, plan, label)["both"])
        written = stream.getvalue()
        assert cubes > 16
        assert ("case 7" in written and f"{cubes}/{cubes}" in written) == shown
        assert bool(written) == shown


def by_hand(baseline: tuple[float, float], logits: list[tuple[float, float]]) -> Occlusion:
    """Two cubes of edge 2 on a 4 x 1 x 1 volume: voxels 0-1 and 1-2; voxel 3 is never covered. Logits are log p."""
    corners = np.array([[0, 0, 0], [1, 0, 0]])
    return Occlusion((4, 1, 1), (2, 1, 1), np.log(baseline), corners, np.log(logits), 2, "plain")


def test_drop_is_the_predicted_classes_averaged_and_zero_where_no_cube_came() -> None:
    recurrence = by_hand((0.8, 0.2), [(0.6, 0.4), (0.9, 0.1)])
    assert predicted_class([recurrence]) == (0, pytest.approx(0.8))
    np.testing.assert_allclose(drop_map([recurrence])[:, 0, 0], [0.2, 0.05, -0.1, 0], atol=1e-7)


def test_several_models_answer_with_their_mean_probability() -> None:
    agreeing, outvoted = by_hand((0.1, 0.9), [(0.3, 0.7), (0.1, 0.9)]), by_hand((0.7, 0.3), [(0.7, 0.3), (0.5, 0.5)])
    assert predicted_class([agreeing, outvoted]) == (1, pytest.approx(0.6))
    np.testing.assert_allclose(drop_map([agreeing, outvoted])[:, 0, 0], [0.1, 0.0, -0.1, 0], atol=1e-7)
