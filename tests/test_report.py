"""The page of a real evaluated grid: complete, self-contained, safe with any text, and honest about what is missing."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import commands
from helpers.cases_folder import write_cases_folder
from helpers.html_page import EVIL, Page, assert_asks_for_nothing, assert_for_everyone
from helpers.make_grid import plan
from helpers.run_records import run_record
from helpers.tiny_grid import write_tiny_grid

from ricenet.cases import qc_page
from ricenet.command.schemas import ReportConfig, compose
from ricenet.errors import InvalidInput
from ricenet.evaluate import evaluate
from ricenet.evaluation.sentences import headline
from ricenet.evaluation.summary import read_summary
from ricenet.explain import explain
from ricenet.explanation.case_map import ExplainSettings
from ricenet.report import grid_view, write_report
from ricenet.training.grid_state import Cell


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of seven sets trained, evaluated, three cases explained."""
    run, folds = write_tiny_grid(tmp_path_factory.mktemp("grid"), ("rd_post_event", "post_event"))
    evaluate(run, plan(200))
    keys = [folds.validation(0)[0].case_key, folds.validation(1)[0].case_key, folds.test()[0].case_key]
    explain(run, "rd_post_event", keys, ExplainSettings(15, 10))
    return run


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(evaluated, tmp_path / "demo")


def page_of(run: Path, qc: Path | None = None, pictures: int = 24) -> Page:
    return Page(write_report(run, qc, pictures))


def test_numbers_of_the_page_are_those_of_the_files(run: Path) -> None:
    page = page_of(run)
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    for name, found in summary["sets"].items():
        row = page.sections["results"].split(f" {name} ", 1)[1]
        low, high = found["oof_interval"]
        assert f" {found['n']} {found['oof_macro_f1']:.2f} [{low:.2f}, {high:.2f}] " in row[:100]
    assert "0.80" in page.sections["results"], "the paper's value for all three inputs"
    contrast = summary["contrasts"]["rd_post_event - post_event"]
    difference = contrast["difference"]
    shown = f"{difference:+.2f}".replace("-", "−") if round(difference, 2) else "0.00"
    assert f"rd_post_event − post_event {contrast['n']} {shown} " in page.sections["results"]
    told = "2 of 11 contrasts that were declared beforehand do not pass, 9 cannot be computed yet"
    assert told in page.sections["headline"]
    evaluated = read_summary(run)
    first = re.search(r'<ul class="headline">\s*<li>([^<]*)</li>', page.source)
    assert evaluated is not None
    assert first is not None
    assert html.unescape(first.group(1)) == headline(evaluated)[0]  # the network against a baseline, not its trainings
    assert "4 of 14 trainings" in page.sections["headline"]
    assert f"{summary['cohort']['validation']['recurrence']}" in page.sections["cohort"]
    assert "1 epochs; constant learning rate; weights averaged (EMA 0.99), batch-norm" in page.sections["grid"]
    assert summary["folds_hash"] in page.sections["provenance"]
    assert "6.0 min" in page.sections["provenance"], "4 folds of 90 s"
    for path in run.glob("explanation/*/*/occlusion.json"):
        record = json.loads(path.read_text())
        assert (
            f"Case {record['case_key']}: {record['label']}, predicted {record['predicted']}"
            in page.sections["occlusion"]
        )
    told = json.loads((run / "explanation" / "summary.json").read_text())["sets"]["rd_post_event"]
    for weights, one in (("trained", told["pointing"]), ("shuffled", told["randomised"]["pointing"])):
        lesion = one["lesion"]
        table = page.sections["occlusion"].split("inputs weights lesion", 1)[1]
        row = table.split(f" {weights} ", 1)[1].replace(" ", "")
        low, high = (f"{bound:.0%}" for bound in lesion["interval"])
        assert row.startswith(f"{lesion['hits']}of{lesion['n']}{low}to{high}[{lesion['chance']:.0%}]p")
    assert "research use only" in page.text.lower()
    assert "Phantom results are not clinical results" in page.text
    assert "cohort is private" in page.text


def test_the_page_asks_for_nothing_outside_itself(run: Path) -> None:
    page = page_of(run)
    assert page.all("img")
    assert_asks_for_nothing(page)
    assert str(run) not in page.source, "a path of this machine"


def test_the_page_can_be_read_by_everyone(run: Path) -> None:
    page = page_of(run)
    assert_for_everyone(page)
    assert len(page.all("img")) >= 5, "two figures and three maps"
    assert len(page.all("table")) > 5
    for word in ("outperform", "significan"):
        assert word not in page.source.lower()


