"""The notebook's function on networks that are not ours: against MONAI's implementation and against brute force."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet, ResNet
from monai.visualize import OcclusionSensitivity
from torch import Tensor, nn

from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.occlusion_map import occlusion_map

SHAPE = (17, 16, 15)


def foreign(**changed: Any) -> ResNet:
    """A ResNet of MONAI's own, three channels and classes, of statistics that no training of ours left."""
    settings = {
        "block": "basic", "layers": [1, 2, 1, 1], "block_inplanes": [6, 12, 18, 30], "n_input_channels": 3,
        "num_classes": 3, "conv1_t_size": 7, "conv1_t_stride": 2, "shortcut_type": "B", "no_max_pool": True,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = ResNet(**{**settings, **changed})
        randomise(network)
    return network.eval()


@torch.no_grad()
def randomise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.uniform_(layer.weight, -1.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            layer.running_mean.normal_(0, 0.5)
            layer.running_var.uniform_(0.5, 2)


@torch.no_grad()
def sharpened(network: nn.Module, head: nn.Linear, volume: Tensor) -> nn.Module:
    """`network` with its head scaled and shifted in place, so that probabilities vary around those of `volume`."""
    logits = network(volume[None])[0]
    scale = 3 / (logits - network(torch.zeros_like(volume)[None])[0]).abs().max()
    head.bias.copy_(scale * (head.bias - logits) + torch.tensor([0.1, 0.0, -0.1]))
    head.weight.mul_(scale)
    return network


def some_volume(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def brute_force(
    network: nn.Module, volume: Tensor, edge: int, step: int, reference: Tensor, chosen: int | None = None
) -> np.ndarray:
    """By the definition: one forward pass a cube, the drops summed over each voxel's cubes and divided."""
    probability = network(volume[None])[0].double().softmax(0)
    chosen = int(probability.argmax()) if chosen is None else chosen
    total, count = np.zeros(volume.shape[1:]), np.zeros(volume.shape[1:])
    for corner in product(*(sorted({*range(0, size - edge + 1, step), size - edge}) for size in volume.shape[1:])):
        window = tuple(slice(low, low + edge) for low in corner)
        blanked = volume.clone()
        blanked[(slice(None), *window)] = reference[(slice(None), *window)]
        total[window] += float(probability[chosen] - network(blanked[None])[0].double().softmax(0)[chosen])
        count[window] += 1
    return total / np.maximum(count, 1)


def require_same(ours: np.ndarray, expected: np.ndarray) -> None:
    assert ours.dtype == np.float32
    assert np.ptp(expected) > 1e-2, "a flat map would prove nothing"
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changed",
    [
        {"shortcut_type": "A"},
        {"shortcut_type": "B"},
        {"no_max_pool": False, "conv1_t_stride": 1},
        {"block": "bottleneck", "conv1_t_size": 3, "shortcut_type": "A"},
    ],
    ids=str,
)
def test_any_resnet_of_monai_against_brute_force(changed: dict) -> None:
    network, volume = foreign(**changed), some_volume(3, *SHAPE)
    sharpened(network, network.fc, volume)
    assert fold(network) is not None, "this is the incremental way"
    ours = occlusion_map(network, volume.numpy(), cube=6, stride=4, batch_size=5)
    require_same(ours, brute_force(network, volume, 6, 4, torch.zeros_like(volume)))


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_equals_monais_own_occlusion_sensitivity(shortcut: str) -> None:
    network, volume = foreign(shortcut_type=shortcut), some_volume(3, *SHAPE)
    sharpened(network, network.fc, volume)
    monai = OcclusionSensitivity(
        network, mask_size=6, n_batch=5, mode=0.5, overlap=0.5, activate=lambda logits: logits.softmax(1), verbose=False
    )
    blanked = monai(volume[None])[0][0].numpy()  # (K, X, Y, Z), probability under occlusion
    untouched = network(volume[None])[0].softmax(0).detach().numpy()
    for chosen in range(3):
        ours = occlusion_map(network, volume[None], 6, reference=0.5, class_index=chosen)
        np.testing.assert_allclose(ours, untouched[chosen] - blanked[chosen], atol=1e-5, rtol=0)
    assert np.ptp(blanked, axis=(1, 2, 3)).max() > 1e-2, "a flat map would prove nothing"


def test_any_other_module_is_run_by_whole_passes() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        densenet = DenseNet(3, 3, 3, init_features=8, growth_rate=4, block_config=(2, 2)).eval()
        own = nn.Sequential(
            nn.Conv3d(3, 4, 3), nn.InstanceNorm3d(4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 15 * 14 * 13, 3)
        ).eval()
    volume = some_volume(3, *SHAPE)
    for network, head in ((densenet, densenet.class_layers[-1]), (own, own[-1])):
        sharpened(network, head, volume)
        assert fold(network) is None
        ours = occlusion_map(network, volume, 8, 7)
        require_same(ours, brute_force(network, volume, 8, 7, torch.zeros_like(volume)))


class BrightCorner(nn.Module):
    """Class 1 where the first channel is bright in the first 4^3 voxels, class 0 where the second is; sees no more."""

    def __init__(self) -> None:
        super().__init__()
        self.volumes = 0

    def forward(self, volumes: Tensor) -> Tensor:
        self.volumes += len(volumes)
        return volumes[:, :2, :4, :4, :4].mean(dim=(2, 3, 4)).flip(1)


def test_positive_where_the_region_supports_the_class_and_negative_where_it_speaks_against_it() -> None:
    volume = torch.zeros(2, 8, 8, 8)
    volume[0, :4, :4, :4], volume[1, :4, :4, :4] = 2, 1
    supporting = occlusion_map(BrightCorner().eval(), volume, 4, 4, channels=[0])
    opposing = occlusion_map(BrightCorner().eval(), volume, 4, 4, channels=[1])
    other_class = occlusion_map(BrightCorner().eval(), volume, 4, 4, channels=[0], class_index=0)
    before = 1 / (1 + np.exp(-1))
    expected = np.zeros((8, 8, 8))
    expected[:4, :4, :4] = before - 1 / (1 + np.exp(1))
    np.testing.assert_allclose(supporting, expected, atol=1e-6)
    np.testing.assert_allclose(other_class, -expected, atol=1e-6)
    expected[:4, :4, :4] = before - 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(opposing, expected, atol=1e-6)


def test_array_tensor_and_a_batch_of_one_give_the_same_map_and_stay_as_they_are() -> None:
    network, volume = foreign(), some_volume(3, 20, 17, 16)
    array = volume.numpy().astype(np.float64)
    maps = [occlusion_map(network, one) for one in (array, volume, volume[None])]
    assert torch.equal(volume, some_volume(3, 20, 17, 16))
    np.testing.assert_array_equal(array, volume.numpy())
    assert maps[0].shape == (20, 17, 16)
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
    assert maps[0].any(), "defaults alone give a map"


def test_outside_the_brain_nothing_is_replaced_or_run() -> None:
    model, volume = BrightCorner().eval(), some_volume(2, 8, 8, 8) + 1
    brain = np.zeros((8, 8, 8), dtype=np.uint8)
    brain[2:4, 2:4, 2:4] = 1
    masked = occlusion_map(model, volume, 4, 4, brain=brain)
    assert model.volumes == 2, "the untouched volume, and the one cube that meets the brain"
    reference = torch.where(torch.from_numpy(brain) != 0, torch.zeros_like(volume), volume)
    np.testing.assert_array_equal(masked, occlusion_map(model, volume, 4, 4, reference=reference))
    assert masked.any()
    assert not occlusion_map(model, volume, 4, 4, brain=np.zeros((8, 8, 8))).any()


def test_a_reference_a_channel_is_that_of_the_whole_array() -> None:
    network, volume = foreign(), some_volume(3, *SHAPE)
    sharpened(network, network.fc, volume)
    values = [0.5, 0.0, 2.0]
    whole = torch.tensor(values).view(3, 1, 1, 1).expand_as(volume)
    ours = occlusion_map(network, volume, (6, 6, 6), (4, 4, 4), reference=values)
    require_same(ours, brute_force(network, volume, 6, 4, whole))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"volume": np.zeros((2, 3, *SHAPE))}, r"shape \(C, X, Y, Z\) or \(1, C, X, Y, Z\), got \(2, 3, 17, 16, 15\)"),
        ({"volume": np.full((3, *SHAPE), np.nan)}, "NaN or infinite"),
        ({"cube": 99}, "expected 1 <= cube <= volume"),
        ({"cube": (4, 4)}, "cube should be one or three lengths in voxels, got 2"),
        ({"stride": 0}, "stride >= 1"),
        ({"reference": [1.0, 2.0]}, r"3 numbers \(one per channel\).*got shape \(2,\)"),
        ({"brain": np.ones(SHAPE[::-1])}, r"brain should have shape \(17, 16, 15\), got \(15, 16, 17\)"),
        ({"channels": [3]}, r"channels should be indices from 0 to 2, got \[3\]"),
        ({"class_index": 3}, "class_index should be from 0 to 2, got 3"),
        ({"model": foreign().train()}, r"training mode.*call model\.eval"),
        ({"model": foreign(num_classes=1)}, r"at least two classes, got shape \(1, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changed: dict, words: str) -> None:
    arguments = {"model": foreign(), "volume": np.ones((3, *SHAPE)), "cube": 6} | changed
    with pytest.raises(ValueError, match=words):
        occlusion_map(**arguments)
