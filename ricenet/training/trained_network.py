"""The network of a finished run folder."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ricenet.errors import InvalidInput
from ricenet.networks.network import build_network, network_settings
from ricenet.training.run_record import read_run


def load_network(folder: Path) -> nn.Module:
    """The finished network of a run folder in eval mode, from run.json and weights.safetensors (no pickle is read).

    Raises:
        InvalidInput: the weights are missing or do not fit the architecture in run.json.
    """
    record = read_run(folder)
    network = build_network(
        record.modalities.channels,
        inputs=record.inputs,
        numbers=() if record.numbers is None else record.numbers.numbers,
        **network_settings(record.model),
    )
    try:
        network.load_state_dict(load_file(folder / "weights.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        run = f"{record.modalities.name} fold {record.fold}"
        raise InvalidInput(
            f"run {run}: weights.safetensors cannot be used ({str(error).splitlines()[0]})",
            "train it again",
            code="run.weights",
        ) from error
    return network.eval()
