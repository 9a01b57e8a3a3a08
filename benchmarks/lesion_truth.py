"""How often is the lesion that is found the true one? Cases folders of phantoms in; shares by contrast out.

    python benchmarks/lesion_truth.py outputs/learning/cohort-hard-37 outputs/learning/cohort-hard-38

The folders are of `phantom format=cases`, whose truth.npz holds the true lesion; benchmarks/learning.py draws some.
Each case is searched with both MRIs, and with the event MRI alone. Found: the middle of the mask lies within 15 mm of
the true lesion's middle. Dice: of the two masks.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.images.enhancement import find_lesion

NEAR_MM = 15.0
BINS = (0.0, 1.3, 1.5, 2.0, 2.5, 3.0, 99.0)  # of the contrast, in SD of the brain


@dataclass(frozen=True)
class Found:
    """What was found of one case; `off_mm` is infinite where nothing was."""

    contrast: float
    off_mm: float
    dice: float


def main(folders: list[Path]) -> None:
    for searched in (("post", "event"), ("event",)):
        found = [each for folder in folders for each in find_in(folder, searched)]
        off_mm, dice = (np.array([getattr(each, name) for each in found]) for name in ("off_mm", "dice"))
        contrast = np.array([each.contrast for each in found])
        print(
            f"{' and '.join(searched)}: {len(found)} cases, within {NEAR_MM:g} mm {np.mean(off_mm <= NEAR_MM):.1%}, "
            f"nothing found {np.mean(np.isinf(off_mm)):.1%}, median {np.median(off_mm):.1f} mm, "
            f"median Dice {np.median(dice):.2f}"
        )
        for low, high in pairwise(BINS):
            inside = (contrast >= low) & (contrast < high)
            if inside.any():
                share = np.mean(off_mm[inside] <= NEAR_MM)
                print(f"  contrast {low:g} to {high:g}: {inside.sum()} cases, {share:.1%} within {NEAR_MM:g} mm")


def find_in(folder: Path, searched: tuple[str, ...]) -> Iterator[Found]:
    for path in sorted(folder.glob(f"*/{CASE_FILE}")):
        record = CaseRecord.read(path)
        volume, brain = np.load(path.parent / "volume.npy"), np.load(path.parent / "brain.npy")
        with np.load(path.parent / "truth.npz") as stored:
            truth = stored["lesion"]
        lesion = find_lesion({name: volume[record.channels.index(name)] for name in searched}, brain, record.spacing_mm)
        off_mm = np.inf
        if lesion.mask.any():
            off_mm = float(np.linalg.norm(middle(lesion.mask) - middle(truth)) * record.spacing_mm)
        dice = 2 * (lesion.mask & truth).sum() / (lesion.mask.sum() + truth.sum())
        yield Found(lesion.contrast or 0.0, off_mm, float(dice))


def middle(mask: np.ndarray) -> np.ndarray:
    return np.asarray(np.argwhere(mask).mean(axis=0))


if __name__ == "__main__":
    if len(sys.argv) < 2 or {"--help", "-h"} & set(sys.argv):
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
