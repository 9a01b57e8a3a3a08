"""Deal cross-validation folds grouped by patient and stratified by label; write and verify folds.json.

folds.json is written once, with a hash that every later stage verifies. The test split is in no fold.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ricenet import LABELS
from ricenet.cohort.ready_cases import ReadyCase, read_cases
from ricenet.cohort.table import SPLITS
from ricenet.command.atomic import write_once
from ricenet.errors import InvalidInput

FOLDS_FILE = "folds.json"


@dataclass(frozen=True)
class Folds:
    """The folds of a cases folder, or of those of its cases that have certain channels (`having`).

    Attributes:
        seed: by which the patients were dealt.
        cases: every case of cases.csv, those of the test split too.
        fold_of: case key -> validation fold, of every cross-validation case.
        hash: covers cases, labels and folds of the whole cases folder.
    """

    n_folds: int
    seed: int
    cases: list[ReadyCase]
    fold_of: dict[str, int]
    hash: str

    def require_fold(self, fold: int) -> None:
        """Raise InvalidInput where there is no fold of that number."""
        if not 0 <= fold < self.n_folds:
            raise InvalidInput(
                f"fold should lie in 0 to {self.n_folds - 1} (folds.json), got {fold}", code="folds.unknown"
            )

    def validation(self, fold: int) -> list[ReadyCase]:
        """The cases that fold `fold` is scored on."""
        return [case for case in self.cases if self.fold_of.get(case.case_key) == fold]

    def training(self, fold: int) -> list[ReadyCase]:
        """The cases that fold `fold` learns from: every other fold's."""
        return [case for case in self.cases if self.fold_of.get(case.case_key, fold) != fold]

    def test(self) -> list[ReadyCase]:
        """The held-out test split, seen by no fold."""
        return [case for case in self.cases if case.split == "test"]

    @property
    def is_partial(self) -> bool:
        """Whether some cases lack channels that others have."""
        return len({case.channels for case in self.cases}) > 1

    def having(self, channels: Collection[str]) -> "Folds":
        """The same folds with only the cases that have all of `channels`; everything where the cases do not differ."""
        return self._only([case for case in self.cases if lacking(case, channels) == []])

    def having_any(self, channels: Collection[str]) -> "Folds":
        """The same folds with only the cases that have at least one of `channels`."""
        return self._only([case for case in self.cases if len(lacking(case, channels)) < len(channels)])

    def common(self, *others: "Folds") -> "Folds":
        """The same folds with only the cases that all of `others` have, too."""
        keys = set.intersection(*({case.case_key for case in folds.cases} for folds in (self, *others)))
        return self._only([case for case in self.cases if case.case_key in keys])

    def _only(self, cases: list[ReadyCase]) -> "Folds":
        if len(cases) == len(self.cases):
            return self
        keys = {case.case_key for case in cases}
        return replace(self, cases=cases, fold_of={key: fold for key, fold in self.fold_of.items() if key in keys})

    def require_channels(self, channels: Collection[str], name: str) -> None:
        """Check that a partial cohort has each of the channels at all.

        Raises:
            InvalidInput: no case has one of them (`case.channels`).
        """
        available = {channel for case in self.cases for channel in case.channels or channels}
        absent = [channel for channel in channels if channel not in available]
        if absent:
            raise InvalidInput(
                f"{name}: no case has the channel {', '.join(absent)}",
                "preprocess a cohort with that modality or choose +modalities= without it",
                code="case.channels",
            )

    def is_trainable(self, fold: int) -> bool:
        """Whether the training cases of `fold` hold both classes, and there is a case to validate it on."""
        return {case.label for case in self.training(fold)} == {*range(len(LABELS))} and bool(self.validation(fold))

    def require_trainable(self, fold: int, name: str) -> None:
        """Check a fold of the cases that a modality set can use.

        Args:
            fold: its number.
            name: of the set.

        Raises:
            InvalidInput: a class without a training case, or no case to validate on (`folds.channels`).
        """
        if not self.is_trainable(fold):
            raise InvalidInput(
                f"{name} fold {fold}: expected both classes among the training cases and a case to validate on, got "
                f"{_count(self.training(fold))} to train and {_count(self.validation(fold))} to validate, of the "
                f"{len(self.cases)} case(s) that have all images of this set",
                "leave this set out (+modalities= of the others), use fewer folds (folds= of ricenet.preprocess, in a "
                "new cases folder), or add patients who have these images",
                code="folds.channels",
            )


def lacking(case: ReadyCase, channels: Collection[str]) -> list[str]:
    """Which of `channels` a case of a partial cohort lacks."""
    return [] if case.channels is None else [channel for channel in channels if channel not in case.channels]


def _count(cases: Collection[ReadyCase]) -> str:
    return ", ".join(f"{sum(case.label == label for case in cases)} {name}" for label, name in enumerate(LABELS))


def write_folds(folder: Path, n_folds: int, seed: int) -> Folds:
    """Deal the cross-validation patients of `folder`/cases.csv into folds; an existing folds.json is only checked.

    Raises:
        InvalidInput: too few patients of a class for `n_folds`, or an existing file that does not fit (see read_folds).
    """
    from ricenet.cohort.folds_record import FoldsRecord

    path = folder / FOLDS_FILE
    if path.exists():
        folds = read_folds(folder)
        if (folds.n_folds, folds.seed) != (n_folds, seed):
            raise InvalidInput(
                f"folds.json: written with folds={folds.n_folds} seed={folds.seed}, asked folds={n_folds} seed={seed}",
                "use another cases folder, or delete folds.json knowing that finished runs no longer fit",
                code="folds.changed",
            )
        return folds
    cases = read_cases(folder)
    fold_of = _deal(cases, n_folds, seed)
    _check(cases, fold_of, n_folds)  # several events of one patient can leave a fold with one class: write no such file
    record = FoldsRecord(fold_of=dict(sorted(fold_of.items())), hash=_hash(cases, fold_of), n_folds=n_folds, seed=seed)
    write_once(path, record.as_json())
    return read_folds(folder)


