"""The whole path by its commands: raw scans -> cases -> grid -> evaluation -> maps -> page; and the label's traces."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import commands
from sklearn.metrics import f1_score, roc_auc_score

from ricenet.cases.case_reader import load_case
from ricenet.cohort.folds import read_folds
from ricenet.command.schemas import TrainConfig, compose
from ricenet.paper import PAPER_CHANNELS
from ricenet.phantom import write_phantom
from ricenet.train import train
from ricenet.training.trained_network import load_network

pytestmark = pytest.mark.slow


def stage(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"ricenet.{name}", *arguments]
    result = commands.run(command)
    assert result.returncode == 0, f"{name}: {result.stderr[-2000:]}"
    return result.stdout


def test_raw_scans_to_page(tmp_path: Path) -> None:
    """Eight raw phantoms in separate frames, two folds, two modality sets; every stage by its command line."""
    cohort, cases, run = tmp_path / "cohort", tmp_path / "cases", tmp_path / "outputs" / "grid"
    stage("phantom", f"out={cohort}", "format=nifti", "patients=8", "spacing_mm=4")
    use_true_brain_masks(cohort)
    coarse = ["brain=mask", "registration=quick", "spacing_mm=9", "size=24"]
    stage("preprocess", f"cohort={cohort}", f"cases={cases}", *coarse, "folds=2")
    grid = [f"cases={cases}", f"run={run}", "experiment=smoke", "+modalities=rd,rd_event", "fold=0,1"]
    stage("train", "-m", *grid)
    assert len(list(run.glob("*/fold*/DONE"))) == 4
    stage("evaluate", f"run={run}", "bootstrap_draws=200")
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert {name: len(one["folds"]) for name, one in summary["sets"].items()} == {"rd": 2, "rd_event": 2}
    stage("explain", f"run={run}", "case=test", "+modalities=rd_event", "cube_mm=36", "stride_mm=36")
    assert list((run / "explanation" / "rd_event").glob("*/occlusion.nii.gz"))
    stage("report", f"run={run}", f"qc={cases}")
    page = (run / "report.html").read_text()
    assert "Research use only" in page
    assert_no_identifier(run, [b"phantom-", str(tmp_path).encode()])


SMALL_CASES = ["format=cases", "patients=28", "size=12", "case_spacing_mm=16", "folds=2", "jobs=1", "seed=1"]


def train_all(cases: Path, run: Path, modalities: str) -> str:
    """Every set that there is, one model for all of them, and the control on metadata; what the grid said."""
    keys = [f"cases={cases}", f"run={run}", "experiment=smoke", "epochs=2", "trainer.limit_batches=null", "fold=0,1"]
    told = stage("train", "-m", *keys, "+modalities=glob(*)")
    stage("train", "-m", *keys, f"+modalities={modalities}", "model=modality_dropout", "model.width=4")
    stage("train", "-m", *keys, "control=metadata_only")
    return told


def test_a_partial_cohort_to_page(tmp_path: Path) -> None:
    """Some cases lack the post-OP MRI, some the dose: each set is of who has it, and nothing is compared beyond."""
    cases, run = tmp_path / "cases", tmp_path / "outputs" / "grid"
    stage("phantom", f"out={cases}", *SMALL_CASES, "without_post=0.25", "without_rd=0.25")
    table = {row["case_key"]: row for row in rows_of(cases / "cases.csv")}
    channels = {key: set(row["channels"].split()) for key, row in table.items()}
    assert len(set(map(frozenset, channels.values()))) > 2
    train_all(cases, run, "rd_post_event")
    for name, needed in PAPER_CHANNELS.items():
        having = {key for key in table if set(needed) <= channels[key]}
        for fold in ("fold0", "fold1"):
            record = json.loads((run / name / fold / "run.json").read_text())
            assert record.get("n_cases", len(table)) == len(having)
            assert {row["case_key"] for row in rows_of(run / name / fold / "predictions.csv")} <= having
            shown = rows_of(run / "modality_dropout" / fold / "predictions_by_set.csv")
            assert {row["case_key"] for row in shown if row["modalities"] == name} <= having
    everyone = [rows_of(run / "modality_dropout" / fold / "predictions.csv") for fold in ("fold0", "fold1")]
    assert {row["case_key"] for rows in everyone for row in rows} == set(table)
    metadata = json.loads((run / "metadata_only" / "fold0" / "run.json").read_text())["metadata"]
    assert {"has_post", "has_rd"} <= set(metadata)

    stage("evaluate", f"run={run}", "bootstrap_draws=200")
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert summary["missing"] == []
    decided = {name: decisions(run / name) for name in PAPER_CHANNELS}
    for pair, contrast in summary["contrasts"].items():
        if set(pair.split(" - ")) <= decided.keys():
            first, second = (decided[name] for name in pair.split(" - "))
            common = sorted(first.keys() & second.keys())
            scores = [macro_f1([of[key] for key in common]) for of in (first, second)]
            assert (contrast["n"], contrast["difference"]) == (len(common), pytest.approx(scores[0] - scores[1]))
    assert len({contrast["n"] for contrast in summary["contrasts"].values()}) > 1

    stage("explain", f"run={run}", "case=test", "+modalities=rd_event", "cube_mm=64", "stride_mm=64")
    mapped = {path.parent.name for path in (run / "explanation" / "rd_event").glob("*/occlusion.json")}
    tested = {key for key, row in table.items() if row["split"] == "test"}
    assert mapped == {key for key in tested if "rd" in channels[key]}
    stage("report", f"run={run}")
    page = (run / "report.html").read_text()
    assert "Not every case has every image" in page
    assert f"{summary['contrasts']['rd_event - event']['n']} of {summary['cohort']['validation']['cases']}</td>" in page


def test_an_event_only_cohort_to_page(tmp_path: Path) -> None:
    cases, run = tmp_path / "cases", tmp_path / "outputs" / "grid"
    stage("phantom", f"out={cases}", *SMALL_CASES, "without_post=1", "without_rd=1")
    told = train_all(cases, run, "event")
    assert "left out, which these cases cannot train: post, post_event, rd, rd_event, rd_post, rd_post_event" in told
    assert sorted(path.name for path in run.iterdir() if path.is_dir()) == [
        "event",
        "metadata_only",
        "modality_dropout",
    ]
    assert "6 runs: 6 done" in stage("status", f"run={run}")
    text = stage("evaluate", f"run={run}", "bootstrap_draws=200")
    assert "These cases allow one set of inputs (event MRI), so no two sets are compared." in text
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert (summary["missing"], summary["declared"], summary["possible"]) == ([], [], ["event"])
    decided = decisions(run / "event")
    assert summary["sets"]["event"]["oof_macro_f1"] == pytest.approx(macro_f1(list(decided.values())))
    stage("explain", f"run={run}", "case=test", "+modalities=event", "cube_mm=64", "stride_mm=64")
    stage("report", f"run={run}")
    page = (run / "report.html").read_text()
    for nonsense in ("rd_post", "all seven", "not in this grid", "Declared, but not", "could show", "Cochran"):
        assert nonsense not in page
    assert "These cases allow one set of inputs (event MRI)" in page


def macro_f1(decided: list[tuple[int, int]]) -> float:
    return f1_score(*zip(*decided, strict=True), average="macro", labels=[0, 1], zero_division=0)


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open() as stream:
        return list(csv.DictReader(stream))


def decisions(row: Path) -> dict[str, tuple[int, int]]:
    """Case -> label and decision of the cross-validation, from a row's predictions.csv."""
    rows = [line for path in row.glob("fold*/predictions.csv") for line in rows_of(path) if line["split"] == "val"]
    return {line["case_key"]: (int(line["label"]), int(float(line["prob_rice"]) > 0.5)) for line in rows}


