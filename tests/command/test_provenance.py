"""What a result was made with, without who made it and where."""

import getpass
import json
import socket
import subprocess
import sys
from importlib.metadata import version

from ricenet.command.provenance import provenance
from ricenet.training.metadata_only import PACKAGES


def test_the_versions_are_those_that_are_installed() -> None:
    found = provenance()
    assert (found["torch"], found["lightning"]) == (version("torch"), version("lightning"))
    assert found["threads"] >= 1


def test_no_host_and_no_user() -> None:
    text = json.dumps(provenance())
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert getpass.getuser() not in text


def test_a_regression_needs_no_torch() -> None:
    assert provenance(PACKAGES).keys() == {"ricenet", "commit", *PACKAGES, "python", "machine"}
    probe = (
        "import sys; from ricenet.command.provenance import provenance\n"
        "from ricenet.training.metadata_only import PACKAGES; provenance(PACKAGES); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
