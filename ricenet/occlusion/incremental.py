"""Run a 3D ResNet on copies of a volume with a cube blanked, computing only what the cube changes.

In evaluation mode a blanked cube changes only a small window of each early activation. So the activations of the
untouched volume (the *clean* ones) are computed once. For each cube only the difference to them is computed, layer by
layer, in a window that grows with the receptive field. A convolution is linear: it maps differences to differences. At
a ReLU, with p the clean value in front of it and d the difference,

    relu(p + d) - relu(p) = max(d, -p) + min(p, 0),

which loses no digits: the logits agree with those of a plain forward pass to its own rounding, and in bfloat16 they err
less than a plain pass would. At the end the difference of the mean over space is added to the clean mean, in float64
(ricenet.occlusion.incremental_pool, for maxima too).

The idea is Krypton's (Nakandala et al., SIGMOD 2019; 2D, windows of activations instead of differences).
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ricenet.occlusion.channels_last import add, boxed, channels_last, first, last, plain
from ricenet.occlusion.folded_resnet import Block, Convolution, FoldedResNet
from ricenet.occlusion.incremental_pool import IncrementalPool
from ricenet.occlusion.incremental_stem import IncrementalStem
from ricenet.occlusion.receptive_windows import Boxes, Cubes, Voxels, Window
from ricenet.occlusion.winograd import Scratch, Winograd

WINOGRAD_CHANNELS = 64  # from which on it is the faster way to convolve on a CPU


class IncrementalEngine:
    """Computes a ResNet's logits for one volume with cubes of it blanked.

    Args:
        network: folded, on the volume's device.
        volume: (C, X, Y, Z) float32.
        dtype: of the differences: float32 is exact, bfloat16 several times as fast where the processor has it.
        memory_bytes: what the clean activations may take. Those beyond lie in a temporary file (of a GPU: in the host's
            memory) and are read window by window. Weights, Winograd's filters and a batch come on top.

    Attributes:
        method: what to call it beside a forward pass per cube.
        baseline: (K,) float64 logits of the untouched volume.
        cache_bytes: what the clean activations take. streamed_bytes: as much of it as lies outside of memory.
    """

    method = "incremental"

    @torch.inference_mode()
    def __init__(self, network: FoldedResNet, volume: Tensor, dtype: torch.dtype, memory_bytes: int) -> None:
        x, y, z = volume.shape[1:]
        self._size: Voxels = (x, y, z)
        self._linear, store, scratch = network.linear, _Store(memory_bytes), Scratch()
        self._stem = IncrementalStem(network.stem, network.pool, volume, dtype, network.inputs)
        activation = self._stem.whole(torch.float32)
        self._stem_clean = store.keep(plain(activation if dtype == torch.float32 else self._stem.whole(dtype)))
        self._blocks = []
        for block in network.blocks:
            prepared, activation = _prepare(block, activation, dtype, store, scratch)
            self._blocks.append(prepared)
        self.cache_bytes, self.streamed_bytes = store.bytes, store.streamed_bytes
        self.baseline = self._logits([block.pool.clean for block in self._blocks if block.pool])[0]

    def logits(
        self, cubes: Cubes, reference: Tensor, channels: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Blank each of the cubes; yield, batch by batch, rows of `cubes` and their (B, K) float64 logits.

        On a CPU each of torch's threads runs batches of its own; until the last is done torch itself has one thread.

        Args:
            cubes: each changes at least one voxel.
            reference: (C, X, Y, Z) float32, what is put into the cube.
            channels: the channels to blank.
            batch_size: cubes at a time, taken so that their windows are alike.
        """
        filler = reference[list(channels)].permute(1, 2, 3, 0)
        order = self._by_window(cubes)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

        @torch.inference_mode()
        def run_batch(rows: np.ndarray) -> tuple[np.ndarray, Tensor]:
            difference, boxes = self._stem.occluded(cubes[rows], filler, channels)
            for sample, values in enumerate(last(difference)):
                values.sub_(self._stem_clean[boxes.window.slices(sample)].to(values.device))
            pooled = []
            for block in self._blocks:
                difference, boxes, features = block(difference, boxes)
                if features is not None:
                    pooled.append(features)
            return rows, self._logits(pooled)

        yield from map(run_batch, batches) if reference.is_cuda else _in_threads(run_batch, batches)

    def _logits(self, pooled: Sequence[Tensor]) -> Tensor:
        return functional.linear(
            torch.cat(list(pooled), dim=1), self._linear.weight.double(), self._linear.bias.double()
        )

    def _by_window(self, cubes: Cubes) -> np.ndarray:
        """Rows of the cubes, those with equal windows together, first of all in the deep layers: they cost most."""
        boxes = self._stem.spread(Boxes(cubes.start, cubes.length, self._size))
        lengths = [boxes.length]
        for block in self._blocks:
            for layer in block.branch:
                boxes = layer.spread(boxes)
                lengths.append(boxes.length)
        return np.lexsort(np.concatenate(lengths, axis=1).T)  # sorts by its last key first


