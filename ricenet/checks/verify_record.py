"""verify.json: every finding about a cohort, and what its images, labels and excluded rows are."""

from pydantic import Field

from ricenet.cohort.ingest_record import ProblemRecord, RtObjectRecord, TreatmentRecord
from ricenet.command.records import Record
from ricenet.errors import Finding


class ImageFacts(Record):
    """One image as it was read: voxels and their edges along its canonical axes, its range of values.

    Attributes:
        skull: of an MRI: head, stripped or unclear (ricenet.images.stripped).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    minimum: float
    maximum: float
    skull: str | None = None


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
    """What was measured of one case, by role; the others only where they could be.

    Attributes:
        likeness: of post and event, where the case has been preprocessed (ricenet.images.similarity.likeness).
    """

    images: dict[str, ImageFacts]
    dose_coverage: DoseCoverage | None = None
    sides: SidesRecord | None = None
    likeness: float | None = None


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


class DeliveredCase(Record):
    """What ingest did with the RT objects of one case.

    Attributes:
        row: of cohort.csv.
        problem: why ingest refused the case; None where it came in.
        rt_objects: every one that was delivered.
        dose: of what counts; None where the case was refused, or has no dose.
    """

    case_key: str
    row: int
    problem: ProblemRecord | None = None
    rt_objects: list[RtObjectRecord] = Field(default_factory=list)
    dose: TreatmentRecord | None = None

    @property
    def name(self) -> str:
        """How findings call the case, as ricenet.cohort.table.Case does."""
        return f"case {self.case_key} (row {self.row} of cohort.csv)"


class VerifyRecord(Record):
    """verify.json.

    Attributes:
        findings: errors first.
        counts: of the findings by severity.
        deliveries: of a cohort that ingest made, refused cases first.
        excluded: rows with a reason in excluded_because, by reason.
        versions: of what looked at the cohort.
    """

    findings: list[Finding]
    counts: dict[str, int]
    cases: list[VerifiedCase]
    label_tables: list[LabelTable]
    excluded: dict[str, int]
    deliveries: list[DeliveredCase] = Field(default_factory=list)
    versions: dict[str, str]
