"""The LightningModule: stops at a loss that is not finite, drops channels, and has the optimiser asked for."""

import math
from typing import Any

import lightning
import pytest
import torch
from helpers.small_networks import TINY

from ricenet.errors import InvalidInput
from ricenet.networks.network import build_network
from ricenet.networks.number_inputs import NumberInput
from ricenet.networks.pretrained import pretrained_part
from ricenet.training.lightning_module import RiceClassifier, blended, channels_kept, shown

SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "mixup": 0.0,
    "fused": True,
    "seed": 0,
}


def module(channels: int = 1, **changes: Any) -> RiceClassifier:
    network = changes.pop("network", None) or build_network(channels, **TINY)
    return RiceClassifier(network, **(SETTINGS | changes))


def fit(model: RiceClassifier, data: list[dict[str, Any]], validation: bool = False) -> lightning.Trainer:
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    loader = torch.utils.data.DataLoader(data, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, loader, loader if validation else None)
    return trainer


def batch(value: float, *cases: str) -> dict[str, Any]:
    return {"volume": torch.full((2, 1, 16, 16, 16), float(value)), "label": torch.tensor([0, 1]), "case": list(cases)}


@pytest.mark.parametrize("last", [False, True], ids=["in an epoch", "at its end"])
def test_non_finite_loss_names_the_cases(last: bool) -> None:
    batches = [batch(1, "aa", "bb"), batch(torch.nan, "cc", "dd"), *([] if last else [batch(1, "ee", "ff")])]
    with pytest.raises(InvalidInput, match="the loss is nan on the cases cc, dd; lower"):
        fit(module(), batches, validation=last)


@pytest.mark.parametrize(("schedule", "schedulers"), [("constant", 0), ("one_cycle", 1), ("cosine", 1)])
@pytest.mark.parametrize("fused", [False, True])
def test_optimiser_is_adam_as_asked_for(schedule: str, schedulers: int, fused: bool) -> None:
    model = module(weight_decay=0.01, schedule=schedule, fused=fused)
    trainer = fit(model, [batch(0.1, "a", "b"), batch(0.2, "c", "d")])
    assert isinstance(trainer.optimizers[0], torch.optim.Adam)
    group = trainer.optimizers[0].param_groups[0]
    assert (group["weight_decay"], group["fused"]) == (0.01, fused)
    assert len(trainer.lr_scheduler_configs) == schedulers


