"""Fixtures that several test files open: a small phantom cohort of model-ready cases, written once a session."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from ricenet.config import PhantomConfig, compose
from ricenet.phantom import write_phantom

torch.set_num_threads(1)
SMALL = ["format=cases", "patients=24", "size=16", "case_spacing_mm=12", "folds=2", "jobs=1"]


@pytest.fixture(scope="session")
def phantom_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 phantom patients (21 + 3), 2 folds, 16^3 voxels of 12 mm. Read only: copy it before changing anything."""
    parameters = asdict(compose("phantom", PhantomConfig, ["out=.", *SMALL]))
    out = tmp_path_factory.mktemp("phantom") / "cases"
    del parameters["out"]
    write_phantom(out, **parameters)
    return out
