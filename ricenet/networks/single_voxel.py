"""Convolutions whose result is a single voxel, as the last stages of small volumes have them, as matrix products.

A 3^3 convolution of one voxel multiplies its middle tap alone; a general convolution works through all 27, and its
gradient even more so. The function stays the same to rounding, and the gradients of the other taps are 0.
"""

from torch import Tensor, nn
from torch.nn import functional


class SingleVoxelConv3d(nn.Conv3d):
    """A Conv3d that gives one voxel out of (B, C, X, Y, Z) by a matrix product, and any other result as always."""

    def forward(self, input: Tensor) -> Tensor:
        size, padding = input.shape[2:], self.padding
        assert not isinstance(padding, str)
        # The only place of the kernel is at -padding, and no voxel lies beyond its far end.
        single = all(
            n + p <= kernel and (n + 2 * p - kernel) // stride == 0
            for n, p, kernel, stride in zip(size, padding, self.kernel_size, self.stride, strict=True)
        )
        if not single or self.groups > 1 or self.dilation != (1, 1, 1) or self.padding_mode != "zeros":
            return super().forward(input)
        x, y, z = (slice(p, p + n) for n, p in zip(size, padding, strict=True))
        product = functional.linear(input.flatten(1), self.weight[:, :, x, y, z].flatten(1), self.bias)
        return product[:, :, None, None, None]


def lean_single_voxels(network: nn.Module) -> None:
    """Let every plain convolution of `network` treat a single voxel so; its weights stay as they were drawn."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = SingleVoxelConv3d
