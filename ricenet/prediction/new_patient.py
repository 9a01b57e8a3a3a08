"""Find the images of one new patient: a folder of NIfTI or DICOM in; a case that the pipeline can read, out.

NIfTI: event.nii.gz, as far as the model needs them post.nii.gz and rd.nii.gz (Gy; without a post-OP MRI with the
planning image whose frame it lies in), and where there are any planning.nii.gz, brain_mask.nii.gz, the
model's further channels, and doses in frames of their own, which are added: rd_2.nii.gz with planning_2.nii.gz, ...
Masks: lesion.nii.gz or lesion.dcm (DICOM SEG), around which a model of crop=lesion looks and which is shown only to
other models; structures/GTV.nii.gz and others are always shown only.
DICOM: any layout, one patient; rules and dates choose as in ricenet.ingest.
The case key is a digest of its files or, for DICOM, of its series' UIDs: the same images, the same key.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet import MODALITIES
from ricenet.cohort.ingest_record import SelectionRecord
from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.table import LESION, MASK_NAME, Case, doses_of_unknown_frame, further_dose_roles, incomplete_doses
from ricenet.command.atomic import file_hash
from ricenet.command.schemas import IngestConfig, IntakeConfig, defaults_of, typed_config
from ricenet.delivery.dicom_case import IntakeSettings, intake_settings
from ricenet.delivery.intake import from_dicom, write_volumes
from ricenet.delivery.rtstruct import FOLDER, write_structures
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.dose_limits import preset
from ricenet.prediction.model_json import ModelRecord

if TYPE_CHECKING:
    from ricenet.delivery.series import PatientFiles

log = logging.getLogger(__name__)
ROLES = (*MODALITIES, "planning", "brain_mask")
SERIES_KEY = b"ricenet.predict"  # a series is called the same in every run, so that post_series=... can name it
SUBJECT = "patient"
DAY_COLUMNS = ("post_day", "event_day")  # by which the order of the two is checked


@dataclass(frozen=True)
class PatientDetails:
    """What is known of the patient besides the images, each None or empty where it is not.

    Attributes:
        post_date, event_date, radiotherapy_start: for DICOM, where the headers do not tell the scans apart.
        fractions: of the whole treatment.
        prescription_gy: of the whole treatment.
        choice: role -> series key, where the rules leave a choice.
        doses, plans, exclude_doses: keys of RT objects, where they leave one.
        delivered_fractions: where the treatment was stopped early.
        clinical: values that a model sees beside the images, by name.
    """

    post_date: date | None = None
    event_date: date | None = None
    radiotherapy_start: date | None = None
    fractions: int | None = None
    prescription_gy: float | None = None
    choice: dict[str, str] = field(default_factory=dict)
    doses: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    exclude_doses: tuple[str, ...] = ()
    delivered_fractions: int | None = None
    clinical: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivered:
    """`case`: its label is -1; `record`: which series and doses were taken, and why; None for NIfTI."""

    case: Case
    record: SelectionRecord | None


class Unusable(InvalidInput):
    """A patient whose images cannot be chosen.

    Attributes:
        without_images: the case, which has none.
        record: what there was to choose from.
    """

    def __init__(self, problem: InvalidInput, case: Case, record: SelectionRecord) -> None:
        super().__init__(problem.located, problem.hint, code=problem.code)
        self.without_images = case
        self.record = record


def find_patient(
    folder: Path, details: PatientDetails, settings: IntakeSettings, scratch: Path, further: Sequence[str] = ()
) -> Delivered:
    """Find the images of one patient in `folder`.

    Args:
        settings: the rules, for DICOM.
        scratch: folder for what DICOM is converted to; the case's files lie there.
        further: channels besides post, event and rd, as NIfTI.

    Raises:
        InvalidInput: there is no folder, nothing in it, or several patients. Unusable: a role that cannot be filled.
        WrongUsage: dates or series for a patient of NIfTI, who has none.
    """
    if not folder.is_dir():
        raise InvalidInput("the patient folder does not exist", "correct its path", code="patient.missing")
    doses = further_dose_roles(path.name.partition(".")[0] for path in folder.iterdir())
    paths = {role: path for role in (*ROLES, *doses, *further) if (path := _nifti(folder, role))}
    if not paths:
        return _from_dicom(folder, details, settings, scratch)
    seg = folder / f"{LESION}.dcm"
    lesion = _nifti(folder, LESION) or (seg if seg.is_file() else None)
    delivered = from_files(paths | ({LESION: lesion} if lesion else {}), details, further)
    return replace(delivered, case=replace(delivered.case, structures=_structures(folder)))


def _structures(folder: Path) -> dict[str, Path]:
    """The masks in structures/ by name.

    Raises:
        InvalidInput: a file there has a name that no structure can have.
    """
    masks = {path.name.removesuffix(".nii.gz"): path for path in sorted((folder / FOLDER).glob("*.nii.gz"))}
    unusable = [name for name in masks if not MASK_NAME.fullmatch(name) or name == LESION]
    if unusable:
        raise InvalidInput(
            f"{len(unusable)} files of the structures folder have a name that no structure can have",
            "call them by letters, digits and _, as in GTV.nii.gz; a lesion stands beside post.nii.gz",
            code="structures.name",
        )
    return masks


def from_files(paths: Mapping[str, Path], details: PatientDetails, further: Sequence[str] = ()) -> Delivered:
    """The case of one patient's NIfTI files by role; arguments and errors as of `find_patient`."""
    roles = (*ROLES, *further_dose_roles(paths), *further)
    unknown = sorted(paths.keys() - {*roles, LESION})
    if unknown:
        raise WrongUsage(f"unknown image role {unknown[0]!r}; expected some of {', '.join((*roles, LESION))}")
    for_dicom = (details.choice, details.post_date, details.event_date, details.radiotherapy_start)
    if any((*for_dicom, details.doses, details.plans, details.exclude_doses, details.delivered_fractions)):
        raise WrongUsage("dates, series and doses are for DICOM, the patient has NIfTI files by name; leave them out")
    missing = [role for role, path in paths.items() if not path.is_file()]
    if missing:
        raise InvalidInput(f"the {missing[0]} image does not exist", "correct its path", code="path.missing")
    for role, lacking in incomplete_doses(paths):
        raise InvalidInput(f"{role} is given, but no {lacking}", f"add {lacking}.nii.gz", code="dose.further")
    for role, lacking in doses_of_unknown_frame(paths):
        raise InvalidInput(
            f"{role} is given, but neither post nor {lacking}: nobody can tell in whose frame it lies",
            f"add {lacking}.nii.gz: the image it was planned on, or a copy of event.nii.gz if it lies there",
            code="dose.no_frame",
        )
    hashes = {role: file_hash(paths[role]) for role in roles if role in paths}
    identity = json.dumps(hashes, sort_keys=True)
    return Delivered(_case(identity, paths, details.fractions, details.prescription_gy, further), None)


