"""Which settings decide a case, and how long its steps took; alignment itself is tested with the case folders."""

import time
from dataclasses import replace

from helpers.analytic_patient import SETTINGS

from ricenet.cases.alignment import timed


def test_what_a_backend_does_not_look_at_does_not_decide() -> None:
    ignored = {"hdbet2_env", "hdbet_models", "hdbet_tta", "device", "brain_software"}
    assert SETTINGS.deciding().keys() == vars(SETTINGS).keys() - ignored
    assert replace(SETTINGS, brain="hdbet").deciding().keys() == vars(SETTINGS).keys() - {"hdbet2_env"}


def test_steps_are_timed() -> None:
    seconds: dict[str, float] = {}
    with timed(seconds, "sleep"):
        time.sleep(0.05)
    assert list(seconds) == ["sleep"]
    assert seconds["sleep"] >= 0.05
