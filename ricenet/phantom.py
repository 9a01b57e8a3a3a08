"""Write a synthetic cohort with known truth: a seed in; a delivery of DICOM, a cohort of NIfTI, or a cases folder out.

`format=nifti` writes a cohort folder: scans with skull, in different scanner frames and voxel grids, dose in the
planning frame, cohort.csv. `format=dicom` writes what a hospital would deliver: the same scans among others, a planning
image, RTDOSE and RTPLAN under dicom/, and labels.csv; ricenet.ingest takes it. Both keep truth (transforms, masks,
quantities, Bayes scores) under truth/. `format=cases` draws model-ready volumes directly at a small size. The label
reaches the images through ricenet.phantoms.causal_model alone. Run: python -m ricenet.phantom out=DIR.

Each patient has a site and a number of days since radiotherapy, the same in every format, drawn apart from the label
and from the images: controls in which an evaluation must find nothing. So are the patients drawn who lack a post-OP
MRI (without_post) or a dose (without_rd). `difficulty=hard` draws other strengths of the label's effects
(ricenet.phantoms.causal_model) and hides them (ricenet.phantoms.appearance).
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ricenet import LABELS
from ricenet.cohort.covariates import write_covariates, write_excluded
from ricenet.cohort.folds import write_folds
from ricenet.cohort.pseudonyms import KEY_FILE, pseudonym, write_key
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.cohort.table import COLUMNS, Case
from ricenet.command.atomic import publish
from ricenet.command.schemas import PhantomConfig
from ricenet.command.stage import stage
from ricenet.errors import InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.phantoms.causal_model import Draw
    from ricenet.phantoms.phantom_record import PhantomRecord

FORMATS = ("nifti", "dicom", "cases")
DIFFICULTIES = ("standard", "hard")
SHARES = ("without_post", "without_rd")
LABEL_COLUMNS = ("patient_id", "event_date", "label", "split", "label_source")
START = "radiotherapy_start"  # a column of the label table where a patient has no plan that says it
SOURCE = "phantom"  # of every label
MARKER = "phantom.json"
Drawn = TypeVar("Drawn")


@stage("phantom", PhantomConfig)
def main(cfg: PhantomConfig) -> None:
    """Draw the cohort; one that is there already with the same parameters is kept."""
    if cfg.format not in FORMATS:
        raise WrongUsage(f"format should be {' | '.join(FORMATS)}, got {cfg.format!r}")
    if cfg.difficulty not in DIFFICULTIES:
        raise WrongUsage(f"difficulty should be {' | '.join(DIFFICULTIES)}, got {cfg.difficulty!r}")
    for name in SHARES:
        if not 0 <= getattr(cfg, name) <= 1:
            raise WrongUsage(f"{name} should lie in 0 to 1, got {getattr(cfg, name):g}")
    from ricenet.phantoms.phantom_record import PhantomRecord

    # phantom.json names a key that came later only where it is used: cohorts from before it stay the same.
    unused = {**dict.fromkeys(SHARES, 0), "difficulty": "standard"}
    keys = {name: value for name, value in asdict(cfg).items() if name not in unused or value != unused[name]}
    out, jobs = Path(keys.pop("out")), keys.pop("jobs")
    if out.exists() and any(out.iterdir()):
        return _check_same(out, PhantomRecord(**keys), jobs)
    write_phantom(out, jobs=jobs, **keys)
    print(f"{cfg.patients} phantom patients as {cfg.format}: {out}")


def write_phantom(out: Path, *, jobs: int, **keys: int | float | str) -> None:
    """Write a cohort to `out`, complete or not at all.

    Args:
        out: absent or empty.
        jobs: processes at a time.
        keys: the other keys of conf/phantom.yaml; those of SHARES and difficulty may be left out.
    """
    from ricenet.phantoms.causal_model import draw_cohort
    from ricenet.phantoms.phantom_record import PhantomRecord

    record = PhantomRecord.model_validate(keys)

    partly = out.with_name(f".{out.name}.partly")
    shutil.rmtree(partly, ignore_errors=True)
    partly.mkdir(parents=True)
    draws = draw_cohort(record.patients, record.seed, record.swap_label_effects, record.difficulty)
    key = hashlib.sha256(f"phantom {record.seed}".encode()).digest()
    if record.format == "cases":
        _write_ready_cohort(partly, draws, key, jobs, record)
    elif record.format == "nifti":
        _write_raw_cohort(partly, draws, key, jobs, record)
    else:
        _write_delivery(partly, draws, jobs, record)
    record.write(partly / MARKER)
    if out.exists():
        out.rmdir()  # empty, main has looked
    publish(partly, out, last=MARKER)


def _check_same(out: Path, record: "PhantomRecord", jobs: int) -> None:
    """Keep a finished cohort of the same parameters, add numbers it lacks; refuse anything else in the folder."""
    from ricenet.phantoms.phantom_record import PhantomRecord

    if not (out / MARKER).is_file():
        raise InvalidInput(
            "the out folder is not empty and holds no phantom cohort",
            "choose another folder or remove it",
            code="out.not_empty",
        )
    existing = PhantomRecord.read(out / MARKER, "choose another folder or remove it")
    changed = [
        f"{name}: {then} in the folder, {now} requested"
        for (name, then), (_, now) in zip(existing, record, strict=True)
        if then != now
    ]
    if changed:
        raise InvalidInput(
            f"the out folder holds another phantom cohort ({'; '.join(changed)})",
            "choose another folder",
            code="out.changed",
        )
    if record.format == "cases":
        add_numbers(out, jobs)
    print(f"{record.patients} phantom patients exist already: {out}")


def add_numbers(out: Path, jobs: int) -> None:
    """Compute the numbers of a cohort of format=cases that an earlier version of ricenet drew."""
    from ricenet.cases.numbers_table import RANDOM_TABLE, TABLE, is_measured, measure_folder, write_numbers
    from ricenet.cohort.covariates import read_covariates
    from ricenet.cohort.ready_cases import read_cases

    ready = read_cases(out)
    lacking = [case for case in ready if not is_measured(out / case.folder)]
    if not lacking and (out / TABLE).is_file() and (out / RANDOM_TABLE).is_file():
        return
    covariates = read_covariates(out, [case.case_key for case in ready])
    prescriptions_gy = covariates.numbers.get("prescription_gy", {}) if covariates else {}
    with ProcessPoolExecutor(jobs) as pool:
        folders = [out / case.folder for case in lacking]
        list(pool.map(measure_folder, folders, [prescriptions_gy.get(case.case_key) for case in lacking]))
    write_numbers(out, {case.case_key: case.folder for case in ready})


def _write_ready_cohort(out: Path, draws: "list[Draw]", key: bytes, jobs: int, record: "PhantomRecord") -> None:
    from ricenet.cases.numbers_table import write_numbers
    from ricenet.phantoms.controls import control_names
    from ricenet.phantoms.truth import write_cohort_truth

    cases = _draw_all(partial(_write_case, out=out, key=key, record=record), draws, jobs)
    ready = [ReadyCase(case.key, case.patient_key, case.label, case.split, case.key, case.channels) for case in cases]
    write_numbers(out, {case.case_key: case.folder for case in ready})
    write_cases(out, ready)
    columns = ("label_source", "prescription_gy", "fractions", *control_names(record.difficulty))
    write_covariates(out, cases, columns)
    write_excluded(out, {})
    write_cohort_truth(out, draws, [case.key for case in cases])
    write_folds(out, record.folds, record.seed)


def _write_raw_cohort(out: Path, draws: "list[Draw]", key: bytes, jobs: int, record: "PhantomRecord") -> None:
    from ricenet.phantoms.controls import control_names
    from ricenet.phantoms.truth import write_cohort_truth, write_table

    write_key(out / KEY_FILE, key)
    (out / "truth").mkdir()
    rows = _draw_all(partial(_write_scans, out=out, record=record), draws, jobs)
    write_table(out / "cohort.csv", (*COLUMNS, *control_names(record.difficulty)), rows)
    keys = [pseudonym(key, f"{row['patient_id']}\0{row['event_id']}") for row in rows]
    write_cohort_truth(out / "truth", draws, keys)


def _write_delivery(out: Path, draws: "list[Draw]", jobs: int, record: "PhantomRecord") -> None:
    from ricenet.phantoms.controls import control_names
    from ricenet.phantoms.truth import write_cohort_truth, write_table

    (out / "truth").mkdir()
    rows = _draw_all(partial(_deliver, out=out, record=record), draws, jobs)
    more = (START,) if any(START in row for row in rows) else ()
    write_table(out / "labels.csv", (*LABEL_COLUMNS, *control_names(record.difficulty), *more), rows)
    # Pseudonyms are ingest's to give; until then a case is called by its patient.
    write_cohort_truth(out / "truth", draws, [row["patient_id"] for row in rows])


def _draw_all(write: Callable[["tuple[int, Draw]"], Drawn], draws: "list[Draw]", jobs: int) -> list[Drawn]:
    from tqdm import tqdm

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs) as pool:
        return list(tqdm(pool.map(write, enumerate(draws)), total=len(draws), desc="phantoms", unit="patient"))


def _write_case(numbered: "tuple[int, Draw]", out: Path, key: bytes, record: "PhantomRecord") -> Case:
    """One patient's case folder; what is known of the case besides."""
    import numpy as np

    from ricenet.cases.case_record import CASE_FILE, CaseRecord
    from ricenet.cases.crop import find_places
    from ricenet.cases.numbers_table import NUMBERS_FILE, measure
    from ricenet.images.dose_limits import DOSE_SCALE_GY
    from ricenet.phantoms.controls import controls, existing_channels
    from ricenet.phantoms.ready_volumes import draw_ready_volumes

    number, draw = numbered
    size, spacing_mm = record.size, record.case_spacing_mm
    channels = existing_channels(draw, record.without_post, record.without_rd)
    ready = draw_ready_volumes(draw, size, spacing_mm)
    volume = np.stack([ready.images[role] for role in channels]).astype(np.float16)
    case_key, patient_key = pseudonym(key, f"phantom-{number}\0e1"), pseudonym(key, f"phantom-{number}")
    folder = out / case_key
    folder.mkdir()
    np.save(folder / "volume.npy", volume)
    np.save(folder / "brain.npy", ready.brain)
    np.savez_compressed(folder / "truth.npz", lesion=ready.lesion, cavity=ready.cavity)
    dose = {"dose_max_gy": float(ready.patient.dose_gy.max())} if "rd" in channels else {}
    case_record = CaseRecord(
        version=1,
        case_key=case_key,
        channels=channels,
        world_from_voxel=ready.grid.world_from_voxel.tolist(),
        spacing_mm=spacing_mm,
        dose_scale_gy=DOSE_SCALE_GY if dose else None,
        inputs={},
        parameters={"source": "ricenet.phantom", "size": size, "spacing_mm": spacing_mm},
        transforms={},
        qc={**dose, "brain_ml": float(ready.brain.sum() * spacing_mm**3 / 1000)},
        lesion=find_places(dict(zip(channels, volume, strict=True)), ready.brain, spacing_mm),
    )
    prescription_gy = ready.patient.prescription_gy
    measure(case_record, volume, ready.brain, {}, prescription_gy).write(folder / NUMBERS_FILE)
    case_record.write(folder / CASE_FILE)
    return Case(
        case_key,
        patient_key,
        number,
        draw.label,
        draw.split,
        images=dict.fromkeys(channels, folder / "volume.npy"),
        fractions=ready.patient.fractions,
        prescription_gy=prescription_gy,
        label_source=SOURCE,
        extra=controls(draw),
    )


