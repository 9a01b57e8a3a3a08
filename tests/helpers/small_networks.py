"""Settings of small networks, and a weights file in MedicalNet's form."""

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
    theirs = build_network(1, **(TINY | {"architecture": architecture, "pretrained": "yes"}))
    tensors = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save({"state_dict": tensors | {"module.conv_seg.0.weight": torch.zeros(3)}}, path)
    return theirs  # type: ignore[return-value]
