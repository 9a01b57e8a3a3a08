"""For tests: take channels from the cases of a cases folder, as a cohort without them would have been preprocessed."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ricenet import MODALITIES
from ricenet.cases.case_record import CaseRecord
from ricenet.cohort.folds import Folds, read_folds
from ricenet.cohort.ready_cases import ReadyCase, read_cases, write_cases

Channels = tuple[str, ...]


def keep_channels(cases: Path, channels_of: Callable[[int, ReadyCase], Channels]) -> Folds:
    """Leave each case the channels that `channels_of` says by its place in cases.csv, and say so in every table."""
    ready = []
    for place, case in enumerate(read_cases(cases)):
        kept = channels_of(place, case)
        _rewrite(cases / case.folder, kept)
        ready.append(replace(case, channels=kept))
    write_cases(cases, ready)
    _note_presence(cases, ready)
    return read_folds(cases)


def event_only(place: int, case: ReadyCase) -> Channels:
    return ("event",)


def _rewrite(folder: Path, kept: Channels) -> None:
    record = CaseRecord.read(folder / "case.json")
    rows = [record.channels.index(channel) for channel in kept]
    volume = np.load(folder / "volume.npy")[rows]
    np.save(folder / "volume.npy", volume)
    content = record.model_dump(mode="json", exclude_unset=True) | {"channels": kept}
    if "rd" not in kept:
        content["dose_scale_gy"] = None
    CaseRecord.model_validate(content).write(folder / "case.json")


def _note_presence(cases: Path, ready: list[ReadyCase]) -> None:
    """has_<channel> in covariates.csv, of each channel that some of the cases lack."""
    path = cases / "covariates.csv"
    rows = {case.case_key: {"case_key": case.case_key} for case in ready}
    if path.is_file():
        with path.open(newline="") as stream:
            rows = {row["case_key"]: row for row in csv.DictReader(stream)}
    for channel in MODALITIES:
        present = {case.case_key: channel in (case.channels or ()) for case in ready}
        if len(set(present.values())) > 1:
            for key, row in rows.items():
                row[f"has_{channel}"] = str(int(present[key]))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
