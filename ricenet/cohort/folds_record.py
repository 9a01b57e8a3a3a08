"""folds.json as it stands on disk."""

from ricenet.command.records import Record


class FoldsRecord(Record):
    """Which patients validate which fold.

    Attributes:
        fold_of: case key -> validation fold, of every case of the cross-validation.
        hash: covers cases, patients, labels, splits and folds (ricenet.cohort.folds).
        n_folds: how many folds were dealt.
        seed: of the dealing.
    """

    fold_of: dict[str, int]
    hash: str
    n_folds: int
    seed: int