@pytest.mark.parametrize(("batches", "accumulate"), [(4, 1), (7, 2)])
def test_cosine_falls_from_the_learning_rate_to_0_over_the_steps(batches: int, accumulate: int) -> None:
    model, rates = module(schedule="cosine", learning_rate=0.1), []
    trainer = lightning.Trainer(
        max_epochs=1, accumulate_grad_batches=accumulate, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model.on_train_batch_end = lambda *_: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    trainer.fit(model, torch.utils.data.DataLoader([batch(0.1, "a", "b")] * batches, batch_size=None))
    expected = [0.05 * (1 + math.cos(math.pi * step / 4)) for step in (1, 2, 3, 4)]
    assert list(dict.fromkeys(rates))[-4:] == pytest.approx(expected)


def test_label_smoothing_is_in_the_training_loss_alone() -> None:
    model, plain = module(label_smoothing=0.2), module()
    plain.load_state_dict(model.state_dict())
    content = batch(0, "a", "b") | {"volume": torch.randn(2, 1, 16, 16, 16)}
    logged: dict[str, list[float]] = {"train/loss": [], "val/loss": []}
    for net in (model, plain):
        net.log = lambda name, value, **_: logged[name].append(value.item())
        net.log_dict = lambda *_, **__: None
        net.eval().validation_step(content, 0)
        logged["train/loss"].append(net.train().training_step(content, 0).item())
    log_probabilities = plain.network(content["volume"]).log_softmax(1).detach()
    target = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    smooth, sharp = logged["train/loss"]
    assert smooth == pytest.approx(-(target * log_probabilities).sum(1).mean().item(), rel=1e-5)
    assert abs(smooth - sharp) > 1e-4
    assert logged["val/loss"][0] == logged["val/loss"][1]


def test_the_logged_training_loss_is_the_mean_over_the_samples_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two and of three samples: not the mean over the batches."""
    model, losses = module(learning_rate=1e-2), []
    step = model.training_step
    monkeypatch.setattr(model, "training_step", lambda *args: losses.append(step(*args)) or losses[-1])
    batches = [
        {"volume": torch.randn(n, 1, 16, 16, 16), "label": torch.arange(n) % 2, "case": ["a"] * n} for n in (2, 3)
    ]
    trainer = lightning.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(model, torch.utils.data.DataLoader(batches, batch_size=None))
    first, second = losses[-2:]
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx((2 * first + 3 * second).item() / 5)
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("channels_last", [False, True])
def test_layout_of_weights_and_volumes(channels_last: bool) -> None:
    model = module(channels=2, channels_last=channels_last)
    seen: list[bool] = []
    model.network.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))
    )
    model(torch.randn(2, 2, 16, 16, 16))
    assert seen == [channels_last]
    assert model.network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last_3d) == channels_last


def test_channels_are_dropped_as_often_as_asked_and_never_all() -> None:
    torch.manual_seed(0)
    kept = channels_kept(20_000, 3, 0.5)
    assert kept.any(1).all()
    # Of the eight patterns the empty one is drawn again: each channel stays in 4 of 7.
    assert kept.float().mean(0).tolist() == pytest.approx([4 / 7] * 3, abs=0.01)


def test_dropped_channels_are_blank_and_the_others_untouched() -> None:
    volume = torch.randn(2, 3, 4, 4, 4)
    left = shown(volume, torch.tensor([[True, False, True], [False, True, True]]))
    assert torch.equal(left[0, [0, 2]], volume[0, [0, 2]])
    assert not left[0, 1].any()
    assert not left[1, 0].any()


def test_a_model_shown_some_channels_does_not_see_the_others() -> None:
    model = module(channels=3).eval()
    one, other = torch.randn(2, 2, 3, 16, 16, 16)
    other[:, 1] = one[:, 1]
    model.present = (1,)
    assert torch.equal(model(one), model(other))
    model.present = None
    assert not torch.equal(model(one), model(other))


def test_a_channel_that_a_case_lacks_is_never_kept() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True, False, True], [False, True, False]]).repeat(10_000, 1)
    kept = channels_kept(20_000, 3, 0.5, present)
    assert kept.any(1).all()
    assert not (kept & ~present).any()
    assert kept[1::2, 1].all()  # its only one
    # Of the four patterns of two channels the empty one is drawn again: each stays in 2 of 3.
    assert kept[::2][:, [0, 2]].float().mean(0).tolist() == pytest.approx([2 / 3] * 2, abs=0.01)
    torch.manual_seed(1)
    alone = channels_kept(50, 3, 0.5)
    torch.manual_seed(1)
    assert torch.equal(channels_kept(50, 3, 0.5, torch.ones(50, 3, dtype=torch.bool)), alone)


def test_training_blanks_what_a_case_lacks_whatever_its_volume_holds() -> None:
    """Augmentation may have put noise where there is no image."""
    model = module(channels=2, channel_dropout=0.3)
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    present = torch.tensor([[True, False], [True, True]] * 2)
    volume, label = torch.randn(4, 2, 16, 16, 16), torch.tensor([0, 1, 0, 1])
    fit(model, [{"volume": volume, "label": label, "case": list("abcd"), "present": present}])
    assert not seen[0][::2, 1].any()
    assert seen[0][::2, 0].flatten(1).any(1).all()


def test_mixup_blends_every_volume_with_a_partner_and_the_loss_with_its_label() -> None:
    torch.manual_seed(0)
    content = {"volume": torch.randn(4, 1, 16, 16, 16), "label": torch.tensor([0, 1, 0, 1]), "case": list("abcd")}
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    partner = torch.randperm(4)
    mixed = share * content["volume"] + (1 - share) * content["volume"][partner]
    model, plain = module(mixup=0.4), module()
    plain.load_state_dict(model.state_dict())
    model.log = lambda *_, **__: None
    torch.manual_seed(3)
    loss = model.training_step(content, 0)
    target = share * torch.eye(2)[content["label"]] + (1 - share) * torch.eye(2)[content["label"][partner]]
    expected = -(target * plain.network(mixed).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_shares_of_mixup_are_of_the_beta_distribution() -> None:
    torch.manual_seed(0)
    content = {"volume": torch.randn(2, 1, 2, 2, 2), "label": torch.tensor([0, 1])}
    shares = torch.tensor([blended(content, 0.5).share for _ in range(4000)])
    assert (shares.mean().item(), shares.var().item()) == pytest.approx((0.5, 1 / 8), abs=0.01)  # 1 / (4 (2 alpha + 1))


def test_a_blend_has_the_channels_that_both_cases_have() -> None:
    """Of a partial cohort: nothing is blended with the blank of a case that lacks the image."""
    torch.manual_seed(0)
    present = torch.tensor([[True, True], [True, False], [False, True]] * 2)
    volume = torch.randn(6, 2, 2, 2, 2) * present[..., None, None, None]
    for _ in range(20):
        blend = blended({"volume": volume, "label": torch.zeros(6), "present": present}, 0.4)
        partner, kept = blend.partner, blend.batch["present"]
        assert kept.any(1).all()
        assert torch.equal(kept, present & present[partner])
        mixed = blend.share * volume + (1 - blend.share) * volume[partner]
        assert torch.equal(blend.batch["volume"], mixed)


def test_a_run_without_mixup_draws_nothing() -> None:
    """A training of before keeps its bits."""
    model = module()
    model.log = lambda *_, **__: None
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.training_step(batch(0.1, "a", "b"), 0)
    assert torch.equal(torch.rand(3), expected)


NUMBERS = [
    NumberInput(name="mean_gy", mean=0.0, scale=1.0, missing=0.0, channels=("rd",)),
    NumberInput(name="age", mean=0.0, scale=1.0, missing=0.0, channels=()),
]


def with_numbers(**changes: Any) -> RiceClassifier:
    network = build_network(["event", "rd"], numbers=NUMBERS, **TINY)
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    return RiceClassifier(network, **(SETTINGS | changes))


def test_numbers_are_blended_by_the_share_of_the_volumes_and_missing_where_one_has_none() -> None:
    torch.manual_seed(0)
    volume = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 2, 2, 2, 2)
    numbers = torch.stack([torch.arange(4.0), torch.tensor([1.0, math.nan, 3.0, 4.0])], dim=1)
    blend = blended({"volume": volume, "numbers": numbers, "label": torch.zeros(4)}, 0.4)
    assert 0 < blend.share < 1
    assert torch.equal(blend.batch["numbers"][:, 0], blend.batch["volume"][:, 0, 0, 0, 0])
    lacking = torch.tensor([case == 1 or partner == 1 for case, partner in enumerate(blend.partner.tolist())])
    assert torch.equal(blend.batch["numbers"][:, 1].isnan(), lacking)


def test_a_number_goes_with_the_channel_that_it_is_measured_on() -> None:
    model = with_numbers(channel_dropout=0.5)
    torch.manual_seed(0)
    volume, numbers = model.blanked({"volume": torch.ones(64, 2, 1, 1, 1), "numbers": torch.ones(64, 2)})
    without_dose = volume[:, 1, 0, 0, 0] == 0
    assert 0 < without_dose.sum() < 64
    assert torch.equal(numbers[:, 0].isnan(), without_dose)
    assert not numbers[:, 1].isnan().any()  # age is measured on no image


def test_a_set_of_the_one_model_sees_the_numbers_of_its_images() -> None:
    model = with_numbers(channel_dropout=0.5).eval()
    volume, numbers = torch.randn(2, 2, 16, 16, 16), torch.tensor([[2.0, 1.0]] * 2)
    model.present = [0]
    only_event = volume * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    expected = model.network(only_event, torch.tensor([[math.nan, 1.0]] * 2))
    assert torch.equal(model(volume, numbers), expected)


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "cosine"])
def test_what_starts_from_a_file_learns_at_its_own_rate(schedule: str) -> None:
    network = build_network(1, **TINY)
    model = module(network=network, schedule=schedule, start=pretrained_part(network, "stem", 0.1))
    trainer = fit(model, [batch(0.1, "a", "b"), batch(0.2, "c", "d")])
    groups = trainer.optimizers[0].param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    head, body = ([names[id(parameter)] for parameter in group["params"]] for group in groups)
    assert head == ["fc.weight", "fc.bias"]
    assert {name.split(".")[0] for name in body} == {"layer1", "layer2", "layer3", "layer4"}
    assert groups[1]["initial_lr" if schedule != "constant" else "lr"] == pytest.approx(
        0.1 * groups[0]["initial_lr" if schedule != "constant" else "lr"]
    )
    assert groups[1]["lr"] == pytest.approx(0.1 * groups[0]["lr"])


def test_every_parameter_is_in_one_group_where_the_rate_is_the_same() -> None:
    network = build_network(1, **TINY)
    model = module(network=network, start=pretrained_part(network, "none", 1.0))
    groups = fit(model, [batch(0.1, "a", "b")]).optimizers[0].param_groups
    assert [len(group["params"]) for group in groups] == [len(list(network.parameters()))]


def test_what_is_frozen_stays_in_evaluation_mode() -> None:
    network = build_network(1, **TINY)
    module(network=network, start=pretrained_part(network, "stem", 1.0)).train()
    assert (network.bn1.training, network.conv1.training, network.layer1.training) == (False, False, True)  # type: ignore[union-attr]
