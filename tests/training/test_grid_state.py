"""The cells of a grid, read from run folders in every state; and what status and report say of them."""

import json
import threading
from pathlib import Path

import pytest
from helpers.fewer_channels import keep_channels
from helpers.html_page import Page
from helpers.make_grid import make_cases, write_cases_folder, write_grid, write_run
from helpers.run_records import pretrained_start, run_record, write_begun_run

from ricenet.cohort.folds import Folds
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.atomic import hold, replace_file
from ricenet.networks.number_inputs import NumberInputs
from ricenet.paper import PAPER, PAPER_CHANNELS
from ricenet.report import write_report
from ricenet.training.grid_state import Cell, possible_sets, read_cells, train_commands
from ricenet.training.grid_summary import grid_table
from ricenet.training.run_folder import run_folder

MRI = ["event", "post", "post_event"]


def cell(run: Path, row: str, fold: int) -> Cell:
    (found,) = [one for one in read_cells(run) if (one.row, one.fold) == (row, fold)]
    return found


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "done"])
def test_who_holds_the_folder_is_running_whatever_run_json_still_says(tmp_path: Path, status: str) -> None:
    """A resumed run, before it writes run.json anew, and one that is about to write DONE."""
    folder = write_begun_run(tmp_path, "rd/fold0", status=status)
    with hold(folder):
        assert cell(tmp_path, "rd", 0).state == "running"
    assert cell(tmp_path, "rd", 0).state == {"running": "killed", "done": "killed"}.get(status, status)


def test_rows_are_those_that_the_cases_allow_and_those_that_are_there(tmp_path: Path) -> None:
    folds = write_cases_folder(
        tmp_path / "cases", make_cases({"cv": (2, 2), "test": (1, 1)}), 2, ("post", "event"), dose_scale_gy=None
    )
    write_grid(tmp_path / "run", tmp_path / "cases", folds, ["post"], lambda *_: 0.5, [0])
    assert [(one.row, one.fold) for one in read_cells(tmp_path / "run")] == [
        (row, fold) for row in ("event", "post", "post_event") for fold in (0, 1)
    ]
    write_begun_run(tmp_path / "run", "modality_dropout/fold0", status="running", n_folds=2)
    write_begun_run(tmp_path / "run", "rd/fold0", status="running", n_folds=2)
    assert list(dict.fromkeys(one.row for one in read_cells(tmp_path / "run"))) == [
        "event", "post", "rd", "post_event", "modality_dropout",
    ]  # fmt: skip


def test_one_model_for_all_sets_is_a_grid_of_one_row(tmp_path: Path) -> None:
    record = {"modalities": {"name": "modality_dropout", "channels": ["post", "event", "rd"]}}
    write_begun_run(tmp_path, "modality_dropout/fold1", status="running", **record)
    assert {one.row for one in read_cells(tmp_path)} == {"modality_dropout"}


def seeds(run: Path) -> list[str]:
    return list(dict.fromkeys(one.name for one in read_cells(run)))


def test_seeds_that_were_added_to_one_set_are_not_expected_of_the_others(tmp_path: Path) -> None:
    """Where a name says a seed, a folder without one is called by the seed of its run.json."""
    record = {"modalities": {"name": "rd_post", "channels": ["post", "rd"]}, "status": "running"}
    for name, seed in (("post/fold0", 0), ("rd_post/fold0", 0), ("rd_post/fold0-seed1", 1)):
        write_begun_run(tmp_path, name, seed=seed, **record)
    assert seeds(tmp_path) == ["post seed 0", "rd seed 0", "rd_post seed 0", "rd_post seed 1"]
    assert [one.state for one in read_cells(tmp_path) if one.fold == 0] == ["killed", "waiting", "killed", "killed"]


def test_of_a_grid_of_several_seeds_every_set_is_expected_with_each(tmp_path: Path) -> None:
    record = {"modalities": {"name": "rd_post", "channels": ["post", "rd"]}, "status": "running"}
    for seed in (0, 1):
        write_begun_run(tmp_path, f"rd_post/fold0-seed{seed}", seed=seed, **record)
    assert seeds(tmp_path) == [f"{row} seed {seed}" for row in ("post", "rd", "rd_post") for seed in (0, 1)]


