"""Every committed config composes; every training config runs a batch; modality files cannot leak into each other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.small_networks import medicalnet, write_weights

from ricenet.cohort.label_events import EVENTS
from ricenet.cohort.spreadsheet import check_date_format
from ricenet.command import schemas
from ricenet.command.schemas import CONF_DIR, TrainConfig, compose
from ricenet.ingest import LAYOUTS
from ricenet.train import train

STAGES = sorted(path.stem for path in CONF_DIR.glob("*.yaml") if path.stem != "quiet")
OF_TRAINING = ("model", "pretrained", "inputs", "crop", "data", "augmentation", "trainer", "logger", "experiment")
GROUPS = {folder: sorted(path.stem for path in (CONF_DIR / folder).glob("*.yaml")) for folder in OF_TRAINING}
CHOICES = [(group, choice) for group, choices in GROUPS.items() for choice in choices]
MODALITIES = sorted(path.stem for path in (CONF_DIR / "modalities").glob("*.yaml"))
# One batch of the tiny phantom, on a CPU, whatever the config says about size and hardware.
ONE_BATCH = [
    "epochs=1", "steps=null", "trainer.limit_batches=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "trainer.progress=false", "data.workers=0", "data.batch_size=2", "model.width=4", "logger.online=false",
]  # fmt: skip


@pytest.fixture(scope="session")
def larger_cases(phantom_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms with air around them: 32^3 voxels, the least that a DenseNet-121 takes."""
    out = shutil.copytree(phantom_cases, tmp_path_factory.mktemp("larger") / "cases")
    for path in [*out.glob("*/volume.npy"), *out.glob("*/brain.npy")]:
        smaller = np.load(path)
        np.save(path, np.pad(smaller, [(0, 0)] * (smaller.ndim - 3) + [(0, 32 - smaller.shape[-1])] * 3))
    return out


def overrides(cases: Path, run: Path, *chosen: str) -> list[str]:
    return [f"cases={cases}", f"run={run}", *chosen, *ONE_BATCH]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_composes_with_nothing_but_its_paths(stage: str) -> None:
    schema = getattr(schemas, f"{stage.capitalize()}Config")
    text = (CONF_DIR / f"{stage}.yaml").read_text()
    required = [key for key, value in yaml.safe_load(text).items() if value == "???"]
    compose(stage, schema, [f"{key}=x" for key in required])


@pytest.mark.parametrize("source", sorted(path.stem for path in (CONF_DIR / "source").glob("*.yaml")))
def test_every_source_composes_and_can_be_meant(source: str) -> None:
    cfg = compose("ingest", schemas.IngestConfig, [f"source={source}", "delivery=x", "labels=x", "out=x"])
    assert (cfg.source.name, cfg.source.layout in LAYOUTS, cfg.source.events in EVENTS) == (source, True, True)
    check_date_format(cfg.source.date_format)


@pytest.mark.parametrize("path", sorted(CONF_DIR.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF_DIR)))
def test_every_config_says_what_it_is_for(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_training_config_runs_one_batch(
    group: str, choice: str, phantom_cases: Path, larger_cases: Path, tmp_path: Path
) -> None:
    chosen = [f"{group}={choice}"]
    if (group, choice) == ("model", "medicalnet"):
        medicalnet(tmp_path / "weights.pth")
        chosen += [f"model.pretrained={tmp_path}/weights.pth", "model.conv1_size=3"]
    if group == "pretrained":
        needed = {"medicalnet": "medicalnet", "neuro_simclr": "resnet18", "brainiac": "resnet50"}[choice]
        write_weights(tmp_path / "weights.pth", choice, "resnet50" if choice == "brainiac" else "resnet18")
        chosen += [f"model={needed}", f"model.pretrained={tmp_path}/weights.pth", "model.conv1_size=3"]
        chosen += [*(["model.conv1_stride=2"] if choice == "brainiac" else [])]
    if choice == "ddp":  # tests/training/test_fit.py runs it with two processes
        chosen += ["trainer.devices=1", "trainer.strategy=auto"]
    cases = larger_cases if choice == "densenet121" else phantom_cases
    train(compose("train", TrainConfig, overrides(cases, tmp_path / "run", *chosen)))
    assert list((tmp_path / "run").glob("*/fold0/DONE"))


@pytest.mark.parametrize("name", MODALITIES)
def test_every_modality_set_runs_one_batch_with_its_channels(name: str, phantom_cases: Path, tmp_path: Path) -> None:
    cfg = compose("train", TrainConfig, overrides(phantom_cases, tmp_path, f"+modalities={name}"))
    assert (cfg.modalities.name, len(cfg.modalities.channels)) == (name, len(name.split("_")))
    train(cfg)
    assert (tmp_path / name / "fold0" / "DONE").is_file()


def test_modality_files_have_the_same_keys() -> None:
    """The default's file lies under the chosen one: a key that one leaves out would leak."""
    keys = {frozenset(yaml.safe_load((CONF_DIR / "modalities" / f"{name}.yaml").read_text())) for name in MODALITIES}
    assert keys == {frozenset({"name", "channels"})}


def test_paper_experiment_holds_the_published_protocol() -> None:
    cfg = compose("train", TrainConfig, ["cases=x", "experiment=paper"])
    assert (cfg.epochs, cfg.checkpoint, cfg.name) == (800, "last", "paper")
    assert (cfg.model.width, cfg.model.conv1_size, cfg.model.conv1_stride, cfg.model.max_pool) == (64, 7, 1, True)
    assert (cfg.optimizer.weight_decay, cfg.optimizer.schedule, cfg.augmentation.flip) == (0.0, "constant", False)
    assert (cfg.inputs.isodoses_gy, cfg.inputs.difference, cfg.model.pool) == ([], False, "last")
    assert (cfg.steps, cfg.batch_norm, cfg.averaging) == (None, "running", "none")
    assert (cfg.mixup, cfg.optimizer.label_smoothing) == (0.0, 0.0)
    preprocessing = compose("preprocess", schemas.PreprocessConfig, ["cohort=x", "cases=y"])
    assert (preprocessing.size, preprocessing.spacing_mm, preprocessing.folds) == (224, 1.0, 5)


def test_default_is_all_three_modalities() -> None:
    assert compose("train", TrainConfig, ["cases=x"]).modalities.channels == ["post", "event", "rd"]


def test_a_failed_job_is_named_without_paths() -> None:
    named = yaml.safe_load((CONF_DIR / "train.yaml").read_text())["hydra"]["job"]["config"]["override_dirname"]
    assert named["exclude_keys"] == ["cases", "run", "model.pretrained"]
