"""For tests: a cases folder and a grid of finished runs on disk, by the project's own writers, with tiny volumes."""

import csv
import os
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np

from ricenet import LABELS
from ricenet.cases.case_record import CaseRecord
from ricenet.cohort.folds import Folds, write_folds
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.command.schemas import EvaluateConfig, compose
from ricenet.evaluate import EvaluationPlan
from ricenet.paper import PAPER
from ricenet.training import predictions, run_folder
from ricenet.training.run_record import RunRecord

SIZE, SPACING_MM = 12, 10.0
CAVITY, LESION = (slice(3, 6), slice(3, 6), 4), (slice(6, 9), slice(5, 8), 7)


def plan(draws: int, seed: int = 0, **changes: object) -> EvaluationPlan:
    """The committed plan of the evaluation, with fewer draws."""
    cfg = compose("evaluate", EvaluateConfig, ["run=x"])
    settings = {"test": cfg.test, "contrasts": cfg.contrasts, "subgroups": cfg.subgroups, "clinical": cfg.clinical}
    return EvaluationPlan(bootstrap_draws=draws, seed=seed, **(settings | changes))


def make_cases(counts: dict[str, tuple[int, int]], events_per_patient: int = 1) -> list[ReadyCase]:
    """counts: split -> (recurrence, rice) patients."""
    cases = []
    for split, numbers in counts.items():
        for label, patients in enumerate(numbers):
            for name, event in product((f"{split}{label}{n:03}" for n in range(patients)), range(events_per_patient)):
                cases.append(ReadyCase(f"{name}e{event}", f"patient-{name}", label, split, f"folder-{name}e{event}"))
    return cases


def write_cases_folder(
    folder: Path,
    cases: list[ReadyCase],
    n_folds: int = 5,
    channels: tuple[str, ...] = ("post", "event", "rd"),
    dose_scale_gy: float | None = 60.0,
    truth: bool = True,
) -> Folds:
    """Rice cases get 60 Gy in half of the brain and an LLR of 1, recurrences 30 Gy and -1; every tenth LLR is wrong."""
    folder.mkdir(parents=True)
    for index, case in enumerate(cases):
        _write_case(folder / case.folder, case, channels, dose_scale_gy, truth, np.random.default_rng(index))
    write_cases(folder, cases)
    if truth:
        with (folder / "truth.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("case_key", "label", *PAPER))
            for index, case in enumerate(cases):
                llr = (2 * case.label - 1) * (-1 if index % 10 == 0 else 1)
                writer.writerow((case.case_key, LABELS[case.label], *(llr for _ in PAPER)))
    return write_folds(folder, n_folds, seed=0)


def _write_case(
    folder: Path,
    case: ReadyCase,
    channels: tuple[str, ...],
    scale_gy: float | None,
    truth: bool,
    rng: np.random.Generator,
) -> None:
    folder.mkdir()
    brain = np.zeros((SIZE,) * 3, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    mri = rng.normal(0, 1, (SIZE,) * 3) * brain
    dose = np.full((SIZE,) * 3, 0.1)
    dose[: SIZE // 2] = 1.0 if case.label else 0.5
    np.save(folder / "volume.npy", np.stack([dose if name == "rd" else mri for name in channels]).astype(np.float16))
    np.save(folder / "brain.npy", brain)
    world_from_voxel = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1])
    world_from_voxel[:3, 3] = -60
    record = CaseRecord(
        version=1, case_key=case.case_key, channels=channels, spacing_mm=SPACING_MM,
        world_from_voxel=world_from_voxel.tolist(), dose_scale_gy=scale_gy,
    )  # fmt: skip
    record.write(folder / "case.json")
    if truth:
        masks = {"cavity": np.zeros_like(brain), "lesion": np.zeros_like(brain)}
        masks["cavity"][CAVITY], masks["lesion"][LESION] = True, True
        np.savez(folder / "truth.npz", **masks)


def write_grid(
    run: Path,
    cases: Path,
    folds: Folds,
    sets: Iterable[str],
    probability: Callable[[str, int, ReadyCase], float],
    only_folds: Iterable[int] | None = None,
    **changes: object,
) -> None:
    """A finished run per set and fold. probability: of rice, by set, fold and case; `changes` go into run.json."""
    for modalities in sets:
        for fold in range(folds.n_folds) if only_folds is None else only_folds:
            write_run(
                run,
                cases,
                folds,
                modalities,
                fold,
                lambda case, m=modalities, f=fold: probability(m, f, case),
                **changes,
            )


def write_run(
    run: Path,
    cases: Path,
    folds: Folds,
    row: str,
    fold: int,
    probability: Callable[[ReadyCase], float],
    *,
    seed: int = 0,
    beside: bool = False,
    labels_of: Folds | None = None,
    **changes: object,
) -> Path:
    """A finished run; `beside`: in the folder of one of several seeds; `labels_of`: the folds of shuffled labels."""
    folder = run_folder.run_folder(run, row, fold, seed if beside else None)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    labelled = labels_of or folds
    for split, part in (("val", labelled.validation(fold)), ("test", labelled.test())):
        for case in part:
            rice = probability(case)
            logit = float(np.log(rice / (1 - rice)))
            rows.append({
                "case_key": case.case_key, "patient_key": case.patient_key, "split": split, "label": case.label,
                "logit_recurrence": 0.0, "logit_rice": logit, "prob_rice": rice,
            })  # fmt: skip
    finish_run(folder, rows, {
        "status": "done", "modalities": {"name": row, "channels": row.split("-")[0].split("_")}, "fold": fold,
        "n_folds": folds.n_folds, "seed": seed, "epochs": 3, "checkpoint": "last", "model": {"name": "resnet18"},
        "cases": os.path.relpath(cases, run), "folds_hash": folds.hash, "case_hash": run_folder.case_hash(cases, folds),
        "versions": {}, "elapsed_s": 1.0, **changes,
    })  # fmt: skip
    return folder


def finish_run(folder: Path, rows: list[dict], record: dict) -> None:
    """Write predictions, the files beside them and, last, DONE."""
    predictions.write_predictions(folder, rows)
    (folder / "weights.safetensors").write_bytes(b"")
    (folder / "metrics.csv").write_text("epoch\n")
    run_folder.finish(folder, RunRecord.model_validate(record))
