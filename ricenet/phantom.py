"""Write a synthetic cohort with known truth: a seed in; a delivery of DICOM, a cohort of NIfTI, or a cases folder out.

`format=nifti` writes a cohort folder: scans with skull, in different scanner frames and voxel grids, dose in the
planning frame, cohort.csv. `format=dicom` writes what a hospital would deliver: the same scans among others, a planning
image, RTDOSE and RTPLAN under dicom/, and labels.csv; ricenet.ingest takes it. Both keep truth (transforms, masks,
quantities, Bayes scores) under truth/. `format=cases` draws model-ready volumes directly at a small size. The label
reaches the images through ricenet.phantoms.causal_model alone. Run: python -m ricenet.phantom out=DIR.

Each patient has a site and a number of days since radiotherapy, the same in every format, drawn apart from the label
and from the images: controls in which an evaluation must find nothing. So are the patients drawn who lack a post-OP
MRI (without_post) or a dose (without_rd).
"""

import csv
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ricenet import LABELS, MODALITIES
from ricenet.cohort.covariates import write_covariates, write_excluded
from ricenet.cohort.folds import write_folds
from ricenet.cohort.pseudonyms import KEY_FILE, pseudonym, write_key
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.cohort.table import COLUMNS, Case
from ricenet.command.atomic import publish, replacing_text
from ricenet.command.schemas import PhantomConfig
from ricenet.command.stage import stage
from ricenet.errors import InvalidInput, WrongUsage

if TYPE_CHECKING:
    from ricenet.phantoms.anatomy import Array, Mask
    from ricenet.phantoms.causal_model import Draw
    from ricenet.phantoms.phantom_record import PhantomRecord
    from ricenet.phantoms.scanner import Scans

FORMATS = ("nifti", "dicom", "cases")
CONTROLS = ("site", "days_since_rt")
SHARES = ("without_post", "without_rd")
LABEL_COLUMNS = ("patient_id", "event_date", "label", "split", "label_source", *CONTROLS)
SITES = ("north", "south")
START = "radiotherapy_start"  # a column of the label table where a patient has no plan that says it
SOURCE = "phantom"  # of every label
MARKER = "phantom.json"
Drawn = TypeVar("Drawn")


@stage("phantom", PhantomConfig)
def main(cfg: PhantomConfig) -> None:
    """Draw the cohort; one that is there already with the same parameters is kept."""
    if cfg.format not in FORMATS:
        raise WrongUsage(f"format should be {' | '.join(FORMATS)}, got {cfg.format!r}")
    for name in SHARES:
        if not 0 <= getattr(cfg, name) <= 1:
            raise WrongUsage(f"{name} should lie in 0 to 1, got {getattr(cfg, name):g}")
    from ricenet.phantoms.phantom_record import PhantomRecord

    keys = {name: value for name, value in asdict(cfg).items() if value or name not in SHARES}
    out, jobs = Path(keys.pop("out")), keys.pop("jobs")
    if out.exists() and any(out.iterdir()):
        return _check_same(out, PhantomRecord(**keys))
    write_phantom(out, jobs=jobs, **keys)
    print(f"{cfg.patients} phantom patients as {cfg.format}: {out}")


def write_phantom(out: Path, *, jobs: int, **keys: int | float | str) -> None:
    """Write a cohort to `out`, complete or not at all.

    Args:
        out: absent or empty.
        jobs: processes at a time.
        keys: the other keys of conf/phantom.yaml, all but those of SHARES that are 0.
    """
    from ricenet.phantoms.causal_model import draw_cohort
    from ricenet.phantoms.phantom_record import PhantomRecord

    record = PhantomRecord.model_validate(keys)

    partly = out.with_name(f".{out.name}.partly")
    shutil.rmtree(partly, ignore_errors=True)
    partly.mkdir(parents=True)
    draws = draw_cohort(record.patients, record.seed, record.swap_label_effects)
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


def _check_same(out: Path, record: "PhantomRecord") -> None:
    """Keep a finished cohort of the same parameters; refuse anything else in the folder."""
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
    print(f"{record.patients} phantom patients exist already: {out}")


def _write_ready_cohort(out: Path, draws: "list[Draw]", key: bytes, jobs: int, record: "PhantomRecord") -> None:
    cases = _draw_all(partial(_write_case, out=out, key=key, record=record), draws, jobs)
    ready = [ReadyCase(case.key, case.patient_key, case.label, case.split, case.key, case.channels) for case in cases]
    write_cases(out, ready)
    write_covariates(out, cases, ("label_source", "prescription_gy", "fractions", *CONTROLS))
    write_excluded(out, {})
    _write_bayes_scores(out / "truth.csv", draws, [case.key for case in cases])
    write_folds(out, record.folds, record.seed)


