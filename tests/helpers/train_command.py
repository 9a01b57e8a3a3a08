"""A quick training, by function and by command line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import commands
from ricenet.command.schemas import TrainConfig, compose

QUICK = ["experiment=smoke", "epochs=2", "trainer.limit_batches=null", "data.batch_size=4"]


def config(cases: Path, run: Path, *overrides: str) -> TrainConfig:
    return compose("train", TrainConfig, [f"cases={cases}", f"run={run}", *QUICK, *overrides])


def command(cases: Path, run: Path, *arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    flags = [argument for argument in arguments if argument == "-m"]
    keys = [argument for argument in arguments if argument != "-m"]
    line = [sys.executable, "-m", "ricenet.train", *flags, f"cases={cases}", f"run={run}", *QUICK, *keys]
    return commands.run(line, **kwargs)
