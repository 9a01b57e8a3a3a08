"""The two kinds of ingest.json, of a case and of a cohort, and what they say of series, images and doses.

They hold pseudonyms, days since radiotherapy and sizes; no date, description, name or UID of a header.
"""

from pydantic import Field

from ricenet.command.records import Record


class SeriesRecord(Record):
    """What a person needs to tell a patient's series apart, without a word of their headers.

    Attributes:
        series: pseudonym.
        number: the series number of the header, None where it has none.
        day: days since radiotherapy began (ricenet.delivery.roles.Timeline.day).
        shape: columns, rows, slices.
        spacing_mm: x, y, z; 0 where unknown.
        in_the_frame_of_the_dose: None where there is no dose.
        contrast: whether it is enhanced, as far as names and headers say.
        problem: code of why it is no volume.
        kind: t1, reformat, derived (computed), other or unsaid; empty for CT, as the fields below.
        contrast_by: who says of an MRI whether it is enhanced.
        acquisition: 2D or 3D.
        plane: axial, coronal or sagittal; empty where unknown.
    """

    series: str
    number: int | None
    modality: str
    day: int | None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    contrast: bool
    in_the_frame_of_the_dose: bool | None
    problem: str | None
    kind: str = ""
    contrast_by: str = ""
    acquisition: str = ""
    plane: str = ""


class PassedOver(Record):
    """A series that might have been the image of a role, and why it is not."""

    series: str
    reason: str


class ImageRecord(Record):
    """Which series became the image of a role, why, and from which series it was chosen.

    A public cohort's layout names files: there the reason stands alone.

    Attributes:
        candidates: the series that fit the rule.
        remark: what somebody should know of the choice.
        passed_over: the other T1 of its day.
    """

    series: str = ""
    reason: str
    candidates: list[str] = Field(default_factory=list)
    remark: str = ""
    passed_over: list[PassedOver] = Field(default_factory=list)


class RtObjectRecord(Record):
    """One RT object of the patient, and what was done with it.

    Attributes:
        object: its pseudonym, by which the label table and ricenet.predict choose it.
        kind: RTDOSE, RTPLAN or RTSTRUCT.
        status: used, left out, unreadable, undecided (the case was refused before), or listed (nothing to decide).
        reason: why it was left out, or cannot be read.
        day: of the plan's date, as in SeriesRecord; None where there is no date or no origin.
        frame: frames of reference are numbered from 1 in the order of this list; None where the object has none.
        images_in_frame: whether an image of the delivery lies in its frame of reference.
        summation, dose_type, max_gy, shape, spacing_mm: of an RTDOSE, as stored.
        plans: pseudonyms of the RTPLANs that it refers to; also of those that were not delivered.
        fractions, prescription_gy, approval: of an RTPLAN.
    """

    object: str
    kind: str
    status: str
    reason: str = ""
    day: int | None = None
    frame: int | None = None
    images_in_frame: bool | None = None
    summation: str = ""
    dose_type: str = ""
    max_gy: float | None = None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    plans: list[str] = Field(default_factory=list)
    fractions: int | None = None
    prescription_gy: float | None = None
    approval: str = ""


class DoseRecord(Record):
    """One RTDOSE: doses and plans are numbered in the order of their UIDs; `max_gy` as it is stored.

    `key`: its pseudonym; empty where nothing is kept secret, and in records of version 1.
    """

    dose: int
    key: str = ""
    plans: list[int]
    summation: str
    max_gy: float


class UsedDose(DoseRecord):
    """A dose that counts `factor` times; `fractions` of its plan, None where nobody knows."""

    factor: int | float
    fractions: int | None


class RejectedDose(DoseRecord):
    """A dose that does not count, and why."""

    reason: str


class TreatmentRecord(Record):
    """The dose of the whole treatment.

    Attributes:
        flags: what somebody should know about its plans.
        max_gy: of the sum, in the same quantity as the volume; of several frames of reference the highest one's.
        eqd2_alpha_beta_gy: None: physical dose.
        lies_in_the_frame_of: role, `planning` or `post`.
        further: role (rd_2, ...) -> the same, of doses that were planned on another image.
    """

    used: list[UsedDose]
    rejected: list[RejectedDose]
    flags: list[str]
    max_gy: float
    eqd2_alpha_beta_gy: float | None
    lies_in_the_frame_of: str
    further: dict[str, str] = Field(default_factory=dict)


