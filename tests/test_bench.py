"""The harness of the benchmarks: what it measures is what was spent, and its JSON holds what design.md promises."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import bench


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return bench.measure(
        "spinning", lambda: spin(0.01), {"triple": lambda: spin(0.03), "asleep": lambda: time.sleep(0.03)}, 3, voxels=8
    )


def test_ratio_is_the_peers_median_over_ours(result: dict[str, Any]) -> None:
    assert result["ours"]["median"] == pytest.approx(0.01, rel=0.1)
    assert result["ratios"]["triple"] == pytest.approx(3, rel=0.1)
    least, most = result["ours"]["spread"]
    assert least <= result["ours"]["median"] <= most


def test_waiting_costs_no_cpu_seconds(result: dict[str, Any]) -> None:
    assert result["unit"] == "CPU s"
    assert result["peers"]["asleep"]["median"] < 0.005


def test_json_holds_the_contract_and_nothing_private(result: dict[str, Any], tmp_path: Path) -> None:
    text = (tmp_path / "outputs/bench/spinning.json").read_text()
    assert json.loads(text) == result
    assert result.keys() == {
        *("benchmark", "machine", "versions", "threads", "unit", "rounds", "ours", "peers", "ratios", "voxels")
    }
    assert result["rounds"] == 3
    assert result["machine"].keys() - {"gpu"} == {"cpu", "cores"}
    for private in (os.uname().nodename, str(Path.home()), str(tmp_path)):
        assert f'"{private}' not in text


def test_table_names_everybody(result: dict[str, Any]) -> None:
    title, *rows = bench.as_table(result).splitlines()
    assert title.startswith("spinning: CPU s")
    assert [row.split()[0] for row in rows] == ["ours", "triple", "asleep"]
    assert rows[0].endswith("1x")


def test_rounds_go_forwards_and_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "BLOCK_S", 0.0)
    calls: list[str] = []
    bench.measure("order", lambda: calls.append("o"), {"p": lambda: calls.append("p")}, 3)
    assert "".join(calls) == "op" + "op" + "po" + "op"


def test_short_work_is_repeated_until_the_block_is_long_enough() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1

    start = time.perf_counter()
    seconds = bench.seconds_per_call(work, bench.WALL)
    assert time.perf_counter() - start >= bench.BLOCK_S
    assert calls > 1000
    assert seconds < 1e-4


def test_seconds_of_a_command_are_counted_where_it_runs() -> None:
    code = "import time; end = time.process_time() + .1\nwhile time.process_time() < end: pass"

    def command() -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    assert 0.1 < bench.seconds_per_call(command, bench.CHILDREN) < 0.4
    assert bench.seconds_per_call(command, bench.CPU) < 0.1
