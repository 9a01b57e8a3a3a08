"""Run the stem of a ResNet (conv1, ReLU, max-pool) only in the window that a blanked cube can change.

Here, unlike in the layers behind it, whole activations are computed and not differences: the maximum of a pool's
neighbourhood does not follow from differences alone, and keeping conv1's clean output would take more memory than all
other layers together (2.9 GB at 224^3).

Computed inputs depend on each voxel alone. So in the blanked cube, where the stored channels change, they are computed
again, and nowhere else.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ricenet.networks.computed_inputs import ComputedInputs
from ricenet.occlusion.channels_last import channels_last, first, last
from ricenet.occlusion.folded_resnet import Convolution
from ricenet.occlusion.receptive_windows import Boxes, Cubes, Voxels, Window, output_size, slices

_POOL = (3, 2, 1)  # kernel, step, padding
_SLAB = 4  # planes of the output that `whole` makes at a time, so that conv1's output is never whole


class IncrementalStem:
    """relu(conv1), max-pooled where `pool`, of one volume and of copies of it with a cube blanked.

    Args:
        volume: (C, X, Y, Z) float32, the stored channels.
        dtype: in which blanked cubes are run.
        inputs: what conv1 sees besides them; None: nothing.
    """

    def __init__(
        self, conv: Convolution, pool: bool, volume: Tensor, dtype: torch.dtype, inputs: ComputedInputs | None = None
    ) -> None:
        self._inputs, self._stored = inputs, len(volume)
        volume = volume if inputs is None else inputs(volume[None])[0]
        self._conv, self._pool, self._dtype, self._size = conv, pool, dtype, _size(volume)
        self._conv_size = output_size(self._size, conv.kernel, conv.step, conv.padding)
        self._weight = _unfolded(conv.weight)
        self._margin = conv.padding + conv.step  # the pool's padding lies outside of conv1's output
        self._padded = functional.pad(volume, (self._margin,) * 6).permute(1, 2, 3, 0).contiguous()

    def spread(self, boxes: Boxes) -> Boxes:
        boxes = boxes.spread(self._conv.kernel, self._conv.step, self._conv.padding)
        return boxes.spread(*_POOL) if self._pool else boxes

    def whole(self, dtype: torch.dtype) -> Tensor:
        """(1, C, X, Y, Z), its output for the untouched volume."""
        x, y, z = output_size(self._conv_size, *_POOL) if self._pool else self._conv_size
        slabs = []
        for start in range(0, x, _SLAB):
            window = Window(np.array([[start, 0, 0]]), (min(_SLAB, x - start), y, z))
            slabs.append(self._activate(self._padded[self._seen(window).slices(0)][None], window, dtype))
        return torch.cat(slabs, dim=2)

    def occluded(self, cubes: Cubes, filler: Tensor, channels: Sequence[int]) -> tuple[Tensor, Boxes]:
        """Its output where blanking can change it: (B, C, *window) in the stem's dtype, and the boxes.

        Args:
            filler: (X, Y, Z, channels) float32, what goes into the cubes. channels: where it goes.
        """
        boxes = self.spread(Boxes(cubes.start, cubes.length, self._size))
        regions = self._seen(boxes.window)
        patches = self._padded.new_empty(len(cubes.corner), *regions.length, self._padded.shape[3])
        for row, patch in enumerate(patches):
            patch.copy_(self._padded[regions.slices(row)])
            low = cubes.corner[row] + self._margin - regions.start[row]
            begin, end = np.maximum(low, 0), np.minimum(low + cubes.edge, regions.length)
            x, y, z = (end - begin).tolist()
            filling = filler[slices(cubes.corner[row] + begin - low, (x, y, z))]
            cube = patch[slices(begin, (x, y, z))]
            cube[..., list(channels)] = filling
            if self._inputs is not None:
                cube.copy_(last(self._inputs(first(cube[None, ..., : self._stored])))[0])
        return self._activate(patches, boxes.window, self._dtype), boxes

    def _seen(self, window: Window) -> Window:
        """The region of the padded volume that a window of the output sees."""
        start, length = window.start, np.array(window.length)
        if self._pool:
            start, length = 2 * start - 1, 2 * length + 1
        start = start * self._conv.step - self._conv.padding + self._margin
        x, y, z = ((length - 1) * self._conv.step + self._conv.kernel).tolist()
        return Window(start, (x, y, z))

    def _activate(self, patches: Tensor, window: Window, dtype: torch.dtype) -> Tensor:
        kernel, step = self._conv.kernel, self._conv.step
        # One axis of the kernel becomes channels: 3 of them would leave a matrix unit idle.
        unfolded = patches.to(dtype).unfold(3, kernel, step).flatten(4)
        weight, bias = self._weight.to(dtype), self._conv.bias.to(dtype)
        activation = functional.conv3d(first(unfolded), weight, bias, (step, step, 1)).relu_()
        if not self._pool:
            return activation
        for row, values in enumerate(
            last(activation)
        ):  # outside of its map conv1 is the pool's padding; 0 after a ReLU
            for axis, (low, size) in enumerate(zip(2 * window.start[row] - 1, self._conv_size, strict=True)):
                beyond = int(low) + values.shape[axis] - size
                if low < 0:
                    values.narrow(axis, 0, 1).zero_()
                if beyond > 0:
                    values.narrow(axis, values.shape[axis] - beyond, beyond).zero_()
        return functional.max_pool3d(activation, 3, 2)


def _unfolded(weight: Tensor) -> Tensor:
    """(out, in, k, k, k) -> (out, in * k, k, k, 1): the last axis of the kernel as channels."""
    return channels_last(weight.permute(0, 1, 4, 2, 3).flatten(1, 2).unsqueeze(-1))


def _size(volume: Tensor) -> Voxels:
    x, y, z = volume.shape[1:]
    return x, y, z
