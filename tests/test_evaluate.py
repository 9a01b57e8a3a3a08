import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import commands
from helpers.fewer_channels import keep_channels
from helpers.make_grid import finish_run, make_cases, plan, write_cases_folder, write_grid, write_run
from helpers.run_records import pretrained_start
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar
from statsmodels.stats.multitest import multipletests

from ricenet.cohort.folds import read_folds
from ricenet.cohort.shuffled_labels import shuffled
from ricenet.command.schemas import EvaluateConfig, compose
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.evaluate import EvaluationPlan, evaluate, summarise
from ricenet.evaluation import contrast_figures
from ricenet.evaluation.grid import read_grid
from ricenet.evaluation.results_table import as_text
from ricenet.evaluation.sentences import headline
from ricenet.evaluation.summary import SummaryRecord, read_summary
from ricenet.paper import PAPER, PAPER_CHANNELS
from ricenet.report import write_report
from ricenet.training import predictions
from ricenet.training.run_folder import cases_folder, finished_runs

DRAWS = 499


def macro(pairs):
    labels, decisions = np.array(list(pairs)).T
    return f1_score(labels, decisions, average="macro", labels=[0, 1], zero_division=0)


def evaluated(run: Path, of: EvaluationPlan) -> dict:
    """The content of summary.json, which `evaluate` writes and returns."""
    returned = evaluate(run, of)
    path = run / "evaluation/summary.json"
    assert SummaryRecord.read(path) == returned
    return json.loads(path.read_text())


def summarised(run: Path, of: EvaluationPlan) -> SummaryRecord:
    """What `evaluate` would return, without the tables, figures and checklists that it writes, most of its time."""
    runs = finished_runs(run)
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    return summarise(cases, folds, read_grid(runs, cases, folds), runs, of)


def numbers(run: Path, of: EvaluationPlan) -> dict:
    """As `evaluated` returns them, and nothing is written."""
    return json.loads(summarised(run, of).as_json())


def wrong_for_some(modalities: str, fold: int, case) -> float:
    """Right for most cases; which ones are missed differs between sets and folds, and nothing else does."""
    share = {"rd": 0.2, "rd_event": 0.1, "event": 0.4, "post_event": 0.3}[modalities]
    missed = np.random.default_rng([*case.case_key.encode(), *modalities.encode(), fold]).random() < share
    # Misses are surer than hits, so that vote and mean probability can disagree.
    return 0.6 - 0.2 * (case.label == 0) if not missed else 0.95 - 0.9 * case.label


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    cases = tmp_path_factory.mktemp("evaluate") / "cases"
    return cases, write_cases_folder(cases, make_cases({"cv": (31, 24), "test": (7, 5)}))


@pytest.fixture(scope="module")
def half(cohort):
    """A half-finished grid: two whole sets, two with some folds."""
    cases, folds = cohort
    run = cases.parent / "outputs" / "half"
    write_grid(run, cases, folds, ("rd", "rd_event"), wrong_for_some)
    write_grid(run, cases, folds, ("event",), wrong_for_some, only_folds=(1, 3))
    write_grid(run, cases, folds, ("post_event",), wrong_for_some, only_folds=(0,))
    (run / "post/fold0").mkdir(parents=True)  # started, no DONE
    return run, folds, evaluated(run, plan(DRAWS))


def test_pooled_and_fold_values_are_those_of_the_predictions(half):
    run, _, summary = half
    for modalities in ("rd", "rd_event", "event"):
        found, pooled, by_fold = summary["sets"][modalities], [], []
        for fold in range(5):
            path = run / modalities / f"fold{fold}" / "predictions.csv"
            rows = [row for row in csv.DictReader(path.open()) if row["split"] == "val"] if path.exists() else []
            pairs = [(int(row["label"]), int(float(row["prob_rice"]) > 0.5)) for row in rows]
            pooled += pairs
            by_fold.append(macro(pairs) if pairs else None)
        assert found["oof_macro_f1"] == pytest.approx(macro(pooled))
        assert found["folds"] == pytest.approx(by_fold)
        finished = [value for value in by_fold if value is not None]
        assert found["folds_mean"] == pytest.approx(np.mean(finished))
        assert found["folds_sd"] == pytest.approx(np.std(finished, ddof=1))
        assert found["n"] == len(pooled)
        assert found["oof_interval"][0] < found["oof_macro_f1"] < found["oof_interval"][1]
        assert found["oof_interval_method"] == ("bootstrap" if len(pooled) >= 50 else "jeffreys")
        assert 1 - found["oof"]["specificity"] == pytest.approx(np.mean([d for y, d in pooled if y == 0]))


