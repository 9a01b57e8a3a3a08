"""The ResNet stem max_pool(relu(batch_norm(conv(x)))), computed with the pool first: the same function, cheaper.

Max-pooling commutes with a monotone map. With the sign of batch norm's gamma folded into the convolution's filters the
affine map is increasing, so pool(relu(a * y + b)) = relu(a * pool(y) + b): the full-resolution map is read for its
statistics and for the pool, and normalised only after it has shrunk to an eighth. Loss, gradients and running
statistics are those of the plain stem to rounding, negative gammas included
(tests/networks/test_pool_first_stem.py); where a gamma is exactly 0 the gradient is another of its subgradients.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_OVER_SPACE = (0, 2, 3, 4)


def pool_first(x: Tensor, conv: nn.Conv3d, norm: nn.BatchNorm3d, pool: nn.MaxPool3d, *, recompute: bool) -> Tensor:
    """What pool(relu(norm(conv(x)))) gives, in training and in evaluation mode of `norm`.

    Args:
        x: (B, C, X, Y, Z).
        conv: without bias.
        recompute: in training keep nothing of full resolution for the backward pass but compute it again there.
    """
    sign = torch.where(norm.weight >= 0, 1.0, -1.0).to(norm.weight.dtype).detach()
    filters = conv.weight * sign.view(-1, 1, 1, 1, 1)
    gamma, beta = norm.weight * sign, norm.bias
    if not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        pooled = pool(functional.conv3d(x, filters, None, conv.stride, conv.padding))
        return _normalised(pooled, gamma, beta, norm.running_mean * sign, norm.running_var, norm.eps)

    def stem(x: Tensor, filters: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = functional.conv3d(x, filters, None, conv.stride, conv.padding)
        return _PoolThenNorm.apply(y, gamma, beta, norm.eps, (pool.kernel_size, pool.stride, pool.padding))

    inputs = (x, filters, gamma, beta)
    out, mean, var = checkpoint(stem, *inputs, use_reentrant=False) if recompute else stem(*inputs)
    count = x.shape[0] * _positions(x, conv)
    _update_statistics(norm, mean * sign, var * (count / (count - 1)))
    return out


class _PoolThenNorm(torch.autograd.Function):
    """relu(gamma * (pool(y) - mean(y)) / std(y) + beta) for gamma >= 0; also returns the batch's mean and variance."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, eps: float, pool: tuple) -> tuple[Tensor, ...]:
        mean, var = torch.batch_norm_update_stats(y, None, None, 0.0)  # one pass; no running statistics are touched
        pooled, index = functional.max_pool3d(y, *pool, return_indices=True)
        out = _normalised(pooled, gamma, beta, mean, var, eps)
        ctx.save_for_backward(y, pooled, index, out, gamma, mean, torch.rsqrt(var + eps))
        ctx.pool = pool
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        y, pooled, index, out, gamma, mean, inverse_std = ctx.saved_tensors
        kernel, stride, padding = (_triple(side) for side in ctx.pool)
        grad = grad_out.to(gamma.dtype) * (out > 0)
        grad_beta = grad.sum(_OVER_SPACE)
        grad_gamma = (grad * (pooled - _column(mean))).sum(_OVER_SPACE) * inverse_std
        through_pool = (grad * _column(gamma * inverse_std)).to(y.dtype)
        grad_y = torch.ops.aten.max_pool3d_with_indices_backward(
            through_pool, y, kernel, stride, padding, [1, 1, 1], False, index
        )
        # Through the batch's mean and variance every voxel has a share: slope * y + offset.
        count = y.numel() // y.shape[1]
        slope = -gamma * inverse_std**2 * grad_gamma / count
        offset = -gamma * inverse_std * grad_beta / count - slope * mean
        grad_y.addcmul_(y, _column(slope).to(y.dtype)).add_(_column(offset).to(y.dtype))
        return grad_y, grad_gamma, grad_beta, None, None


def _normalised(pooled: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    scale = gamma * torch.rsqrt(var + eps)
    # Parameters stay in full precision, as in batch norm itself; only the result takes the activations' type.
    return torch.addcmul(_column(beta - mean * scale), pooled, _column(scale)).relu_().to(pooled.dtype)


def _update_statistics(norm: Any, mean: Tensor, var: Tensor) -> None:
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(var.to(norm.running_var.dtype), norm.momentum)
        norm.num_batches_tracked.add_(1)


def _positions(x: Tensor, conv: Any) -> int:
    """Voxels of the convolution's output."""
    sides = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    positions = 1
    for length, kernel, stride, padding in sides:
        positions *= (length + 2 * padding - kernel) // stride + 1
    return positions


def _column(per_channel: Tensor) -> Tensor:
    return per_channel.view(1, -1, 1, 1, 1)


def _triple(side: Any) -> list[int]:
    return [side] * 3 if isinstance(side, int) else list(side)
