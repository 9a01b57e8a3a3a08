"""Weights of others: the same activations as their own network; any other file is refused, and no pickle runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_networks import PAPER, TINY, medicalnet, write_weights
from safetensors.torch import save_file

from ricenet.command.schemas import TrainConfig, compose
from ricenet.errors import InvalidInput
from ricenet.networks.network import LeanResNet, build_network
from ricenet.networks.pretrained import TensorNames, load_pretrained, pretrained_part

SOURCES = {
    "medicalnet": ["resnet10", "resnet18", "resnet50"],
    "neuro_simclr": ["resnet18"],
    "brainiac": ["resnet50"],
}
CASES = [(source, architecture) for source, architectures in SOURCES.items() for architecture in architectures]


def names_of(source: str) -> TensorNames:
    """As conf/pretrained says."""
    return TensorNames.from_config(compose("train", TrainConfig, ["cases=x", f"pretrained={source}"]).pretrained)


def network(source: str = "medicalnet", channels: int = 3, **settings: Any) -> LeanResNet:
    shortcuts = "medicalnet" if source == "medicalnet" else "monai"
    built = build_network(channels, **(TINY | {"shortcuts": shortcuts} | settings))
    assert isinstance(built, LeanResNet)
    return built.eval()


@pytest.mark.parametrize(("source", "architecture"), CASES)
def test_equal_channels_give_the_prediction_of_the_one(tmp_path: Path, source: str, architecture: str) -> None:
    theirs = write_weights(tmp_path / "weights.pth", source, architecture).eval()
    ours = network(source, architecture=architecture)
    load_pretrained(ours, tmp_path / "weights.pth", names_of(source))
    assert ours.fc is not None
    assert theirs.fc is not None
    ours.fc.load_state_dict(theirs.fc.state_dict())
    volume = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(ours(volume.expand(1, 3, 16, 16, 16)), theirs(volume), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrapped", [True, False], ids=["of several processes", "bare, as safetensors"])
def test_names_of_a_file_may_have_another_of_the_prefixes(tmp_path: Path, wrapped: bool) -> None:
    path = tmp_path / ("weights.pth" if wrapped else "weights.safetensors")
    theirs = write_weights(path.with_suffix(".first"), "neuro_simclr")
    tensors = torch.load(path.with_suffix(".first"), weights_only=True)["model_state_dict"]
    if wrapped:
        torch.save({"model_state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)
    else:
        save_file(tensors, path)
    ours = network("neuro_simclr", 1)
    load_pretrained(ours, path, names_of("neuro_simclr"))
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)
    assert torch.equal(ours.layer4[1].bn2.running_var, theirs.layer4[1].bn2.running_var)


def test_a_dose_from_scratch_stays_as_it_was_drawn_and_the_mri_share_the_filters(tmp_path: Path) -> None:
    theirs = write_weights(tmp_path / "weights.pth", "neuro_simclr")
    ours = network("neuro_simclr", 4)
    drawn = ours.conv1.weight.clone()
    load_pretrained(ours, tmp_path / "weights.pth", names_of("neuro_simclr"), [False, False, True, True])
    assert torch.equal(ours.conv1.weight[:, 2:], drawn[:, 2:])
    torch.testing.assert_close(ours.conv1.weight[:, :2].sum(1), theirs.conv1.weight[:, 0])
    assert torch.equal(ours.conv1.weight[:, 0], ours.conv1.weight[:, 1])


def test_the_dose_alone_from_scratch_takes_no_filter_of_theirs(tmp_path: Path) -> None:
    medicalnet(tmp_path / "weights.pth")
    ours = network(channels=1)
    drawn = ours.conv1.weight.clone()
    load_pretrained(ours, tmp_path / "weights.pth", from_scratch=[True])
    assert torch.equal(ours.conv1.weight, drawn)


def test_a_file_of_as_many_channels_gives_each_its_own(tmp_path: Path) -> None:
    theirs = write_weights(tmp_path / "weights.pth", "brainiac", channels=3)
    ours = network("brainiac", 3)
    load_pretrained(ours, tmp_path / "weights.pth", names_of("brainiac"))
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)


def test_the_linear_layer_starts_at_random(tmp_path: Path) -> None:
    """Even where the file has one of the same shape."""
    theirs = write_weights(tmp_path / "weights.pth", "neuro_simclr")
    torch.save({f"encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "weights.pth")
    ours = network("neuro_simclr", 1)
    assert ours.fc is not None
    drawn = ours.fc.weight.clone()
    load_pretrained(ours, tmp_path / "weights.pth", names_of("neuro_simclr"))
    assert torch.equal(ours.fc.weight, drawn)
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)


@pytest.mark.parametrize(
    ("written", "read", "says"),
    [
        ({"architecture": "resnet10"}, {}, r"lacks 40 of 103 tensors of the network \(first: layer1\.1\.bn1\.bias\)"),
        ({"architecture": "resnet34"}, {}, r"has \d+ tensors that the network lacks \(first: layer1\.2\.bn1\.bias\)"),
        ({"architecture": "resnet50"}, {}, r"has \d+ tensors that the network lacks \(first: layer1\.0\.bn3\.bias\)"),
        ({"width": 8}, {}, r"conv1\.weight should have shape \(4, 3, 3, 3, 3\), with .*, got \(8, 1, 3, 3, 3\)"),
        ({"conv1_size": 7}, {}, r"conv1\.weight should have shape \(4, 3, 3, 3, 3\), with .*, got \(4, 1, 7, 7, 7\)"),
        ({"channels": 2}, {}, r"conv1\.weight should have shape .*, with 1 input channel or 3, got \(4, 2, 3"),
        ({"shortcuts": "medicalnet"}, {}, r"lacks 18 of 103 tensors of the network \(first: layer2\.0\.downsample"),
        ({}, {"shortcuts": "medicalnet"}, r"has 21 tensors that the network lacks \(first: layer2\.0\.downsample"),
    ],
    ids=["shallower", "deeper", "bottlenecks", "wider", "larger kernel", "two channels", "no shortcuts", "shortcuts"],
)
def test_tensors_of_another_network_are_refused(
    tmp_path: Path, written: dict[str, Any], read: dict[str, Any], says: str
) -> None:
    write_weights(tmp_path / "weights.pth", "neuro_simclr", **written)
    with pytest.raises(InvalidInput, match=says) as refused:
        load_pretrained(network("neuro_simclr", **read), tmp_path / "weights.pth", names_of("neuro_simclr"))
    assert refused.value.code == "pretrained.other_network"


def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A vision transformer of BrainIAC's second version has the names of the first up to the prefix."""
    tensors = {"backbone.patch_embedding.cls_token": torch.zeros(1, 1, 8), "backbone.blocks.0.mlp.bias": torch.zeros(8)}
    torch.save({"state_dict": tensors}, tmp_path / "vit.ckpt")
    with pytest.raises(
        InvalidInput, match=r"read as a file of pretrained=brainiac: lacks 103 of 103 .*pretrained= whose"
    ):
        load_pretrained(network("brainiac"), tmp_path / "vit.ckpt", names_of("brainiac"))
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(InvalidInput, match=r"lacks 103 of 103"):
        load_pretrained(network("brainiac"), tmp_path / "tensor.pth", names_of("brainiac"))


