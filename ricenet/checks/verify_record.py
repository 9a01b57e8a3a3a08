"""verify.json: every finding about a cohort, and what its images, labels and excluded rows are."""

from ricenet.command.records import Record
from ricenet.errors import Finding


class ImageFacts(Record):
    """One image as it was read: voxels and their edges along its canonical axes, its range of values."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    minimum: float
    maximum: float


class DoseCoverage(Record):
    """The share of the brain on the dose grid; `exact` where the brain was known, not estimated."""

    share: float
    exact: bool


class SidesRecord(Record):
    """ricenet.checks.laterality.Sides, rounded."""

    straight: float
    mirrored: float
    event_coverage: float


class CaseFacts(Record):
    """What was measured of one case, by role; the others only where they could be."""

    images: dict[str, ImageFacts]
    dose_coverage: DoseCoverage | None = None
    sides: SidesRecord | None = None


class VerifiedCase(Record):
    """One case.

    Attributes:
        row: of cohort.csv.
        label: None where the table has none that is known.
        sha256: of its files, by role; empty where the case could not be examined.
    """

    case_key: str
    row: int
    label: str | None
    sha256: dict[str, str]
    facts: CaseFacts


class LabelLevel(Record):
    """One value of a column: what it is called, the first row of cohort.csv that has it, cases by label."""

    name: str
    first_row: int
    counts: tuple[int, ...]


class LabelTable(Record):
    """A column of cohort.csv against the label.

    Attributes:
        not_given: cases without a value.
        p: of Fisher's exact test (2 x 2) or chi-square, None where there is one level.
        labels: in the order of the levels' counts.
    """

    column: str
    levels: list[LabelLevel]
    not_given: int
    p: float | None
    labels: list[str]


class VerifyRecord(Record):
    """verify.json.

    Attributes:
        findings: errors first.
        counts: of the findings by severity.
        excluded: rows with a reason in excluded_because, by reason.
        versions: of what looked at the cohort.
    """

    findings: list[Finding]
    counts: dict[str, int]
    cases: list[VerifiedCase]
    label_tables: list[LabelTable]
    excluded: dict[str, int]
    versions: dict[str, str]
