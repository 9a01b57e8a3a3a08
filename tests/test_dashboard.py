"""The committed W&B workspace builds and serialises without key or network, and names metrics that training logs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ricenet.dashboard import SCORES, build_workspace


def test_workspace_groups_by_modality_set_and_shows_every_curve() -> None:
    spec = json.dumps(build_workspace("someone", "ricenet")._to_model().model_dump(mode="json"))
    assert spec.count("modalities.value.name") == 2 * len(SCORES) + 2  # every panel, and the run table
    assert all(metric in spec for metric in SCORES)


def test_curves_are_logged_by_training() -> None:
    source = (Path(__file__).parent.parent / "ricenet" / "model.py").read_text()
    for metric in SCORES:
        assert metric.removeprefix("val/") in source


def test_without_a_key_nothing_is_sent_and_the_next_step_is_named(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "WANDB_API_KEY": "", "NETRC": str(tmp_path / "netrc")}
    command = [sys.executable, "-m", "ricenet.dashboard", "entity=someone"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 3
    assert "wandb login" in result.stderr
