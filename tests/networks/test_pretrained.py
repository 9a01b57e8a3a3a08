"""MedicalNet's weights: the same activations as its own network; anything else is refused, and no pickle runs."""

from pathlib import Path

import pytest
import torch
from helpers.small_networks import TINY, medicalnet

from ricenet.errors import InvalidInput
from ricenet.networks.network import build_network
from ricenet.networks.pretrained import load_pretrained


@pytest.mark.parametrize("architecture", ["resnet10", "resnet18", "resnet50"])
def test_pretrained_network_answers_equal_channels_as_the_one(tmp_path: Path, architecture: str) -> None:
    theirs = medicalnet(tmp_path / "weights.pth", architecture).eval()
    ours = build_network(3, **(TINY | {"architecture": architecture, "pretrained": "yes"})).eval()
    load_pretrained(ours, tmp_path / "weights.pth")
    ours.fc.load_state_dict(theirs.fc.state_dict())  # type: ignore[union-attr]
    volume = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(ours(volume.expand(1, 3, 16, 16, 16)), theirs(volume), rtol=1e-4, atol=1e-5)


def test_medicalnets_shape_is_that_of_monais_arguments() -> None:
    """Shortcuts of ResNet-18 without weights, those of ResNet-10 and -50 without a bias."""
    with torch.device("meta"):
        names = {
            name: set(build_network(1, **(TINY | {"architecture": name, "pretrained": "yes"})).state_dict())
            for name in ("resnet18", "resnet50")
        }
    assert not any("downsample" in key for key in names["resnet18"])
    assert "layer1.0.downsample.0.weight" in names["resnet50"]
    assert "layer1.0.downsample.0.bias" not in names["resnet50"]


def test_pretrained_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    medicalnet(path, "resnet10")
    with pytest.raises(InvalidInput, match=r"model\.pretrained lacks .* use MedicalNet's file"):
        load_pretrained(build_network(3, **(TINY | {"pretrained": "yes"})), path)
    medicalnet(path)
    with pytest.raises(InvalidInput, match=r"should have shape .* use MedicalNet's file"):
        load_pretrained(build_network(3, **(TINY | {"width": 8, "pretrained": "yes"})), path)


class Payload:
    def __reduce__(self) -> tuple:
        return (print, ("run by a weights file",))


@pytest.mark.parametrize(
    ("content", "says"), [(Payload(), "more than tensors"), (None, "cannot be read")], ids=["pickle", "garbage"]
)
def test_pretrained_file_that_is_not_tensors_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, says: str
) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        path.write_bytes(b"")
    else:
        torch.save({"state_dict": content}, path)
    with pytest.raises(InvalidInput, match=says):
        load_pretrained(build_network(3, **(TINY | {"pretrained": "yes"})), path)
    assert capsys.readouterr().out == ""