def test_ensembles_are_those_of_the_predictions(half):
    run, _, summary = half
    members = [list(csv.DictReader((run / f"rd/fold{fold}/predictions.csv").open())) for fold in range(5)]
    members = [{row["case_key"]: row for row in rows if row["split"] == "test"} for rows in members]
    labels = {key: int(row["label"]) for key, row in members[0].items()}
    rice = {key: np.array([float(member[key]["prob_rice"]) for member in members]) for key in labels}
    votes = [(labels[key], (rice[key] > 0.5).sum() > 2) for key in labels]
    means = [(labels[key], rice[key].mean() > 0.5) for key in labels]
    assert any(vote != mean for vote, mean in zip(votes, means, strict=True))
    found = summary["sets"]["rd"]
    assert found["test_vote_macro_f1"] == pytest.approx(macro(votes))
    assert found["test_mean_macro_f1"] == pytest.approx(macro(means))
    assert found["test_members"] == [0, 1, 2, 3, 4]
    assert found["test_interval_method"] == "jeffreys"
    assert found["n_test"] == 12


def test_unfinished_grid_is_named_and_only_common_patients_are_compared(half):
    _, folds, summary = half
    assert set(summary["sets"]) == {"rd", "rd_event", "event", "post_event"}
    assert len(summary["missing"]) == 35 - 13
    assert {"event/fold0", "event/fold2", "post/fold0", "rd_post_event/fold4"} <= set(summary["missing"])
    assert not any(cell.startswith(("rd/", "rd_event/")) for cell in summary["missing"])
    assert any("different patients" in note for note in summary["notes"])
    assert list(summary["contrasts"]) == ["rd_event - event"]
    contrast = summary["contrasts"]["rd_event - event"]
    common = [case for fold in (1, 3) for case in folds.validation(fold)]
    values = [
        macro((case.label, wrong_for_some(m, folds.fold_of[case.case_key], case) > 0.5) for case in common)
        for m in ("rd_event", "event")
    ]
    assert contrast["folds"] == [1, 3]
    assert contrast["n"] == len(common)
    assert contrast["macro_f1"] == pytest.approx(values)
    assert contrast["difference"] == pytest.approx(values[0] - values[1])
    assert contrast["interval"][0] < contrast["difference"] < contrast["interval"][1]


def test_bayes_is_scored_on_the_sets_own_cases(half):
    _, folds, summary = half
    every_tenth = {case.case_key for case in make_cases({"cv": (31, 24), "test": (7, 5)})[::10]}
    for modalities, finished in (("rd", range(5)), ("event", (1, 3))):
        cases = [case for fold in finished for case in folds.validation(fold)]
        expected = macro((case.label, case.label ^ (case.case_key in every_tenth)) for case in cases)
        assert summary["sets"][modalities]["bayes_macro_f1"] == pytest.approx(expected)


def test_baselines(half):
    _, folds, summary = half
    dose, larger = summary["baselines"]["dose_volume"], summary["baselines"]["majority_class"]
    # Half of the brain got 60 Gy in every RICE case and 30 Gy in every recurrence.
    assert dose["oof_macro_f1"] == dose["test_vote_macro_f1"] == 1.0
    assert larger["oof_macro_f1"] == pytest.approx(macro((case.label, 0) for case in folds.cases if case.split == "cv"))
    assert larger["test_vote_macro_f1"] == pytest.approx(macro((case.label, 0) for case in folds.test()))
    assert larger["oof"]["auroc"] == 0.5
    assert dose["n"] == larger["n"] == 55


def test_summary_and_table_hold_the_contract(half):
    run, folds, summary = half
    assert read_summary(run).as_json() == (run / "evaluation/summary.json").read_text()
    assert summary["folds_hash"] == folds.hash
    assert summary["cohort"] == {
        "validation": {"cases": 55, "patients": 55, "recurrence": 31, "rice": 24},
        "test": {"cases": 12, "patients": 12, "recurrence": 7, "rice": 5},
        "excluded": None,
    }
    assert summary["paper"]["rd_post_event"] == {"validation": 0.804, "test": 0.916}
    rows = {row["modalities"]: row for row in csv.DictReader((run / "evaluation/table.csv").open())}
    assert list(rows) == [*PAPER, "majority_class", "dose_volume"]
    assert rows["rd_post_event"]["paper_test"] == "0.9160"
    assert rows["rd_post_event"]["oof_macro_f1"] == ""
    assert float(rows["rd"]["oof_macro_f1"]) == pytest.approx(summary["sets"]["rd"]["oof_macro_f1"], abs=1e-4)
    assert rows["event"]["folds_finished"] == "2"
    for name in ("figure1.png", "figure1.svg", "figure2.png", "figure2.svg"):
        assert (run / "evaluation" / name).stat().st_size > 5000
    assert "patient-" not in (run / "evaluation/summary.json").read_text()


