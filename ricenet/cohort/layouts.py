"""What the layout of a NIfTI cohort names for a label row, and how it is looked up in a delivery.

An event whose images are not all there is returned with the reason, never with another image in their place. Paths
that leave the delivery (links) are refused. Reasons name roles and time points of a layout, messages row numbers;
neither a patient nor a path.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.spreadsheet import Table, read_table
from ricenet.errors import InvalidInput, WrongUsage

# What a layout says where there is no post-OP MRI; not of a link, of one of several, or of one without contrast.
NO_POST = re.compile(r"post: (not in the delivery$|no (scan|session) before the event)")
NO_FRAME = "rd left out: it lies in the frame of the post-OP MRI"
AFTER = "the event does not lie after the start of radiotherapy"
DAYS = "days_since_rt"


@dataclass(frozen=True)
class LesionMask:
    """A segmentation of the event's lesion.

    Attributes:
        path: NIfTI; a label map or a mask.
        labels: values that are the lesion; empty: all above 0.
        frame_note: whose frame it lies in where that may not be the event MRI's; said unless both have one grid.
    """

    path: Path
    labels: tuple[int, ...] = ()
    frame_note: str = ""


@dataclass(frozen=True)
class Entry:
    """One label row and what the layout names for it.

    Attributes:
        label: the row, completed from the cohort's own tables.
        images: event and, where the cohort has them, post and rd -> absolute path; those that are there.
        brain_mask: in the space of the post image; None where there is none.
        post_day: of the post-OP MRI, on the cohort's clock; None where it is not known.
        event_day: of the event MRI, on the same clock.
        excluded_because: the label row's reason, or which MRI is missing; empty where the event can be used.
        lesion: of the event; None where there is none.
        flags: what somebody should know about it.
    """

    label: LabelRow
    images: dict[str, Path]
    brain_mask: Path | None
    post_day: int | None
    event_day: int | None
    excluded_because: str
    lesion: LesionMask | None = None
    flags: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """Every file that is read."""
        further = [self.brain_mask, self.lesion.path if self.lesion else None]
        return [*self.images.values(), *(path for path in further if path is not None)]


Layout = Callable[[Path, list[LabelRow], Mapping[str, str]], list[Entry]]


def excluded(row: LabelRow, reason: str = "") -> Entry:
    """The entry of a row that is no case, for the reason of the label table or for `reason`."""
    return Entry(row, {}, None, None, None, row.excluded_because or reason)


def with_covariates(row: LabelRow, values: Mapping[str, object]) -> LabelRow:
    """The row with further columns for cohort.csv; what the label table gives stays, None is no value."""
    texts = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value is not None
    }
    return replace(row, extra=texts | {name: text for name, text in row.extra.items() if text})


def check_option(options: Mapping[str, str], name: str, choices: Iterable[str]) -> str:
    """The value of source.options.<name>; the first of `choices` where the source does not say.

    Raises:
        WrongUsage: it is none of them.
    """
    known = list(choices)
    value = options.get(name, known[0])
    if value not in known:
        raise WrongUsage(f"source.options.{name}: expected {' | '.join(known)}, got {value!r}")
    return value


def check_ids(rows: Iterable[LabelRow], patterns: Mapping[str, str]) -> None:
    """Refuse ids that the layout does not have: they become parts of paths.

    Args:
        rows: of the label table; excluded ones may have any.
        patterns: field of LabelRow -> regular expression.

    Raises:
        InvalidInput: a row that does not match.
    """
    for name, pattern in patterns.items():
        strange = [
            str(row.row) for row in rows if not row.excluded_because and not re.fullmatch(pattern, getattr(row, name))
        ]
        if strange:
            raise InvalidInput(
                f"row {', '.join(strange[:20])} of the label table: {name} does not match the pattern {pattern} "
                "of this cohort",
                "correct these rows, or source.columns",
                code="source.id",
            )


def check_spelling(rows: Iterable[LabelRow], same: Callable[[str], str]) -> None:
    """Refuse one patient's id in two spellings.

    Args:
        rows: of the label table.
        same: patient id -> what all its spellings have in common.
    """
    first: dict[str, LabelRow] = {}
    for row in rows:
        twin = first.setdefault(same(row.patient_id), row)
        if twin.patient_id != row.patient_id:
            raise InvalidInput(
                f"rows {twin.row} and {row.row} of the label table write one patient's id in two ways",
                "use one spelling (folds are dealt by patient)",
                code="source.patient",
            )


def present(delivery: Path, paths: Mapping[str, Path], required: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """The files by role that can be used, and the reasons why the event cannot.

    Args:
        delivery: folder that no link may leave.
        paths: by role, whether or not there are such files.
        required: roles without which there is no case. Whether a cohort needs a dose or a brain mask is not the
            layout's question.
    """
    images, reasons = {}, []
    for role, path in paths.items():
        if path.is_file() and inside(delivery, path):
            images[role] = path.absolute()
        elif path.is_file():
            reasons.append(f"{role}: a link that leaves the delivery")
        elif role in required:
            reasons.append(f"{role}: not in the delivery")
    return images, reasons


def with_or_without_post(entry: Entry, *, post: bool, partial: bool) -> Entry:
    """The entry for a cohort that need not have a post-OP MRI.

    Args:
        entry: of a layout.
        post: False: an event-only cohort; a post-OP MRI is only the image in whose frame the dose lies.
        partial: a post-OP MRI that was not delivered excludes no case, and a flag says so. One that the label table
            names, or that may be one of several, does.
    """
    reasons = [reason for reason in entry.excluded_because.split("; ") if reason]
    named = entry.label.post_date is not None or bool(entry.label.extra.get("post_session"))
    passed = [each for each in reasons if each.startswith("post: ")] if not post else []
    if post and partial and not named:
        passed = [each for each in reasons if NO_POST.match(each)]
    if entry.label.excluded_because or (post and not passed):
        return entry
    images = {role: path for role, path in entry.images.items() if role != "post"}
    flags = [*entry.flags, *(passed if post else ())]
    if not post and "post" in entry.images and "rd" in images:
        images.setdefault("planning", entry.images["post"])
    if post and "rd" in images and "planning" not in images:
        del images["rd"]
        flags.append(NO_FRAME)
    on_post = "post" in entry.images or bool(passed)
    if post and entry.brain_mask is not None:
        flags.append("brain_mask left out: it may lie on the post-OP MRI")
    return replace(
        entry,
        images=images,
        brain_mask=None if on_post else entry.brain_mask,
        post_day=None,
        excluded_because="; ".join(reason for reason in reasons if reason not in passed),
        flags=tuple(flags),
    )


def inside(delivery: Path, path: Path) -> bool:
    """Whether the file that `path` names lies in the delivery, links followed."""
    return path.resolve().is_relative_to(delivery.resolve())


def folder_of(delivery: Path, name: str) -> Path:
    """The folder of this name in the delivery.

    Raises:
        InvalidInput: there is none.
    """
    if not (delivery / name).is_dir():
        raise InvalidInput(
            f"the delivery has no folder {name}", "point delivery= at the folder above it", code="source.layout"
        )
    return delivery / name


def own_table(folders: Iterable[Path], pattern: str) -> Table:
    """The one table of the cohort's own that fits `pattern`, in one of the folders of the delivery.

    Raises:
        InvalidInput: none or several do.
    """
    tables = [path for folder in folders for path in sorted(folder.glob(pattern)) if inside(folder, path)]
    if len(tables) != 1:
        raise InvalidInput(
            f"expected one table {pattern} in the delivery, got {len(tables)}",
            "put the cohort's own table beside its image folders, in one version, as a file and not a link",
            code="source.layout",
        )
    return read_table(tables[0], f"table {pattern}")


def by_key(rows: Iterable[dict[str, str]], *names: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of a cohort's own table by their cells under `names`.

    Raises:
        InvalidInput: two rows have one key and differ.
    """
    keyed: dict[tuple[str, ...], dict[str, str]] = {}
    twice = sum(keyed.setdefault(tuple(cells[name] for name in names), cells) != cells for cells in rows)
    if twice:
        raise InvalidInput(
            f"{twice} rows of one of the cohort's own tables contradict another row of the same {' and '.join(names)}",
            "keep one of these rows",
            code="table.twice",
        )
    return keyed


def optional_table(folders: Iterable[Path], pattern: str) -> Table | None:
    """As own_table, None where there is no such table."""
    folders = list(folders)
    return own_table(folders, pattern) if any(True for folder in folders for _ in folder.glob(pattern)) else None