def _write_scans(numbered: "tuple[int, Draw]", out: Path, record: "PhantomRecord") -> dict[str, object]:
    """One patient as NIfTI: post-OP and dose in one frame, event in another; the row of cohort.csv.

    Without a post-OP MRI the dose lies in the frame of a planning image.
    """
    import numpy as np

    from ricenet.images.volume import write_volume
    from ricenet.phantoms.controls import controls, existing_channels
    from ricenet.phantoms.hospital import planning_scan
    from ricenet.phantoms.scanner import calculate_dose, scan_patient
    from ricenet.phantoms.truth import write_patient_truth

    number, draw = numbered
    channels = existing_channels(draw, record.without_post, record.without_rd)
    scans, name = scan_patient(draw.quantities, draw.seed, record.spacing_mm, draw.appearance), f"{number + 1:03d}"
    images = {role: scan for role, scan in scans.volumes.items() if role in channels}
    if "rd" not in channels:
        dose = None
    elif "post" in channels:
        dose = calculate_dose(scans.patient, scans.frames["post"].world_from_patient, np.eye(3))
    else:
        _, images["planning"], dose = planning_scan(scans, number + 1, draw.seed)
    (out / name).mkdir()
    for role, scan in images.items():
        write_volume(out / name / f"{role}.nii.gz", scan.voxels.astype(np.int16), scan.world_from_voxel)
    if dose is not None:
        write_volume(out / name / "rd.nii.gz", dose.voxels, dose.world_from_voxel)
    write_patient_truth(out / "truth", name, draw, scans, channels)
    return {
        "patient_id": f"phantom-{number}",
        "event_id": "e1",
        "label": LABELS[draw.label],
        "split": draw.split,
        **{role: f"{name}/{role}.nii.gz" for role in (*channels, *(role for role in images if role not in channels))},
        "dose_unit": "" if dose is None else "Gy",
        "fractions": scans.patient.fractions,
        "prescription_gy": scans.patient.prescription_gy,
        "label_source": SOURCE,
        **controls(draw),
    }


def _deliver(numbered: "tuple[int, Draw]", out: Path, record: "PhantomRecord") -> dict[str, str]:
    """One patient as DICOM; the row of labels.csv."""
    from ricenet.phantoms.controls import controls, existing_channels
    from ricenet.phantoms.hospital import deliver
    from ricenet.phantoms.scanner import scan_patient
    from ricenet.phantoms.truth import write_patient_truth

    number, draw = numbered
    channels = existing_channels(draw, record.without_post, record.without_rd)
    scans = scan_patient(draw.quantities, draw.seed, record.spacing_mm, draw.appearance)
    delivered = deliver(out / "dicom", scans, number + 1, draw.seed, channels)
    write_patient_truth(out / "truth", f"{number + 1:03d}", draw, scans, channels)
    return {
        "patient_id": delivered.patient_id,
        "event_date": delivered.event_date.isoformat(),
        "label": LABELS[draw.label],
        "split": draw.split,
        "label_source": SOURCE,
        **controls(draw),
        **({} if "rd" in channels else {START: delivered.radiotherapy_start.isoformat()}),
    }


if __name__ == "__main__":
    main()
