"""Occlusion maps against a planted lesion, an independent implementation (MONAI) and hand-made numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import resnet18
from monai.visualize import OcclusionSensitivity

from ricenet.occlusion import Occlusion, drop_map, occlude, positions, predicted_class

LESION = (slice(8, 12), slice(4, 8), slice(6, 10))


class PlantedLesion(torch.nn.Module):
    """Answers RICE with more confidence the brighter channel `channel` is inside LESION, and sees nothing else."""

    def __init__(self, channel: int = 0) -> None:
        super().__init__()
        self.channel = channel
        self.volumes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.volumes += len(x)
        signal = 4 * x[(slice(None), self.channel, *LESION)].mean(dim=(1, 2, 3)) - 2
        return torch.stack([-signal / 2, signal / 2], dim=1)


@pytest.fixture
def planted() -> torch.nn.Module:
    return PlantedLesion().eval()


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    """A real MONAI ResNet-18, narrow, with BatchNorm statistics that matter."""
    torch.manual_seed(0)
    net = resnet18(n_input_channels=2, num_classes=2, widen_factor=0.125)
    with torch.no_grad():
        net.fc.weight.mul_(8)  # otherwise both probabilities stay at a half whatever is blanked
        for _ in range(3):
            net(torch.randn(4, 2, 24, 24, 24) + 1)
    return net.eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


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


def test_map_points_at_the_planted_lesion(planted: torch.nn.Module) -> None:
    volume = noise(2, 18, 16, 17) + 0.5
    drop = drop_map([occlude(planted, volume, (4, 4, 4), (2, 2, 2))])
    peak = np.unravel_index(drop.argmax(), drop.shape)
    assert all(axis.start <= index < axis.stop for index, axis in zip(peak, LESION, strict=True))
    assert drop.max() > 0.2
    outside = np.ones(drop.shape, dtype=bool)
    outside[5:15, 1:11, 3:13] = False  # no cube of edge 4 reaches from here into the lesion
    assert not drop[outside].any()


def test_map_equals_monai(resnet: torch.nn.Module) -> None:
    volume = noise(2, 21, 16, 19) * 3  # 21 and 19 are no multiple of the stride: the flush end differs from the grid
    ours = occlude(resnet, volume, (6, 6, 6), (3, 3, 3), fill=0.5, batch_size=5)
    monai = OcclusionSensitivity(
        resnet, mask_size=6, n_batch=5, mode=0.5, overlap=0.5, activate=lambda y: y.softmax(1), verbose=False
    )
    probability = monai(volume[None])[0][0]  # (K, X, Y, Z), under occlusion
    chosen, confidence = predicted_class([ours])
    theirs = confidence - probability[chosen].numpy()
    assert np.ptp(theirs) > 1e-3, "a flat map would prove nothing"
    np.testing.assert_allclose(drop_map([ours]), theirs, atol=1e-5, rtol=0)


def test_batch_size_changes_nothing(resnet: torch.nn.Module) -> None:
    one, many = (occlude(resnet, noise(2, 16, 16, 16), (8, 8, 8), (4, 4, 4), batch_size=size) for size in (1, 7))
    np.testing.assert_allclose(one.logits, many.logits, atol=1e-5, rtol=0)


def test_ignored_channel_gives_a_zero_map(planted: torch.nn.Module) -> None:
    volume = noise(2, 18, 16, 17) + 0.5
    ignored = occlude(planted, volume, (4, 4, 4), (2, 2, 2), channels=[1])
    assert not drop_map([ignored]).any()
    assert ignored.passes == len(ignored.positions), "channel 1 is nowhere at the fill: nothing may have been skipped"
    seen = occlude(planted, volume, (4, 4, 4), (2, 2, 2), channels=[0])
    together = occlude(planted, volume, (4, 4, 4), (2, 2, 2))
    np.testing.assert_array_equal(seen.logits, together.logits)


def test_background_is_skipped_and_answers_the_baseline(planted: PlantedLesion, resnet: torch.nn.Module) -> None:
    volume = torch.zeros(2, 18, 16, 17)
    volume[0, 8:12, 4:8, 6:10] = 1
    planted.volumes = 0
    result = occlude(planted, volume, (4, 4, 4), (4, 4, 4))
    assert planted.volumes == result.passes + 1
    assert 0 < result.passes < len(result.positions) / 2
    volume = torch.zeros(2, 16, 16, 16)
    volume[:, 4:9, 4:9, 4:9] = noise(2, 5, 5, 5) + 1
    skipping = occlude(resnet, volume, (4, 4, 4), (4, 4, 4), batch_size=1)
    assert skipping.passes == 8
    for corner, logits in zip(skipping.positions, skipping.logits, strict=True):
        blanked = volume.clone()
        blanked[(slice(None), *(slice(low, low + 4) for low in corner))] = 0
        with torch.inference_mode():
            np.testing.assert_allclose(logits, resnet(blanked[None])[0].numpy(), atol=1e-6, rtol=0)


def test_input_is_left_alone_and_training_mode_refused(planted: torch.nn.Module) -> None:
    volume = noise(1, 18, 16, 17)
    before = volume.clone()
    occlude(planted, volume, (4, 4, 4), (8, 8, 8))
    assert torch.equal(volume, before)
    with pytest.raises(ValueError, match="training mode"):
        occlude(planted.train(), volume, (4, 4, 4), (8, 8, 8))


def by_hand(baseline: tuple[float, float], logits: list[tuple[float, float]]) -> Occlusion:
    """Two cubes of edge 2 on a 4 x 1 x 1 volume: voxels 0-1 and 1-2; voxel 3 is never covered. Logits are log p."""
    corners = np.array([[0, 0, 0], [1, 0, 0]])
    return Occlusion((4, 1, 1), (2, 1, 1), np.log(baseline), corners, np.log(logits), 2)


def test_drop_is_the_predicted_classes_averaged_and_zero_where_no_cube_came() -> None:
    recurrence = by_hand((0.8, 0.2), [(0.6, 0.4), (0.9, 0.1)])
    assert predicted_class([recurrence]) == (0, pytest.approx(0.8))
    np.testing.assert_allclose(drop_map([recurrence])[:, 0, 0], [0.2, 0.05, -0.1, 0], atol=1e-7)


def test_several_models_answer_with_their_mean_probability() -> None:
    agreeing, outvoted = by_hand((0.1, 0.9), [(0.3, 0.7), (0.1, 0.9)]), by_hand((0.7, 0.3), [(0.7, 0.3), (0.5, 0.5)])
    assert predicted_class([agreeing, outvoted]) == (1, pytest.approx(0.6))
    np.testing.assert_allclose(drop_map([agreeing, outvoted])[:, 0, 0], [0.1, 0.0, -0.1, 0], atol=1e-7)
