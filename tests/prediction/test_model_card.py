"""The card says what the files say, warns of phantoms first, and lets no text of a file become markup."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.evaluated_grid import CHANNELS, write_evaluated_grid
from helpers.run_records import pretrained_start

from ricenet.display.words import interval
from ricenet.prediction.model_card import model_card
from ricenet.prediction.model_folder import export_model, read_model
from ricenet.prediction.model_json import ModelRecord


@pytest.fixture(scope="module")
def exported(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("card")
    run, _ = write_evaluated_grid(root, phantom_cases)
    export_model(run, "rd_event", root / "model")
    return root / "model"


@pytest.fixture
def model(exported: Path) -> ModelRecord:
    return ModelRecord.read(exported / "model.json")


@pytest.fixture
def evaluation(exported: Path) -> dict[str, Any]:
    return json.loads((exported / "evaluation.json").read_text())


def _lines(card: str) -> list[str]:
    return card.splitlines()


def test_a_phantoms_model_says_so_in_the_first_line(model: ModelRecord, evaluation: dict[str, Any]) -> None:
    first = _lines(model_card(model, evaluation))[0]
    assert "synthetic phantom cohort" in first
    cohort = model.cohort.model_copy(update={"phantom": False})
    real = model_card(model.model_copy(update={"cohort": cohort}), evaluation)
    assert _lines(real)[0].startswith("# rd\\_event")
    assert "ricenet.phantom" not in real


def test_says_what_the_files_say(exported: Path, model: ModelRecord, evaluation: dict[str, Any]) -> None:
    card = (exported / "docs" / "README.md").read_text()
    assert card == model_card(model, evaluation)
    assert "Research use only" in card
    assert f"21 cases of 21 patients: {model.cohort.recurrence} recurrences, {model.cohort.rice} RICE" in card
    oof, intervals = evaluation["oof"], evaluation["oof_intervals"]
    for value, bounds in [
        (evaluation["oof_macro_f1"], evaluation["oof_interval"]),
        (oof["auroc"], intervals["auroc"]),
        (oof["sensitivity"], intervals["sensitivity"]),
        (oof["specificity"], intervals["specificity"]),
        (evaluation["calibration"]["slope"], evaluation["calibration"]["slope_interval"]),
    ]:
        assert interval(value, bounds) in card
    assert "16 voxels of 12.0 mm" in card
    assert model.calibration is not None
    assert f"{model.calibration.slope:.2f} times the logit" in card
    assert "Not finished" not in card
    assert "further channels" not in card
    assert "all four stages" not in card


def test_every_section_of_mitchells_card_is_there(exported: Path) -> None:
    headings = re.findall(r"^## (.+)$", (exported / "docs" / "README.md").read_text(), re.MULTILINE)
    assert headings == [
        "What it is", "Intended use", "Not for", "Training data", "Preprocessing", "Evaluation", "Calibration",
        "Limits", "How to load it", "Made with",
    ]  # fmt: skip


def test_tables_are_whole(exported: Path, model: ModelRecord) -> None:
    """Each row has as many cells as its head, and every range has a row."""
    rows = [line for line in _lines((exported / "docs" / "README.md").read_text()) if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    assert set(cells) == {3, 6}
    assert cells.count(6) == 2 + len(model.ranges)


def test_it_knows_when_there_is_no_curve(model: ModelRecord, evaluation: dict[str, Any]) -> None:
    evaluation["calibration"] |= {"slope": None, "slope_interval": None}
    without = {"calibration": None, "calibration_reason": "the answers *rank* no better"}
    card = model_card(model.model_copy(update=without), evaluation)
    assert "No recalibrated probability is given: the answers \\*rank\\* no better." in card
    assert "slope –" in card
    assert "log odds =" not in card


def test_missing_folds_and_seeds_are_told(model: ModelRecord, evaluation: dict[str, Any]) -> None:
    averaged = model.evaluation.model_copy(update={"seeds": 3})
    card = model_card(model.model_copy(update={"folds": (1,), "evaluation": averaged}), evaluation)
    assert "Not finished when it was exported: fold 0." in card
    assert "1 network of one kind" in card
    assert "averaged over up to 3 seeds" in card


def test_no_test_split_no_row(model: ModelRecord, evaluation: dict[str, Any]) -> None:
    assert "held-out test set (3 cases)" in model_card(model, evaluation)
    evaluation["test_mean_macro_f1"] = None
    del evaluation["bayes_macro_f1"]
    card = model_card(model, evaluation)
    assert "held-out" not in card
    assert "best possible reader" not in card


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "a | b", "line\n# heading", "[x](http://evil)", "`x`"]
)
def test_text_of_files_stays_text(model: ModelRecord, evaluation: dict[str, Any], text: str) -> None:
    plain = model_card(model, evaluation)
    hostile = {
        "name": text,
        "versions": model.versions | {"torch": text},
        "preprocessing": replace(model.preprocessing, registration=text),
        "channels": (text, "rd"),
    }
    card = model_card(model.model_copy(update=hostile), evaluation)
    assert text not in card
    assert "<img" not in card
    assert len(_lines(card)) == len(_lines(plain))
    assert not re.search(r"(?<!\\)\]\(", card)  # a link


def test_what_it_shows_of_monai_runs(exported: Path) -> None:
    """The code block of the card, as it stands there, against ricenet's own networks."""
    (code,) = re.findall(r"```python\n(.*?)```", (exported / "docs" / "README.md").read_text(), re.DOTALL)
    volume = torch.randn(2, len(CHANNELS), 16, 16, 16)
    known: dict[str, Any] = {"model": exported, "volume": volume}
    exec(code, known)
    with torch.inference_mode():
        ours = [network(volume).softmax(1)[:, 1].numpy() for network in read_model(exported).networks()]
    np.testing.assert_allclose(known["probability_of_rice"].numpy(), np.mean(ours, axis=0), atol=1e-6)


def test_weights_of_others_are_named_with_licence_and_hash(model: ModelRecord, evaluation: dict[str, Any]) -> None:
    start = pretrained_start(freeze="stem", learning_rate_factor=0.1, licence="for <research> only")
    content = json.loads(model.as_json()) | {"pretrained": start}
    card = model_card(ModelRecord.model_validate_json(json.dumps(content)), evaluation)
    assert "from weights of MedicalNet (SHA-256 abababab" in card
    assert (
        "its first convolution frozen, at 0.1 times the learning rate of the linear layer. Cite: Chen S et al" in card
    )
    assert "<research>" not in card
    assert re.search(r"Licence of these weights: for .*research.* only\.", card)
    assert "Weights of others" not in model_card(model, evaluation)
