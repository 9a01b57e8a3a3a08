"""What a result was made with: nothing in; code, package versions and type of machine out, as in run.json."""

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ricenet import __version__

OF_A_NETWORK = ("torch", "lightning", "monai", "numpy", "torchmetrics")


def provenance(packages: Sequence[str] = OF_A_NETWORK) -> dict[str, Any]:
    """Versions of the code, of `packages` and of Python, and the machine; neither its name nor the user."""
    made_with: dict[str, Any] = {
        "ricenet": __version__,
        "commit": _commit(),
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    if "torch" not in packages:
        return made_with
    import torch  # seconds to load, and only the training of a network asks

    if torch.cuda.is_available():
        made_with["machine"] = torch.cuda.get_device_name()
    return made_with | {"threads": torch.get_num_threads()}


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with `+` where it was changed since; None without one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git on this machine, or a checkout of somebody else's
        return None
