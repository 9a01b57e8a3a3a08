"""Export a trained set of a grid as a portable model folder, and read one, verified.

<out>/ is a bundle in MONAI's layout (ricenet.prediction.monai_bundle): model.json, config.yaml, evaluation.json,
docs/README.md (the model card), configs/metadata.json, configs/inference.json, models/fold<k>.safetensors, LICENSE and,
last, manifest.sha256, which `sha256sum -c` reads. Nothing in it is a pickle, names a patient or a path.

A manifest detects damage, not tampering: who can change a file can write the manifest anew. So everything is read as
untrusted, and no file of the folder can run code here. MONAI's ConfigParser, in contrast, runs inference.json.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from ricenet import MODALITIES
from ricenet.command.atomic import MANIFEST, file_hash, partial_folder, publish
from ricenet.errors import WrongUsage
from ricenet.networks.number_inputs import NumberInputs
from ricenet.prediction.model_card import model_card
from ricenet.prediction.model_content import describe_model, evaluated_row, public_row, read_trained, training_config
from ricenet.prediction.model_json import COPY_AGAIN, MAX_BYTES, MODEL_JSON, ModelRecord, broken
from ricenet.prediction.monai_bundle import inference, metadata

LAYOUT = re.compile(
    r"model\.json|config\.yaml|evaluation\.json|LICENSE|docs/README\.md|configs/(metadata|inference)\.json"
    r"|models/fold\d{1,3}\.safetensors"
)
MANIFEST_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
DTYPES = {torch.float32: "F32", torch.int64: "I64"}


@dataclass(frozen=True)
class Model:
    """A checked model folder; `digest`: SHA-256 of its manifest, which names these very bytes."""

    folder: Path
    record: ModelRecord
    digest: str

    @property
    def further(self) -> list[str]:
        """Its channels beyond post, event and rd."""
        return [name for name in self.record.channels if name not in MODALITIES]

    def networks(self) -> Iterator[nn.Module]:
        """The networks of the folds in eval mode, one at a time."""
        for place, fold in enumerate(self.record.folds):
            network = self.record.network.build(self.record.channels, self.record.numbers_of_fold(place))
            network.load_state_dict(load_file(self.folder / _weights(fold)))
            yield network.eval()


def export_model(run: Path, modalities: str, out: Path) -> None:
    """Write the model folder `out` of the set `modalities` of the grid `run`, complete or not at all.

    Raises:
        WrongUsage: `out` holds something; the set is a leakage control.
        InvalidInput: no finished fold, no evaluation of what is there now, or cases made in different ways.
    """
    out = out.resolve()
    _require_empty(out)
    trained = read_trained(run, modalities)
    row = evaluated_row(trained)
    content = describe_model(trained, row)
    evaluation = public_row(row)
    texts = {
        MODEL_JSON: content.as_json(),
        "config.yaml": yaml.safe_dump(training_config(trained.first.folder), sort_keys=False),
        "evaluation.json": _as_json(evaluation),
        "docs/README.md": model_card(content, evaluation),
        "configs/metadata.json": _as_json(metadata(content)),
        "configs/inference.json": _as_json(inference(content)),
        **_licence(),
    }
    with partial_folder(out.parent, out.name) as folder:
        for name, text in texts.items():
            _write(folder / name, text)
        for fold, finished in trained.finished.items():
            _copy(finished.folder / "weights.safetensors", folder / _weights(fold))
        names = sorted([*texts, *map(_weights, trained.finished)])
        _write(folder / MANIFEST, "".join(f"{file_hash(folder / name)}  {name}\n" for name in names))
        _require_empty(out)
        publish(folder, out, last=MANIFEST)


def _require_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WrongUsage("export= should be a new or an empty folder, it holds files; choose another, or empty it")


def _weights(fold: int) -> str:
    return f"models/fold{fold}.safetensors"


def _as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _licence() -> dict[str, str]:
    """Of ricenet's code, as far as it is installed with its licence."""
    licences = [path for path in files("ricenet") or [] if path.name == "LICENSE"]
    return {"LICENSE": licences[0].read_text()} if licences else {}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    _to_disk(path)


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, path)
    _to_disk(path)