def test_what_is_missing_is_said_with_its_command(run: Path) -> None:
    whole = page_of(run)
    assert "10 of 14 trainings are not finished" in whole.sections["grid"]
    assert "'+modalities=event,post,rd,rd_post,rd_event'" in whole.sections["grid"]
    assert "no finished fold" in whole.sections["results"]
    assert "qc=CASES" in whole.sections["qc"]
    shutil.rmtree(run / "explanation")
    (run / "evaluation" / "figure1.svg").unlink()
    (run / "evaluation" / "figure1.png").unlink()
    partly = page_of(run)
    assert "python -m ricenet.explain run=outputs/demo case=all" in partly.sections["occlusion"]
    assert "figure1 is missing" in partly.sections["results"]
    shutil.rmtree(run / "evaluation")
    (run / "rd_post_event" / "fold1" / "DONE").unlink()
    bare = page_of(run)
    for section in ("headline", "cohort", "results"):
        assert "python -m ricenet.evaluate run=outputs/demo" in bare.sections[section]
    assert bare.sections["grid"].count("begun") == 1
    assert bare.sections["grid"].count("done") == 3
    for done in run.glob("*/*/DONE"):
        done.unlink()
    assert "No training is finished" in page_of(run).sections["provenance"]


def test_contrasts_that_no_set_of_the_study_fits_are_named(run: Path) -> None:
    """As in a study of MRI alone whose configuration compares sets with dose."""
    path = run / "evaluation" / "summary.json"
    summary = json.loads(path.read_text())
    needs = {"rd_post - post": ["rd_post"], "rd_event - event": ["rd_event"]}
    path.write_text(json.dumps(summary | {"declared": [], "contrasts": {}, "untestable": needs}))
    page = page_of(run)
    told = "2 of them need sets or baselines that this study does not have (rd_post, rd_event) and cannot be tested."
    assert f"2 contrasts were declared beforehand; {told}" in page.sections["headline"]
    assert "No declared contrast is between sets of this study." in page.sections["results"]
    named = "rd_post − post (this study has no rd_post); rd_event − event (this study has no rd_event)."
    assert f"Declared, but not testable here: {named}" in page.sections["results"]


def test_an_evaluation_of_another_version_is_refused(run: Path) -> None:
    path = run / "evaluation" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    with pytest.raises(InvalidInput, match="written by another version of ricenet"):
        write_report(run, None, 24)


def test_maps_of_another_version_are_refused(run: Path) -> None:
    path = run / "explanation" / "summary.json"
    path.write_text(json.dumps({"sets": json.loads(path.read_text())["sets"]}))
    with pytest.raises(InvalidInput, match=r"another version of ricenet.*\n?.*explain run=outputs/demo again"):
        write_report(run, None, 24)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="outputs/<name>"):
        write_report(tmp_path, None, 24)
    assert not (tmp_path / "report.html").exists()


def test_text_from_files_is_never_markup(run: Path) -> None:
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    summary["notes"].append(EVIL)
    summary["baselines"][EVIL] = next(iter(summary["baselines"].values()))
    (run / "evaluation" / "summary.json").write_text(json.dumps(summary))
    path = next(run.glob("explanation/*/*/occlusion.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label": EVIL}))
    page = page_of(run)
    assert EVIL not in page.source
    assert_asks_for_nothing(page)
    assert page.text.count(EVIL) >= 3


def test_pictures_are_limited_and_show_every_kind_of_answer(run: Path) -> None:
    records = sorted(run.glob("explanation/rd_post_event/*/occlusion.json"))
    for path, (label, predicted) in zip(
        records, (("rice", "rice"), ("rice", "rice"), ("rice", "recurrence")), strict=True
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"label": label, "predicted": predicted}))
    page = page_of(run, pictures=2)
    assert "2 of 3 cases are shown" in page.sections["occlusion"]
    shown = [image["alt"] for image in page.all("img") if image["alt"] and "slices of case" in image["alt"]]
    assert len(shown) == 2
    assert records[0].parent.name in shown[0]
    assert records[2].parent.name in shown[1], "the wrong answer comes before the second right one"


def test_differences_between_runs_are_counted(run: Path) -> None:
    path = run / "post_event" / "fold0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 7}))
    assert "seed 7 (1 runs); 0 (3 runs)" in page_of(run).sections["provenance"]


def test_computed_inputs_of_the_runs_stand_on_the_page(run: Path) -> None:
    assert "computed inputs, where a set has their parts none" in page_of(run).sections["provenance"]
    inputs = {"isodoses_gy": [20, 50], "isodose_edge_gy": 2, "difference": True}
    path = run / "post_event" / "fold0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": inputs}))
    told = page_of(run).sections["provenance"]
    assert "dose above 20 Gy, dose above 50 Gy, event minus post (1 runs); none (3 runs)" in told


