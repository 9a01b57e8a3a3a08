"""Write one page about one grid: a run folder in, <run>/report.html out. Run: python -m ricenet.report run=DIR

With qc=DIR and no run=, the page about a cases folder once more: <qc>/qc.html (ricenet.cases.qc_page).

The page is self-contained: pictures are inside it, it asks no address for anything and works from a file. It reads
what the other stages wrote under the run folder (and, with qc=, the quality control of a cases folder) and computes no
result itself. What is not there yet is said in words, with the command that makes it.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ricenet import LABELS
from ricenet.command.atomic import hold, replace_file
from ricenet.command.schemas import ReportConfig
from ricenet.command.stage import stage
from ricenet.display import words
from ricenet.display.page import figure, render
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.evaluation import results_table, sentences
from ricenet.paper import PAPER

if TYPE_CHECKING:
    from ricenet.evaluation.checklists import Answer, Checklist
    from ricenet.evaluation.summary import RowScores, SubgroupLevel, SummaryRecord
    from ricenet.training.grid_state import Cell
    from ricenet.training.run_record import RunRecord

SECTIONS = (
    ("headline", "What this run shows"),
    ("cohort", "Cohort"),
    ("grid", "Grid"),
    ("results", "Results"),
    ("errors", "Errors and calibration"),
    ("epochs", "Folds over the epochs"),
    ("occlusion", "Occlusion maps"),
    ("qc", "Quality control"),
    ("checklists", "Checklists"),
    ("provenance", "Provenance"),
)
EVALUATION_SECTIONS = ("errors", "epochs")  # absent without an evaluation
MAX_PICTURES = 24  # of a section, unless the user says otherwise
FIGURES = {
    "figure1": "Figure 1: one axial slice of each image of one case; above each stands which image it is.",
    "figure2": "Figure 2: macro F1 per input combination, validation beside test.",
    "rows": "Every row beside every other: networks, and regressions on numbers in the same folds.",
    "differences": "Declared contrasts: paired differences in pooled macro F1 with 95% intervals.",
    "confusion": "Confusion matrices of the pooled out-of-fold predictions, and of the vote on the test cases.",
    "roc": "ROC curves of the pooled out-of-fold probabilities.",
    "calibration": "Reliability diagrams of the pooled out-of-fold probabilities.",
    "decision_curve": "Decision curve: net benefit of acting on the prediction, over the threshold of probability.",
    "fold_curves": "Training over the epochs, mean and band over the folds of each input combination.",
}


@stage("report", ReportConfig)
def main(cfg: ReportConfig) -> None:
    if cfg.pictures is not None and cfg.pictures < 0:
        raise WrongUsage(f"pictures should be at least 0, got {cfg.pictures}")
    qc = None if cfg.qc is None else Path(cfg.qc)
    if cfg.run is not None:
        page = write_report(Path(cfg.run), qc, MAX_PICTURES if cfg.pictures is None else cfg.pictures)
    elif qc is not None:
        from ricenet.cases import qc_page

        content = qc_page.page(qc, cfg.pictures)
        with hold(qc):
            page = qc_page.write_page(qc, content)
    else:
        raise WrongUsage(
            "nothing to report on: give run=outputs/<name> for a grid, qc=CASES for a cases folder, or both"
        )
    print(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)")


def write_report(run: Path, qc: Path | None, pictures: int) -> Path:
    """Write `run`/report.html and return its path.

    Args:
        qc: a cases folder with qc.csv, or None.
        pictures: at most so many case pictures per section; the rest are counted in words.

    Raises:
        InvalidInput: `run` holds no run of a grid, or an evaluation of another version; or `qc` no qc.csv.
    """
    from ricenet.training.grid_state import read_cells

    cells = read_cells(run)
    if not cells:
        raise InvalidInput(
            "no <modalities>/fold<k> in the run folder",
            "give the folder of a whole grid (outputs/<name>), or train one with python -m ricenet.train",
            code="grid.missing",
        )
    from ricenet.cases.qc_page import qc_view
    from ricenet.evaluation.summary import read_summary
    from ricenet.explanation.map_sentences import points_at
    from ricenet.explanation.report_section import occlusion_view

    evaluation = read_summary(run)
    page = run / "report.html"
    functions = (
        words.number, words.percent, words.signed, words.p_value, words.channel_name,
        sentences.looks, sentences.reach, points_at,
    )  # fmt: skip
    filters = {function.__name__: function for function in functions}
    content = render(
        "report.html.j2",
        filters | {"row_name": partial(words.row_name, channels_of=_channels_of(cells))},
        labels=LABELS,
        sections=[section for section in SECTIONS if evaluation is not None or section[0] not in EVALUATION_SECTIONS],
        control_names=words.CONTROLS,
        name=run.resolve().name,
        run=f"outputs/{run.resolve().name}",  # as in a command; the page may be passed on, so no path of this machine
        grid=grid_view(cells),
        evaluation=evaluation,
        results=None if evaluation is None else results_view(evaluation, [cell.row for cell in cells]),
        figures={name: figure(run / "evaluation", name, caption) for name, caption in FIGURES.items()},
        occlusion=occlusion_view(run / "explanation", pictures),
        qc=None if qc is None else qc_view(qc, pictures),
        checklists=[] if evaluation is None else checklists_view(evaluation, cells),
        provenance=provenance(cells, evaluation),
    )
    replace_file(page, content)
    return page


def _channels_of(cells: "Sequence[Cell]") -> dict[str, list[str]]:
    return {cell.row: cell.record.modalities.channels for cell in cells if cell.record}


def grid_view(cells: "Sequence[Cell]") -> dict[str, Any]:
    """Rows (row of the grid, state per fold), and the commands that train what is not finished.

    Of several seeds a fold all have to be done.
    """
    from ricenet.cases.qc_page import agreed
    from ricenet.training.grid_state import train_commands

    states: dict[str, dict[int, set[str]]] = {}
    for cell in cells:
        states.setdefault(cell.row, {}).setdefault(cell.fold, set()).add(cell.state)
    return {
        "n_folds": len({cell.fold for cell in cells}),
        "rows": [(row, [_fold_state(of_fold) for of_fold in by_fold.values()]) for row, by_fold in states.items()],
        "n_done": sum(cell.state == "done" for cell in cells),
        "n": len(cells),
        "training": agreed((_training(record) for record in _finished(cells) if record.optimisation), "runs"),
        "commands": train_commands(cells),
    }


def _training(record: "RunRecord") -> str:
    """How long a network was trained, by what, and what was kept."""
    assert record.optimisation is not None
    steps = record.optimisation.steps
    length = f"{record.epochs} epochs" if steps is None else f"{steps} steps, as the fewest whole epochs that have them"
    return f"{length}; {record.optimisation.in_words()}"


def _fold_state(states: set[str]) -> str:
    if states == {"done"}:
        return "done"
    return "missing" if states == {"waiting"} else "begun"


class ResultRow(NamedTuple):
    """A modality set, or one model for all sets.

    Attributes:
        scores: None where no fold is finished.
        in_grid: a set of the paper that is not cannot be trained on these cases, or was not begun.
    """

    name: str
    scores: "RowScores | None"
    paper: "dict[str, float | None]"
    in_grid: bool


class ResultsView(NamedTuple):
    """What the page derives from an evaluation.

    Attributes:
        rows: in the paper's order, further ones behind.
        subgroups: of the set `subgroups_of`: the one with all inputs, else the first that is there.
        example: a set that these cases can train, for commands.
        partial: what it means that some cases lack images; None where all have the same.
        single: why nothing is compared, where the cases allow one set; None where they allow more.
    """

    rows: list[ResultRow]
    is_phantom: bool
    headline: list[str]
    subgroups_of: str | None
    subgroups: "Sequence[SubgroupLevel]"
    example: str
    partial: str | None
    single: str | None


def results_view(summary: "SummaryRecord", grid: Collection[str]) -> ResultsView:
    """The rows, sentences and subgroups of an evaluation; `grid`: its rows, finished or not."""
    unpublished: dict[str, float | None] = {"validation": None, "test": None}
    sets = summary.sets
    names = results_table.set_names(summary)
    name = sentences.main_set(summary) or next(iter(sets), None)
    possible = [row for row in PAPER if row in (summary.possible or PAPER)]
    return ResultsView(
        rows=[ResultRow(name, sets.get(name), PAPER.get(name, unpublished), name in grid) for name in names],
        is_phantom=any(scores.bayes_macro_f1 is not None for scores in sets.values()),
        headline=sentences.headline(summary),
        subgroups_of=name,
        subgroups=sets[name].subgroups if name else (),
        example=possible[-1],
        partial=next(iter(sentences.partial_cohort(summary)), None),
        single=sentences.nothing_to_compare(summary) if sentences.is_single(summary) else None,
    )


class ChecklistView(NamedTuple):
    """A filled checklist; `counts`: how many of its items are in which state."""

    checklist: "Checklist"
    filled: "list[Answer]"
    counts: Counter[str]


def checklists_view(summary: "SummaryRecord", cells: "Sequence[Cell]") -> "list[ChecklistView]":
    """Each reporting checklist: how many of its items are in which state, and each item's."""
    from ricenet.evaluation.checklists import answers, read_checklists
    from ricenet.evaluation.facts import read_facts

    facts = read_facts(summary, _finished(cells))
    filled = [(checklist, answers(checklist, facts)) for checklist in read_checklists()]
    return [ChecklistView(checklist, items, Counter(item.state for item in items)) for checklist, items in filled]


