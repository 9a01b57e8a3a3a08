"""What the config says reaches the trainer, the model and the batches; distributed training leaves one run folder."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_networks import medicalnet, write_weights
from safetensors.torch import load_file

from ricenet.cohort.folds import read_folds
from ricenet.command.schemas import TrainConfig, compose
from ricenet.errors import WrongUsage
from ricenet.networks.computed_inputs import InputNetwork
from ricenet.networks.network import LeanResNet
from ricenet.training.augment_torchio import TorchioAugmentation
from ricenet.training.augmentation import Augmentation
from ricenet.training.checkpoint import read_checkpoint
from ricenet.training.fit import _where, build_data, build_model, epochs_of_steps

SMALL = ["cases=x", "experiment=smoke"]


def config(*overrides: str) -> TrainConfig:
    return compose("train", TrainConfig, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def plain() -> Any:
    """The model of the keys as they are; read only."""
    return build_model(config())


@pytest.mark.parametrize(
    ("override", "value"),
    [("step.pool_first=false", lambda model: model.network.pool_first is False),
     ("step.recompute_stem=true", lambda model: model.network.recompute_stem is True),
     ("step.channels_last=false", lambda model: model.layout is torch.contiguous_format),
     pytest.param("step.compile=true", lambda model: model.network._compiled_call_impl is not None,
                  marks=pytest.mark.heavy),
     ("optimizer.label_smoothing=0.1", lambda model: model.label_smoothing == 0.1),
     ("mixup=0.4", lambda model: model.mixup == 0.4),
     ("optimizer.fused=false", lambda model: model.configure_optimizers().param_groups[0]["fused"] is False),
     ("model.pool=multi", lambda model: model.network.multi is True),
     ("model.channel_dropout=0.25", lambda model: model.channel_dropout == 0.25),
     ("seed=7", lambda model: model.seed == 7)],
)  # fmt: skip
def test_each_key_of_the_step_reaches_the_model(plain: Any, override: str, value: Callable[[Any], bool]) -> None:
    assert value(build_model(config(override)))
    assert not value(plain)


def test_inputs_reach_the_network_and_its_stem_keeps_its_order() -> None:
    model = build_model(config("inputs=ricenet", "step.recompute_stem=true", "model.pool=multi"))
    assert isinstance(model.network, InputNetwork)
    assert model.network.inputs.count == 8
    assert model.network.network.recompute_stem
    batch = {"volume": torch.randn(2, 3, 20, 20, 20), "label": torch.tensor([0, 1]), "case": ["a", "b"]}
    model.log = lambda *_args, **_keys: None  # type: ignore[method-assign]
    model.training_step(batch, 0).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("overrides", [["step.pool_first=false"], ["step.recompute_stem=true"]])
def test_what_a_step_keeps_in_memory(overrides: list[str]) -> None:
    """Bytes that autograd keeps: more without the pool first, less when the stem is computed twice."""

    def kept(cfg: TrainConfig) -> int:
        model, found = build_model(cfg), dict[int, torch.Tensor]()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: found.setdefault(t.data_ptr(), t), lambda t: t):
            model(torch.randn(2, 3, 32, 32, 32))
        return sum(tensor.numel() * tensor.element_size() for tensor in found.values())

    large = ["model.conv1_stride=1"]  # so that the stem counts
    change = kept(config(*large, *overrides)) / kept(config(*large))
    assert (change > 1.2) if "false" in overrides[0] else (change < 0.9)


@pytest.mark.slow
@pytest.mark.process
def test_a_compiled_network_is_the_same_function() -> None:
    torch.manual_seed(0)
    compiled, plain = build_model(config("step.compile=true")), build_model(config())
    plain.load_state_dict(compiled.state_dict())
    volume = torch.randn(2, 3, 48, 48, 48)  # the last stages normalise over few voxels
    torch.testing.assert_close(compiled(volume), plain(volume), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("augmentation=none", type(None)),
        ("augmentation=paper", Augmentation),
        ("augmentation=torchio", TorchioAugmentation),
    ],
)
def test_each_augmentation_reaches_the_batches(phantom_cases: Path, override: str, kind: type) -> None:
    data = build_data(
        config(override, "data.cache=none", "data.augment_on=worker", "fold=1"),
        phantom_cases,
        read_folds(phantom_cases),
    )
    assert type(data.augmentation) is kind
    assert (data.cache, data.augment_on, data.batch_size) == ("none", "worker", 16)


def test_one_run_of_a_grid_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    trainer = config("trainer=gpu").trainer
    assert [_where(trainer, number)["devices"] for number in range(5)] == [[0], [1], [2], [0], [1]]
    assert _where(config("trainer=ddp").trainer, 4)["devices"] == -1
    assert _where(config("trainer=cpu").trainer, 4)["devices"] == 1


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["steps=1"], 1),
        (["steps=7"], 1),  # 105 cases: 7 batches of 16, the last of 9
        (["steps=8"], 2),
        (["steps=8", "data.batch_size=13"], 1),  # 8 batches of 13 and one of a single case, which is left out
        (["steps=9", "data.batch_size=13"], 2),
        (["steps=9", "step.accumulate=2"], 3),  # 4 steps of two batches, the last of one
        (["steps=9", "trainer.limit_batches=3"], 3),
        (["steps=9", "trainer.devices=2", "trainer.strategy=ddp_spawn"], 3),  # 52 each: 4 batches
    ],
)
def test_steps_are_the_fewest_whole_epochs(overrides: list[str], epochs: int) -> None:
    cfg = config("trainer.limit_batches=null", *overrides)
    assert epochs_of_steps(cfg, 105, cfg.steps) == epochs


def test_steps_of_an_epoch_without_a_batch_are_refused() -> None:
    with pytest.raises(WrongUsage, match=r"steps=9: an epoch over 2 training case\(s\) has no batch"):
        epochs_of_steps(config("trainer.devices=4", "trainer.strategy=ddp_spawn"), 2, 9)


def test_training_can_start_from_medicalnets_weights(tmp_path: Path) -> None:
    """The file that model=medicalnet names is in the network before the first step."""
    theirs = medicalnet(tmp_path / "weights.pth")
    overrides = ["model=medicalnet", f"model.pretrained={tmp_path}/weights.pth", "model.width=4", "model.conv1_size=3"]
    model = build_model(config(*overrides))
    assert isinstance(model.network, LeanResNet)
    assert torch.equal(model.network.layer3[1].conv2.weight, theirs.layer3[1].conv2.weight)


def test_a_dose_from_scratch_is_what_training_from_scratch_would_start_from(tmp_path: Path) -> None:
    """Also the isodoses that are computed from it; the MRI and their difference share the filters of the file."""
    theirs = write_weights(tmp_path / "weights.pth", "neuro_simclr")
    keys = ["model=resnet18", "model.width=4", "model.conv1_size=3", "inputs=ricenet"]
    start = ["pretrained=neuro_simclr", f"model.pretrained={tmp_path}/weights.pth", "pretrained.dose=scratch"]
    scratch, started = (
        build_model(config(*keys, *chosen)).network.network.conv1.weight  # type: ignore[union-attr]
        for chosen in ([], start)
        if torch.manual_seed(0)
    )
    of_the_dose = [False, False, True, *[True] * (started.shape[1] - 4), False]  # post, event, rd, isodoses, difference
    dose = torch.tensor(of_the_dose)
    assert torch.equal(started[:, dose], scratch[:, dose])
    torch.testing.assert_close(started[:, ~dose], theirs.conv1.weight.expand(-1, 3, -1, -1, -1) / 3)


@pytest.mark.slow
def test_distributed_training_leaves_one_run_folder(phantom_cases: Path, tmp_path: Path) -> None:
    """Two processes on the CPU: one folder, the weights of the last checkpoint, a metrics row for each epoch."""
    line = [
        sys.executable, "-m", "ricenet.train", f"cases={phantom_cases}", f"run={tmp_path}", *SMALL[1:], "epochs=2",
        "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true",
        "trainer.progress=false", "trainer.limit_batches=null", "data.batch_size=4", "checkpoint_every=1",
        "averaging=ema", "mixup=0.4",
    ]  # fmt: skip
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert [path.parent.name for path in tmp_path.glob("*/*/DONE")] == ["fold0"]
    folder = tmp_path / "rd_post_event" / "fold0"
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3
    weights = load_file(folder / "weights.safetensors")
    kept = read_checkpoint(folder / "last.ckpt")["state_dict"]
    assert all(torch.equal(tensor, kept[f"network.{name}"]) for name, tensor in weights.items())
