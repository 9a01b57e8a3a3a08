"""The rule of the fast lane finds what it should, and fails a test that breaks it."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import lanes

PROBE = """
import os, subprocess, sys
from helpers import commands

def helper():
    subprocess.run([sys.executable, "-c", ""])

def test_direct(): subprocess.run([sys.executable, "-c", ""])
def test_through_a_helper(): helper()
def test_through_a_module(): commands.run
def test_through_an_import():
    from helpers.commands import run
def test_hidden(): getattr(sys.modules["subprocess"], "r" + "un")([sys.executable, "-c", ""])
def test_fork():
    if os.fork() == 0: os._exit(0)
def test_nothing(): pass
"""


@pytest.mark.parametrize("name", sorted(lanes.STARTERS | lanes.SLOW | lanes.HEAVY))
def test_the_names_of_the_rule_exist(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_processes_are_marked_or_fail(tmp_path: Path) -> None:
    """In a session of its own: four tests are marked, two that hide what they start fail, one passes."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_probe.py").write_text(PROBE)
    program = (
        f"import sys; sys.path.insert(0, {str(Path(lanes.__file__).parents[1])!r}); import pytest\n"
        "from helpers import lanes; from pathlib import Path; lanes.TESTS = Path('.').absolute()\n"
        "sys.exit(pytest.main(['-q', '-rN', '-p', 'helpers.lanes', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    )
    markers = "markers=process\nslow\nheavy"
    line = [sys.executable, "-c", program, "-m", "not process", "--strict-markers", "-o", markers]
    done = subprocess.run([*line, "test_probe.py"], cwd=tests, capture_output=True, text=True, check=False)
    assert "2 failed, 1 passed, 4 deselected" in done.stdout, done.stdout
    assert done.stdout.count("outside its lane: subprocess.Popen; mark the test") == 1
    assert done.stdout.count("outside its lane: os.fork; mark the test") == 1