def _write_raw_cohort(out: Path, draws: "list[Draw]", key: bytes, jobs: int, record: "PhantomRecord") -> None:
    write_key(out / KEY_FILE, key)
    (out / "truth").mkdir()
    rows = _draw_all(partial(_write_scans, out=out, record=record), draws, jobs)
    _write_table(out / "cohort.csv", (*COLUMNS, *CONTROLS), rows)
    keys = [pseudonym(key, f"{row['patient_id']}\0{row['event_id']}") for row in rows]
    _write_bayes_scores(out / "truth" / "truth.csv", draws, keys)


def _write_delivery(out: Path, draws: "list[Draw]", jobs: int, record: "PhantomRecord") -> None:
    (out / "truth").mkdir()
    rows = _draw_all(partial(_deliver, out=out, record=record), draws, jobs)
    more = (START,) if any(START in row for row in rows) else ()
    _write_table(out / "labels.csv", (*LABEL_COLUMNS, *more), rows)
    # Pseudonyms are ingest's to give; until then a case is called by its patient.
    _write_bayes_scores(out / "truth" / "truth.csv", draws, [row["patient_id"] for row in rows])


def _draw_all(write: Callable[["tuple[int, Draw]"], Drawn], draws: "list[Draw]", jobs: int) -> list[Drawn]:
    from tqdm import tqdm

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs) as pool:
        return list(tqdm(pool.map(write, enumerate(draws)), total=len(draws), desc="phantoms", unit="patient"))


def _channels(draw: "Draw", record: "PhantomRecord") -> tuple[str, ...]:
    """Which images the patient has, from random numbers of their own."""
    import numpy as np

    shares = {"post": record.without_post, "rd": record.without_rd}
    drawn = dict(zip(shares, np.random.default_rng([draw.seed, 6]).random(len(shares)), strict=True))
    return tuple(role for role in MODALITIES if role not in shares or drawn[role] >= shares[role])


def _write_case(numbered: "tuple[int, Draw]", out: Path, key: bytes, record: "PhantomRecord") -> Case:
    """One patient's case folder; what is known of the case besides."""
    import numpy as np

    from ricenet.cases.case_record import CASE_FILE, CaseRecord
    from ricenet.cases.crop import find_places
    from ricenet.images.dose_limits import DOSE_SCALE_GY
    from ricenet.phantoms.anatomy import Grid, draw_patient
    from ricenet.phantoms.scanner import with_noise

    number, draw = numbered
    size, spacing_mm, channels = record.size, record.case_spacing_mm, _channels(draw, record)
    # Drawn at half the voxel size and averaged, so that thin rims are blurred as a scanner would, not aliased.
    fine = draw_patient(draw.quantities, draw.seed, Grid((2 * size,) * 3, spacing_mm / 2))
    grid = Grid((size,) * 3, spacing_mm)
    rng = np.random.default_rng([draw.seed, 1])
    brain = _average(fine.brain.astype(np.float32)) > 0.5
    mri = [_z_score(_average(with_noise(rng, image, spacing_mm / 2)), brain) for image in (fine.post, fine.event)]
    drawn = dict(zip(MODALITIES, [*mri, _average(fine.dose_gy) / DOSE_SCALE_GY], strict=True))
    volume = np.stack([drawn[role] for role in channels]).astype(np.float16)
    case_key, patient_key = pseudonym(key, f"phantom-{number}\0e1"), pseudonym(key, f"phantom-{number}")
    folder = out / case_key
    folder.mkdir()
    np.save(folder / "volume.npy", volume)
    np.save(folder / "brain.npy", brain)
    lesion, cavity = (_average(mask.astype(np.float32)) > 0.5 for mask in (fine.lesion, fine.cavity))
    np.savez_compressed(folder / "truth.npz", lesion=lesion, cavity=cavity)
    dose = {"dose_max_gy": float(fine.dose_gy.max())} if "rd" in channels else {}
    CaseRecord(
        version=1,
        case_key=case_key,
        channels=channels,
        world_from_voxel=grid.world_from_voxel.tolist(),
        spacing_mm=spacing_mm,
        dose_scale_gy=DOSE_SCALE_GY if dose else None,
        inputs={},
        parameters={"source": "ricenet.phantom", "size": size, "spacing_mm": spacing_mm},
        transforms={},
        qc={**dose, "brain_ml": float(brain.sum() * spacing_mm**3 / 1000)},
        lesion=find_places(dict(zip(channels, volume, strict=True)), brain, spacing_mm),
    ).write(folder / CASE_FILE)
    return Case(
        case_key,
        patient_key,
        number,
        draw.label,
        draw.split,
        images=dict.fromkeys(channels, folder / "volume.npy"),
        fractions=fine.fractions,
        prescription_gy=fine.prescription_gy,
        label_source=SOURCE,
        extra=_controls(draw),
    )


