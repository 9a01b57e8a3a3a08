"""Describe a model folder as a MONAI bundle: model.json in; configs/metadata.json and configs/inference.json out.

MONAI's own classes alone stand in inference.json, so MONAI reads it where ricenet is not installed. Computed inputs and
pooling of all stages, which MONAI's ResNet does not have, are hooks on it, written in torch; numbers of the case, which
a network may see beside the volume, are a second argument of the ensemble. One thing of the
bundle specification is not kept: there is no models/model.pt. It would be a pickle, and of one network; ours are
safetensors, one a fold, which the expressions of inference.json load.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from ricenet import LABELS, __version__
from ricenet.display.words import channel_name
from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.network import DENSENETS, RESNETS
from ricenet.networks.number_inputs import NumberInput
from ricenet.prediction.model_json import ModelRecord, NetworkSettings

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
VERSION = "1.0.0"  # of what we write, not of the trained weights: those are told apart by the manifest
TASK = "Tell radiation-induced contrast enhancement (RICE) from glioblastoma recurrence"
RESEARCH_ONLY = "Research use only. No medical device; not for diagnosis or for decisions about a patient."
PHANTOM = "Trained on a synthetic phantom cohort: a test of the software that says nothing about any patient."
REFERENCES = [
    "Peretzke, Hanstein et al. Multimodal classification of Radiation-Induced Contrast Enhancements and tumor "
    "recurrence using deep learning. arXiv 2603.11827 (2026).",
    "Mitchell et al. Model Cards for Model Reporting. FAT* 2019. arXiv 1810.03993.",
]


def metadata(model: ModelRecord) -> dict[str, Any]:
    """configs/metadata.json of a model.json, following MONAI's bundle specification and its schema."""
    inputs = " + ".join(map(channel_name, model.channels))
    description = (
        f"3D classifiers of {inputs} volumes, one a fold of a cross-validation; their mean probability is the "
        "prediction. docs/README.md is the model card."
    )
    if model.computed:
        description += f" Each network computes further channels from its input: {', '.join(model.computed)}."
    if model.crop is not None:
        description += " Their input is a cube around the lesion, cut out of the volume of a case."
    if model.seen_numbers:
        names = ", ".join(map(_number, model.seen_numbers.values()))
        description += (
            " The ensemble takes numbers of the case, too, not standardised: (B, N) float32, nan where one is missing, "
            f"in this order: {names}."
        )
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "changelog": {VERSION: f"exported by ricenet {__version__}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"safetensors": version("safetensors")},
        "supported_apps": {},
        "name": f"ricenet {model.name}",
        "task": TASK,
        "description": f"{PHANTOM} {description}" if model.cohort.phantom else description,
        "authors": "those who trained it, with ricenet",
        "copyright": "of the weights: theirs; of the code: the authors of ricenet, Apache-2.0",
        "data_source": "ricenet.phantom" if model.cohort.phantom else "not distributed",
        "data_type": "case folders of ricenet.preprocess",
        "image_classes": "; ".join(_channel(name, model) for name in model.channels),
        "pred_classes": ", ".join(f"{label}: {name}" for label, name in enumerate(LABELS)),
        "eval_metrics": {"oof_macro_f1": model.evaluation.oof_macro_f1, "auroc": model.evaluation.auroc},
        "intended_use": RESEARCH_ONLY,
        "references": REFERENCES,
        "network_data_format": {"inputs": {"image": _input(model)}, "outputs": {"pred": _output()}},
    }


def _input(model: ModelRecord) -> dict[str, Any]:
    channels, preprocessing, crop = model.channels, model.preprocessing, model.crop
    size = preprocessing.size if crop is None else crop.voxels(preprocessing.spacing_mm)
    return {
        "type": "image",
        "format": "magnitude",
        "modality": "MR and radiotherapy dose" if "rd" in channels else "MR",
        "num_channels": len(channels),
        "spatial_shape": [size] * 3,
        "dtype": "float32",
        "value_range": [],  # z-scores have none
        "is_patch_data": crop is not None,
        "channel_def": {str(index): _channel(name, model) for index, name in enumerate(channels)},
    }