def provenance(cells: "Sequence[Cell]", evaluation: "SummaryRecord | None") -> list[tuple[str, str]]:
    """What the finished runs were made with; where they differ, each value with the number of runs that have it."""
    from ricenet.cases.qc_page import agreed

    records = _finished(cells)
    facts: dict[str, list[Any]] = {
        "seed": [record.seed for record in records],
        "epochs": [record.epochs for record in records],
        "weights taken at epoch": [record.checkpoint for record in records],
        "folds": [record.n_folds for record in records],
        "folds hash": [record.folds_hash for record in records],
        "computed inputs, where a set has their parts": [_computed_inputs(record) for record in records],
        "what the networks see": [record.crop.in_words() if record.crop else "whole volumes" for record in records],
    }
    groups = {"model": [record.model for record in records], "made with": [record.versions for record in records]}
    for title, settings in groups.items():
        for name in dict.fromkeys(name for of_run in settings for name in of_run):
            facts[f"{title} {name}"] = [of_run.get(name, "not recorded") for of_run in settings]
    rows = [(name, agreed(values, "runs")) for name, values in facts.items() if values]
    if records:
        rows.append(("training time, all finished folds", _duration(sum(record.elapsed_s or 0 for record in records))))
    if evaluation is not None:
        bootstrap = evaluation.bootstrap
        rows.append(("bootstrap", f"{bootstrap.draws} draws, seed {bootstrap.seed}"))
    return rows


def _finished(cells: "Sequence[Cell]") -> "list[RunRecord]":
    return [cell.record for cell in cells if cell.state == "done" and cell.record]


def _computed_inputs(record: "RunRecord") -> str:
    from ricenet import MODALITIES

    return ", ".join(record.inputs.computed(MODALITIES) if record.inputs else []) or "none"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    main()
