"""The numbers of a new patient that a model sees beside the images: a case in; numbers by name, and findings, out.

They are measured as ricenet.preprocess measures those of the training cases: on the lesion mask that is given, else on
the new enhancement. Clinical ones come from the command line or from columns of cohort.csv.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ricenet.cases.case_folder import Prepared
from ricenet.cases.case_numbers import NUMBERS
from ricenet.cases.numbers_table import measure
from ricenet.cohort.covariates import value_of
from ricenet.cohort.spreadsheet import parse_number
from ricenet.cohort.table import LESION, Case
from ricenet.errors import Finding, WrongUsage
from ricenet.images.enhancement import NONE, LesionSource
from ricenet.networks.number_inputs import NumberInput
from ricenet.prediction.model_json import ModelRecord

MEASURED = {number.name: number.group for number in NUMBERS}
FAR_SD = 6.0  # from the training cases' mean, beyond which a number is warned of
LISTED = 5

Clinical = Mapping[str, str | float]


@dataclass(frozen=True)
class PatientNumbers:
    """What a model sees of a patient beside the images.

    Attributes:
        values: by name, as far as the patient has them; levels are 0 and 1.
        source, contrast: of the lesion that they are measured on; None where none is needed.
        findings: what is missing, or unlike the training cases.
    """

    values: Mapping[str, float]
    source: LesionSource | None
    contrast: float | None
    findings: list[Finding]


def check_clinical(model: ModelRecord, clinical: Clinical) -> None:
    """Raise WrongUsage for a clinical value that the model does not see, or that is no value of it."""
    for name, given in clinical.items():
        number = model.seen_numbers.get(name)
        if number is None or name in MEASURED:
            names = [each for each in model.seen_numbers if each not in MEASURED]
            raise WrongUsage(f"clinical.{name}: the model sees no such value, but {', '.join(names) or 'none'}")
        if _value(number, given) is None:
            expected = "a number" if number.levels is None else " or ".join(number.levels)
            raise WrongUsage(f"clinical.{name} should be {expected}, as in covariates.csv of the training cases")


def check_lesion_mask(model: ModelRecord, case: Case, prepared: Prepared) -> list[Finding]:
    """Refuse a lesion mask without a voxel in the brain where the model sees numbers of the lesion."""
    if case.lesion is None or not _of_lesion(model):
        return []
    mask = prepared.structures.get(LESION)
    if mask is not None and (mask & prepared.brain.astype(bool)).any():
        return []
    return [
        Finding(
            "lesion.outside",
            case.name,
            "the given lesion mask has no voxel in the brain, and the model sees numbers of the lesion",
            "is it in the frame of the event MRI? Correct it, or leave it out: the new enhancement is measured then",
            channel=LESION,
        )
    ]


def patient_numbers(model: ModelRecord, case: Case, prepared: Prepared, clinical: Clinical) -> PatientNumbers:
    """Measure what the model sees of `case` beside the images.

    Args:
        prepared: on the model's grid.
        clinical: values by name; for others, columns of the case's row of cohort.csv are looked at.

    Raises:
        InvalidInput: a dose that is not finite.
    """
    seen = model.seen_numbers
    values, source, contrast = dict[str, float](), None, None
    if any(name in MEASURED for name in seen):
        rows = [prepared.record.channels.index(name) for name in model.channels]
        of_model = prepared.record.model_copy(update={"channels": model.channels})  # it knows nothing else
        brain = prepared.brain.astype(bool)
        measured = measure(of_model, prepared.volume[rows], brain, prepared.structures, case.prescription_gy)
        values |= {name: value for name, value in measured.numbers.items() if name in seen}
        source, contrast = (measured.source, measured.contrast) if _of_lesion(model) else (None, None)
    for name, number in seen.items():
        if name not in MEASURED and (value := _value(number, clinical.get(name, value_of(case, name)))) is not None:
            values[name] = value
    findings = [*_no_lesion(case, source, contrast), *_missing(model, case, values), *_far(model, case, values)]
    return PatientNumbers(values, source, contrast, findings)


def _of_lesion(model: ModelRecord) -> bool:
    return any(MEASURED.get(name, "").startswith("lesion") for name in model.seen_numbers)


def _value(number: NumberInput, given: str | float) -> float | None:
    """A clinical value as the network sees it; None where it is not given, or is none of this number."""
    text = str(given).strip()
    if number.levels is not None:
        return float(number.levels.index(text)) if text in number.levels else None
    size = parse_number(text.removeprefix("-"))
    return None if size is None else -size if text.startswith("-") else size


def _no_lesion(case: Case, source: LesionSource | None, contrast: float | None) -> list[Finding]:
    if source != NONE:
        return []
    return [
        Finding(
            "lesion.none",
            case.name,
            f"nothing in the brain enhances (contrast {contrast or 0:.1f} SD), so the lesion has no numbers",
            "is the event MRI contrast-enhanced? Give lesion.nii.gz, a mask of what is in question",
            "warning",
            "event",
        )
    ]


def _missing(model: ModelRecord, case: Case, values: Mapping[str, float]) -> list[Finding]:
    """Numbers that the patient does not have, and that most training cases do."""
    missing = [name for name, number in model.seen_numbers.items() if name not in values and number.missing < 0.5]
    if not missing:
        return []
    return [
        Finding(
            "range.number_missing",
            case.name,
            f"the model sees numbers that this patient does not have ({_listed(missing)}): they count as the training "
            "cases' mean",
            "give what is known: prescription_gy=, clinical.NAME=, a lesion mask",
            "warning",
        )
    ]


def _far(model: ModelRecord, case: Case, values: Mapping[str, float]) -> list[Finding]:
    """Numbers far outside of what the training cases had: a linear layer goes on and on."""
    seen = model.seen_numbers
    distances = {name: abs(value - seen[name].mean) / seen[name].scale for name, value in values.items()}
    far = [name for name, distance in distances.items() if distance > FAR_SD or not np.isfinite(distance)]
    if not far:
        return []
    return [
        Finding(
            "range.number",
            case.name,
            f"numbers more than {FAR_SD:g} SD from the training cases' mean: {_listed(far)}",
            "the model has seen nothing like it; look at the images and at the lesion",
            "warning",
        )
    ]


def _listed(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
