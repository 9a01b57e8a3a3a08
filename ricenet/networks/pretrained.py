"""Start a network from MedicalNet's weights: a file that others made in, read without pickle."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ricenet.errors import InvalidInput


def load_pretrained(network: nn.Module, path: Path) -> None:
    """Start `network`, all but its linear layer, from MedicalNet's weights (Chen et al., arXiv 1904.00625).

    Their first convolution sees one channel: each of ours gets it, divided by their number, so that equal channels give
    the activations of one.

    Args:
        path: one of MedicalNet's .pth files, or the same tensors as .safetensors.

    Raises:
        InvalidInput: a file that cannot be read or holds more than tensors, or tensors of another architecture.
    """
    pretrained = {name.removeprefix("module."): tensor for name, tensor in _read_tensors(path).items()}
    initial = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    missing = sorted(name for name in initial if name not in pretrained and not name.endswith("num_batches_tracked"))
    if missing:
        raise InvalidInput(
            f"model.pretrained lacks {len(missing)} of {len(initial)} tensors of the network (first: {missing[0]})",
            "use MedicalNet's file for this model.architecture",
            code="pretrained.other_network",
        )
    first = pretrained["conv1.weight"]
    channels = initial["conv1.weight"].shape[1]
    if first.shape[1] == 1:
        pretrained["conv1.weight"] = first.repeat(1, channels, 1, 1, 1) / channels
    for name in initial.keys() & pretrained.keys():
        expected_shape = tuple(initial[name].shape)
        shape = tuple(pretrained[name].shape)
        if shape != expected_shape:
            raise InvalidInput(
                f"model.pretrained: {name} should have shape {expected_shape}, got {shape}",
                "use MedicalNet's file for this model.architecture",
                code="pretrained.other_network",
            )
    network.load_state_dict({name: pretrained.get(name, tensor) for name, tensor in initial.items()}, strict=False)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        held = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InvalidInput(
            "model.pretrained holds more than tensors, which could run code when it is read",
            "use a file from MedicalNet itself",
            code="pretrained.pickle",
        ) from None
    except (RuntimeError, EOFError, SafetensorError) as error:
        raise InvalidInput(
            f"model.pretrained cannot be read ({type(error).__name__})", "download it again", code="pretrained.damaged"
        ) from None
    tensors: Any = held.get("state_dict", held)
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
