"""docs/notebook.ipynb: every cell runs, in order, on a small likeness of what `make demo` leaves."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dicom_objects import linear, positions, rtdose, rtplan, save
from helpers.new_patient import write_model, write_nifti

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("kept_registrations")]
ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, phantom_cases: Path) -> Path:
    """A delivery with one RTDOSE among other files, a model folder, and a patient as NIfTI."""
    root = tmp_path_factory.mktemp("outputs")
    delivery = root / "demo-hospital" / "dicom"
    delivery.mkdir(parents=True)
    save(rtplan(), delivery / "a")
    save(rtdose(), delivery / "b")
    write_model(root / "grid", phantom_cases).rename(root / "demo-model")
    (root / "demo-raw").mkdir()
    write_nifti(root / "demo-raw" / "1", 0).rename(root / "demo-raw" / "001")
    return root


@pytest.fixture(scope="module")
def names(outputs: Path) -> dict[str, Any]:
    """What the notebook's variables are after its last cell."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RICENET_OUTPUTS", str(outputs))
        for number, cell in enumerate(CODE, start=1):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    return namespace


def test_five_cells_and_no_outputs() -> None:
    assert len(CODE) == 5
    assert not [cell for cell in CODE if cell["outputs"] or cell["execution_count"]]
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])


def test_it_uses_public_names_alone() -> None:
    text = "\n".join("".join(cell["source"]) for cell in CODE)
    assert set(re.findall(r"\bricenet\.(\w+)", text)) == {
        "read_dose", "occlusion_map", "macro_f1", "load_model", "predict_case",
    }  # fmt: skip


def test_it_reads_the_dose_that_was_written(names: dict[str, Any]) -> None:
    highest = linear(positions(rtdose(), [4.0 * plane for plane in range(10)])).max()
    assert names["dose"].volume.voxels.shape == (9, 8, 10)
    assert names["dose"].volume.voxels.max() == pytest.approx(highest, abs=1e-4)


def test_its_score_is_that_of_the_papers_test_split(names: dict[str, Any]) -> None:
    assert (names["score"].value, names["score"].interval) == (
        pytest.approx(0.916, abs=5e-4),
        pytest.approx((0.64, 0.98), abs=0.005),
    )


def test_its_prediction_is_that_of_the_folds(names: dict[str, Any]) -> None:
    prediction = names["prediction"]
    assert prediction.fit, prediction.findings
    assert len(prediction.folds) == len(names["model"].networks)
    assert prediction.probability == pytest.approx(np.mean(prediction.folds))
    assert sum(prediction.votes.values()) == len(prediction.folds)
