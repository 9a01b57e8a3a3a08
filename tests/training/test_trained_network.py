"""The network of a run folder comes back as it was trained, or is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.run_records import run_record
from helpers.small_networks import TINY
from safetensors.torch import save_file

from ricenet.errors import InvalidInput
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import build_network
from ricenet.training.trained_network import load_network


def write_run(folder: Path, weights: dict[str, torch.Tensor], settings: dict[str, Any] = TINY) -> None:
    run_record(fold=1, model={"name": "x", "channel_dropout": 0.5, **settings}).write(folder / "run.json")
    save_file(weights, folder / "weights.safetensors")


def test_weights_reload_to_the_same_answers(tmp_path: Path) -> None:
    network = build_network(2, **TINY).eval()
    write_run(tmp_path, network.state_dict())
    volume = torch.randn(1, 2, 16, 16, 16)
    assert torch.equal(load_network(tmp_path)(volume), network(volume))


def test_computed_inputs_and_pooling_come_back_with_the_network(tmp_path: Path) -> None:
    inputs = InputSettings(isodoses_gy=(20.0, 50.0), isodose_edge_gy=2.0, difference=True)
    network = build_network(["post", "event", "rd"], inputs=inputs, pool="multi", **TINY).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    record = run_record("rd_post_event", ("post", "event", "rd"), model=TINY | {"pool": "multi"}, inputs=inputs)
    record.write(tmp_path / "run.json")
    volume = torch.randn(1, 3, 16, 16, 16)
    assert torch.equal(load_network(tmp_path)(volume), network(volume))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, build_network(3, **TINY).state_dict())
    with pytest.raises(InvalidInput, match=r"run rd_event fold 1: weights\.safetensors cannot be used"):
        load_network(tmp_path)


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, build_network(2, **TINY).state_dict())
    (tmp_path / "weights.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInput, match=r"run rd_event fold 1: weights\.safetensors cannot be used"):
        load_network(tmp_path)