def test_same_input_same_bytes_and_both_knobs_matter(half):
    run, _, summary = half
    before = {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()}
    evaluated(run, plan(DRAWS))
    assert {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()} == before
    interval = summary["sets"]["rd"]["oof_interval"]
    for draws, seed in ((DRAWS, 1), (DRAWS + 500, 0)):
        other = numbers(run, plan(draws, seed))
        assert other["sets"]["rd"]["oof_interval"] != interval
        assert other["bootstrap"]["draws"] == draws
        assert other["bootstrap"]["seed"] == seed


@pytest.fixture
def one(cohort, tmp_path):
    """A grid of one finished run, to be broken."""
    cases, folds = cohort
    folder = write_run(tmp_path / "run", cases, folds, "rd", 0, lambda case: 0.9 if case.label else 0.1)
    return tmp_path / "run", folder


def refused(run: Path, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        evaluate(run, plan(DRAWS))
    assert not (run / "evaluation").exists()


def test_a_run_that_does_not_fit_is_refused_and_nothing_is_written(one):
    run, folder = one
    folder.rename(run / "rd/fold1")
    refused(run, "run rd/fold1: run.json says rd/fold0")


@pytest.mark.slow
def test_one_fold_alone(one):
    found = numbers(one[0], plan(DRAWS))["sets"]["rd"]
    assert found["oof_macro_f1"] == 1.0
    assert found["folds"] == [1.0, None, None, None, None]
    assert found["folds_sd"] is None


def test_truth_of_another_cohort_is_refused(tmp_path):
    folds = write_cases_folder(tmp_path / "cases", make_cases({"cv": (6, 6)}), n_folds=2)
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ("rd",), lambda *_: 0.3)
    truth = tmp_path / "cases/truth.csv"
    truth.write_text(truth.read_text().replace("rice", "recurrence", 1))
    refused(tmp_path / "run", "expected rice in truth.csv, got recurrence")


def test_runs_that_differ_are_named(one, cohort):
    run, _ = one
    cases, folds = cohort
    write_run(run, cases, folds, "rd", 1, lambda case: 0.4, epochs=800, checkpoint="best")
    notes = numbers(run, plan(DRAWS))["notes"]
    assert "the runs differ in epochs: 3, 800" in notes
    assert any("chosen on the very fold" in note for note in notes)


def test_without_truth_dose_or_test_split(tmp_path):
    cases = make_cases({"cv": (10, 8)}, events_per_patient=2)
    folds = write_cases_folder(tmp_path / "cases", cases, 3, ("post", "event"), truth=False)
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ("post_event",), lambda m, f, case: 0.4 + 0.2 * case.label)
    summary = evaluated(tmp_path / "run", plan(DRAWS))
    found = summary["sets"]["post_event"]
    assert found["oof_macro_f1"] == 1.0
    assert found["oof_interval_method"] == "jeffreys"
    assert (found["n"], found["n_patients"], found["n_test"]) == (36, 18, 0)
    assert found["test_vote_macro_f1"] is found["test_mean_macro_f1"] is found["test_interval"] is None
    assert "bayes_macro_f1" not in found
    assert list(summary["baselines"]) == ["majority_class"]
    assert any("no dose in Gy" in note for note in summary["notes"])
    assert summary["missing"] == [f"{name}/fold{fold}" for name in ("event", "post") for fold in range(3)]
    assert summary["declared"] == ["post_event - post", "post_event - event"]
    assert len(summary["untestable"]) == 12
    assert summary["untestable"]["rd_post_event - post_event"] == ["rd_post_event"]
    assert summary["untestable"]["rd_post_event - dose_volume"] == ["rd_post_event", "dose_volume"]
    assert summary["untestable"]["rd_post_event+numbers - all_numbers"] == ["rd_post_event+numbers", "all_numbers"]
    told = " ".join(headline(read_summary(tmp_path / "run")))
    assert "0 of 2 contrasts that were declared beforehand do not pass, 2 cannot be computed yet" in told
    assert "14 contrasts were declared beforehand; 12 of them need sets or baselines" in told


def test_z_scored_dose_gives_no_dose_volume_numbers(tmp_path):
    folds = write_cases_folder(tmp_path / "cases", make_cases({"cv": (4, 4), "test": (1, 1)}), 2, dose_scale_gy=None)
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ("rd",), lambda *_: 0.3)
    assert list(numbers(tmp_path / "run", plan(DRAWS))["baselines"]) == ["majority_class"]


def test_nothing_finished_is_refused(tmp_path):
    (tmp_path / "rd/fold0").mkdir(parents=True)
    refused(tmp_path, "no finished run")


def test_command_line(one):
    run, _ = one
    command = [sys.executable, "-m", "ricenet.evaluate", f"run={run}", "bootstrap_draws=99"]
    done = commands.run(command)
    assert done.returncode == 0, done.stderr
    assert "1/5" in done.stdout
    assert "1.00 [" in done.stdout
    assert json.loads((run / "evaluation/summary.json").read_text())["bootstrap"]["draws"] == 99