def _to_disk(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def read_model(folder: Path) -> Model:
    """Read a model folder; no file is opened before all are verified against the manifest.

    Raises:
        InvalidInput: naming the file that is changed, missing, not listed or not of this layout, a link, or whose
            content is not what ricenet writes; code model.*.
    """
    digest, listed = _read_manifest(folder)
    _require_nothing_else(folder, listed)
    for name, written in listed.items():
        if file_hash(folder / name) != written:
            raise broken("changed", f"{name} is not the file that was exported", COPY_AGAIN)
    record = ModelRecord.read(folder / MODEL_JSON)
    weights = {name for name in listed if name.startswith("models/")}
    if weights != set(map(_weights, record.folds)):
        named = ", ".join(map(str, record.folds))
        raise broken(
            "folds", f"{MODEL_JSON} names folds {named}, the folder has {', '.join(sorted(weights))}", COPY_AGAIN
        )
    _require_weights(folder, record)
    return Model(folder, record, digest)


def _read_manifest(folder: Path) -> tuple[str, dict[str, str]]:
    """SHA-256 of the manifest; and name -> SHA-256 of each file that it lists."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise broken(
            "manifest", f"{MANIFEST} is missing, so the folder is no model folder, or an incomplete one", COPY_AGAIN
        )
    if path.stat().st_size > MAX_BYTES:
        raise broken("manifest", f"{MANIFEST} is larger than {MAX_BYTES:,} bytes", COPY_AGAIN)
    raw, listed = path.read_bytes(), dict[str, str]()
    for number, line in enumerate(raw.decode(errors="replace").splitlines(), start=1):
        match = MANIFEST_LINE.fullmatch(line)
        if match is None or match[2] in listed:
            raise broken(
                "manifest", f"line {number} of {MANIFEST} is not a new SHA-256, two spaces and a file", COPY_AGAIN
            )
        if not LAYOUT.fullmatch(match[2]):
            raise broken("unknown", f"{match[2]!r} in {MANIFEST} is no file of a model folder", COPY_AGAIN)
        listed[match[2]] = match[1]
    if MODEL_JSON not in listed:
        raise broken("manifest", f"{MANIFEST} does not list {MODEL_JSON}", COPY_AGAIN)
    return hashlib.sha256(raw).hexdigest(), listed


def _require_nothing_else(folder: Path, listed: Mapping[str, str]) -> None:
    """Just the listed files, as plain files: no link, and nothing that another program might read."""
    present = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise broken("link", f"{name!r} is a link", "replace it by the file itself")
        if path.is_dir():
            continue
        if not path.is_file() or name not in {*listed, MANIFEST}:
            raise broken("unknown", f"{name!r} is not listed in {MANIFEST}", "remove it, it is not part of the model")
        present.add(name)
    missing = sorted(listed.keys() - present)
    if missing:
        raise broken("missing", f"{missing[0]} is missing", COPY_AGAIN)


def _require_weights(folder: Path, record: ModelRecord) -> None:
    """Every fold's tensors have the names, shapes and types of the network that model.json describes."""
    for place, name in enumerate(map(_weights, record.folds)):
        expected = _expected_tensors(record, record.numbers_of_fold(place))
        try:
            with safe_open(folder / name, "pt") as stored:
                slices = {key: stored.get_slice(key) for key in stored.keys()}  # noqa: SIM118  # no dictionary
                tensors = {key: (part.get_shape(), part.get_dtype()) for key, part in slices.items()}
        except (OSError, SafetensorError):
            raise broken("weights", f"{name} is no safetensors file", COPY_AGAIN) from None
        if tensors != expected:
            differ = sorted(key for key in tensors.keys() | expected.keys() if tensors.get(key) != expected.get(key))
            raise broken(
                "weights", f"{name} does not fit the network of {MODEL_JSON} (first: {differ[0]!r})", COPY_AGAIN
            )


def _expected_tensors(record: ModelRecord, numbers: NumberInputs | None) -> dict[str, tuple[list[int], str]]:
    """Name -> shape and type of the tensors of a fold's network."""
    try:
        with torch.device("meta"):  # takes no memory, whatever width a file asks for
            network = record.network.build(record.channels, numbers)
    except (WrongUsage, ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise broken("network", f"{MODEL_JSON} describes no network ({type(error).__name__})", COPY_AGAIN) from None
    return {name: (list(value.shape), DTYPES[value.dtype]) for name, value in network.state_dict().items()}