def test_controls_come_after_the_papers_sets_and_bring_no_sets_of_their_own(tmp_path: Path) -> None:
    for row in ("rd-shuffled_labels", "metadata_only"):
        write_begun_run(tmp_path, f"{row}/fold0", status="running")
    assert seeds(tmp_path) == ["metadata_only", "rd-shuffled_labels"]
    write_begun_run(tmp_path, "rd/fold0", status="running")
    assert seeds(tmp_path) == ["rd", "metadata_only", "rd-shuffled_labels"]


@pytest.mark.parametrize("name", ["run.json", "progress.json"])
def test_a_damaged_file_spoils_its_cell_alone(tmp_path: Path, name: str) -> None:
    write_begun_run(tmp_path, "rd/fold0", {"epoch": 1, "seconds_per_epoch": 1.0}, status="failed", message="no memory")
    (write_begun_run(tmp_path, "rd/fold1", status="failed", message="no disk") / name).write_text('{"epo')
    first, second = read_cells(tmp_path)[:2]
    assert (first.message, second.state) == ("no memory", "failed")
    assert second.message == ("run.json is damaged" if name == "run.json" else "no disk")


def test_a_file_where_a_run_folder_should_be(tmp_path: Path) -> None:
    write_begun_run(tmp_path, "rd/fold0", status="running")
    (tmp_path / "rd" / "fold1").write_text("")
    assert cell(tmp_path, "rd", 1).state == "waiting"


def test_readable_while_it_is_being_written(tmp_path: Path) -> None:
    folder = write_begun_run(tmp_path, "rd/fold0", {"epoch": 0, "seconds_per_epoch": 1.0}, status="running")
    over = threading.Event()

    def train() -> None:
        epoch = 0
        while not over.is_set():
            epoch = epoch % 800 + 1
            replace_file(
                folder / "progress.json", json.dumps({"epoch": epoch, "epochs": 800, "seconds_per_epoch": 1.0})
            )
            run_record(n_folds=5, epochs=800, status="running").write(folder / "run.json")
            if epoch % 100 == 0:
                (folder / "progress.json").unlink()

    with hold(folder):
        writer = threading.Thread(target=train)
        writer.start()
        try:
            assert {cell(tmp_path, "rd", 0).state for _ in range(300)} == {"running"}
        finally:
            over.set()
            writer.join()


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return tmp_path / "cases"


def folds_of(cases: Path, *channels: str) -> Folds:
    """A cases folder with these channels, in two folds."""
    people = make_cases({"cv": (2, 2), "test": (1, 1)})
    return write_cases_folder(cases, people, 2, channels, 60.0 if "rd" in channels else None, truth=False)


def page(run: Path) -> str:
    """The report's section on the grid, in words."""
    return Page(write_report(run, None, 0)).sections["grid"]


def told(run: Path, rows: list[str]) -> tuple[str, str]:
    """What status and the report say of a grid, which have to show the same rows; the report's section in words."""
    table = [line.split("  ")[0] for line in grid_table(run).splitlines()[1 : 1 + len(rows)]]
    assert table == rows
    section = page(run)
    places = [section.find(f" {row} ") for row in rows]
    assert -1 not in places
    assert places == sorted(places)
    assert section.count("done") + section.count("begun") + section.count("missing") >= 2 * len(rows)
    return grid_table(run), section


def finished(run: Path, cases: Path, folds: Folds, row: str, channels: list[str], **record: object) -> None:
    for fold in (0, 1):
        write_run(run, cases, folds, row, fold, lambda _: 0.5, modalities={"name": row, "channels": channels}, **record)


def test_a_finished_grid_without_dose_is_finished(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "post", "event"), tmp_path / "run"
    write_grid(run, cases, folds, MRI, lambda *_: 0.5)
    table, section = told(run, MRI)
    assert "6 runs: 6 done" in table
    assert section.count("done") == 6
    assert "rd" not in section
    assert "python -m" not in section
    assert "not finished" not in section