def _output() -> dict[str, Any]:
    return {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(LABELS),
        "spatial_shape": [1, len(LABELS)],
        "dtype": "float32",
        "value_range": [],  # logits; their softmax is the probability
        "is_patch_data": False,
        "channel_def": {str(label): f"logit of {name}" for label, name in enumerate(LABELS)},
    }


def _channel(name: str, model: ModelRecord) -> str:
    if name == "rd" and model.sees_relative_dose:
        return f"{channel_name(name)} of the whole treatment, divided by the prescription"
    if name == "rd" and model.preprocessing.dose_scaling == "fixed":
        return f"{channel_name(name)} of the whole treatment in units of {DOSE_SCALE_GY:g} Gy"
    return f"{channel_name(name)}, z-scored in the brain, 0 outside it"


def inference(model: ModelRecord) -> dict[str, Any]:
    """configs/inference.json of a model.json, for monai.bundle.ConfigParser with `bundle_root` set to the folder.

    network_def: the network without weights. fold<k>: with those of that fold. networks: all of them, in eval mode.
    ensemble: a function of (B, C, X, Y, Z) float32 volumes; their (B, 2) mean probabilities of recurrence and RICE.
    Where the networks see numbers of the case, also fold<k>_numbers: the part of these in that fold's logits; the
    networks are those of the volume alone, and the ensemble takes the numbers as its second argument.
    """
    members = {}
    wrappers = "network." * (bool(model.computed) + bool(model.numbers))  # a hook has no name, ours is a module
    for fold in model.folds:
        weights = _tensors(fold)
        if wrappers:
            renamed = f"name.removeprefix('{wrappers}'): tensor for name, tensor in {weights}.items()"
            weights = f"{{{renamed} if name.startswith('{wrappers}')}}"
        members[f"fold{fold}"] = "%network_def"
        members[f"fold{fold}_loaded"] = f"$@fold{fold}.load_state_dict({weights})"
    pairs = ", ".join(f"(@fold{fold}, @fold{fold}_loaded)" for fold in model.folds)
    mean = "torch.stack([network(volume).softmax(1) for network in networks]).mean(0)"
    ensemble = f"$torch.inference_mode()(lambda volume, networks=@networks: {mean})"
    if model.numbers is not None:
        members |= {f"fold{fold}_numbers": _of_numbers(model, place) for place, fold in enumerate(model.folds)}
        parts = ", ".join(f"@fold{fold}_numbers" for fold in model.folds)
        mean = (
            "torch.stack([(network(volume) + part(numbers)).softmax(1) for network, part in zip(networks, parts)])"
            ".mean(0)"
        )
        ensemble = f"$torch.inference_mode()(lambda volume, numbers, networks=@networks, parts=[{parts}]: {mean})"
    return {
        "imports": ["$import monai.networks.nets", "$import torch", "$from safetensors.torch import load_file"],
        "bundle_root": ".",
        "network_def": network_definition(model.channels, model.network),
        **members,
        "networks": f"$[network.eval() for network, _ in [{pairs}]]",
        "ensemble": ensemble,
    }


def _tensors(fold: int) -> str:
    return f"load_file(@bundle_root + '/models/fold{fold}.safetensors')"


def _of_numbers(model: ModelRecord, place: int) -> str:
    """What ricenet.networks.late_fusion.LateFusion.logits computes, of the numbers in the order of `seen_numbers`."""
    numbers = model.numbers_of_fold(place)
    assert numbers is not None
    names = list(model.seen_numbers)
    columns = [names.index(name) for name in numbers.names]
    means, scales = ([getattr(number, at) for number in numbers.numbers] for at in ("mean", "scale"))
    scaled = f"(numbers[:, {columns}] - torch.tensor({means})) / torch.tensor({scales})"
    features = "torch.cat([x.masked_fill(x.isnan(), 0.0), x.isnan().to(x.dtype)], 1)"
    weight = f"{_tensors(model.folds[place])}['head.weight']"
    return f"$lambda numbers, weight={weight}: (lambda x: torch.nn.functional.linear({features}, weight))({scaled})"


def _number(number: NumberInput) -> str:
    """Its name; of two levels, also which are 0 and 1."""
    if number.levels is None:
        return number.name
    return f"{number.name} ({number.levels[0]}: 0, {number.levels[1]}: 1)"


