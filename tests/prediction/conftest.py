"""One model folder and one patient for all tests of this package; read only."""

from pathlib import Path

import pytest
from helpers.new_patient import write_model, write_nifti

from ricenet.prediction.ensemble import Ensemble, OcclusionSettings, PredictionSettings, load_ensemble
from ricenet.prediction.model_folder import read_model


@pytest.fixture(scope="session")
def model_folder(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), phantom_cases)


@pytest.fixture(scope="session")
def ensemble(model_folder: Path) -> Ensemble:
    return load_ensemble(read_model(model_folder), "cpu")


@pytest.fixture(scope="session")
def settings(ensemble: Ensemble) -> PredictionSettings:
    """With an occlusion map of few cubes."""
    coarse = OcclusionSettings(
        cube_mm=36.0, stride_mm=36.0, refine_mm=None, precision="fp32", batch_size=8, memory_gb=1.0
    )
    return PredictionSettings(ensemble.model.record.preprocessing, coarse)


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NIfTI of a phantom patient, with a brain mask."""
    return write_nifti(tmp_path_factory.mktemp("patients") / "1", 0)
