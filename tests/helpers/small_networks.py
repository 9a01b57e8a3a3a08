"""Settings of small networks, and small files of weights in the forms of others."""

from pathlib import Path
from typing import Any

import torch

from ricenet.networks.network import LeanResNet, build_network

PAPER: dict[str, Any] = {
    "architecture": "resnet18", "width": 64, "conv1_size": 7, "conv1_stride": 1, "max_pool": True, "dropout": 0.0,
    "pretrained": None,
}  # fmt: skip


TINY = PAPER | {"width": 4, "conv1_size": 3}


DENSE = {"architecture": "densenet121", "conv1_stride": 2}


def medicalnet(path: Path, architecture: str = "resnet18") -> LeanResNet:
    """Write MedicalNet's form: one channel, names after `module.`, a segmentation head for the linear layer."""
    return write_weights(path, "medicalnet", architecture)


# How the files are made: what the tensors lie under, what stands before their names, what else is in the file.
FORMS: dict[str, dict[str, Any]] = {
    "medicalnet": {
        "key": "state_dict", "prefix": "module.", "beside": "module.conv_seg.0.weight", "shortcuts": "medicalnet",
    },
    "neuro_simclr": {
        "key": "model_state_dict", "prefix": "encoder.", "beside": "projector.0.weight", "shortcuts": "monai",
    },
    "brainiac": {
        "key": "state_dict", "prefix": "backbone.", "beside": "projection_head.0.weight", "shortcuts": "monai",
    },
}  # fmt: skip


def write_weights(
    path: Path, form: str, architecture: str = "resnet18", channels: int = 1, **settings: Any
) -> LeanResNet:
    """Write a small file of one of FORMS, as its authors' training code writes it; returns the network in it."""
    of_form = FORMS[form]
    made = TINY | {"architecture": architecture, "shortcuts": of_form["shortcuts"]} | settings
    theirs = build_network(channels, **made)
    prefix = of_form["prefix"]
    tensors = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save({"epoch": 3, of_form["key"]: tensors | {of_form["beside"]: torch.zeros(3)}}, path)
    return theirs  # type: ignore[return-value]
