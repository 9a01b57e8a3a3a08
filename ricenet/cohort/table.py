"""Read and validate the cohort table, cohort.csv: one case per row.

A case is one patient's one event. Outputs and messages never carry a patient id: they carry the case's pseudonym, made
with a keyed hash whose key (`cohort.key`, mode 0600) stays beside the cohort, and the row of cohort.csv for whoever
holds the table.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from ricenet import LABELS, MODALITIES
from ricenet.cohort.pseudonyms import KEY_FILE, case_key, pseudonym, read_key
from ricenet.errors import Finding, InvalidInput

COLUMNS = (
    "patient_id", "event_id", "label", "split", "post", "event", "rd", "planning", "brain_mask", "dose_unit",
    "fractions", "prescription_gy", "label_source", "excluded_because", "lesion", "structures",
)  # fmt: skip
SPLITS = ("cv", "test")
# rd_2, planning_2, rd_3 ...: a dose in a frame of its own, such as a boost on a second CT, and its planning image.
FURTHER_DOSE = re.compile(r"(rd|planning)_([2-9]|[1-9]\d+)")
MAX_PRESCRIPTION_GY = 100.0
LESION = "lesion"
LESION_MM = "lesion_mm"  # an optional column
Place = tuple[float, float, float]
MASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


@dataclass(frozen=True)
class Case:
    """One row of cohort.csv: label 0 recurrence, 1 rice; image paths absolute, inside the cohort folder; dose in Gy.

    Attributes:
        further_doses: paths by role of doses in frames of their own, which are added to rd, and of their planning
            images.
        lesion: a mask of the event's lesion, NIfTI or DICOM SEG, in the frame of the event MRI; one of `structures`
            lies in theirs.
        structures: masks by name, NIfTI, in the frame of the planning image or, without one, of the anchor.
        lesion_mm: where the user says that the lesion is: x, y, z in mm, RAS+ world of the event MRI. It is compared
            with the lesion that is used, and decides nothing.
    """

    key: str
    patient_key: str
    row: int
    label: int
    split: str
    images: dict[str, Path]
    planning: Path | None = None
    brain_mask: Path | None = None
    fractions: int | None = None
    prescription_gy: float | None = None
    label_source: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    further_doses: dict[str, Path] = field(default_factory=dict)
    lesion: Path | None = None
    structures: dict[str, Path] = field(default_factory=dict)
    lesion_mm: Place | None = None

    @property
    def name(self) -> str:
        """How messages call the case: findable in the table, without the patient's id."""
        return f"case {self.key} (row {self.row} of cohort.csv)"

    @property
    def channels(self) -> tuple[str, ...]:
        """Those of its volume, in its order."""
        return tuple(self.images)

    @property
    def anchor(self) -> str:
        """The MRI in whose frame a dose and structures without a planning image lie: post, else event."""
        return "post" if "post" in self.images else "event"

    @property
    def mri(self) -> list[str]:
        """The roles of its MRIs: post, event, then further ones."""
        return [role for role in self.images if role != "rd"]

    @property
    def doses(self) -> dict[str, str]:
        """The roles of its doses, which are summed: role -> role of the image that the dose was planned on."""
        roles = [role for role in (*self.images, *self.further_doses) if is_dose(role)]
        return {role: role.replace("rd", "planning", 1) for role in roles}

    @property
    def files(self) -> dict[str, Path]:
        """Every image of the case by role."""
        extra = {"planning": self.planning, "brain_mask": self.brain_mask}
        return {**self.images, **{role: path for role, path in extra.items() if path is not None}, **self.further_doses}

    @property
    def masks(self) -> dict[str, Path]:
        """Every mask that is carried along with the images, by name: lesion, and the structures."""
        return {**({} if self.lesion is None else {LESION: self.lesion}), **self.structures}


def is_dose(role: str) -> bool:
    """Whether this is the role of a dose: rd, rd_2, rd_3 ..."""
    return role == "rd" or (role.startswith("rd") and is_further_dose(role))


def is_further_dose(role: str) -> bool:
    """Whether this is the role of a dose in a frame of its own, or of the image that it was planned on."""
    return FURTHER_DOSE.fullmatch(role) is not None


def further_dose_roles(roles: Iterable[str]) -> list[str]:
    """Those of a further dose, each once, by their number: rd_2, planning_2, rd_3 ..."""
    matches = [match for role in dict.fromkeys(roles) if (match := FURTHER_DOSE.fullmatch(role))]
    return [match[0] for match in sorted(matches, key=lambda match: (int(match[2]), match[1] != "rd"))]


def incomplete_doses(roles: Collection[str]) -> list[tuple[str, str]]:
    """Each further dose without rd, and each planning image without its dose, with the role that is missing."""
    needed = [(role, each) for role in further_dose_roles(roles) for each in (role.replace("planning", "rd"), "rd")]
    return [(role, each) for role, each in needed if each not in roles]


def doses_of_unknown_frame(roles: Collection[str]) -> list[tuple[str, str]]:
    """Each dose of a case without a post-OP MRI that has no planning image, with the role of that image."""
    doses = [] if "post" in roles else [role for role in roles if is_dose(role)]
    return [(role, planning) for role in doses if (planning := role.replace("rd", "planning", 1)) not in roles]


