"""The regression on metadata: finds a planted shortcut, nothing without one, and agrees with the sum done by hand."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fewer_channels import keep_channels
from helpers.make_grid import make_cases, write_cases_folder
from helpers.train_command import command, config
from safetensors import safe_open
from scipy.optimize import minimize
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from ricenet.cohort.covariates import COVARIATES
from ricenet.cohort.folds import Folds, read_folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.evaluation.grid import read_controls
from ricenet.train import train
from ricenet.training.metadata_only import LEVELS, NUMBERS, Metadata, fit_regression, read_metadata, train_regression
from ricenet.training.predictions import read_predictions
from ricenet.training.run_folder import finished_runs

ONLY = ["control=metadata_only"]


def write_covariates(cases: Path, rows: list[dict[str, Any]]) -> None:
    with (cases / COVARIATES).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def out_of_fold(metadata: Metadata, folds: Folds) -> tuple[np.ndarray, np.ndarray]:
    """Labels and log-odds of every case by the model of the other folds."""
    cases, answers = [], []
    for fold in range(folds.n_folds):
        cases += folds.validation(fold)
        answers.append(fit_regression(metadata, folds.training(fold)).log_odds(folds.validation(fold)))
    return np.array([case.label for case in cases]), np.concatenate(answers)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Folds]:
    """100 patients without any covariates. Read only."""
    cases = tmp_path_factory.mktemp("metadata") / "cases"
    return cases, write_cases_folder(cases, make_cases({"cv": (55, 35), "test": (6, 4)}), truth=False)


@pytest.fixture
def own(cohort: tuple[Path, Folds], tmp_path: Path) -> Path:
    return shutil.copytree(cohort[0], tmp_path / "cases")


@pytest.mark.parametrize("column", LEVELS)
def test_a_column_that_equals_the_label_gives_the_answer(own: Path, column: str) -> None:
    folds = read_folds(own)
    rows = [{"case_key": case.case_key, column: "60" if case.label else "40.05"} for case in folds.cases]
    write_covariates(own, rows)
    labels, log_odds = out_of_fold(read_metadata(own, folds), folds)
    assert f1_score(labels, log_odds > 0, average="macro") == 1


@pytest.mark.parametrize("column", NUMBERS)
def test_a_number_of_the_acquisition_that_tells_the_label_gives_the_answer(own: Path, column: str) -> None:
    folds, rng = read_folds(own), np.random.default_rng(0)
    for case in folds.cases:
        path = own / case.folder / "case.json"
        qc = {"qc": {column: case.label + rng.normal(0, 0.1)}}
        path.write_text(json.dumps(json.loads(path.read_text()) | qc))
    labels, log_odds = out_of_fold(read_metadata(own, folds), folds)
    assert f1_score(labels, log_odds > 0, average="macro") > 0.97


@pytest.mark.heavy
def test_metadata_that_say_nothing_are_at_chance(cohort: tuple[Path, Folds]) -> None:
    """Over 20 draws of metadata the pooled AUROC has mean 1/2; single ones scatter around it."""
    _, folds = cohort
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        level = {case.case_key: "ABC"[rng.integers(3)] for case in folds.cases}
        number = {case.case_key: rng.normal() for case in folds.cases if rng.random() < 0.8}
        labels, log_odds = out_of_fold(Metadata({"site": level}, {"brain_ml": number}), folds)
        scores.append(roc_auc_score(labels, log_odds))
    assert np.mean(scores) < 0.55
    assert max(scores) < 0.75


def test_what_tells_the_disease_and_what_is_no_metadata_is_left_out(own: Path) -> None:
    folds = read_folds(own)
    rows = [{"case_key": c.case_key, "site": "A", "days_since_rt": c.label, "age_years": c.label} for c in folds.cases]
    write_covariates(own, rows)
    case = folds.cases[0]
    path = own / case.folder / "case.json"
    qc = {"similarity": 1.2, "dose_max_gy": 61.0, "dose_mean_gy": 20.0, "translation_mm": 3.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"qc": qc}))
    found = read_metadata(own, folds)
    assert found.columns == ["site", "translation_mm"]
    assert found.numbers == {"translation_mm": {case.case_key: 3.0}}


def test_nothing_known_is_refused_with_what_is_missing(cohort: tuple[Path, Folds], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"covariates\.csv has none of site, scanner_post, .* brain_ml under qc"):
        read_metadata(*cohort)
    result = command(cohort[0], tmp_path / "run", *ONLY)
    assert (result.returncode, "no metadata columns are available" in result.stderr) == (3, True), result.stderr
    assert not (tmp_path / "run").exists()


def by_hand(cases: list[ReadyCase], training: list[ReadyCase], metadata: Metadata) -> np.ndarray:
    """Log-odds of `cases` from a design matrix written out, and the penalised likelihood minimised by BFGS."""
    site, number = metadata.levels["site"], metadata.numbers["brain_ml"]
    known = sorted({site.get(case.case_key, "not given") for case in training})
    mean = np.mean([number[case.case_key] for case in training if case.case_key in number])

    def design(some: list[ReadyCase]) -> np.ndarray:
        return np.array([
            [*(site.get(case.case_key, "not given") == level for level in known), number.get(case.case_key, mean),
             case.case_key not in number]
            for case in some
        ], dtype=float)  # fmt: skip

    x, y = design(training), np.array([case.label for case in training])
    weight = np.where(y == 1, len(y) / 2 / y.sum(), len(y) / 2 / (1 - y).sum())

    def standardised(matrix: np.ndarray) -> np.ndarray:
        return (matrix - x.mean(0)) / x.std(0)

    def loss(beta: np.ndarray) -> float:
        z = standardised(x) @ beta[1:] + beta[0]
        return float((weight * np.logaddexp(0, -(2 * y - 1) * z)).sum() + 0.5 * (beta[1:] ** 2).sum())

    beta = minimize(loss, np.zeros(x.shape[1] + 1), method="BFGS", options={"gtol": 1e-8}).x
    return standardised(design(cases)) @ beta[1:] + beta[0]


@pytest.fixture
def mixed(cohort: tuple[Path, Folds]) -> Metadata:
    """Three sites and one that only validation cases of fold 0 have; sites and numbers that are not given."""
    _, folds = cohort
    rng = np.random.default_rng(1)
    site = {case.case_key: "ABC"[rng.integers(3)] for case in folds.cases if rng.random() < 0.9}
    site |= {case.case_key: "D" for case in folds.validation(0)[:3]}
    number = {case.case_key: 1300 + 100 * rng.normal() + 50 * case.label for case in folds.cases if rng.random() < 0.8}
    return Metadata({"site": site}, {"brain_ml": number})


def test_answers_are_those_of_the_regression_written_out(cohort: tuple[Path, Folds], mixed: Metadata) -> None:
    _, folds = cohort
    cases = [*folds.validation(0), *folds.test()]
    assert any(case.case_key not in mixed.numbers["brain_ml"] for case in cases)
    found = fit_regression(mixed, folds.training(0))
    assert found.features == ["site_A", "site_B", "site_C", "site_not given", "brain_ml", "missingindicator_brain_ml"]
    np.testing.assert_allclose(found.log_odds(cases), by_hand(cases, folds.training(0), mixed), atol=2e-3)
    assert np.ptp(found.log_odds(cases)) > 0.5


def test_files_of_a_run_hold_the_fitted_model_and_its_scores(
    cohort: tuple[Path, Folds], mixed: Metadata, tmp_path: Path
) -> None:
    _, folds = cohort
    train_regression(mixed, folds, 0, tmp_path)
    rows = read_predictions(tmp_path)
    wanted = [(case.case_key, "val") for case in folds.validation(0)] + [
        (case.case_key, "test") for case in folds.test()
    ]
    assert [(row["case_key"], row["split"]) for row in rows] == wanted
    log_odds = by_hand([*folds.validation(0), *folds.test()], folds.training(0), mixed)
    np.testing.assert_allclose([row["logit_rice"] for row in rows], log_odds, atol=2e-3)
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        features = json.loads(file.metadata()["features"])
        fitted = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for row in rows:
        site = f"site_{mixed.levels['site'].get(row['case_key'], 'not given')}"
        number = mixed.numbers["brain_ml"].get(row["case_key"])
        x = np.array([float(name == site) for name in features])
        place = features.index("brain_ml")
        x[place] = fitted["mean"][place] if number is None else number  # the mean of what is given
        x[features.index("missingindicator_brain_ml")] = number is None
        log_odds = (x - fitted["mean"]) / fitted["scale"] @ fitted["coefficients"] + fitted["intercept"][0]
        assert row["logit_rice"] - row["logit_recurrence"] == pytest.approx(log_odds, abs=1e-9)
        assert row["prob_rice"] == pytest.approx(1 / (1 + np.exp(-log_odds)))
    with (tmp_path / "metrics.csv").open() as stream:
        (metrics,) = csv.DictReader(stream)
    labels, answers = zip(*((row["label"], row["prob_rice"]) for row in rows if row["split"] == "val"), strict=True)
    assert float(metrics["val/loss"]) == pytest.approx(log_loss(labels, answers), rel=1e-4)
    assert float(metrics["val/auroc"]) == pytest.approx(roc_auc_score(labels, answers), rel=1e-4)
    called = np.array(answers) > 0.5
    assert float(metrics["val/macro_f1"]) == pytest.approx(f1_score(labels, called, average="macro"), rel=1e-4)


def test_a_grid_trains_it_once_a_fold_whatever_the_modalities(phantom_cases: Path, tmp_path: Path) -> None:
    grid = ["-m", *ONLY, "+modalities=rd,event", "fold=0,1"]
    result = command(phantom_cases, tmp_path, *grid)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("is finished already") == 2
    folders = [one.folder for one in finished_runs(tmp_path)]
    assert folders == [tmp_path / "metadata_only" / f"fold{fold}" for fold in (0, 1)]
    for folder in folders:
        wanted = {"config.yaml", "run.json", "weights.safetensors", "metrics.csv", "predictions.csv", "DONE"}
        assert wanted <= {path.name for path in folder.iterdir()}
        record = json.loads((folder / "run.json").read_text())
        assert record["modalities"] == {"name": "metadata_only", "channels": []}
        assert (record["status"], record["control"], record["seed"]) == ("done", "metadata_only", 0)
        assert set(record["metadata"]) <= {*LEVELS, *NUMBERS}
    (control,) = read_controls(finished_runs(tmp_path), read_folds(phantom_cases))
    assert (control.kind, control.row, sorted(control.by_fold)) == ("metadata_only", "metadata_only", [0, 1])


def test_other_covariates_are_refused(own: Path, tmp_path: Path) -> None:
    keys = [case.case_key for case in read_folds(own).cases]
    write_covariates(own, [{"case_key": key, "site": "AB"[place % 2]} for place, key in enumerate(keys)])
    train(config(own, tmp_path / "run", *ONLY))
    train(config(own, tmp_path / "run", *ONLY, "epochs=7", "+modalities=rd"))  # neither has an effect
    write_covariates(own, [{"case_key": key, "site": "A"} for key in keys])
    with pytest.raises(WrongUsage, match="metadata_only fold0 was started with other settings:\n  covariates_hash"):
        train(config(own, tmp_path / "run", *ONLY))


def test_it_loads_no_torch(phantom_cases: Path, tmp_path: Path) -> None:
    probe = (
        "import sys\nfrom ricenet.command.schemas import TrainConfig, compose\nfrom ricenet.train import train\n"
        f"train(compose('train', TrainConfig, ['cases={phantom_cases}', 'run={tmp_path}', 'control=metadata_only']))\n"
        "print(sorted({'torch', 'lightning', 'monai'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert (tmp_path / "metadata_only" / "fold0" / "DONE").is_file()


def test_which_images_a_case_has_is_metadata(own: Path) -> None:
    """Where the dose is missing in the recurrences alone, that gives them away; no channel's column stays out."""
    write_covariates(own, [{"case_key": case.case_key, "has_metal": case.label} for case in read_folds(own).cases])
    folds = keep_channels(own, lambda _, case: ("event", "rd") if case.label else ("event",))
    metadata = read_metadata(own, folds)
    assert metadata.columns == ["has_rd"]
    labels, log_odds = out_of_fold(metadata, folds)
    assert roc_auc_score(labels, log_odds) == 1.0