def use_true_brain_masks(cohort: Path) -> None:
    """Fill the brain_mask column with the phantom's truth: HD-BET would take minutes here."""
    with (cohort / "cohort.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["brain_mask"] = f"truth/{Path(row['post']).parent.name}_brain.nii.gz"
    with (cohort / "cohort.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def assert_no_identifier(folder: Path, forbidden: list[bytes]) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in forbidden if word in content], path.relative_to(folder)


def test_answers_swap_with_the_effects_of_the_label(tmp_path: Path) -> None:
    """Give each class the other's lesion and dose: a model that saw only these must answer the other way round.

    Whatever else of the label had reached the images would keep its answers where they were.
    """
    parameters = {
        "patients": 240, "format": "cases", "spacing_mm": 0, "size": 20, "case_spacing_mm": 9.8, "folds": 3, "seed": 3,
    }  # fmt: skip
    plain, swapped = tmp_path / "plain", tmp_path / "swapped"
    write_phantom(plain, jobs=2, swap_label_effects=False, **parameters)
    write_phantom(swapped, jobs=2, swap_label_effects=True, **parameters)
    run = tmp_path / "run"
    overrides = ["experiment=phantom_ablation", "epochs=12", f"cases={plain}", f"run={run}"]
    train(compose("train", TrainConfig, overrides))
    scores = [auroc(run / "rd_post_event" / "fold0", cases) for cases in (plain, swapped)]
    assert scores[0] > 0.65
    assert scores[1] < 0.35
    assert abs(scores[0] + scores[1] - 1) < 0.15


def auroc(folder: Path, cases: Path) -> float:
    network, folds = load_network(folder), read_folds(cases)
    unseen = folds.validation(0) + folds.test()
    with torch.inference_mode():
        volumes = [torch.from_numpy(load_case(cases, case, ("post", "event", "rd"))) for case in unseen]
        scores = network(torch.stack(volumes)).softmax(1)[:, 1].numpy()
    return float(roc_auc_score(np.array([case.label for case in unseen]), scores))


def test_grid_can_be_moved_with_its_cases(phantom_cases: Path, tmp_path: Path) -> None:
    """Nothing in a run folder holds an absolute path: grid and cases together may go to another place."""
    here = tmp_path / "here"
    shutil.copytree(phantom_cases, here / "cases")
    for fold in (0, 1):
        overrides = [f"cases={here / 'cases'}", f"run={here / 'outputs' / 'grid'}", f"fold={fold}", "experiment=smoke"]
        train(compose("train", TrainConfig, overrides))
    there = tmp_path / "there"
    here.rename(there)
    stage("evaluate", f"run={there / 'outputs' / 'grid'}", "bootstrap_draws=200")