def test_an_unfinished_grid_without_dose_asks_for_what_its_cases_allow(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "post", "event"), tmp_path / "run"
    write_grid(run, cases, folds, ["post"], lambda *_: 0.5)
    table, section = told(run, MRI)
    assert "6 runs: 2 done, 4 waiting" in table
    assert "4 of 6 trainings are not finished." in section
    assert "python -m ricenet.train -m '+modalities=event,post_event' 'fold=range(2)'" in section


def test_a_further_channel_brings_its_set(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "post", "event", "rd", "t2_flair"), tmp_path / "run"
    write_grid(run, cases, folds, PAPER, lambda *_: 0.5)
    finished(run, cases, folds, "rd_t2_flair", ["rd", "t2_flair"])
    table, section = told(run, [*PAPER, "rd_t2_flair"])
    assert "16 runs: 16 done" in table
    assert "rd_t2_flair dose + t2_flair ✓ done" in section
    assert section.count("done") == 16
    assert "python -m" not in section
    (run_folder(run, "rd_t2_flair", 1) / "DONE").unlink()
    _, section = told(run, [*PAPER, "rd_t2_flair"])
    assert "1 of 16 trainings are not finished." in section
    assert "python -m ricenet.train -m '+modalities=rd_t2_flair' 'fold=range(2)'" in section


def test_a_grid_of_a_further_channel_alone_owes_no_set_of_the_paper(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "post", "event", "rd", "t2_flair"), tmp_path / "run"
    finished(run, cases, folds, "rd_t2_flair", ["rd", "t2_flair"])
    table, section = told(run, ["rd_t2_flair"])
    assert "2 runs: 2 done" in table
    assert section.count("done") == 2
    assert "python -m" not in section


@pytest.mark.parametrize(
    ("channels", "modalities"), [(["post", "event", "rd"], "rd_post_event"), (["post", "event"], "post_event")]
)
def test_one_model_for_all_sets(tmp_path: Path, cases: Path, channels: list[str], modalities: str) -> None:
    folds, run = folds_of(cases, *channels), tmp_path / "run"
    model = {"name": "modality_dropout", "channel_dropout": 0.5}
    finished(run, cases, folds, "modality_dropout", channels, model=model)
    table, section = told(run, ["modality_dropout"])
    assert "2 runs: 2 done" in table
    assert section.count("done") == 2
    assert "python -m" not in section
    (run_folder(run, "modality_dropout", 0) / "DONE").unlink()
    _, section = told(run, ["modality_dropout"])
    command = f"python -m ricenet.train -m '+modalities={modalities}' 'fold=range(2)' model=modality_dropout"
    assert "1 of 2 trainings are not finished." in section
    assert command in section