def test_too_few_draws_are_refused(one):
    with pytest.raises(WrongUsage, match="bootstrap_draws=9: "):
        evaluated(one[0], plan(9))


def test_config():
    config = compose("evaluate", EvaluateConfig, ["run=outputs/demo"])
    assert (config.bootstrap_draws, config.seed) == (9999, 0)


def test_one_model_for_all_sets_is_the_eighth_row(cohort, tmp_path):
    """Its own row with all channels, and what it answers when it is shown some of them."""
    cases, folds = cohort
    for fold in range(5):
        folder = write_run(tmp_path, cases, folds, "modality_dropout", fold, lambda case: 0.9 if case.label else 0.1)
        rows = predictions.read_predictions(folder)
        right = [row | {"modalities": "rd"} for row in rows]
        wrong = [
            row | {"logit_rice": -row["logit_rice"], "prob_rice": 1 - row["prob_rice"], "modalities": "post"}
            for row in rows
        ]
        predictions.write_predictions_by_set(folder, [*right, *wrong])
        finish_run(folder, rows, json.loads((folder / "run.json").read_text()))
    summary = evaluated(tmp_path, plan(DRAWS))
    assert summary["sets"]["modality_dropout"]["oof_macro_f1"] == 1
    assert {name: found["oof_macro_f1"] for name, found in summary["one_model"].items()} == {"post": 0, "rd": 1}
    table = list(csv.DictReader((tmp_path / "evaluation" / "table.csv").open()))
    assert [row["modalities"] for row in table[:8]] == [*PAPER, "modality_dropout"]
    assert "shown these channels alone: post 0.00" in as_text(read_summary(tmp_path))
    assert "one model" in (tmp_path / "evaluation" / "figure2.svg").read_text()


@pytest.fixture(scope="module")
def almost(cohort):
    """Three of 35 cells missing and one set absent; each fold of rd with two seeds; evaluated by the command."""
    cases, folds = cohort
    run = cases.parent / "outputs" / "almost"
    rng = np.random.default_rng(0)
    strength = {"rd": 0.3, "rd_post": 0.2, "rd_event": 0.1, "rd_post_event": 0.1}
    wrong = {name: {case.case_key: rng.random() < strength.get(name, 0.45) for case in folds.cases} for name in PAPER}

    def answer(name, fold, case):
        return 0.8 - 0.6 * (case.label == wrong[name][case.case_key])

    missing = [("post_event", 1), ("post_event", 4), ("rd_event", 2)]
    for name in PAPER:
        for fold in range(5):
            if name != "post" and (name, fold) not in missing:
                write_run(run, cases, folds, name, fold, lambda case, n=name, f=fold: answer(n, f, case))
    for fold in range(5):
        write_run(run, cases, folds, "rd", fold, lambda case: 0.9 - 0.8 * (case.label == 0), seed=4, beside=True)
    done = commands.run([sys.executable, "-m", "ricenet.evaluate", f"run={run}", "bootstrap_draws=199"])
    return run, folds, missing, done


def test_a_grid_with_missing_cells_and_an_absent_set(almost, cohort):
    """Exit 0, the gaps on top and as a warning, no set compared over other patients."""
    run, folds, missing, done = almost
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert "WARNING the grid is not finished: post; post_event fold 1, 4; rd_event fold 2" in lines[0]
    assert lines[1] == "NOT FINISHED, 8 of 35 cells missing: post; post_event fold 1, 4; rd_event fold 2"
    summary = json.loads((run / "evaluation/summary.json").read_text())
    assert summary["cells"] == 35
    assert set(summary["missing"]) == {f"post/fold{f}" for f in range(5)} | {f"{n}/fold{f}" for n, f in missing}
    pooled = {fold: len(folds.validation(fold)) for fold in range(5)}
    for name, contrast in summary["contrasts"].items():
        pair = name.split(" - ")
        common = [fold for fold in range(5) if not any((one, fold) in missing for one in pair)]
        assert contrast["folds"] == common
        assert contrast["n"] == sum(pooled[fold] for fold in common)
    not_yet = {"rd_post_event - post", "rd_post - post", "post_event - post"}
    assert set(summary["declared"]) - set(summary["contrasts"]) == not_yet
    assert summary["omnibus"]["folds"] == [0, 3]
    assert summary["omnibus"]["sets"] == [name for name in PAPER if name != "post"]
    assert any("different patients" in note for note in summary["notes"])
    for name in ("differences", "confusion", "roc", "calibration", "decision_curve", "figure2"):
        for suffix in (".png", ".svg"):
            assert (run / "evaluation" / f"{name}{suffix}").stat().st_size > 5000
    assert (run / "checklists" / "claim.md").is_file()