def _in_threads(work: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
    """As map, in as many threads as torch has: small products gain little from being shared by several."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, parts)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(work, parts)
    finally:
        torch.set_num_threads(threads)


class _Store:
    """Keeps activations in memory up to a bound, and beyond it where there is more room."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes, self.bytes, self.streamed_bytes = memory_bytes, 0, 0

    def keep(self, activation: Tensor) -> Tensor:
        self.bytes += activation.nbytes
        if self.bytes - self.streamed_bytes <= self._memory_bytes:
            return activation
        self.streamed_bytes += activation.nbytes
        return activation.cpu() if activation.is_cuda else _on_disk(activation)


def _on_disk(x: Tensor) -> Tensor:
    """Map the tensor from a temporary file without a name: the file goes when the tensor does, or the process."""
    with tempfile.NamedTemporaryFile(prefix="ricenet-") as file:
        x.view(torch.uint8).numpy().tofile(file)  # a full disk is an OSError here; through the map it would kill
        file.flush()
        return torch.from_file(file.name, shared=True, size=x.numel(), dtype=x.dtype).view(x.shape)


class _Layer:
    """A convolution for differences, and the ReLU behind it.

    Args:
        threshold: (X, Y, Z, C), -p of that ReLU; None where there is none.
        scratch: shared by all layers.
    """

    def __init__(self, conv: Convolution, threshold: Tensor | None, dtype: torch.dtype, scratch: Scratch) -> None:
        self._kernel, self._step, self._threshold = conv.kernel, conv.step, threshold
        self._winograd = Winograd(conv.weight, scratch) if _suits_winograd(conv, dtype) else None
        self._weight = channels_last((conv.weight[:0] if self._winograd else conv.weight).to(dtype))

    def spread(self, boxes: Boxes) -> Boxes:
        return boxes.spread(self._kernel, self._step, self._kernel // 2)

    def __call__(self, difference: Tensor, window: Window, out: Window) -> Tensor:
        """The difference of the output in the window `out`."""
        if self._winograd:
            return first(boxed(self._winograd(last(difference)), window.start - 1 - out.start, out.length))
        offset = window.start - (out.start * self._step - self._kernel // 2)
        seen = (np.array(out.length) - 1) * self._step + self._kernel
        around = offset[0]
        if (offset == around).all() and (around >= 0).all() and (window.length + 2 * around == seen).all():
            return functional.conv3d(difference, self._weight, None, self._step, around.tolist())
        x, y, z = seen.tolist()
        return functional.conv3d(first(boxed(last(difference), offset, (x, y, z))), self._weight, None, self._step)

    def rectify(self, difference: Tensor, window: Window, maxima: Tensor | None = None) -> None:
        """From in front of the ReLU to behind it, in place.

        Args:
            maxima: (B, C), where to write the maximum of relu(p + d) over the window.
        """
        assert self._threshold is not None
        for row, values in enumerate(last(difference)):
            threshold = self._threshold[window.slices(row)].to(values.device)
            torch.maximum(values, threshold, out=values)
            if maxima is not None:
                maxima[row] = (values - threshold).amax((0, 1, 2))
            values.sub_(threshold.clamp_min(0))


@dataclass(frozen=True)
class _Block:
    branch: tuple[_Layer, ...]
    shortcut: _Layer | None
    pool: IncrementalPool | None

    def __call__(self, difference: Tensor, boxes: Boxes) -> tuple[Tensor, Boxes, Tensor | None]:
        """The difference of its output, where that is, and the output pooled if the linear layer sees it."""
        inside = boxes
        branch_difference = difference
        maxima = None
        for layer in self.branch:
            outside = layer.spread(inside)
            branch_difference = layer(branch_difference, inside.window, outside.window)
            if layer is self.branch[-1]:
                self._add_shortcut(branch_difference, outside.window, difference, boxes)
                if self.pool and self.pool.maxima:
                    maxima = branch_difference.new_empty(branch_difference.shape[:2])
            layer.rectify(branch_difference, outside.window, maxima)
            inside = outside
        pooled = self.pool(branch_difference, inside.window, maxima) if self.pool else None
        return branch_difference, inside, pooled

    def _add_shortcut(self, branch_difference: Tensor, window: Window, difference: Tensor, boxes: Boxes) -> None:
        if self.shortcut is not None:
            outside = self.shortcut.spread(boxes)
            difference = self.shortcut(difference, boxes.window, outside.window)
            boxes = outside
        add(last(branch_difference), last(difference), boxes.window.start - window.start)


def _prepare(
    block: Block, activation: Tensor, dtype: torch.dtype, store: _Store, scratch: Scratch
) -> tuple[_Block, Tensor]:
    """The block for differences, and its clean output; (1, C, X, Y, Z) float32 in and out."""
    layers = []
    output = activation
    for conv in block.branch:
        front = _convolve(conv, output)
        if conv is block.branch[-1]:
            front += activation if block.shortcut is None else _convolve(block.shortcut, activation)
        layers.append(_Layer(conv, store.keep(plain(-front.to(dtype))), dtype, scratch))
        output = front.relu_()
    shortcut = None if block.shortcut is None else _Layer(block.shortcut, None, dtype, scratch)
    pool = None if block.pooled is None else IncrementalPool(output, dtype, maxima=block.pooled == "mean and maximum")
    return _Block(tuple(layers), shortcut, pool), output


def _convolve(conv: Convolution, x: Tensor) -> Tensor:
    return functional.conv3d(x, channels_last(conv.weight), conv.bias, conv.step, conv.padding)


def _suits_winograd(conv: Convolution, dtype: torch.dtype) -> bool:
    suits = conv.weight.device.type == "cpu" and dtype == torch.float32 and conv.step == 1 and conv.kernel == 3
    return suits and min(conv.weight.shape[:2]) >= WINOGRAD_CHANNELS
