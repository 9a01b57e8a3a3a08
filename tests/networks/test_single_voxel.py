"""A convolution to a single voxel is the general one: result and every gradient, against torch's in float64."""

import pytest
import torch
from helpers.small_networks import PAPER
from torch import nn

from ricenet.networks.network import build_network
from ricenet.networks.single_voxel import SingleVoxelConv3d, lean_single_voxels


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((1, 1, 1), 3, 1, 1), ((2, 2, 2), 3, 2, 1), ((1, 2, 1), 3, 2, 1), ((3, 3, 3), 3, 1, 0), ((1, 1, 1), 1, 2, 0),
     ((2, 2, 2), 3, 1, 1), ((4, 4, 4), 3, 2, 1), ((2, 2, 2), 1, 2, 0), ((3, 3, 3), 3, 3, 1)],
)  # fmt: skip
def test_result_and_gradients_are_those_of_the_convolution(
    size: tuple[int, int, int], kernel: int, stride: int, padding: int, bias: bool, layout: torch.memory_format
) -> None:
    plain = nn.Conv3d(3, 5, kernel, stride, padding, bias=bias).double().to(memory_format=layout)  # type: ignore[call-overload]
    lean = nn.Sequential(nn.Conv3d(3, 5, kernel, stride, padding, bias=bias).double())
    lean.load_state_dict({f"0.{name}": tensor for name, tensor in plain.state_dict().items()})
    lean_single_voxels(lean)
    assert isinstance(lean[0], SingleVoxelConv3d)
    volumes = torch.randn(4, 3, *size, dtype=torch.double).contiguous(memory_format=layout)
    computed = []
    for network in (plain, lean):
        volume = volumes.clone().requires_grad_()
        result = network(volume)
        weights = torch.arange(result.numel(), dtype=torch.double).view_as(result)
        (result * weights).sum().backward()
        computed.append([result, volume.grad, *(parameter.grad for parameter in network.parameters())])
    for ours, theirs in zip(*computed, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_the_residual_networks_have_them() -> None:
    network = build_network(2, **(PAPER | {"width": 8}))
    assert {type(module) for module in network.modules() if isinstance(module, nn.Conv3d)} == {SingleVoxelConv3d}