def test_two_seeds_of_a_fold_are_averaged(almost):
    run, *_ = almost
    summary = json.loads((run / "evaluation/summary.json").read_text())
    seeds = summary["sets"]["rd"]["seeds"]
    assert seeds["of_folds"] == {str(fold): [0, 4] for fold in range(5)}
    assert seeds["oof_macro_f1"][1] == 1.0
    assert seeds["oof_sd"] > 0
    assert summary["sets"]["rd_post"]["seeds"] is None
    assert any("different seeds" in note for note in summary["notes"])
    rows = list(csv.DictReader((run / "evaluation/predictions.csv").open()))
    mine = {row["case_key"]: float(row["prob_rice"]) for row in rows if row["row"] == "rd" and row["split"] == "cv"}
    assert len(mine) == 55
    assert set(mine.values()) == {0.85, 0.55, 0.15, 0.45}, "means of 0.8 or 0.2 and 0.9 or 0.1"


def test_looks_at_the_test_split_are_counted(cohort, tmp_path):
    cases, folds = cohort
    counts = []
    for fold in (0, 1):
        write_run(tmp_path, cases, folds, "rd", fold, lambda case: 0.3)
        unseen = numbers(tmp_path, plan(99, test=False))
        assert unseen["test_access"] == {"looked": False, "count": None}
        assert unseen["sets"]["rd"]["test_vote_macro_f1"] is None
        counts += [numbers(tmp_path, plan(99))["test_access"]["count"] for _ in range(2)]
    assert counts[0] == counts[1]
    assert counts[2] == counts[3] == counts[0] + 1


def test_controls_are_told_apart_from_the_grid(cohort, tmp_path):
    """Shuffled labels are the run's own; what a control knows of the label is found."""
    cases, folds = cohort
    other = shuffled(folds, 0)
    labels = {case.case_key: case.label for case in other.cases}
    for fold in range(5):
        write_run(tmp_path, cases, folds, "rd", fold, lambda case: 0.9 if case.label else 0.1)
        for row, settings in (
            ("rd-shuffled_labels", {"labels_of": other, "control": "shuffled_labels"}),
            ("metadata_only", {"control": "metadata_only"}),
        ):
            write_run(tmp_path, cases, folds, row, fold, lambda case: 0.9 if case.label else 0.1, **settings)
    record = summarised(tmp_path, plan(199))
    summary = json.loads(record.as_json())
    assert list(summary["sets"]) == ["rd"]
    assert all("shuffled" not in cell for cell in summary["missing"])
    found = {one["row"]: one for one in summary["controls"]}
    assert found["rd-shuffled_labels"]["oof_macro_f1"] == 1.0, "scored on the labels that it was trained on"
    assert found["rd-shuffled_labels"]["above_chance"]
    assert found["metadata_only"]["above_chance"]
    assert any(labels[case.case_key] != case.label for case in folds.cases)
    assert "control metadata_only (seed 0): 1.00" in as_text(record)
    folder = tmp_path / "rd-shuffled_labels/fold0"
    rows = [row | {"label": 1 - row["label"]} for row in predictions.read_predictions(folder)]
    finish_run(folder, rows, json.loads((folder / "run.json").read_text()))
    with pytest.raises(InvalidInput, match="run rd-shuffled_labels/fold0"):
        numbers(tmp_path, plan(99))


def test_subgroups_and_the_clinical_baseline_read_the_covariates(cohort, tmp_path):
    cases = make_cases({"cv": (20, 15), "test": (2, 2)})
    folds = write_cases_folder(tmp_path / "cases", cases)
    lines = [f"{case.case_key},{'AB'[index % 2]},{200 + 50 * case.label + index}" for index, case in enumerate(cases)]
    (tmp_path / "cases/covariates.csv").write_text("\n".join(["case_key,site,days_since_rt", *lines]) + "\n")
    (tmp_path / "cases/excluded.csv").write_text("reason,cases\ndose.unit,3\n")
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ("rd",), lambda m, f, case: 0.4 + 0.2 * case.label)
    summary = evaluated(tmp_path / "run", plan(99))
    assert summary["cohort"]["excluded"] == {"dose.unit": 3}
    assert "3 case(s): 3 dose.unit" in as_text(read_summary(tmp_path / "run"))
    rows = list(csv.DictReader((tmp_path / "run/evaluation/subgroups.csv").open()))
    assert [(row["row"], row["column"], row["level"], row["macro_f1"]) for row in rows] == [
        ("rd", "site", "A", "1.0"), ("rd", "site", "B", "1.0"),
    ]  # fmt: skip
    assert summary["baselines"]["clinical"]["oof_macro_f1"] > 0.6
    assert "the clinical baseline reads days_since_rt" in summary["notes"]


def test_a_contrast_of_an_unknown_row_is_refused(one):
    with pytest.raises(WrongUsage, match="rx is none of"):
        evaluated(one[0], plan(99, contrasts=["rx - rd"]))
    assert not (one[0] / "evaluation").exists()