class StructureRecord(Record):
    """One mask of structures/: which of the structure set's structures it is made of.

    Attributes:
        name: of the rule.
        numbers: ROI Number of each.
        ml: its volume, also of what lies outside the image.
        notes: what of its contours was not taken as it stands.
    """

    name: str
    numbers: list[int]
    ml: float
    notes: list[str] = Field(default_factory=list)


class LeftOutStructure(Record):
    """A structure that is not read, and why.

    Attributes:
        number: ROI Number.
        name: of the rule that matched; empty where none did: the planning system's own may name a patient.
        type: RT ROI Interpreted Type, a defined term of DICOM.
    """

    number: int
    name: str
    type: str
    reason: str


class StructuresRecord(Record):
    """The structures of one RTSTRUCT.

    Attributes:
        structure_set: key of the RTSTRUCT; empty where nobody gave one.
        lies_in_the_frame_of: role of the image on which the masks lie.
    """

    used: list[StructureRecord]
    left_out: list[LeftOutStructure]
    structure_set: str = ""
    lies_in_the_frame_of: str = ""


class SelectionRecord(Record):
    """What was taken of a delivery for one case, and what there was; of a case with a problem only the latter.

    Attributes:
        flags: what somebody should know about the case besides its dose, which has flags of its own.
        undecided: role -> series from which the user has to choose.
    """

    images: dict[str, ImageRecord] = Field(default_factory=dict)
    series: list[SeriesRecord] = Field(default_factory=list)
    rt_objects: list[RtObjectRecord] = Field(default_factory=list)
    dose: TreatmentRecord | None = None
    structures: StructuresRecord | None = None
    flags: list[str] = Field(default_factory=list)
    undecided: dict[str, list[str]] = Field(default_factory=dict)


class CaseColumns(Record):
    """What a delivery adds to the case's row of cohort.csv; days as in SeriesRecord, scanners as pseudonyms."""

    fractions: int | None
    prescription_gy: float | None
    post_day: int | None = None
    scanner_post: str = ""
    event_day: int | None = None
    scanner_event: str = ""


class ProblemRecord(Record):
    """Why a case cannot be used, as an InvalidInput says it."""

    code: str
    message: str
    hint: str


class IngestedCase(Record):
    """Which case it is, and from what.

    Attributes:
        digest: of all that decides the case; the same digest need not be ingested again.
    """

    version: int
    case: str
    digest: str


class CaseIngestRecord(SelectionRecord, IngestedCase):
    """<case>/ingest.json. A case has a problem, or columns and hashes.

    Attributes:
        sha256: of the case's files by name.
    """

    columns: CaseColumns | None = None
    sha256: dict[str, str] = Field(default_factory=dict)
    problem: ProblemRecord | None = None


class UnlabelledRtRecord(Record):
    """RT objects, or images in a labelled patient's frame, under a PatientID that the label table does not name.

    Attributes:
        patient: pseudonym.
        doses, plans, structures, series: how many there are.
        rows: of the label table, whose patients it resembles: by their PatientID, or by a study or frame of reference.
    """

    patient: str
    doses: int
    plans: int
    structures: int
    series: int = 0
    rows: list[int] = Field(default_factory=list)


class UnusedRecord(Record):
    """What of a DICOM delivery has no use: patients whom the label table does not name, files by reason.

    Attributes:
        rt_objects_without_a_label: by patient.
        rt_objects_given_to_a_patient: number of those without PatientID whose patient a study, frame or reference told.
    """

    patients_without_a_label: int = 0
    files_not_used: dict[str, int] = Field(default_factory=dict)
    rt_objects_without_a_label: list[UnlabelledRtRecord] = Field(default_factory=list)
    rt_objects_given_to_a_patient: int = 0


class CohortIngestRecord(Record):
    """ingest.json of a cohort folder.

    Attributes:
        cases: rows of cohort.csv.
        ready: of these, with images.
        excluded: reason -> cases.
        flags: case -> what somebody should know about it and its plans.
        doses_left_out: case -> keys of its doses that do not count, and why.
        delivery: empty for cohorts of NIfTI.
    """

    version: int
    cases: int
    ready: int
    excluded: dict[str, int]
    flags: dict[str, list[str]]
    doses_left_out: dict[str, str] = Field(default_factory=dict)
    delivery: UnusedRecord