class Payload:
    def __reduce__(self) -> tuple:
        return (print, ("run by a weights file",))


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (Payload(), "pretrained.pickle", "of neuro_simclr. holds more than tensors"),
        (None, "pretrained.damaged", "cannot be read"),
    ],
    ids=["pickle", "garbage"],
)
def test_a_file_that_is_not_tensors_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, code: str, says: str
) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        path.write_bytes(b"")
    else:
        torch.save({"model_state_dict": content}, path)
    with pytest.raises(InvalidInput, match=says) as refused:
        load_pretrained(network("neuro_simclr"), path, names_of("neuro_simclr"))
    assert refused.value.code == code
    assert capsys.readouterr().out == ""


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not tensors")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_pretrained(network(), path)


@pytest.mark.parametrize(
    ("freeze", "frozen", "trained"),
    [
        ("none", 0, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        ("stem", 2, ["layer1", "layer2", "layer3", "layer4"]),
        ("all", 6, []),
    ],
)
def test_what_is_frozen_has_no_gradient(freeze: str, frozen: int, trained: list[str]) -> None:
    ours = network()
    part = pretrained_part(ours, freeze, 0.1)
    assert part.trained == tuple(ours.get_submodule(name) for name in trained)
    assert len(part.frozen) == frozen
    learning = {name.split(".")[0] for name, parameter in ours.named_parameters() if parameter.requires_grad}
    assert learning == {*trained, "fc"}


def test_the_papers_network_has_the_tensors_of_3d_neuro_simclr() -> None:
    """Theirs is MONAI's ResNet-18 for one channel: 33,170,516 numbers but for its linear layer."""
    with torch.device("meta"):
        tensors = build_network(1, **PAPER).state_dict()
    assert sum(tensor.numel() for name, tensor in tensors.items() if not name.startswith("fc.")) == 33_170_516