def _write_scans(numbered: "tuple[int, Draw]", out: Path, record: "PhantomRecord") -> dict[str, object]:
    """One patient as NIfTI: post-OP and dose in one frame, event in another; the row of cohort.csv.

    Without a post-OP MRI the dose lies in the frame of a planning image.
    """
    import numpy as np

    from ricenet.images.volume import write_volume
    from ricenet.phantoms.hospital import planning_scan
    from ricenet.phantoms.scanner import calculate_dose, scan_patient

    number, draw = numbered
    channels = _channels(draw, record)
    scans, name = scan_patient(draw.quantities, draw.seed, record.spacing_mm), f"{number + 1:03d}"
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
    _write_truth(out / "truth", name, draw, scans, channels)
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
        **_controls(draw),
    }


def _write_truth(folder: Path, name: str, draw: "Draw", scans: "Scans", channels: Sequence[str]) -> None:
    """Quantities, the true transform, and the masks on the grid of the post-OP scan; without one, of the event's."""
    from ricenet.images.volume import write_volume
    from ricenet.phantoms.phantom_record import TruthRecord

    masks = {mask: f"{name}_{mask}.nii.gz" for mask in ("brain", "lesion", "cavity")}
    for mask, file in masks.items():
        frame = scans.frames["post" if "post" in channels else "event"]
        scan = frame.scan(getattr(scans.patient, mask), scans.patient.grid)
        write_volume(folder / file, scan.voxels > 0.5, scan.world_from_voxel)
    TruthRecord(
        label=LABELS[draw.label],
        quantities=draw.quantities,
        event_from_post=scans.event_from_post.tolist(),
        **{mask: f"{folder.name}/{file}" for mask, file in masks.items()},
    ).write(folder / f"{name}.json")


def _deliver(numbered: "tuple[int, Draw]", out: Path, record: "PhantomRecord") -> dict[str, str]:
    """One patient as DICOM; the row of labels.csv."""
    from ricenet.phantoms.hospital import deliver
    from ricenet.phantoms.scanner import scan_patient

    number, draw = numbered
    channels = _channels(draw, record)
    scans = scan_patient(draw.quantities, draw.seed, record.spacing_mm)
    delivered = deliver(out / "dicom", scans, number + 1, draw.seed, channels)
    _write_truth(out / "truth", f"{number + 1:03d}", draw, scans, channels)
    return {
        "patient_id": delivered.patient_id,
        "event_date": delivered.event_date.isoformat(),
        "label": LABELS[draw.label],
        "split": draw.split,
        "label_source": SOURCE,
        **_controls(draw),
        **({} if "rd" in channels else {START: delivered.radiotherapy_start.isoformat()}),
    }


def _controls(draw: "Draw") -> dict[str, str]:
    """CONTROLS of the patient, from random numbers of their own; the days are those of the headers in format=dicom."""
    import numpy as np

    from ricenet.phantoms.hospital import DATES_STREAM, draw_dates

    site = SITES[np.random.default_rng([draw.seed, 5]).integers(len(SITES))]
    _, radiotherapy, event = draw_dates(np.random.default_rng([draw.seed, DATES_STREAM]))
    return {"site": site, "days_since_rt": str((event - radiotherapy).days)}


def _average(image: "Array") -> "Array":
    """Halve the resolution by averaging 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in image.shape)
    return image.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5), dtype="float32")


def _z_score(image: "Array", brain: "Mask") -> "Array":
    values = image[brain]
    return (image - values.mean()) / values.std() * brain


def _write_bayes_scores(path: Path, draws: "Iterable[Draw]", case_keys: list[str]) -> None:
    from ricenet.phantoms.causal_model import bayes_llr, modality_sets

    sets = modality_sets()
    with replacing_text(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("case_key", "label", *sets))
        for draw, case_key in zip(draws, case_keys, strict=True):
            scores = (f"{bayes_llr(draw.quantities, channels):.6f}" for channels in sets.values())
            writer.writerow((case_key, LABELS[draw.label], *scores))


def _write_table(path: Path, columns: tuple[str, ...], rows: Sequence[Mapping[str, object]]) -> None:
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