def test_what_the_networks_see_stands_on_the_page(run: Path) -> None:
    assert "what the networks see whole volumes" in page_of(run).sections["provenance"]
    path = run / "post_event" / "fold0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"crop": {"at": "lesion", "size_mm": 96.0}}))
    told = page_of(run).sections["provenance"]
    assert "what the networks see a cube of 96 mm around the lesion (1 runs); whole volumes (3 runs)" in told


def test_quality_control_is_that_of_the_qc_page(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no qc\.csv"):
        write_report(run, tmp_path, 24)
    cases = write_cases_folder(tmp_path / "cases", patients=12)
    page = page_of(run, cases, pictures=2)
    assert_for_everyone(page)
    (tmp_path / "qc.html").write_text(qc_page.page(cases, 2))
    alone = Page(tmp_path / "qc.html").words
    assert alone["numbers"].removeprefix("Numbers ") in page.words["qc"]
    assert alone["pictures"].removeprefix("Pictures ") in page.words["qc"]
    assert "2 of 12 cases are shown, 10 are left out" in page.words["qc"]


def test_without_a_grid_it_is_the_page_that_preprocess_wrote(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", patients=3)
    assert report(f"qc={cases}").returncode == 0
    assert (cases / "qc.html").read_text() == qc_page.page(cases)
    assert {path.name for path in cases.glob(".*")} == {".lock"}
    assert report(f"qc={cases}", "pictures=1").returncode == 0
    assert "1 of 3 cases are shown, 2 are left out" in Page(cases / "qc.html").words["pictures"]


def test_something_must_be_named_and_be_there(tmp_path: Path) -> None:
    assert report().returncode == 2
    assert "give run=outputs/<name> for a grid, qc=CASES for a cases folder, or both" in report().stderr
    assert report("run=x", "pictures=-1").returncode == 2
    assert report(f"qc={tmp_path}").returncode == 3
    assert not list(tmp_path.iterdir())


def report(*keys: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "ricenet.report", *keys]
    return commands.run(line)


def test_checklists_are_those_of_the_run_folder(run: Path) -> None:
    section = page_of(run).words["checklists"]
    for file, name in (("claim.md", "CLAIM 2024"), ("tripod_ai.md", "TRIPOD+AI")):
        assert f"checklists/{file}" in section
        written = (run / "checklists" / file).read_text()
        counts = re.search(r"\*\*(\d+) of (\d+) items are filled by ricenet, (\d+) in part, (\d+) are left", written)
        assert counts is not None
        told = "{} of {} items are filled, {} in part, {} are left to the authors".format(*counts.groups())
        rows = section.split(f" {name} {told}")[1]
        for number, subject, state in re.findall(r"^### (\S+)\. (.*) \((.*)\)$", written, re.MULTILINE):
            words = {"filled": "✓ filled", "in part": "… in part", "for people": "✗ for the authors"}[state]
            assert f" {number} {subject} {words} " in rows
    assert "the title itself, which names the technology" in section


def test_without_an_evaluation_no_link_leads_nowhere(run: Path) -> None:
    shutil.rmtree(run / "evaluation")
    page = page_of(run)
    assert_for_everyone(page)
    assert "python -m ricenet.evaluate run=outputs/demo" in page.words["checklists"]


def test_the_page_is_the_same_each_time(run: Path) -> None:
    assert page_of(run).source == page_of(run).source


def test_the_committed_config_composes() -> None:
    assert compose("report", ReportConfig, ["run=x"]) == ReportConfig(run="x", qc=None, pictures=None)


def test_the_grid_says_how_its_networks_were_trained() -> None:
    """The steps that were asked for, whatever epochs they take in each fold; runs of before do not say."""

    def cell(fold: int, epochs: int, state: str = "done", **optimisation: object) -> Cell:
        keys = {"schedule": "one_cycle", "batch_norm": "precise"} | optimisation
        return Cell("rd", fold, state, record=run_record(epochs=epochs, optimisation=keys))

    kept = "one-cycle learning rate; batch-norm statistics re-estimated over the training cases"
    steps = f"300 steps, as the fewest whole epochs that have them; {kept}"
    assert grid_view([cell(0, 9, steps=300), cell(1, 10, steps=300)])["training"] == steps
    assert grid_view([cell(0, 9), cell(1, 12, "waiting")])["training"] == f"9 epochs; {kept}"
    assert grid_view([cell(0, 9, steps=300), cell(1, 9)])["training"] == f"{steps} (1 runs); 9 epochs; {kept} (1 runs)"
    assert grid_view([Cell("rd", 0, "done", record=run_record())])["training"] == ""
