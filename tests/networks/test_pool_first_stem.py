"""The stem with its pool first is the plain stem: logits, gradients and running statistics to rounding."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ricenet.networks.pool_first_stem import pool_first


class Stem(nn.Module):
    """Convolution, normalisation with scales of both signs, pool; in the plain order unless told otherwise."""

    def __init__(self, stride: int = 1, size: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 6, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm3d(6)
        nn.init.uniform_(self.norm.weight, -1, 1)
        nn.init.uniform_(self.norm.bias, -1, 1)
        self.pool = nn.MaxPool3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.relu(self.norm(self.conv(x))))


@pytest.fixture
def x() -> Tensor:
    """(2, 2, 11, 14, 9) double, a different mean in each channel."""
    torch.manual_seed(0)
    return torch.randn(2, 2, 11, 14, 9, dtype=torch.double) + torch.tensor([0.5, -2.0]).view(1, 2, 1, 1, 1)


def differences(plain: Stem, x: Tensor, recompute: bool) -> dict[str, float]:
    """Largest differences of output, gradients (of the volume too) and running statistics after one training step."""
    ours = copy.deepcopy(plain)
    x, y = (x.clone().requires_grad_() for _ in range(2))
    expected, got = plain(x), pool_first(y, ours.conv, ours.norm, ours.pool, recompute=recompute)
    weights = torch.randn(expected.shape, dtype=expected.dtype, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    (got * weights).sum().backward()
    parameters = zip(plain.parameters(), ours.parameters(), strict=True)
    pairs = {
        "output": [(expected, got)],
        "gradients": [(x.grad, y.grad), *((p.grad, q.grad) for p, q in parameters)],
        "statistics": list(zip(plain.buffers(), ours.buffers(), strict=True)),
    }
    return {name: max((a - b).abs().max().item() for a, b in several) for name, several in pairs.items()}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_training_step_is_the_plain_one(x: Tensor, stride: int, recompute: bool) -> None:
    plain = Stem(stride).double()
    assert (plain.norm.weight < 0).any()
    assert max(differences(plain, x, recompute).values()) < 1e-12


def test_single_precision_differs_by_its_rounding(x: Tensor) -> None:
    found = differences(Stem().float(), x.float(), recompute=False)
    assert found["output"] < 1e-5
    assert found["statistics"] < 1e-5
    assert found["gradients"] < 1e-2 * x.numel() ** 0.5  # sums over all voxels


def test_evaluation_uses_the_running_statistics(x: Tensor) -> None:
    stem = Stem().double()
    stem(x)  # moves them off their start
    stem.eval()
    got = pool_first(x, stem.conv, stem.norm, stem.pool, recompute=False)
    torch.testing.assert_close(got, stem(x), rtol=0, atol=1e-12)


def test_under_autocast_activations_are_bfloat16_and_statistics_are_not(x: Tensor) -> None:
    stem = Stem().float()
    with torch.autocast("cpu", torch.bfloat16):
        got = pool_first(x.float(), stem.conv, stem.norm, stem.pool, recompute=False)
        expected = copy.deepcopy(stem)(x.float())
    assert (got.dtype, stem.norm.running_mean.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(got.float(), expected.float(), rtol=0.05, atol=0.05)


def test_less_is_kept_for_the_backward_pass() -> None:
    """Bytes saved by autograd at 32^3: the plain stem keeps two maps of full resolution, ours one, recomputing none."""

    def kept(run) -> int:  # type: ignore[no-untyped-def]
        found = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.setdefault(t.data_ptr(), t), lambda t: t):
            run()
        return sum(t.numel() * t.element_size() for t in found.values())

    stem, x = Stem(), torch.randn(1, 2, 32, 32, 32)
    parts = (stem.conv, stem.norm, stem.pool)
    plain = kept(lambda: stem(x))
    first = kept(lambda: pool_first(x, *parts, recompute=False))
    recomputed = kept(lambda: pool_first(x, *parts, recompute=True))
    assert first < 0.75 * plain
    assert recomputed < 0.4 * plain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_training_step_is_the_plain_one_on_a_gpu(x: Tensor) -> None:
    plain = Stem().double().cuda()
    assert max(differences(plain, x.cuda(), recompute=True).values()) < 1e-10