KINDS = [("post", "event", "rd"), ("event", "rd"), ("post", "event"), ("event",), ("post", "event", "rd")]


def noisy(modalities: str, fold: int, case) -> float:
    """Probabilities that say something, others for each set, fold and case."""
    rng = np.random.default_rng([*case.case_key.encode(), *modalities.encode(), fold])
    return float(np.clip(0.5 + 0.25 * (2 * case.label - 1) + rng.normal(0, 0.3), 0.02, 0.98))


@pytest.fixture(scope="module")
def partial_run(tmp_path_factory) -> Path:
    """60 + 12 cases, of which a fifth has the event alone, and so on (KINDS); every set in every fold."""
    root = tmp_path_factory.mktemp("partial")
    write_cases_folder(root / "cases", make_cases({"cv": (35, 25), "test": (7, 5)}), 3, truth=False)
    folds = keep_channels(root / "cases", lambda place, _: KINDS[place % 5])
    for name, channels in PAPER_CHANNELS.items():
        for fold in range(3):
            having = folds.having(channels)
            write_run(
                root / "run", root / "cases", folds, name, fold, lambda case, of=(name, fold): noisy(*of, case),
                labels_of=having, modalities={"name": name, "channels": list(channels)},
            )  # fmt: skip
    return root / "run"


def decisions_by_hand(run: Path, row: str) -> dict[str, tuple[int, int]]:
    """Case -> label and decision of the cross-validation, from the predictions.csv of a row alone."""
    decided = {}
    for path in run.glob(f"{row}/fold*/predictions.csv"):
        with path.open() as stream:
            for line in csv.DictReader(stream):
                if line["split"] == "val":
                    decided[line["case_key"]] = int(line["label"]), int(float(line["prob_rice"]) > 0.5)
    return decided


def test_sets_of_a_partial_cohort_are_scored_on_who_has_them_and_compared_over_common_cases(partial_run):
    """Every number once more from the csv files, by sklearn and statsmodels."""
    summary = summarised(partial_run, plan(DRAWS))
    with (partial_run.parent / "cases" / "cases.csv").open() as stream:
        channels = {line["case_key"]: set(line["channels"].split()) for line in csv.DictReader(stream)}
    by_hand = {name: decisions_by_hand(partial_run, name) for name in PAPER}
    for name, decided in by_hand.items():
        assert all(set(PAPER_CHANNELS[name]) <= channels[key] for key in decided)
        assert summary.sets[name].n == len(decided)
        assert summary.sets[name].oof_macro_f1 == pytest.approx(macro(decided.values()))
    assert len({len(decided) for decided in by_hand.values()}) == 3
    for pair, contrast in summary.contrasts.items():
        a, b = (by_hand.get(row) for row in pair.split(" - "))
        if b is None:  # the dose-volume baseline
            assert contrast.n == len(by_hand["rd_post_event"])
            continue
        common = sorted(a.keys() & b.keys())
        assert contrast.n == len(common)
        assert contrast.difference == pytest.approx(macro(a[key] for key in common) - macro(b[key] for key in common))
        right = [[of[key][0] == of[key][1] for key in common] for of in (a, b)]
        table = [
            [sum(x == i and y == j for x, y in zip(*right, strict=True)) for j in (True, False)] for i in (True, False)
        ]
        assert (contrast.mcnemar.only_ours, contrast.mcnemar.only_theirs) == (table[0][1], table[1][0])
        assert contrast.mcnemar.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    p_values = [max(contrast.mcnemar.p, contrast.better_chance_p) for contrast in summary.contrasts.values()]
    assert [c.p_holm for c in summary.contrasts.values()] == pytest.approx(multipletests(p_values, method="holm")[1])
    everywhere = sorted(set.intersection(*(set(decided) for decided in by_hand.values())))
    right = np.array([[of[key][0] == of[key][1] for of in by_hand.values()] for key in everywhere])
    assert (summary.omnibus.n, summary.omnibus.q) == (len(everywhere), pytest.approx(cochrans_q(right).statistic))
    assert summary.baselines["majority_class"].n == 60
    assert summary.baselines["dose_volume"].n == len(by_hand["rd"])
    assert (summary.missing, summary.possible) == ([], list(PAPER))
    assert (summary.power.patients, summary.power.cohort_patients) == (min(c.n for c in summary.contrasts.values()), 60)


