"""Write a synthetic cohort with known truth: a seed in; a cohort folder of NIfTI, or a cases folder, out.

`format=nifti` writes what a hospital would: scans with skull, in different scanner frames and voxel grids, dose in the planning
frame, cohort.csv; truth (transforms, masks, quantities, Bayes scores) stands under truth/. `format=cases` draws model-ready volumes
directly at a small size. The label reaches the images through ricenet.causal alone. Run: python -m ricenet.phantom out=DIR.
"""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet import LABELS, MODALITIES
from ricenet.cohort import COLUMNS, ReadyCase, pseudonym, write_cases, write_cohort_key
from ricenet.config import InvalidInput, PhantomConfig, stage
from ricenet.folds import write_folds

if TYPE_CHECKING:
    from ricenet.anatomy import Array, Patient
    from ricenet.causal import Draw

DOSE_SCALE_GY = 60.0
RICIAN_NOISE = 0.02  # of white matter
BIAS = 0.18  # SD of the log of the receive field
DOSE_SPACING_MM = (2.5, 2.5, 3.0)


@stage("phantom", PhantomConfig)
def main(cfg: PhantomConfig) -> None:
    """Draw the cohort and write it in the format asked for."""
    from ricenet.causal import draw_cohort

    out = Path(cfg.out)
    if out.exists() and any(out.iterdir()):
        return _check_same(out, cfg)
    draws = draw_cohort(cfg.patients, cfg.seed, cfg.swap_label_effects)
    out.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(f"phantom {cfg.seed}".encode()).digest()
    if cfg.format == "cases":
        write = partial(_write_case, out=out, key=key, size=cfg.size, spacing_mm=cfg.case_spacing_mm)
        cases = _draw_all(write, draws, cfg.jobs)
        write_cases(out, cases)
        _write_bayes_scores(out / "truth.csv", draws, [case.case_key for case in cases])
        write_folds(out, cfg.folds, cfg.seed)
    elif cfg.format == "nifti":
        write_cohort_key(out, key)
        (out / "truth").mkdir()
        rows = _draw_all(partial(_write_scans, out=out, spacing_mm=cfg.spacing_mm), draws, cfg.jobs)
        _write_table(out / "cohort.csv", rows)
        _write_bayes_scores(out / "truth" / "truth.csv", draws, [pseudonym(key, f"{row['patient_id']}\0e1") for row in rows])
    else:
        raise InvalidInput(f"format should be nifti or cases, got {cfg.format!r}")
    (out / "phantom.json").write_text(json.dumps(_identity(cfg), indent=1) + "\n")
    print(f"{cfg.patients} phantom patients as {cfg.format}: {out}")


def _identity(cfg: PhantomConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(cfg).items() if name not in ("out", "jobs")}


def _check_same(out: Path, cfg: PhantomConfig) -> None:
    """A finished cohort of the same parameters is kept; anything else in the folder is never overwritten."""
    marker = out / "phantom.json"
    if not marker.is_file():
        raise InvalidInput("the out folder is not empty and holds no finished phantom cohort; choose another or remove it")
    there, wanted = json.loads(marker.read_text()), _identity(cfg)
    changed = [f"{name}: {there.get(name)} there, {value} asked" for name, value in wanted.items() if there.get(name) != value]
    if changed:
        raise InvalidInput(f"the out folder holds another phantom cohort ({'; '.join(changed)}); choose another folder")
    print(f"{cfg.patients} phantom patients are there already: {out}")


def _draw_all(write: Callable[["tuple[int, Draw]"], Any], draws: "list[Draw]", jobs: int) -> list[Any]:
    from tqdm import tqdm

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs) as pool:
        return list(tqdm(pool.map(write, enumerate(draws)), total=len(draws), desc="phantoms", unit="patient"))


def _write_case(numbered: "tuple[int, Draw]", out: Path, key: bytes, size: int, spacing_mm: float) -> ReadyCase:
    import numpy as np

    from ricenet.anatomy import Grid, draw_patient

    number, draw = numbered
    # Drawn at half the voxel size and averaged, so that thin rims are blurred as a scanner would, not aliased.
    fine = draw_patient(draw.quantities, draw.seed, Grid((2 * size,) * 3, spacing_mm / 2))
    grid = Grid((size,) * 3, spacing_mm)
    rng = np.random.default_rng([draw.seed, 1])
    brain = _average(fine.brain) > 0.5
    mri = [_z_score(_average(_scan_noise(rng, image, spacing_mm / 2)), brain) for image in (fine.post, fine.event)]
    volume = np.stack([*mri, _average(fine.dose_gy) / DOSE_SCALE_GY]).astype(np.float16)
    case_key, patient_key = pseudonym(key, f"phantom-{number}\0e1"), pseudonym(key, f"phantom-{number}")
    folder = out / case_key
    folder.mkdir()
    np.save(folder / "volume.npy", volume)
    np.save(folder / "brain.npy", brain)
    masks = {"lesion": _average(fine.lesion) > 0.5, "cavity": _average(fine.cavity) > 0.5}
    np.savez_compressed(folder / "truth.npz", **masks)
    record = {
        "version": 1,
        "case_key": case_key,
        "channels": list(MODALITIES),
        "world_from_voxel": grid.world_from_voxel.tolist(),
        "spacing_mm": spacing_mm,
        "dose_scale_gy": DOSE_SCALE_GY,
        "inputs": {},
        "parameters": {"source": "ricenet.phantom", "size": size, "spacing_mm": spacing_mm},
        "transforms": {},
        "qc": {"dose_max_gy": float(fine.dose_gy.max()), "brain_ml": float(brain.sum() * spacing_mm**3 / 1000)},
    }
    (folder / "case.json").write_text(json.dumps(record, indent=1) + "\n")
    return ReadyCase(case_key, patient_key, draw.label, draw.split, folder.name)


def _average(image: "Array") -> "Array":
    """Halve the resolution by averaging 2 x 2 x 2 voxels."""
    x, y, z = (n // 2 for n in image.shape)
    return image.reshape(x, 2, y, 2, z, 2).mean((1, 3, 5), dtype="float32")


def _scan_noise(rng, image: "Array", spacing_mm: float) -> "Array":  # type: ignore[no-untyped-def]  # numpy is imported lazily
    """Multiply by a receive field and add Rician noise."""
    import numpy as np

    from ricenet.anatomy import smooth_noise

    image = image * np.exp(BIAS * smooth_noise(rng, image.shape, 120 / spacing_mm))
    noisy = image + rng.normal(0, RICIAN_NOISE, image.shape)
    return np.hypot(noisy, rng.normal(0, RICIAN_NOISE, image.shape)).astype(np.float32)


def _z_score(image: "Array", brain) -> "Array":  # type: ignore[no-untyped-def]
    values = image[brain]
    return (image - values.mean()) / values.std() * brain


def _write_bayes_scores(path: Path, draws: "Iterable[Draw]", case_keys: list[str]) -> None:
    from ricenet.causal import bayes_llr, modality_sets

    sets = modality_sets()
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("case_key", "label", *sets))
        for draw, case_key in zip(draws, case_keys, strict=True):
            scores = (f"{bayes_llr(draw.quantities, channels):.6f}" for channels in sets.values())
            writer.writerow((case_key, LABELS[draw.label], *scores))


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
