"""Shuffle a network's weights, to test whether its maps need what it has learnt.

The model-parameter randomisation test (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018): a map that looks
the same without the training explains the volume, not the network. They draw the weights anew; here the entries of each
tensor trade places, so that a layer keeps the very values that it learnt and loses their arrangement only.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

BATCH = 2  # volumes a forward pass; BatchNorm refuses a single one where its map has shrunk to one voxel

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


@torch.no_grad()
def shuffled(network: nn.Module, volumes: Iterable[Tensor], seed: int) -> nn.Module:
    """A copy of `network` in eval mode, the entries of each of its parameters permuted among themselves.

    BatchNorm's running statistics are estimated anew over `volumes`: those of other weights would saturate the network.
    Dropout stays inactive. The same seed gives the same permutations on every device; global random state is not used.

    Args:
        network: stays as it is.
        volumes: (C, X, Y, Z) each, of one shape, at least two; read once, and not at all without BatchNorm.
        seed: of the permutations.

    Raises:
        ValueError: BatchNorm, and fewer than two volumes.
    """
    other = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in other.parameters():
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
    norms = [module for module in other.modules() if isinstance(module, BatchNorm)]
    if norms:
        _estimate_statistics(other, norms, volumes)
    return other


def _estimate_statistics(network: nn.Module, norms: Sequence[BatchNorm], volumes: Iterable[Tensor]) -> None:
    """Set the running statistics to the mean of the batches' own, each weighing as many volumes as it has."""
    device, momenta = next(network.parameters()).device, [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
    seen = 0
    for batch in _batches(volumes):
        seen += len(batch)
        for norm in norms:
            # The mean so far; of the first batch, it replaces what was there. None would do, but not with
            # ricenet.networks.pool_first_stem.
            norm.momentum = len(batch) / seen
        network(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _batches(volumes: Iterable[Tensor]) -> Iterator[Tensor]:
    """BATCH volumes at a time; what would be left over goes with the last."""
    held: list[Tensor] = []
    for volume in volumes:
        held.append(volume)
        if len(held) == 2 * BATCH:
            yield torch.stack(held[:BATCH])
            held = held[BATCH:]
    if len(held) < BATCH:
        raise ValueError(
            f"expected at least {BATCH} volumes to estimate BatchNorm's statistics, got {len(held)}; give more cases"
        )
    yield torch.stack(held)
