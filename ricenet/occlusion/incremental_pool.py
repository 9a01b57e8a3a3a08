"""Pool a feature map over space where only a window of it changes: its mean, and where asked for its maximum.

The mean follows from the sum of the differences. The maximum is the larger one of two: that inside the window, of the
changed map, and that outside of it, of the clean map. What lies outside a box lies in front of it or behind it along
one of the axes; so the maxima of all planes, accumulated from both ends of each axis, give it exactly for every window.
"""

import math

import torch
from torch import Tensor

from ricenet.occlusion.receptive_windows import Window


class IncrementalPool:
    """Mean over space of one map, and with `maxima` its maximum behind it.

    Args:
        clean: (1, C, X, Y, Z) float32, the map of the untouched volume, after its ReLU.
        dtype: in which changed values come.

    Attributes:
        clean: (1, C) or (1, 2 C) float64, of the untouched volume.
    """

    def __init__(self, clean: Tensor, dtype: torch.dtype, maxima: bool) -> None:
        self._voxels = clean[0, 0].numel()
        self.maxima = maxima
        # Plane by plane: a copy of the map in double precision would take more memory than the map.
        self.clean = clean.sum((3, 4)).double().sum(2) / self._voxels
        if maxima:
            rounded = clean[0].to(dtype).float()
            planes = [rounded.amax(axes) for axes in ((2, 3), (1, 3), (1, 2))]  # (C, X), (C, Y), (C, Z)
            self._before = [_accumulated(plane) for plane in planes]
            self._behind = [_accumulated(plane.flip(1)).flip(0) for plane in planes]
            self._maximum = planes[0].amax(1)
            self.clean = torch.cat([self.clean, clean.amax((2, 3, 4)).double()], dim=1)

    def __call__(self, difference: Tensor, window: Window, inside: Tensor | None) -> Tensor:
        """(B, C) or (B, 2 C) float64 of the changed maps.

        Args:
            difference: (B, C, *window), to the clean map.
            inside: (B, C), the maximum of the changed map in the window; None without `maxima`.
        """
        changed = difference.float().sum((2, 3, 4)).double() / self._voxels
        if self.maxima:
            assert inside is not None
            maximum = torch.maximum(inside.float(), self._outside(window))
            # Added as a difference: what does not change has no error of `dtype`.
            changed = torch.cat([changed, (maximum - self._maximum).double()], dim=1)
        return self.clean + changed

    def _outside(self, window: Window) -> Tensor:
        """(B, C) maximum of the clean map outside of each window; -inf where the window is all of it."""
        stop = window.start + window.length
        parts = [
            part
            for axis, (before, behind) in enumerate(zip(self._before, self._behind, strict=True))
            for part in (before[window.start[:, axis].tolist()], behind[stop[:, axis].tolist()])
        ]
        return torch.stack(parts).amax(0)


def _accumulated(planes: Tensor) -> Tensor:
    """(C, N) -> (N + 1, C): row n is the maximum of the planes in front of n."""
    nothing = planes.new_full((1, len(planes)), -math.inf)
    return torch.cat([nothing, planes.cummax(1).values.T])
