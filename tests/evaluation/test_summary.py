"""The record of summary.json: the file comes back as it was, and one that does not fit is refused by name."""

import json
from pathlib import Path

import pytest
from helpers.summaries import contrast_content, control_content, row_content, summary, summary_content

from ricenet.errors import InvalidInput
from ricenet.evaluation.summary import SUMMARY, Confusion, read_summary


def full() -> dict:
    """A summary with a part of every kind."""
    spread = {"of_folds": {"0": [0, 1]}, "oof_macro_f1": [0.7, 0.8], "oof_mean": 0.75, "oof_sd": 0.07}
    level = {
        "column": "site", "level": "A", "n": 50, "n_patients": 48, "rice": 20, "recurrence": 30, "right": 31,
        "macro_f1": None, "interval": None, "interval_method": None,
    }  # fmt: skip
    return summary_content(
        sets={"rd": row_content(seeds=spread, subgroups=[level], bayes_macro_f1=0.95)},
        baselines={"clinical": row_content()},
        controls=[control_content()],
        contrasts={"rd - post": contrast_content(fold_test=None)},
        omnibus={"q": 7.0, "df": 2, "p": 0.03, "sets": ["rd", "post", "event"], "folds": [1], "n": 40},
        untestable={"rd_post - post": ["rd_post"]},
    )


def write(run: Path, content: dict) -> Path:
    path = run / SUMMARY
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def test_a_file_that_was_read_is_written_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, full())
    before = json.loads(path.read_text())
    record = read_summary(tmp_path)
    assert record is not None
    record.write(path)
    assert json.loads(path.read_text()) == before
    text = path.read_text()
    read_summary(tmp_path).write(path)  # type: ignore[union-attr]
    assert path.read_text() == text
    assert '"kind": "shuffled_labels",\n   "row"' in text, "a control begins with what was run"


def test_a_grid_that_was_not_evaluated_has_no_summary(tmp_path: Path) -> None:
    assert read_summary(tmp_path) is None


def test_the_first_files_of_this_version_can_be_read(tmp_path: Path) -> None:
    content = {key: value for key, value in full().items() if key not in ("one_model", "untestable")}
    write(tmp_path, content)
    record = read_summary(tmp_path)
    assert record is not None
    assert (record.one_model, record.untestable) == ({}, {})
    assert json.loads(record.as_json()).keys() == content.keys()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"version": 1}, "summary.version", "another version of ricenet; run python -m ricenet.evaluate run=outputs/"),
        ({"n_folds": "many"}, "record.damaged", "n_folds"),
        ({"secret": 1}, "record.damaged", "summary.json cannot be read"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict, code: str, message: str) -> None:
    write(tmp_path, full() | change)
    with pytest.raises(InvalidInput, match=message) as refusal:
        read_summary(tmp_path)
    assert refusal.value.code == code
    assert "secret" not in str(refusal.value)


def test_a_number_that_json_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        summary(power=summary_content()["power"] | {"discordance": float("nan")}).write(path)
    assert not path.exists()


def test_all_cases_of_a_confusion_matrix() -> None:
    assert Confusion(tp=1, fn=2, fp=3, tn=4).n == 10