def read_cohort(root: Path, further: Sequence[str] = (), *, partial: bool = False) -> list[Case]:
    """Read and check `root`/cohort.csv; rows with `excluded_because` are left out.

    Args:
        further: channels besides MODALITIES (ricenet.cohort.channels), each with a column of its name where the cohort
            has it.
        partial: whether some cases may lack a channel that others have.

    Raises:
        InvalidInput: as inspect_cohort, and with all its errors at once.
    """
    cases, findings = inspect_cohort(root, further, partial=partial)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InvalidInput("\n".join(map(str, errors)), code="table.findings")
    return cases


def inspect_cohort(
    root: Path, further: Sequence[str] = (), *, partial: bool = False
) -> tuple[list[Case], list[Finding]]:
    """Read `root`/cohort.csv; rows with `excluded_because` are left out.

    Args:
        further, partial: as in read_cohort.

    Returns:
        Every case, also those with a finding (their label may be -1, an image may be missing); and the findings, all
        errors: unknown label or split, duplicate event, a path that is missing or leaves the folder, a dose that is
        not in Gy or of unknown frame, cases with different channels (with `partial` no error, but to be known).

    Raises:
        InvalidInput: there is no table, or not one that can be read.
    """
    table = root / "cohort.csv"
    if not table.is_file():
        raise InvalidInput(
            f"no cohort.csv in the cohort folder; expected a table with the columns {', '.join(COLUMNS)}",
            code="table.missing",
        )
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(
            "cohort.csv is not UTF-8 text", "save it as UTF-8 (in Excel: CSV UTF-8)", code="table.encoding"
        ) from None
    reader = csv.DictReader(io.StringIO(text))
    missing = {"patient_id", "label", "split", "event"} - set(reader.fieldnames or ())
    if missing:
        raise InvalidInput(
            f"cohort.csv has no column {', '.join(sorted(missing))}; expected {', '.join(COLUMNS)}",
            code="table.columns",
        )
    rows = [(number, row) for number, row in enumerate(reader, start=2) if not row.get("excluded_because")]
    if not rows:
        raise InvalidInput("cohort.csv holds no case that is not excluded; nothing to do", code="table.empty")
    key = read_key(root / KEY_FILE)
    findings: list[Finding] = []
    channels = (*MODALITIES, *further)
    cases = [_read_row(root, key, number, row, channels, findings) for number, row in rows]
    return cases, findings + _check_together(cases, partial)


def _read_row(
    root: Path, key: bytes, number: int, row: dict[str, str], channels: Sequence[str], findings: list[Finding]
) -> Case:
    patient, event = (row["patient_id"] or "").strip(), (row.get("event_id") or "").strip()
    pseudonym_of_case = case_key(key, patient, event)
    name = f"case {pseudonym_of_case} (row {number} of cohort.csv)"

    def report(code: str, message: str, hint: str) -> None:
        findings.append(Finding(code, name, message, hint))

    def number_or_none(column: str) -> float | None:
        text = (row.get(column) or "").strip()
        try:
            return float(text) if text else None
        except ValueError:
            report("table.number", f"{column} should be a number, got {text!r}", "correct cohort.csv")
            return None

    if not patient:
        report("table.patient", "patient_id is empty", "give every row the patient's id; it is the unit of splitting")
    label = (row["label"] or "").strip()
    if label not in LABELS:
        report("label.unknown", f"label should be {' or '.join(LABELS)}, got {label!r}", "correct the label column")
    split = (row["split"] or "").strip()
    if split not in SPLITS:
        report("split.unknown", f"split should be {' or '.join(SPLITS)}, got {split!r}", "correct the split column")
    paths = {}
    further_doses = further_dose_roles(name for name in row if name)
    for role in (*channels, "planning", "brain_mask", *further_doses):
        text = (row.get(role) or "").strip()
        if text:
            paths[role] = _inside(root, text, role, report)
    if "event" not in paths:
        report("image.missing", "no event image", "fill the event column or give a reason in excluded_because")
    for role, lacking in incomplete_doses(paths):
        report("dose.further", f"{role} is given, but no {lacking}", f"fill the {lacking} column, or empty {role}")
    for role, lacking in doses_of_unknown_frame(paths):
        report(
            "dose.no_frame",
            f"{role} is given, but neither post nor {lacking}: nobody can tell in whose frame it lies",
            f"fill the {lacking} column: with the image it was planned on, or with the event's path if it lies there",
        )
    lesion, structures = (row.get(LESION) or "").strip(), (row.get("structures") or "").strip()
    masks = {LESION: _inside(root, lesion, LESION, report)} if lesion else {}
    masks |= _structures(root, structures, report) if structures else {}
    if "rd" in paths and (row.get("dose_unit") or "Gy").strip() != "Gy":
        report(
            "dose.unit", f"dose_unit should be Gy, got {row['dose_unit']!r}", "convert the dose map to Gy (cGy / 100)"
        )
    place = (row.get(LESION_MM) or "").strip()
    lesion_mm = parse_place(place)
    if place and lesion_mm is None:
        report(
            "lesion.coordinates",
            "lesion_mm should be three numbers in mm, x y z",
            "RAS+ world coordinates of the event MRI, such as -31.5 12 40",
        )
    prescription, fractions = number_or_none("prescription_gy"), number_or_none("fractions")
    if prescription is not None and not 0 < prescription <= MAX_PRESCRIPTION_GY:
        report("dose.prescription", f"prescription_gy should lie in 0-100 Gy, got {prescription:g}", "is it in cGy?")
    if fractions is not None and not (fractions >= 1 and fractions.is_integer()):
        report("dose.fractions", f"fractions should be a whole number from 1, got {fractions:g}", "correct cohort.csv")
        fractions = None
    return Case(
        lesion=masks.pop(LESION, None),
        structures=masks,
        lesion_mm=lesion_mm,
        key=pseudonym_of_case,
        patient_key=pseudonym(key, patient),
        row=number,
        label=LABELS.index(label) if label in LABELS else -1,
        split=split,
        images={role: paths[role] for role in channels if role in paths},
        planning=paths.get("planning"),
        brain_mask=paths.get("brain_mask"),
        fractions=None if fractions is None else int(fractions),
        prescription_gy=prescription,
        label_source=row.get("label_source") or "",
        extra={
            name: value
            for name, value in row.items()
            if name and name not in (*COLUMNS, LESION_MM, *channels) and not is_further_dose(name)
        },
        further_doses={role: paths[role] for role in further_doses if role in paths},
    )