def test_a_partial_cohort_says_so_wherever_its_numbers_stand(partial_run):
    summary = evaluate(partial_run, plan(99))
    said = "of 60 cross-validation cases 36 have the post-OP MRI and 36 have the dose."
    assert said in " ".join(headline(summary))
    assert said in as_text(summary)
    assert f"{summary.sets['rd_event'].n} of 60 common cases" in as_text(summary)
    assert said in (partial_run / "checklists" / "tripod_ai.md").read_text()
    assert "every channel that its cohort has" not in (partial_run / "checklists" / "tripod_ai.md").read_text()
    forest = (partial_run / "evaluation" / "differences.svg").read_text()
    assert "Not every case has every image" in forest
    assert f"n = {summary.sets['rd'].n}" in (partial_run / "evaluation" / "figure2.svg").read_text()
    decided = (partial_run / "evaluation" / "decision_curve.svg").read_text()
    assert "dose-volume" not in decided, "it is of other patients than the set beside it"
    page = write_report(partial_run, None, 0).read_text()
    assert said in page
    assert "The rows are of different cases, so their curves do not compare." in page
    assert f"{summary.sets['rd_event'].n} of 60</td>" in page
    assert "Cases by image" in page


def test_predictions_for_cases_without_the_channels_are_refused(partial_run, tmp_path):
    """A run that was trained as if every case had the dose."""
    run = shutil.copytree(partial_run.parent, tmp_path / "all") / "run"
    folds = read_folds(run.parent / "cases")
    write_run(run, run.parent / "cases", folds, "rd", 0, lambda case: noisy("rd", 0, case))
    with pytest.raises(InvalidInput, match=r"run rd/fold0, split val: expected one prediction for each of .* unknown"):
        evaluate(run, plan(99))


def test_a_row_without_cases_of_both_classes_in_common_is_no_contrast(tmp_path):
    """Only recurrences have both a post-OP MRI and a dose: no set of both, and the pair is counted, not computed."""
    write_cases_folder(tmp_path / "cases", make_cases({"cv": (20, 16), "test": (2, 2)}), 2, truth=False)

    def kind(place, case):
        return (
            ("post", "event", "rd")
            if case.label == 0 and place % 2
            else ("post", "event")
            if place % 4 < 2
            else ("event", "rd")
        )

    folds, run = keep_channels(tmp_path / "cases", kind), tmp_path / "run"
    for name in ("post", "rd"):
        for fold in (0, 1):
            write_run(
                run, tmp_path / "cases", folds, name, fold, lambda case, of=(name, fold): noisy(*of, case),
                labels_of=folds.having([name]),
            )  # fmt: skip
    summary = summarised(run, plan(DRAWS, contrasts=["rd - post", "rd_post - post"]))
    assert "rd_post" not in summary.possible
    assert summary.untestable == {"rd_post - post": ["rd_post"]}
    assert (summary.declared, summary.contrasts) == (["rd - post"], {})
    assert "0 of 1 contrasts that were declared beforehand do not pass, 1 cannot be computed" in " ".join(
        headline(summary)
    )
    as_text(summary)


def test_a_test_split_in_one_class_is_not_scored_for_that_set(tmp_path):
    write_cases_folder(tmp_path / "cases", make_cases({"cv": (6, 6), "test": (2, 2)}), 2, truth=False)
    folds = keep_channels(
        tmp_path / "cases", lambda _, case: ("event",) if case.split == "test" and case.label else ("event", "rd")
    )
    for name in ("event", "rd"):
        write_grid_of(tmp_path / "run", tmp_path / "cases", folds, name)
    summary = evaluate(tmp_path / "run", plan(99))
    assert summary.sets["event"].test_vote_macro_f1 is not None
    assert (summary.sets["rd"].test_vote_macro_f1, summary.sets["rd"].n_test) == (None, 0)
    told = "rd is not scored on the test split: its 2 cases there are not of both classes"
    assert told in summary.notes
    assert "not scored: its test cases are not of both classes" in write_report(tmp_path / "run", None, 0).read_text()


def write_grid_of(run: Path, cases: Path, folds, name: str) -> None:
    for fold in range(folds.n_folds):
        write_run(
            run, cases, folds, name, fold, lambda case, of=(name, fold): noisy(*of, case),
            labels_of=folds.having(PAPER_CHANNELS[name]), modalities={"name": name, "channels": PAPER_CHANNELS[name]},
        )  # fmt: skip


def test_one_set_alone_is_told_without_comparisons(tmp_path):
    folds = write_cases_folder(
        tmp_path / "cases", make_cases({"cv": (12, 9), "test": (2, 2)}), 3, ("event",), None, truth=False
    )
    write_grid_of(tmp_path / "run", tmp_path / "cases", folds, "event")
    summary = evaluate(tmp_path / "run", plan(99))
    assert (summary.missing, summary.possible, list(summary.sets)) == ([], ["event"], ["event"])
    assert (summary.declared, summary.contrasts, summary.omnibus) == ([], {}, None)
    told = " ".join(headline(summary))
    assert "These cases allow one set of inputs (event MRI), so no two sets are compared." in told
    assert "With the inputs that there are (event MRI) the models reach a pooled out-of-fold macro F1 of" in told
    text, page = as_text(summary), write_report(tmp_path / "run", None, 0).read_text()
    for nonsense in ("rd_post", "all seven", "contrast was declared", "contrasts were", "patients can show", "passes"):
        assert nonsense not in text
        assert nonsense not in told
    for nonsense in ("rd_post", "all seven", "not in this grid", "Declared, but not", "could show", "Cochran"):
        assert nonsense not in page
    assert [line.split(",")[0] for line in (tmp_path / "run/evaluation/table.csv").read_text().splitlines()[1:]] == [
        "event", "majority_class",
    ]  # fmt: skip


