"""MONAI itself reads the bundle: the same networks from its own classes, and its own checks of the metadata pass."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import model_sample as sample
from helpers.trained import train
from monai.bundle import ConfigParser, verify_net_in_out
from monai.networks.nets import DenseNet, ResNet
from safetensors.torch import save_file
from torch import nn

from ricenet import LABELS
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import LateFusion, of_volumes
from ricenet.networks.number_inputs import NumberInput, NumberInputs
from ricenet.prediction.model_json import ModelRecord
from ricenet.prediction.monai_bundle import inference, metadata, network_definition

DOSE = InputSettings(isodoses_gy=(10.0, 57.5), isodose_edge_gy=20.0, difference=True)
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "resnet50": {"architecture": "resnet50"},
    "densenet121": {"architecture": "densenet121", "conv1_size": 7, "conv1_stride": 2},
    "resnet34 from MedicalNet": {"architecture": "resnet34", "conv1_stride": 2, "pretrained": "a hash"},
    "resnet50 from MedicalNet": {"architecture": "resnet50", "pretrained": "a hash"},
    "resnet18, all stages": {"pool": "multi"},
    "resnet50, all stages": {"architecture": "resnet50", "pool": "multi", "conv1_stride": 2},
    "resnet10, isodoses": {"architecture": "resnet10", "inputs": DOSE},
    "resnet34 of MedicalNet, both": {"architecture": "resnet34", "pretrained": "a", "inputs": DOSE, "pool": "multi"},
    "densenet121, isodoses": {"architecture": "densenet121", "conv1_size": 7, "conv1_stride": 2, "inputs": DOSE},
    "resnet10 without a pool": {"architecture": "resnet10", "max_pool": False, "conv1_size": 3},
}
CHANNELS, SIZE = ["event", "rd"], sample.PREPROCESSING.size


def write_bundle(folder: Path, model: ModelRecord) -> list[nn.Module]:
    """The bundle of two networks after a few training steps; returns them."""
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    networks = []
    for fold in model.folds:
        torch.manual_seed(fold)
        network = model.network.build(model.channels, model.numbers_of_fold(len(networks)))
        _train(of_volumes(network), len(model.channels))
        if isinstance(network, LateFusion):
            nn.init.normal_(network.head.weight)
        save_file(network.state_dict(), folder / "models" / f"fold{fold}.safetensors")
        networks.append(network.eval())
    (folder / "configs" / "inference.json").write_text(json.dumps(inference(model)))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(model)))
    return networks


def _train(network: nn.Module, channels: int) -> None:
    if isinstance(behind_inputs(network), DenseNet):  # takes no volume smaller than 32 voxels
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm3d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.running_mean, 0, 0.1)  # type: ignore[arg-type]
    else:
        train(network, channels, steps=1)


def parse(folder: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser["bundle_root"] = str(folder)
    return parser


@pytest.mark.parametrize(
    "network",
    [pytest.param(one, id=name, marks=[pytest.mark.heavy] * ("densenet" in name)) for name, one in NETWORKS.items()],
)
def test_monai_builds_and_loads_the_same_networks(tmp_path: Path, network: dict[str, Any]) -> None:
    ours = write_bundle(tmp_path, sample.model_record(network))
    parser = parse(tmp_path)
    theirs = parser.get_parsed_content("networks")
    side = SIZE if "densenet" in network.get("architecture", "") else 16
    volume = torch.randn(2, len(CHANNELS), side, side, side).double()
    answers = []
    with torch.inference_mode():
        for one, other in zip(ours, theirs, strict=True):
            assert type(other) in (ResNet, DenseNet)
            assert not other.training
            assert behind_inputs(one).state_dict().keys() == other.state_dict().keys()
            answers.append(one.double()(volume))
            torch.testing.assert_close(other.double()(volume), answers[-1], rtol=0, atol=1e-6)
            assert answers[-1].std() > 1e-3
        logits = torch.stack(answers)
        mean = parser.get_parsed_content("ensemble")(volume)
    torch.testing.assert_close(mean, logits.softmax(2).mean(0), rtol=0, atol=1e-9)
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize("inputs", [None, DOSE], ids=["plain", "isodoses"])
def test_numbers_are_the_second_argument_of_the_ensemble(tmp_path: Path, inputs: InputSettings | None) -> None:
    age = NumberInput(name="age", mean=60.0, scale=8.0, missing=0.2, channels=())
    dose = NumberInput(name="mean_gy", mean=20.0, scale=5.0, missing=0.0, channels=("rd",))
    mgmt = NumberInput(name="MGMT", mean=0.4, scale=0.5, missing=0.0, channels=(), levels=("A", "B"))
    parts = tuple(NumberInputs(requested=("all",), numbers=of_fold) for of_fold in ((dose, age), (age, mgmt)))
    model = sample.model_record({"architecture": "resnet10", "inputs": inputs}, numbers=parts)
    ours = write_bundle(tmp_path, model)
    volume = torch.randn(3, len(CHANNELS), 16, 16, 16)
    numbers = torch.tensor([[25.0, 71.0, 1.0], [18.0, torch.nan, 0.0], [20.0, 60.0, torch.nan]])
    with torch.inference_mode():
        rows = [numbers[:, [0, 1]], numbers[:, [1, 2]]]
        expected = torch.stack([network(volume, row) for network, row in zip(ours, rows, strict=True)])
        mean = parse(tmp_path).get_parsed_content("ensemble")(volume, numbers)
        without = torch.stack([network.network(volume) for network in ours])
    torch.testing.assert_close(mean, expected.softmax(2).mean(0), rtol=0, atol=1e-6)
    assert not torch.allclose(expected, without, atol=1e-2)
    description = json.loads((tmp_path / "configs" / "metadata.json").read_text())["description"]
    assert description.endswith("nan where one is missing, in this order: mean_gy, age, MGMT (A: 0, B: 1).")


def test_in_single_precision_too(tmp_path: Path) -> None:
    ours, volume = write_bundle(tmp_path, sample.model_record()), torch.randn(1, len(CHANNELS), SIZE, SIZE, SIZE)
    with torch.inference_mode():
        theirs = [network(volume) for network in parse(tmp_path).get_parsed_content("networks")]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, one(volume), rtol=1e-6, atol=1e-6)


def test_nothing_of_ricenet_stands_in_it(tmp_path: Path) -> None:
    write_bundle(tmp_path, sample.model_record())
    text = (tmp_path / "configs" / "inference.json").read_text()
    assert "ricenet" not in text
    assert "torch.load(" not in text
    assert str(tmp_path) not in text
    definition = network_definition(["event"], sample.model_record().network)
    assert isinstance(definition, dict)
    assert definition["_target_"] == "monai.networks.nets.ResNet"


def test_the_difference_is_event_minus_post_wherever_they_stand(tmp_path: Path) -> None:
    channels = ("flair", "event", "post")
    model = sample.model_record({"inputs": DOSE, "pool": "multi"}, channels=channels, folds=(1,))
    ours, volume = write_bundle(tmp_path, model)[0], torch.randn(1, 3, 16, 16, 16)
    with torch.inference_mode():
        (theirs,) = parse(tmp_path).get_parsed_content("networks")
        expected = ours(volume)
        torch.testing.assert_close(theirs(volume), expected, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(theirs(volume.flip(1)), expected, atol=1e-3)


def test_computed_channels_are_told_where_there_are_any() -> None:
    told = metadata(sample.model_record({"inputs": DOSE}))["description"]
    assert told.endswith("from its input: dose above 10 Gy, dose above 57.5 Gy.")
    assert "computes" not in metadata(sample.model_record())["description"]


@pytest.mark.parametrize(
    "network",
    [{}, NETWORKS["densenet121"], NETWORKS["resnet34 of MedicalNet, both"]],
    ids=["resnet18", "densenet121", "recipe"],
)
def test_monais_own_check_of_the_metadata(tmp_path: Path, network: dict[str, Any]) -> None:
    write_bundle(tmp_path, sample.model_record(network))
    files = {f"{kind}_file": str(tmp_path / "configs" / f"{name}.json") for kind, name in _FILES.items()}
    verify_net_in_out("network_def", **files, device="cpu")
    written = json.loads((tmp_path / "configs" / "metadata.json").read_text())
    written["network_data_format"]["outputs"]["pred"]["num_channels"] = 3
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="doesn't match"):
        verify_net_in_out("network_def", **files, device="cpu")


_FILES = {"meta": "metadata", "config": "inference"}


def test_metadata_has_what_monais_schema_asks_for() -> None:
    """The keys and types of meta_schema_20240725.json, by hand."""
    found = metadata(sample.model_record())
    texts = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors",
             "copyright", "intended_use", "image_classes", "pred_classes")  # fmt: skip
    assert all(isinstance(found[name], str) and found[name] for name in texts)
    assert all(isinstance(found[name], dict) for name in ("required_packages_version", "changelog", "eval_metrics"))
    assert all(isinstance(one, str) for one in found["references"])
    tensors = {**found["network_data_format"]["inputs"], **found["network_data_format"]["outputs"]}
    assert tensors.keys() == {"image", "pred"}
    types = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list,
             "is_patch_data": bool, "channel_def": dict}  # fmt: skip
    for tensor in tensors.values():
        assert all(type(tensor[name]) is kind for name, kind in types.items())
        assert len(tensor["channel_def"]) == tensor["num_channels"]
    assert tensors["image"]["spatial_shape"] == [SIZE] * 3
    assert [word.split()[-1] for word in tensors["pred"]["channel_def"].values()] == list(LABELS)


def test_channels_are_told_in_order_with_their_scale() -> None:
    model = sample.model_record(channels=("event", "rd", "flair"))
    told = metadata(model)["network_data_format"]["inputs"]["image"]["channel_def"]
    assert told == {
        "0": "event MRI, z-scored in the brain, 0 outside it",
        "1": "dose of the whole treatment in units of 60 Gy",
        "2": "flair, z-scored in the brain, 0 outside it",
    }
    zscored = replace(sample.PREPROCESSING, dose_scaling="zscore")
    told = metadata(sample.model_record(preprocessing=zscored))["network_data_format"]["inputs"]["image"]["channel_def"]
    assert told["1"] == "dose, z-scored in the brain, 0 outside it"


def test_a_phantoms_model_says_so_first() -> None:
    phantom = sample.model_record().cohort.model_copy(update={"phantom": True})
    assert metadata(sample.model_record(cohort=phantom))["description"].startswith("Trained on a synthetic phantom")
    assert "phantom" not in metadata(sample.model_record())["description"]
