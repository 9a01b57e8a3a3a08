"""Deletion and insertion curves: does the prediction depend on what an occlusion map ranks highest?

After Petsiuk, Das and Saenko (RISE, BMVC 2018): the brain is taken away, or brought back, cell by cell in the map's
order, and the probability of the predicted class is followed. A faithful map makes deletion fall and insertion rise
early. Volumes with parts blanked are like nothing the models were trained on, so a curve says little alone: read it
beside those of cells in random order. Unlike RISE, both start from the same reference, what an occluded cube is blanked
with, and cells rather than single voxels go, no finer than the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ricenet.explanation.map_record import CurveNumbers

Voxels = tuple[int, int, int]


@dataclass(frozen=True)
class PerturbationCurves:
    """Probability of the predicted class while the brain is taken away or brought back.

    Attributes:
        fraction: (S+1,) share of the brain's cells that are replaced (deletion) or back (insertion), from 0 to 1.
        deletion, insertion: (S+1,), cells in the map's order, highest first.
        deletion_random, insertion_random: (R, S+1), cells in one random order a row, the same for both.
    """

    fraction: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    deletion_random: np.ndarray
    insertion_random: np.ndarray

    def as_record(self) -> CurveNumbers:
        """The curves as lists, those of random orders averaged, and the area below each."""
        deletion_random = self.deletion_random.mean(axis=0)
        insertion_random = self.insertion_random.mean(axis=0)
        return CurveNumbers(
            fraction=self.fraction.tolist(),
            deletion=self.deletion.tolist(),
            insertion=self.insertion.tolist(),
            deletion_random=deletion_random.tolist(),
            insertion_random=insertion_random.tolist(),
            deletion_area=self._area(self.deletion),
            insertion_area=self._area(self.insertion),
            deletion_random_area=self._area(deletion_random),
            insertion_random_area=self._area(insertion_random),
        )

    def _area(self, curve: np.ndarray) -> float:
        return float(np.trapezoid(curve, self.fraction))


def curves(
    models: Sequence[nn.Module],
    volume: Tensor,
    reference: Tensor,
    drop: np.ndarray,
    brain: np.ndarray,
    cell: Voxels,
    steps: int = 20,
    random_orders: int = 5,
    seed: int = 0,
    batch_size: int = 8,
    progress: str | None = None,
) -> PerturbationCurves:
    """Deletion and insertion curves of one case, in the map's order and in random orders.

    The volume is cut into blocks of `cell` voxels; those with any brain in them are the cells, replaced whole. What
    lies in no cell is never touched. Volumes that two curves or steps share are run once.

    Args:
        models: in eval mode, on the volume's device; (B, C, X, Y, Z) float32 -> logits (B, K). Their mean probability
            counts.
        volume: (C, X, Y, Z) float32. reference: the same shape, what takes the place of a cell.
        drop: (X, Y, Z), the map; a cell ranks by its mean over the cell's brain voxels, equal ones in grid order.
        brain: (X, Y, Z) bool.
        cell: edge lengths in voxels along X, Y, Z; the last cell of an axis may be shorter.
        steps: fractions above 0; each is met to the nearest whole number of cells.
        random_orders: permutations of the cells to compare with. seed: of these.
        batch_size: volumes per forward pass.
        progress: label of a progress bar with the time left, on a terminal; None: no bar.

    Raises:
        ValueError: a model in training mode.
    """
    if any(model.training for model in models):
        raise ValueError("a model is in training mode, where BatchNorm mixes the volumes of a batch; call model.eval()")
    cell_of_voxel, n_cells = _number_cells(brain, cell)
    fraction = np.linspace(0, 1, steps + 1)
    rng = np.random.default_rng(seed)
    orders = [_ranking(drop, brain, cell_of_voxel), *(rng.permutation(n_cells) for _ in range(random_orders))]
    kept = np.stack([_kept(order, fraction) for order in orders])  # (1 + R, 2, S+1, cells)
    kept[..., ~_differing(volume, reference, cell_of_voxel, n_cells)] = True  # they look the same either way
    distinct, place = np.unique(kept.reshape(-1, n_cells), axis=0, return_inverse=True)
    probabilities = _probabilities(models, volume, reference, cell_of_voxel, distinct, batch_size, progress)
    place = place.reshape(kept.shape[:-1])
    untouched = place[0, 0, 0]
    probability = probabilities[place, probabilities[untouched].argmax()]
    return PerturbationCurves(fraction, *probability[0], *probability[1:].swapaxes(0, 1))


def _number_cells(brain: np.ndarray, cell: Voxels) -> tuple[np.ndarray, int]:
    """(X, Y, Z) number of each voxel's cell, from 0 on in grid order; where there is none their count, also given."""
    grid = [-(-size // edge) for size, edge in zip(brain.shape, cell, strict=True)]
    along = [axis // edge for axis, edge in zip(np.ogrid[tuple(map(slice, brain.shape))], cell, strict=True)]
    block = np.ravel_multi_index(np.broadcast_arrays(*along), grid)
    with_brain = np.unique(block[brain])
    number = np.full(np.prod(grid), len(with_brain))
    number[with_brain] = np.arange(len(with_brain))
    return number[block], len(with_brain)


def _ranking(drop: np.ndarray, brain: np.ndarray, cell_of_voxel: np.ndarray) -> np.ndarray:
    """The cells by the mean of the map over their brain voxels, highest first."""
    inside = cell_of_voxel[brain]
    mean = np.bincount(inside, drop[brain].astype(np.float64)) / np.bincount(inside)
    return np.argsort(-mean, kind="stable")


def _kept(order: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """(2, S+1, cells) bool, the cells shown: all but the first of `order` in deletion, only those in insertion."""
    rank = np.argsort(order)
    first = rank < np.rint(fraction * len(order))[:, None]
    return np.stack([~first, first])


def _differing(volume: Tensor, reference: Tensor, cell_of_voxel: np.ndarray, n_cells: int) -> np.ndarray:
    """(cells,) bool, whether replacing the cell changes anything."""
    changed = (volume != reference).any(dim=0).cpu().numpy()
    return np.bincount(cell_of_voxel[changed], minlength=n_cells + 1)[:n_cells] > 0


@torch.inference_mode()
def _probabilities(
    models: Sequence[nn.Module],
    volume: Tensor,
    reference: Tensor,
    cell_of_voxel: np.ndarray,
    kept: np.ndarray,
    batch_size: int,
    progress: str | None,
) -> np.ndarray:
    """(V, K) float64 mean probabilities of the models for the volumes of which the (V, cells) `kept` are shown."""
    visible = torch.from_numpy(np.pad(kept, ((0, 0), (0, 1)), constant_values=True)).to(volume.device)
    place = torch.from_numpy(cell_of_voxel).to(volume.device)
    probabilities = []
    silent = True if progress is None else None  # None: tqdm itself stays silent where there is no terminal
    with tqdm(total=len(kept), desc=progress, unit="volume", disable=silent, leave=False) as bar:
        for rows in visible.split(batch_size):
            batch = torch.where(rows[:, place][:, None], volume, reference)
            each = torch.stack([model(batch).double().softmax(dim=1) for model in models])
            probabilities.append(each.mean(dim=0).cpu())
            bar.update(len(rows))
    return torch.cat(probabilities).numpy()