def rules_for(model: ModelRecord, site: Path | None = None) -> IntakeSettings:
    """The rules for DICOM of a patient whom this model predicts; arguments and errors as of `read_intake_settings`.

    A post-OP MRI that only its training cases' frame is about may be missing; where none had one, nobody looks for it.
    """
    needs_post = "post" in model.channels
    post = needs_post or model.preprocessing.reference == "post"
    return read_intake_settings(site, "rd" in model.channels, post=post, partial=not needs_post)


def read_intake_settings(site: Path | None, dose: bool, *, post: bool = True, partial: bool = False) -> IntakeSettings:
    """The rules for DICOM: those of conf/ingest.yaml, and over them what a site's own file says.

    Args:
        site: YAML with keys of conf/ingest.yaml; a copy of the whole file will do.
        dose, post, partial: as in IntakeSettings.

    Raises:
        WrongUsage: the file cannot be read, or holds an unknown key or a value of the wrong type.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys = {"dose_limits": None, **defaults_of("ingest")}
    if site is not None:
        try:
            keys |= _site_keys(yaml.safe_load(site.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise WrongUsage(f"ingest=: expected a YAML file that can be read, got {type(error).__name__}") from None
    intake_keys = {name: keys[name] for name in IntakeConfig.__dataclass_fields__}
    intake_keys["dose_limits"] = _site_limits(keys["dose_limits"])
    try:
        return intake_settings(typed_config(IntakeConfig, OmegaConf.create(intake_keys)), dose, post, partial)
    except OmegaConfBaseException as error:
        raise WrongUsage(f"ingest=: {error.full_key}: {str(error).splitlines()[0]}") from None


def _site_keys(content: object) -> dict[str, Any]:
    allowed = {*IngestConfig.__dataclass_fields__, "defaults", "hydra"}
    if not isinstance(content, dict):
        raise WrongUsage(f"ingest=: expected keys of conf/ingest.yaml, got {type(content).__name__}")
    unknown = content.keys() - allowed
    if unknown:
        raise WrongUsage(f"ingest=: expected keys of conf/ingest.yaml, got {', '.join(map(repr, unknown))}")
    groups = [group for group in content.get("defaults") or () if isinstance(group, dict)]
    return {name: group[name] for group in groups for name in group if name == "dose_limits"} | content


def _site_limits(given: object) -> dict[str, Any]:
    """The keys of dose_limits: a preset by its name, or some of the keys over those of the default."""
    name = given if isinstance(given, str) else "normofractionated"
    keys = asdict(preset(name)) | {"over_prescription": list(preset(name).over_prescription)}
    if given is None or isinstance(given, str):
        return keys
    if not isinstance(given, dict):
        raise WrongUsage(f"ingest=: dose_limits should be a preset's name or some of its keys, got {given!r}")
    return keys | given


def _nifti(folder: Path, role: str) -> Path | None:
    return next((path for suffix in (".nii.gz", ".nii") if (path := folder / f"{role}{suffix}").is_file()), None)


def _from_dicom(folder: Path, details: PatientDetails, settings: IntakeSettings, scratch: Path) -> Delivered:
    from ricenet.delivery.series import index_delivery
    from ricenet.dicom.headers import describe_unused

    index = index_delivery(folder)
    unused = describe_unused(index.skipped)
    if unused:
        log.warning("%s", unused)
    files = _only_patient(list(index.patients.values()))
    if files is None:
        raise InvalidInput(
            f"expected NIfTI ({', '.join(f'{role}.nii.gz' for role in ROLES[:3])}) or the DICOM files of one patient "
            f"in the patient folder, got the DICOM files of {len(index.patients) or 'none'}{unused and f'; {unused}'}",
            "choose the folder of one patient",
            code="patient.missing" if not index.patients else "patient.several",
        )
    label = LabelRow(
        row=0, patient_id="", event_id="", label="", post_date=details.post_date, event_date=details.event_date,
        radiotherapy_start=details.radiotherapy_start, fractions=details.fractions,
        prescription_gy=details.prescription_gy, choice=details.choice, doses=details.doses, plans=details.plans,
        exclude_doses=details.exclude_doses, delivered_fractions=details.delivered_fractions,
    )  # fmt: skip
    uids = "\0".join(sorted(series.uid for series in files.series))
    taken = from_dicom(label, files, SUBJECT, settings, SERIES_KEY, scratch)
    if taken.problem is not None:
        raise Unusable(taken.problem, _case(uids, {}), taken.record)
    paths = {name.removesuffix(".nii.gz"): scratch / name for name in write_volumes(taken.volumes, scratch)}
    masks = {
        Path(name).name.removesuffix(".nii.gz"): scratch / name for name in write_structures(taken.structures, scratch)
    }
    columns = taken.columns
    assert columns is not None  # there is no problem
    days = {name: str(day) for name in DAY_COLUMNS if (day := getattr(columns, name)) is not None}
    case = _case(uids, paths, columns.fractions, columns.prescription_gy)
    return Delivered(replace(case, extra=days, structures=masks), taken.record)


def _only_patient(patients: "Sequence[PatientFiles]") -> "PatientFiles | None":
    """The files of the folder's one patient; his RT objects may lie under a PatientID of their own, as <id>_RT.

    Those are his who has the only MRIs, if they share a study, a frame of reference or a reference with these.
    """
    from ricenet.delivery.series import join_patients

    if len(patients) == 1:
        return patients[0]
    scanned = [files for files in patients if any(series.modality == "MR" for series in files.series)]
    others = [files for files in patients if files not in scanned]
    if len(scanned) != 1 or not all(files.links & scanned[0].links for files in others):
        return None
    log.warning("RT objects of another PatientID share a study or frame of reference with the MRIs, and are used")
    return join_patients([*scanned, *others])


def _case(
    identity: str,
    paths: Mapping[str, Path],
    fractions: int | None = None,
    prescription_gy: float | None = None,
    further: Sequence[str] = (),
) -> Case:
    key = "c" + hashlib.sha256(identity.encode()).hexdigest()[:12]
    return Case(
        key=key,
        patient_key=key,
        row=0,
        label=-1,
        split="",
        images={role: paths[role] for role in (*MODALITIES, *further) if role in paths},
        planning=paths.get("planning"),
        brain_mask=paths.get("brain_mask"),
        lesion=paths.get(LESION),
        further_doses={role: paths[role] for role in further_dose_roles(paths)},
        fractions=fractions,
        prescription_gy=prescription_gy,
    )