def read_folds(folder: Path) -> Folds:
    """Read folds.json and check it against cases.csv: hash, membership, no patient in two folds, both classes in each.

    Raises:
        InvalidInput: naming the case or fold that breaks a rule.
    """
    from ricenet.cohort.folds_record import FoldsRecord

    path = folder / FOLDS_FILE
    if not path.is_file():
        raise InvalidInput(
            "no folds.json in the cases folder",
            "preprocess and phantom write it, run one of them to its end",
            code="folds.missing",
        )
    cases = read_cases(folder)
    record = FoldsRecord.read(path, "restore it, or delete it and every run that used it")
    if record.hash != _hash(cases, record.fold_of):
        raise InvalidInput(
            "folds.json does not fit cases.csv: a case, label, split or fold was changed after the folds were written",
            "restore both files, or delete folds.json and every run that used it",
            code="folds.changed",
        )
    _check(cases, record.fold_of, record.n_folds)
    return Folds(record.n_folds, record.seed, cases, record.fold_of, record.hash)


def select(folds: Folds, requested: Any) -> list[ReadyCase]:
    """Select the cases that `case=` names: all, test, one key, or a list of keys.

    Raises:
        InvalidInput: a key that is not in the cases folder (with the first few that are), or an empty choice.
    """
    listed = requested if isinstance(requested, list) else str(requested).split(",")
    keys = [str(key).strip() for key in listed]
    if keys == ["all"]:
        return folds.cases
    if keys == ["test"]:
        if not folds.test():
            raise InvalidInput("case=test: the cases folder has no test split", "use case=all", code="split.missing")
        return folds.test()
    by_key = {case.case_key: case for case in folds.cases}
    unknown = [key for key in keys if key not in by_key]
    if unknown:
        raise InvalidInput(
            f"{', '.join(unknown)} is none of the {len(by_key)} cases ({', '.join(list(by_key)[:5])}, ...), nor all, "
            "nor test",
            code="case.unknown",
        )
    return [by_key[key] for key in dict.fromkeys(keys)]


def _deal(cases: list[ReadyCase], n_folds: int, seed: int) -> dict[str, int]:
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, needed once

    if n_folds < 2:
        raise InvalidInput(f"folds={n_folds}: cross-validation needs at least 2", code="folds.too_few")
    pool = [case for case in cases if case.split == "cv"]
    for label, name in enumerate(LABELS):
        patients = {case.patient_key for case in pool if case.label == label}
        if len(patients) < n_folds:
            raise InvalidInput(
                f"{len(patients)} {name} patient(s) for {n_folds} folds: each fold needs one",
                "lower folds=",
                code="folds.too_few_patients",
            )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    labels, groups = [case.label for case in pool], [case.patient_key for case in pool]
    return {
        pool[index].case_key: fold
        for fold, (_, validation) in enumerate(splitter.split(pool, labels, groups))
        for index in validation
    }


def _check(cases: list[ReadyCase], fold_of: dict[str, int], n_folds: int) -> None:
    fold_of_patient: dict[str, int] = {}
    if len({case.case_key for case in cases}) < len(cases):
        raise InvalidInput("cases.csv names a case twice", "remove the second row", code="case.duplicate")
    for case in cases:
        if case.split not in SPLITS:
            raise InvalidInput(
                f"case {case.case_key}: split should be {' or '.join(SPLITS)}, got {case.split!r}",
                code="split.unknown",
            )
        if (case.split == "cv") != (case.case_key in fold_of):
            raise InvalidInput(
                f"case {case.case_key}: split {case.split} but {'no' if case.split == 'cv' else 'a'} fold",
                code="folds.membership",
            )
        if case.case_key in fold_of:
            fold = fold_of[case.case_key]
            if fold not in range(n_folds):
                raise InvalidInput(
                    f"case {case.case_key}: in fold {fold}, but folds.json says n_folds={n_folds}",
                    code="folds.damaged",
                )
            if fold_of_patient.setdefault(case.patient_key, fold) != fold:
                raise InvalidInput(
                    f"case {case.case_key}: its patient is in folds {fold} and {fold_of_patient[case.patient_key]}",
                    code="folds.leak",
                )
    tested = {case.patient_key for case in cases if case.split == "test"} & fold_of_patient.keys()
    if tested:
        raise InvalidInput(
            f"{len(tested)} patient(s) stand in the test split and in a fold: a leak",
            "correct the split column",
            code="folds.leak",
        )
    for fold in range(n_folds):
        classes = {case.label for case in cases if fold_of.get(case.case_key) == fold}
        if len(classes) < len(LABELS):
            have = ", ".join(LABELS[label] for label in classes) or "no case"
            raise InvalidInput(
                f"fold {fold} holds only {have}: it could not be scored",
                "use fewer folds or more patients",
                code="folds.one_class",
            )


def _hash(cases: list[ReadyCase], fold_of: dict[str, int]) -> str:
    rows = sorted((c.case_key, c.patient_key, c.label, c.split, fold_of.get(c.case_key)) for c in cases)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
