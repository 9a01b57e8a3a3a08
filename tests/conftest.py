"""Fixtures that several test files open, written once a session: phantom cases, and the scans of analytic patients.

What takes seconds to import is imported where it is used: xdist's controller loads this file too, before its workers.
"""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import asdict
from pathlib import Path

import pytest

pytest_plugins = ["helpers.lanes", "helpers.registrations"]


def pytest_collection_modifyitems() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def phantom_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 phantom patients (21 + 3), 2 folds, 16^3 voxels of 12 mm. Read only: copy it before changing anything."""
    from helpers.small_cohort import SMALL

    from ricenet.command.schemas import PhantomConfig, compose
    from ricenet.phantom import write_phantom

    parameters = asdict(compose("phantom", PhantomConfig, ["out=.", *SMALL]))
    out = tmp_path_factory.mktemp("phantom") / "cases"
    del parameters["out"]
    write_phantom(out, **parameters)
    return out


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort folder of two analytic patients. Read only: `own` is a copy to damage."""
    from helpers.analytic_patient import write_two

    return write_two(tmp_path_factory.mktemp("delivery"))


@pytest.fixture
def own(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort that a test may damage."""
    return shutil.copytree(cohort, tmp_path / "own")