def parse_place(text: str) -> Place | None:
    """Three numbers in mm, apart by spaces, commas or semicolons; None where the text is something else."""
    parts = re.split(r"[\s,;]+", text.strip(" ()[]"))
    try:
        x, y, z = map(float, parts)
    except ValueError:
        return None
    return (x, y, z) if all(map(isfinite, (x, y, z))) else None


def _inside(root: Path, text: str, role: str, report) -> Path:  # type: ignore[no-untyped-def]  # a local closure
    if "\0" in text:
        report("path.missing", f"the {role} path holds a null byte", "correct the path or set excluded_because")
        return root
    path = (root / text).resolve()
    if not path.is_relative_to(root.resolve()):
        report(
            "path.outside", f"the {role} path leaves the cohort folder", "copy the file into it and use a relative path"
        )
    elif not path.is_file():
        report("path.missing", f"the {role} file does not exist", "correct the path or set excluded_because")
    return path


def _structures(root: Path, text: str, report) -> dict[str, Path]:  # type: ignore[no-untyped-def]  # a local closure
    """The masks of a folder by name."""
    folder = (root / text.replace("\0", "")).resolve()
    if not folder.is_relative_to(root.resolve()):
        report("path.outside", "the structures folder leaves the cohort folder", "copy it into it, use a relative path")
        return {}
    names = {path.name.removesuffix(".nii.gz"): path for path in sorted(folder.glob("*.nii.gz"))}
    if not names:
        report("path.missing", "the structures folder holds no .nii.gz file", "correct the path or empty the column")
    unusable = [name for name in names if not MASK_NAME.fullmatch(name) or name == LESION]
    if unusable:
        report(
            "structures.name",
            f"{len(unusable)} files of the structures folder have a name that no structure can have",
            "call them by letters, digits and _, as in GTV.nii.gz; a lesion has a column of its own",
        )
    paths = {name: path.resolve() for name, path in names.items() if name not in unusable}
    if not all(path.is_relative_to(root.resolve()) for path in paths.values()):
        report("path.outside", "a file of the structures folder leaves the cohort folder", "copy the file into it")
    return paths


def _check_together(cases: list[Case], partial: bool) -> list[Finding]:
    findings = []
    seen: dict[str, Case] = {}
    splits: dict[str, Case] = {}
    # An event image is reported with its row.
    common = dict.fromkeys(role for case in cases for role in case.images if role != "event")
    for case in cases:
        twin = seen.setdefault(case.key, case)
        if twin is not case:
            message = f"the same patient_id and event_id stand in row {twin.row}"
            findings.append(Finding("patient.duplicate", case.name, message, "remove one, or tell the events apart"))
        first = splits.setdefault(case.patient_key, case)
        if first.split != case.split:
            message = f"the patient is in split {case.split!r} here and in {first.split!r} in row {first.row}"
            findings.append(Finding("split.leak", case.name, message, "keep all events of a patient in one split"))
        findings += [_lacks(role, case, partial) for role in common if role not in case.images]
    return findings


def _lacks(role: str, case: Case, partial: bool) -> Finding:
    message = f"modality {role} is missing although other cases have it"
    if partial:
        hint = f"partial=true: sets with {role} are trained and scored without this case"
        return Finding("modality.missing", case.name, message, hint, "info", role)
    hint = "add it, set excluded_because, drop the column, or take the cohort as it is with partial=true"
    return Finding("modality.missing", case.name, message, hint)


DATES = ("event_date", "post_date", "radiotherapy_start")
