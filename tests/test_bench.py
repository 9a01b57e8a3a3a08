"""The benchmarks: what is measured is what was spent, their JSON is complete, peers give the same results."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.receptive_windows import Boxes

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import bench
import multiply_adds
import occlusion
import phantom_truth


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


def test_extra_memory_is_what_a_call_holds_at_its_peak() -> None:
    assert bench.extra_memory_gb(lambda: np.ones(50_000_000).sum()) == pytest.approx(0.4, abs=0.05)
    assert bench.extra_memory_gb(lambda: None) < 0.05


def test_multiply_adds_of_a_whole_volume_are_those_that_torch_counts() -> None:
    network = resnet18(n_input_channels=3, num_classes=2, widen_factor=0.0625).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 40, 40, 40))
    folded = fold(network)
    assert folded is not None
    counted = sum(multiply_adds.multiply_adds(folded, multiply_adds.whole_volume(40)).values())
    assert 2 * counted == counter.get_flop_counts()["Global"][torch.ops.aten.convolution]


@pytest.mark.parametrize("corner", [(0, 0, 0), (24, 8, 16), (80, 80, 80)], ids=str)
def test_multiply_adds_of_a_position_are_those_of_voxels_that_a_mask_reaches(corner: tuple[int, int, int]) -> None:
    folded = fold(resnet18(n_input_channels=3, num_classes=2, widen_factor=0.0625).eval())
    assert folded is not None
    mask = torch.zeros(1, 1, 96, 96, 96)
    mask[(..., *(slice(low, low + 16) for low in corner))] = 1

    def reached(mask: torch.Tensor, kernel: int, step: int) -> torch.Tensor:
        seen = functional.conv3d(mask, torch.ones(1, 1, *[kernel] * 3), None, step, kernel // 2)
        return (seen > 0).float()

    mask = reached(reached(mask, 7, 1), 3, 2)
    pooled_from = functional.conv_transpose3d(mask, torch.ones(1, 1, 3, 3, 3), None, 2, 1, output_padding=1) > 0
    expected = [int(pooled_from.sum()) * folded.stem.weight.numel()]
    for number, block in enumerate(folded.blocks):
        if number % 2 == 0:
            expected.append(0)
        if block.shortcut is not None:
            expected[-1] += int(reached(mask, 1, block.shortcut.step).sum()) * block.shortcut.weight.numel()
        for conv in block.branch:
            mask = reached(mask, 3, conv.step)
            expected[-1] += int(mask.sum()) * conv.weight.numel()
    boxes = Boxes(np.array([corner]), np.full((1, 3), 16), (96, 96, 96))
    assert list(multiply_adds.multiply_adds(folded, boxes).values()) == expected


@pytest.mark.parametrize(("name", "filled"), [("brain", 0.16), ("brain of 40%", 0.40)])
def test_brains_fill_what_is_said(name: str, filled: float) -> None:
    ellipsoid = occlusion.inside(64, occlusion.BRAINS[name])
    assert float(ellipsoid.float().mean()) == pytest.approx(filled, abs=0.005)
    assert torch.equal(ellipsoid, ellipsoid.flip(0, 1, 2))


@pytest.mark.heavy
def test_peers_answer_at_the_same_cubes_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    narrow = resnet18(n_input_channels=3, num_classes=2, widen_factor=0.25).eval()
    monkeypatch.setattr(occlusion, "build_network", lambda: narrow)
    threads = torch.get_num_threads()
    try:
        occlusion.by_position(32, 2)
    finally:
        torch.set_num_threads(threads)
    fp32, bf16 = (json.loads(Path(f"outputs/bench/occlusion_32{name}.json").read_text()) for name in ("", "_bf16"))
    assert (fp32["positions"], fp32["sampled"]) == (27, 27), "four batches: all of them were taken"
    assert fp32["gmac"]["sampled position"] == fp32["gmac"]["position"]
    for record in (fp32, bf16):
        assert record["peers"].keys() == record["ratios"].keys() == {"MONAI", "MONAI bf16", "captum"}
        assert all(record["difference"][peer]["logit"] < 1e-5 for peer in ("MONAI", "captum"))
        assert min(record["range"]) > 1e-3, "equal answers everywhere would prove nothing"
    assert fp32["error_of_range"] == 0 < bf16["error_of_range"] < 0.05
    assert bf16["cache_gb"] == fp32["cache_gb"] / 2


def test_numbers_of_phantoms_go_on_where_a_killed_run_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was cut off is drawn again, a complete one is not; a file of other columns is begun anew."""
    path = tmp_path / "numbers.csv"
    assert phantom_truth.read_rows(path) == []
    cells = ["1.5"] * len(phantom_truth.COLUMNS)
    with path.open("a") as stream:
        stream.write(",".join(cells) + "\n" + ",".join(cells[:5]))
    assert phantom_truth.read_rows(path) == [[1.5] * len(cells)]
    assert path.read_text() == ",".join(phantom_truth.COLUMNS) + "\n" + ",".join(cells) + "\n"
    path.write_text("other,columns\n1,2\n")
    assert phantom_truth.read_rows(path) == []


def test_numbers_of_a_phantom_are_those_of_its_lesion() -> None:
    draw = phantom_truth.draw_cohort(4, 2)[0]
    row = dict(zip(phantom_truth.COLUMNS, phantom_truth.numbers_of(draw, 14, 14.0), strict=True))
    doses = [row[f"true_lesion_dose_{name}_gy"] for name in ("min", "d50", "max")]
    assert [*doses, row["max_gy"]] == sorted([*doses, row["max_gy"]])
    assert row["true_lesion_mm_inside_50"] > row["true_lesion_mm_inside_95"]
    assert 2 < row["true_lesion_volume_ml"] < 20
    assert row["found_within_15_mm"] in (0, 1)


def test_middles_of_masks_are_apart_in_mm_and_an_empty_one_is_nowhere() -> None:
    first, second = np.zeros((9, 9, 9), dtype=bool), np.zeros((9, 9, 9), dtype=bool)
    first[2:5, 4, 4] = True
    assert phantom_truth.middles_apart_mm(first, second, 2.0) == np.inf
    second[6, 4, 7] = True
    assert phantom_truth.middles_apart_mm(first, second, 2.0) == pytest.approx(2 * np.hypot(3, 3))
