"""For tests: a tiny grid of real networks on phantom cases, with answers that mean something and their evaluation."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from helpers.make_grid import plan
from helpers.tiny_grid import write_tiny_fold
from ricenet.cases.case_folder import PREPROCESSING_VERSION
from ricenet.cohort.folds import Folds, read_folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.schemas import TrainConfig, compose
from ricenet.evaluate import summarise
from ricenet.evaluation.grid import read_grid
from ricenet.evaluation.summary import SUMMARY, SummaryRecord
from ricenet.training.fused_numbers import read_fused_numbers
from ricenet.training.predictions import write_predictions
from ricenet.training.run_folder import finish, finished_runs
from ricenet.training.run_record import read_run

CHANNELS = ["event", "rd"]


def write_evaluated_grid(
    root: Path,
    phantom: Path,
    parameters: dict[str, Any] | None = None,
    name: str = "demo",
    channels: Sequence[str] = CHANNELS,
    numbers: Sequence[str] = (),
    **network: Any,
) -> tuple[Path, Folds]:
    """`root`/cases, a copy of `phantom`'s, and the evaluated grid `root`/`name` of the set rd_event.

    Args:
        parameters: what case.json says of the preprocessing, in place of the phantom's.
        channels: of another set.
        numbers: `model.numbers`, for a row <set>+numbers.
        network: `pool` and `inputs` of its networks, where they have any.
    """
    shutil.copytree(phantom, root / "cases")
    if parameters is not None:
        for path in (root / "cases").glob("*/case.json"):
            record = json.loads(path.read_text())
            path.write_text(json.dumps(record | {"version": PREPROCESSING_VERSION, "parameters": parameters}))
    run, folds = root / name, read_folds(root / "cases")
    if numbers:
        network["numbers"] = read_fused_numbers(root / "cases", folds.cases, numbers, channels, "numbers")
    for fold in range(folds.n_folds):
        folder = write_tiny_fold(run, root / "cases", folds, list(channels), fold, **network)
        answer(folder, folds, fold, logit)
        write_config(folder, root / "cases", fold)
    write_evaluation(run, folds)
    return run, folds


def logit(case: ReadyCase) -> float:
    """Right on the whole, overconfident, the same for a case in every process."""
    return 1.5 * (2 * case.label - 1) + 3 * float(np.random.default_rng(list(case.case_key.encode())).normal())


def answer(folder: Path, folds: Folds, fold: int, logit_of: Callable[[ReadyCase], float]) -> None:
    """Give a finished run other answers."""
    rows = []
    for split, part in (("val", folds.validation(fold)), ("test", folds.test())):
        for case in part:
            x = logit_of(case)
            rows.append({
                "case_key": case.case_key, "patient_key": case.patient_key, "split": split, "label": case.label,
                "logit_recurrence": 0.0, "logit_rice": x, "prob_rice": float(1 / (1 + np.exp(-x))),
            })  # fmt: skip
    write_predictions(folder, rows)
    finish(folder, read_run(folder))


def write_config(folder: Path, cases: Path, fold: int) -> None:
    """As training writes it, with every path that it could hold."""
    keys = [f"cases={cases}", f"fold={fold}", "+modalities=rd_event", "model=medicalnet", f"model.pretrained={cases}/w"]
    config = asdict(compose("train", TrainConfig, keys))
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def write_evaluation(run: Path, folds: Folds) -> SummaryRecord:
    """evaluation/summary.json, without the figures."""
    cases = run.parent / "cases"
    runs = finished_runs(run)
    summary = summarise(cases, folds, read_grid(runs, cases, folds), runs, plan(99))
    (run / "evaluation").mkdir(exist_ok=True)
    summary.write(run / SUMMARY)
    return summary
