"""Feature maps in channels-last memory layout, the fastest for convolutions: views of them, and boxes cut from them."""

import numpy as np
import torch
from torch import Tensor

from ricenet.occlusion.receptive_windows import Voxels


def last(x: Tensor) -> Tensor:
    """(B, C, X, Y, Z) seen as (B, X, Y, Z, C)."""
    return x.permute(0, 2, 3, 4, 1)


def first(x: Tensor) -> Tensor:
    """(B, X, Y, Z, C) seen as (B, C, X, Y, Z)."""
    return x.permute(0, 4, 1, 2, 3)


def plain(x: Tensor) -> Tensor:
    """(1, C, X, Y, Z) -> (X, Y, Z, C) without gaps."""
    return x[0].permute(1, 2, 3, 0).contiguous()


def channels_last(weight: Tensor) -> Tensor:
    """Copy filters into channels-last layout."""
    return weight.contiguous(memory_format=torch.channels_last_3d)


def boxed(part: Tensor, offset: np.ndarray, length: Voxels) -> Tensor:
    """Place each sample's part into a box: zeros where it does not reach, cut where it sticks out; a view if possible.

    Args:
        part: (B, x, y, z, C). offset: (B, 3) int64, where the parts start, counted from their box's corner.
        length: of the boxes.
    """
    low = offset[0]
    if (offset == low).all() and (low <= 0).all() and (low + part.shape[1:4] >= length).all():
        return part[(slice(None), *(slice(-start, size - start) for start, size in zip(low, length, strict=True)))]
    box = part.new_zeros(len(part), *length, part.shape[4])
    add(box, part, offset)
    return box


def add(total: Tensor, part: Tensor, offset: np.ndarray) -> None:
    """Add each sample's part to its box in place; what sticks out is left away.

    Args:
        total: (B, X, Y, Z, C). part: (B, x, y, z, C). offset: (B, 3) int64, where the parts start in `total`.
    """
    rows = [slice(None)] if (offset == offset[0]).all() else [slice(row, row + 1) for row in range(len(offset))]
    for row, shift in zip(rows, offset.tolist(), strict=False):
        into = [row]
        of = [row]
        for low, inner, outer in zip(shift, part.shape[1:4], total.shape[1:4], strict=True):
            start, stop = max(low, 0), min(low + inner, outer)
            into.append(slice(start, stop))
            of.append(slice(start - low, stop - low))
        total[tuple(into)] += part[tuple(of)]
