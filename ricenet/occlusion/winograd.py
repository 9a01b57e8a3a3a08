"""3^3 convolutions with a third of the multiplications: the transposed form of Winograd's F(2, 3).

The input is cut into tiles of 2^3 voxels. Each tile contributes to the 4^3 output voxels around it, and overlapping
contributions are added. Nothing lies outside the input's window (differences are 0 there), so tiles need no halo. Along
each axis, with (a, b) a tile and (f, g, h) the flipped filter,

    a f,  a g + b f,  a h + b g,  b h   come from   a f,  (a + b)(f + g + h)/2,  (a - b)(f - g + h)/2,  b h:

4 products instead of 6, in three dimensions 64 instead of 216, each a matrix product over channels. The sums before and
after them are matrix products with few rows, too: as fast as memory is.

After Lavin and Gray (Fast Algorithms for Convolutional Neural Networks, CVPR 2016), who overlap the tiles going in.
"""

import threading

import torch
from torch import Tensor

_FILTER = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_SPREAD = ((1, 0), (1, 1), (1, -1), (0, 1))
_GATHER = ((1, 0, 0, 0), (0, 1, -1, -1), (-1, 1, 1, 0), (0, 0, 0, 1))
_TILES = 216  # at a time, but whole samples: 2 x 28 MB of products at 512 channels, with rows enough for a GEMM


class Scratch(threading.local):
    """Buffers that a thread reuses between calls: fresh memory would cost as much as the sums that fill it."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Uninitialised float32; valid until the name is taken again."""
        size = torch.Size(shape).numel()
        if name not in self._held or self._held[name].numel() < size:
            self._held[name] = torch.empty(size)
        return self._held[name][:size].view(shape)


class Winograd:
    """A convolution of stride 1, float32, on the CPU. It pays from about 64 channels on.

    Args:
        weight: (out, in, 3, 3, 3), as conv3d takes it.
        scratch: shared by convolutions that a thread calls one after the other.
    """

    def __init__(self, weight: Tensor, scratch: Scratch) -> None:
        filters = weight.double().flip(2, 3, 4).permute(2, 3, 4, 1, 0).flatten(0, 2)
        self._filters = torch.tensordot(_cubed(_FILTER).double(), filters, dims=1).float()  # (64, in, out)
        self._spread, self._gather = _cubed(_SPREAD), _cubed(_GATHER)
        self._scratch = scratch

    def __call__(self, difference: Tensor) -> Tensor:
        """(B, X, Y, Z, in) -> (B, X+2, Y+2, Z+2, out): every voxel that the difference reaches."""
        even = _even(difference)
        batch, x, y, z, _ = even.shape
        tiles = (x // 2, y // 2, z // 2)
        out = even.new_empty(batch, tiles[0] + 1, 2, tiles[1] + 1, 2, tiles[2] + 1, 2, self._filters.shape[2])
        step = max(1, _TILES // (tiles[0] * tiles[1] * tiles[2]))
        for start in range(0, batch, step):
            self._convolve(even[start : start + step], out[start : start + step])
        x, y, z = difference.shape[1:4]
        return out.view(batch, *(2 * n + 2 for n in tiles), -1)[:, : x + 2, : y + 2, : z + 2]

    def _convolve(self, difference: Tensor, out: Tensor) -> None:
        take, (_, channels, out_channels) = self._scratch.take, self._filters.shape
        batch, x, y, z, _ = difference.shape
        tiles = (batch, x // 2, y // 2, z // 2)
        rows = batch * x * y * z // 8
        voxels = take("voxels", 2, 2, 2, *tiles, channels)
        voxels.copy_(difference.view(batch, x // 2, 2, y // 2, 2, z // 2, 2, channels).permute(2, 4, 6, 0, 1, 3, 5, 7))
        factors = torch.mm(self._spread, voxels.view(8, -1), out=take("factors", 64, rows * channels))
        products = take("products", 64, rows, out_channels)
        for row, factor, weight in zip(products, factors.view(64, rows, channels), self._filters, strict=True):
            torch.mm(factor, weight, out=row)
        reached = torch.mm(self._gather, products.view(64, -1), out=take("factors", 64, rows * out_channels))
        self._overlap(reached.view(4, 4, 4, *tiles, out_channels), out.permute(2, 4, 6, 0, 1, 3, 5, 7))

    def _overlap(self, values: Tensor, out: Tensor) -> None:
        """Add up the 4^3 values of each tile: (4, 4, 4, B, *tiles, out) -> (2, 2, 2, B, *tiles + 1, out)."""
        for axis in range(3):
            shape = list(values.shape)
            shape[axis], shape[axis + 4], count = 2, shape[axis + 4] + 1, shape[axis + 4]
            total = out if axis == 2 else self._scratch.take("products" if axis == 0 else "factors", *shape)
            near = values.narrow(axis, 0, 2)
            onward = values.narrow(axis, 2, 2)
            tile = axis + 4
            total.narrow(tile, 0, 1).copy_(near.narrow(tile, 0, 1))
            both = total.narrow(tile, 1, count - 1)
            torch.add(near.narrow(tile, 1, count - 1), onward.narrow(tile, 0, count - 1), out=both)
            total.narrow(tile, count, 1).copy_(onward.narrow(tile, count - 1, 1))
            values = total


def _cubed(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    one = torch.tensor(matrix, dtype=torch.float32)
    return torch.kron(one, torch.kron(one, one))


def _even(x: Tensor) -> Tensor:
    """(B, X, Y, Z, C) with a plane of zeros more where a size is odd."""
    return torch.nn.functional.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
