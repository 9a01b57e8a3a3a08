"""Start a network from weights that others trained: a local file in, read without running anything of it.

Whose file it is and how its tensors are called says conf/pretrained; the tensors then have to be all those of the
network, with the same shapes, or the file is refused. The linear layer always starts at random, as does everything
that the network has beside its ResNet.
"""

import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ricenet.command.schemas import PretrainedConfig
from ricenet.errors import InvalidInput

_STEM = ("conv1", "bn1")
_BODY = (*_STEM, "layer1", "layer2", "layer3", "layer4")
_OF_A_RESNET = re.compile(r"(conv1|bn1|layer[1-9])(\.[a-z0-9_]{1,30}){1,5}")


@dataclass(frozen=True)
class TensorNames:
    """Where a file holds the tensors of the network, and how it calls them.

    Attributes:
        source: whose file it is, the name of a file of conf/pretrained.
        state_dict: the entry of the file that they lie in; None, or where there is no such entry: the file itself.
        prefixes: the first that a name begins with is taken off; tensors that begin with none are not read.
    """

    source: str
    state_dict: str | None
    prefixes: tuple[str, ...]

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Self:
        """As conf/pretrained says."""
        return cls(config.name, config.state_dict, tuple(config.prefixes))


MEDICALNET = TensorNames("medicalnet", "state_dict", ("module.", ""))


def load_pretrained(
    network: nn.Module, path: Path, names: TensorNames = MEDICALNET, from_scratch: Sequence[bool] = ()
) -> None:
    """Start `network`, a ResNet, all but its linear layer, from the weights in `path`.

    A first convolution of one channel is given to every channel of ours that shares it, divided by their number: equal
    channels then give the activations of one.

    Args:
        path: tensors as torch.save or safetensors (.safetensors) writes them.
        from_scratch: for each input channel, whether its part of the first convolution stays as it is, drawn at random;
            empty: none does.

    Raises:
        InvalidInput: as read_pretrained.
    """
    tensors = read_pretrained(network, path, names)
    tensors["conv1.weight"] = _inflated(tensors["conv1.weight"], _body(network)["conv1.weight"], from_scratch)
    network.load_state_dict(tensors, strict=False)


def read_pretrained(network: nn.Module, path: Path, names: TensorNames = MEDICALNET) -> dict[str, Tensor]:
    """Read the tensors of all layers of `network` but the linear one; it may be on torch's meta device.

    Raises:
        InvalidInput: a file that cannot be read (`pretrained.damaged`) or holds more than tensors
            (`pretrained.pickle`), or tensors of another architecture (`pretrained.other_network`).
    """
    pretrained = _renamed(_read_tensors(path, names), names)
    expected = _body(network)
    _require_same_layers(pretrained, expected, names)
    channels = expected["conv1.weight"].shape[1]
    for name, tensor in expected.items():
        expected_shape = tuple(tensor.shape)
        shape = tuple(pretrained[name].shape) if name in pretrained else expected_shape
        of_one_channel = name == "conv1.weight" and shape == (expected_shape[0], 1, *expected_shape[2:])
        if shape != expected_shape and not of_one_channel:
            or_one = f", with 1 input channel or {channels}" if name == "conv1.weight" else ""
            raise _other_network(f"{name} should have shape {expected_shape}{or_one}, got {shape}", names)
    return {name: pretrained[name] for name in expected if name in pretrained}


def _body(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name.split(".")[0] in _BODY}


def _renamed(tensors: Mapping[str, Tensor], names: TensorNames) -> dict[str, Tensor]:
    """The tensors that have one of the prefixes, without it."""
    renamed = {}
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in names.prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            renamed[name.removeprefix(prefix)] = tensor
    return renamed


def _require_same_layers(pretrained: Mapping[str, Tensor], initial: Mapping[str, Tensor], names: TensorNames) -> None:
    """Neither fewer layers nor more: the first blocks of a deeper network are none of a shallower one."""
    needed = [name for name in initial if not name.endswith("num_batches_tracked")]  # older files have none
    missing = sorted(name for name in needed if name not in pretrained)
    if missing:
        raise _other_network(
            f"lacks {len(missing)} of {len(needed)} tensors of the network (first: {missing[0]})", names
        )
    further = sorted(name for name in pretrained if name not in initial and _OF_A_RESNET.fullmatch(name))
    if further:
        raise _other_network(f"has {len(further)} tensors that the network lacks (first: {further[0]})", names)


def _inflated(theirs: Tensor, ours: Tensor, from_scratch: Sequence[bool]) -> Tensor:
    """Their first convolution for our channels: (W, 1 or C, k, k, k) -> (W, C, k, k, k).

    Args:
        ours: as it was drawn, of which the channels `from_scratch` stay.
    """
    scratch = torch.tensor([*from_scratch] or [False] * ours.shape[1])
    sharing = max(int((~scratch).sum()), 1) if theirs.shape[1] == 1 else 1
    return torch.where(scratch.view(1, -1, 1, 1, 1), ours, theirs.to(ours).expand_as(ours) / sharing)


def _other_network(what: str, names: TensorNames) -> InvalidInput:
    return InvalidInput(
        f"model.pretrained, read as a file of pretrained={names.source}: {what}",
        f"use the file of {names.source} for this model.architecture, or say with pretrained= whose it is",
        code="pretrained.other_network",
    )


def _read_tensors(path: Path, names: TensorNames) -> dict[str, Tensor]:
    try:
        held: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InvalidInput(
            f"model.pretrained (of {names.source}) holds more than tensors, which could run code when it is read",
            "use the file of its authors, or have its tensors written as .safetensors on a machine that may be lost",
            code="pretrained.pickle",
        ) from None
    except (RuntimeError, EOFError, SafetensorError) as error:
        raise InvalidInput(
            f"model.pretrained cannot be read ({type(error).__name__})", "download it again", code="pretrained.damaged"
        ) from None
    if isinstance(held, Mapping):
        held = held.get(names.state_dict, held) if names.state_dict is not None else held
    tensors = held if isinstance(held, Mapping) else {}
    return {str(name): tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


@dataclass(frozen=True)
class PretrainedPart:
    """The part of a network that starts from a file, and how it is trained.

    Attributes:
        trained: its modules whose weights change, with `learning_rate_factor` times the learning rate.
        frozen: its modules that stay as the file has them, batch-norm statistics too.
    """

    trained: tuple[nn.Module, ...] = ()
    frozen: tuple[nn.Module, ...] = ()
    learning_rate_factor: float = 1.0


def pretrained_part(network: nn.Module, freeze: str, learning_rate_factor: float) -> PretrainedPart:
    """Freeze the stem, all but the linear layer, or nothing of a ResNet that starts from a file."""
    kept = {"none": (), "stem": _STEM, "all": _BODY}[freeze]
    frozen = tuple(network.get_submodule(name) for name in kept)
    for module in frozen:
        module.requires_grad_(False)
    trained = tuple(network.get_submodule(name) for name in _BODY if name not in kept)
    return PretrainedPart(trained, frozen, learning_rate_factor)