def test_controls_are_trained_by_commands_of_their_own(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    finished(run, cases, folds, "rd", ["rd"])
    finished(run, cases, folds, "rd-shuffled_labels", ["rd"], control="shuffled_labels")
    finished(run, cases, folds, "metadata_only", [], control="metadata_only")
    rows = ["rd", "metadata_only", "rd-shuffled_labels"]
    table, section = told(run, rows)
    assert "6 runs: 6 done" in table
    assert section.count("done") == 6
    assert "python -m" not in section
    for row in rows:
        (run_folder(run, row, 1) / "DONE").unlink()
    table, section = told(run, rows)
    assert "6 runs: 3 done, 3 killed" in table
    assert "3 of 6 trainings are not finished." in section
    assert train_commands(read_cells(run)) == [
        "python -m ricenet.train -m '+modalities=rd' 'fold=range(2)'",
        "python -m ricenet.train -m 'fold=range(2)' control=metadata_only",
        "python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' control=shuffled_labels",
    ]
    assert all(command in section for command in train_commands(read_cells(run)))


def test_a_row_with_numbers_goes_on_with_what_was_requested(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    number = {"name": "mean_gy", "mean": 20.0, "scale": 5.0, "missing": 0.0, "channels": ["rd"]}
    numbers = {"requested": ["dose_volume", "age"], "numbers": [number]}
    finished(run, cases, folds, "rd+numbers", ["rd"], numbers=NumberInputs.model_validate_json(json.dumps(numbers)))
    (run_folder(run, "rd+numbers", 1) / "DONE").unlink()
    commands = [command for command in train_commands(read_cells(run)) if "numbers" in command]
    assert commands == ["python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' 'model.numbers=[dose_volume,age]'"]


def test_a_set_cropped_at_a_place_that_it_does_not_tell_goes_on_with_its_crop(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    finished(run, cases, folds, "rd@lesion", ["rd"], crop={"at": "lesion", "size_mm": 96.0})
    finished(run, cases, folds, "rd@random-shuffled_labels", ["rd"], control="shuffled_labels")
    for row in ("rd@lesion", "rd@random-shuffled_labels"):
        (run_folder(run, row, 1) / "DONE").unlink()
    assert [command for command in train_commands(read_cells(run)) if "crop" in command] == [
        "python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' crop=lesion crop.everywhere=true",
        "python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' crop=random control=shuffled_labels",
    ]


def test_a_row_from_others_weights_goes_on_with_their_keys(tmp_path: Path, cases: Path) -> None:
    """But for the path of the file, which nobody wrote down."""
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    for row, changes in {"rd+medicalnet": {}, "rd+brainiac_frozen": {"source": "brainiac", "freeze": "all"}}.items():
        finished(run, cases, folds, row, ["rd"], pretrained=pretrained_start(**changes))
        (run_folder(run, row, 1) / "DONE").unlink()
    start = "python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' pretrained="
    assert [command for command in train_commands(read_cells(run)) if "pretrained" in command] == [
        f"{start}brainiac model.pretrained=FILE pretrained.freeze=all",
        f"{start}medicalnet model.pretrained=FILE",
    ]


def test_a_fold_of_several_seeds_is_done_when_all_its_seeds_are(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    for fold in (0, 1):
        for seed in (0, 3):
            write_run(run, cases, folds, "rd", fold, lambda _: 0.5, seed=seed, beside=True)
    assert "4 runs: 4 done" in grid_table(run)
    assert page(run).count("done") == 2
    assert "python -m" not in page(run)
    (run_folder(run, "rd", 1, 3) / "DONE").unlink()
    assert "4 runs: 3 done, 1 killed" in grid_table(run)
    assert page(run).count("begun") == 1
    assert "1 of 4 trainings are not finished." in page(run)
    assert "-m '+modalities=rd' 'fold=range(2)' seed=0,3 several_seeds=true" in page(run)


def test_a_grid_of_another_seed_goes_on_with_it(tmp_path: Path, cases: Path) -> None:
    folds, run = folds_of(cases, "rd"), tmp_path / "run"
    write_run(run, cases, folds, "rd", 0, lambda _: 0.5, seed=7)
    assert train_commands(read_cells(run)) == ["python -m ricenet.train -m '+modalities=rd' 'fold=range(2)' seed=7"]


def test_a_partial_cohort_owes_the_sets_that_every_fold_can_be_trained_on(tmp_path: Path, cases: Path) -> None:
    """Every case has the event, half of them the dose too, and one a post-OP MRI."""
    folds_of(cases, "post", "event", "rd")
    kinds = {0: ("post", "event"), 1: ("event", "rd"), 2: ("event", "rd")}
    by_label: dict[int, int] = {}

    def kind(_: int, case: ReadyCase) -> tuple[str, ...]:
        by_label[case.label] = by_label.get(case.label, -1) + 1
        return kinds.get(by_label[case.label], ("event", "rd"))

    folds = keep_channels(cases, kind)
    run = tmp_path / "run"
    assert possible_sets(cases, folds) == [
        name for name in PAPER if all(map(folds.having(PAPER_CHANNELS[name]).is_trainable, (0, 1)))
    ]
    assert "event" in possible_sets(cases, folds)
    assert "rd_post" not in possible_sets(cases, folds)
    write_run(run, cases, folds, "event", 0, lambda _: 0.5)
    assert list(dict.fromkeys(one.row for one in read_cells(run))) == possible_sets(cases, folds)


def test_fewer_cases_are_told(tmp_path: Path) -> None:
    for row, counts in (("event", {}), ("rd", {"n_cases": 40, "n_cohort_cases": 60})):
        write_begun_run(tmp_path, f"{row}/fold0", modalities={"name": row, "channels": [row]}, **counts)
    assert "cases that have the images: rd 40 of 60\n" in grid_table(tmp_path) + "\n"