def test_a_set_of_a_further_channel_is_a_second_set(tmp_path):
    """The paper's sets that these cases allow are one, the study's sets are two."""
    folds = write_cases_folder(
        tmp_path / "cases", make_cases({"cv": (12, 9)}), 3, ("event", "flair"), None, truth=False
    )
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ("event", "event_flair"), noisy)
    summary = summarised(tmp_path / "run", plan(99))
    assert "no two sets are compared" not in " ".join([as_text(summary), *headline(summary)])
    summary = summarised(tmp_path / "run", plan(99, contrasts=["event_flair - event"]))
    assert list(summary.contrasts) == ["event_flair - event"]


def test_rows_that_are_cropped_at_a_place_they_do_not_tell_are_scored_and_named(tmp_path):
    cases, run = tmp_path / "cases", tmp_path / "run"
    folds = write_cases_folder(cases, make_cases({"cv": (12, 8)}), n_folds=2)
    crop = {"at": "lesion", "size_mm": 96.0}
    rows = {
        "rd": {}, "event": {"crop": crop}, "rd@lesion": {"crop": crop},
        "event@random": {"crop": crop | {"at": "random"}},
        "rd@lesion-shuffled_labels": {"crop": crop, "control": "shuffled_labels"},
    }  # fmt: skip
    for row, keys in rows.items():
        labels_of = shuffled(folds, 0) if "control" in keys else None
        modalities = {"name": row, "channels": [row.partition("@")[0]]}
        for fold in (0, 1):
            write_run(
                run, cases, folds, row, fold, lambda case: 0.4 + 0.2 * case.label, labels_of=labels_of,
                modalities=modalities, **keys,
            )  # fmt: skip
    summary = evaluate(run, plan(99, contrasts=["rd@lesion - rd"]))
    assert set(summary.sets) == {"rd", "event", "rd@lesion", "event@random"}
    assert summary.contrasts["rd@lesion - rd"].difference == 0
    assert [control.row for control in summary.controls] == ["rd@lesion-shuffled_labels"]
    assert not any("differ" in note for note in summary.notes)
    page = write_report(run, None, 2).read_text()
    assert "dose, cropped at a lesion found on MRI" in page
    assert "event MRI, cropped at a random place" in page
    assert "a cube of 96 mm around the lesion (6 runs)" in page


def test_a_row_from_others_weights_is_compared_with_its_twin_in_table_figure_and_sentence(tmp_path):
    cases, run = tmp_path / "cases", tmp_path / "run"
    folds = write_cases_folder(cases, make_cases({"cv": (24, 16)}), n_folds=2)
    rows = {"rd_event": 0.45, "rd_event+medicalnet": 0.0}  # the share of wrong predictions
    for row, share in rows.items():
        started = share == 0
        keys = {"pretrained": pretrained_start()} if started else {}
        model = {"name": "medicalnet", "shortcuts": "medicalnet", "pretrained": "ab" * 32 if started else None}
        for fold in (0, 1):
            rng = np.random.default_rng(fold)
            write_run(
                run, cases, folds, row, fold,
                lambda case, rng=rng, share=share: 0.3 + 0.4 * (case.label ^ (rng.random() < share)),
                modalities={"name": row, "channels": ["event", "rd"]}, model=model, **keys,
            )  # fmt: skip
    summary = evaluate(run, plan(199, contrasts=["rd_event - dose_volume"]))
    pair = "rd_event+medicalnet - rd_event"
    assert summary.declared[-1] == pair
    contrast = summary.contrasts[pair]
    scores = [summary.sets[row].oof_macro_f1 for row in ("rd_event+medicalnet", "rd_event")]
    assert (contrast.macro_f1, contrast.difference) == (tuple(scores), pytest.approx(scores[0] - scores[1]))
    assert f"{pair}: +{contrast.difference:.2f} [" in as_text(summary)
    assert not any("differ" in note for note in summary.notes), "the start is told by the row's name"
    labels = contrast_labels(contrast_figures.differences(summary))
    assert "dose + event MRI,\nfrom MedicalNet\nminus dose + event MRI" in labels
    page = write_report(run, None, 2).read_text()
    assert "The network that starts from MedicalNet (rd_event+medicalnet) scores above the same network from" in page
    claim = (run / "checklists" / "claim.md").read_text()
    assert "random weights; transferred weights (SHA-256 abababababab) of MedicalNet, all of it trained" in claim


def contrast_labels(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]