def network_definition(channels: Sequence[str], network: NetworkSettings) -> dict[str, Any] | str:
    """What network.build(channels) builds, as MONAI's class with its arguments, or as an expression that makes it.

    Parameters have the same names, computed inputs apart, and the function is the same in eval mode; only dropout in
    front of a ResNet's linear layer has no counterpart in MONAI.
    """
    computed = [] if network.inputs is None else network.inputs.computed(channels)
    target, arguments = _monais(len(channels) + len(computed), channels, network)
    hooks = _computing(channels, network.inputs) if network.inputs is not None and computed else []
    if network.pool == "multi":
        hooks += _pooling(_parameters(channels, network)["fc.weight"].shape[1])
    if not hooks:
        return {"_target_": target, **arguments}
    made = f"{target}(**{arguments!r})"
    return f"$(lambda network: ({', '.join(hooks)}, network)[-1])({made})"


def _monais(count: int, channels: Sequence[str], network: NetworkSettings) -> tuple[str, dict[str, Any]]:
    """The class, and its arguments for `count` channels, stored and computed."""
    architecture, width = network.architecture, network.width
    if architecture in DENSENETS:
        return "monai.networks.nets.DenseNet", {
            "spatial_dims": 3,
            "in_channels": count,
            "out_channels": len(LABELS),
            "init_features": width,
            "growth_rate": width // 2,
            "block_config": DENSENETS[architecture],
            "dropout_prob": network.dropout,
        }
    block, layers = RESNETS[architecture]
    names = _parameters(channels, network).keys()
    return "monai.networks.nets.ResNet", {
        "block": block,
        "layers": layers,
        "block_inplanes": [width * 2**stage for stage in range(len(layers))],
        "spatial_dims": 3,
        "n_input_channels": count,
        "conv1_t_size": network.conv1_size,
        "conv1_t_stride": network.conv1_stride,
        "no_max_pool": not network.max_pool,
        "num_classes": len(LABELS),
        "shortcut_type": "B" if "layer2.0.downsample.0.weight" in names else "A",
        "bias_downsample": "layer2.0.downsample.0.bias" in names,
    }


def _parameters(channels: Sequence[str], network: NetworkSettings) -> dict[str, torch.Tensor]:
    """Of the network behind its computed inputs, without memory."""
    with torch.device("meta"):
        return behind_inputs(network.build(channels)).state_dict()


def _computing(channels: Sequence[str], inputs: InputSettings) -> list[str]:
    """The hook that appends what ricenet.networks.computed_inputs.ComputedInputs appends."""
    parts = ["x[0]"]
    levels = [level / DOSE_SCALE_GY for level in inputs.levels_gy(channels)]
    if levels:
        dose = channels.index("rd")
        column = f"x[0].new_tensor({levels!r}).view(1, -1, 1, 1, 1)"
        parts.append(
            f"torch.sigmoid((x[0][:, {dose}:{dose + 1}] - {column}) / {inputs.isodose_edge_gy / DOSE_SCALE_GY})"
        )
    if inputs.has_difference(channels):
        event, post = channels.index("event"), channels.index("post")
        parts.append(f"x[0][:, {event}:{event + 1}] - x[0][:, {post}:{post + 1}]")
    return [f"network.register_forward_pre_hook(lambda _, x: (torch.cat([{', '.join(parts)}], 1),))"]


def _pooling(features: int) -> list[str]:
    """The hooks that put mean and maximum of every stage in front of a linear layer for so many."""
    stages = ["layer1", "layer2", "layer3", "layer4"]
    both = "network.pooled.extend([x.mean((2, 3, 4)), x.amax((2, 3, 4))])"
    every = f"torch.cat([network.pooled.pop(0) for _ in range({2 * len(stages)})], 1)"
    return [
        f"setattr(network, 'fc', torch.nn.Linear({features}, {len(LABELS)}))",
        "setattr(network, 'pooled', [])",
        *(f"network.{stage}.register_forward_hook(lambda _, inputs, x: {both})" for stage in stages),
        f"network.fc.register_forward_pre_hook(lambda _, inputs: ({every},))",
    ]
