"""Curves against hand-made numbers, a plain loop over cells, and a planted lesion that the map may know or not."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ricenet.explanation.deletion_curves import PerturbationCurves, curves
from ricenet.explanation.map_record import CurveNumbers
from ricenet.networks.network import build_network

SHAPE = (12, 10, 11)
LESION = (slice(4, 8), slice(3, 6), slice(5, 9))


class Linear(torch.nn.Module):
    """Probability of class 0: `base` plus the weighted sum of channel 0; counts the volumes it was shown."""

    def __init__(self, weights: np.ndarray, base: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights))
        self.base, self.volumes = base, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.volumes += len(x)
        first = self.base + (x[:, 0].double() * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([first, 1 - first], dim=1).log()


class PlantedLesion(torch.nn.Module):
    """Answers class 1 with more confidence the brighter channel 0 is inside LESION, and sees nothing else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        signal = 4 * x[(slice(None), 0, *LESION)].mean(dim=(1, 2, 3)) - 2
        return torch.stack([-signal / 2, signal / 2], dim=1)


def row(*values: float) -> np.ndarray:
    return np.array(values).reshape(-1, 1, 1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def of_row(
    model: Linear, drop: np.ndarray, brain: Sequence[float] = (1, 1, 1, 1), **settings: int
) -> PerturbationCurves:
    """Curves of four voxels in a row, all 1, against 0; each a cell of its own."""
    volume = torch.ones(1, 4, 1, 1)
    mask = row(*brain).astype(bool)
    return curves([model.eval()], volume, torch.zeros_like(volume), drop, mask, (1, 1, 1), **({"steps": 4} | settings))


def test_curves_and_areas_of_a_linear_model_by_hand() -> None:
    weights = row(0.1, 0.3, 0.0, -0.05)
    found = of_row(Linear(weights, 0.5), drop=weights)
    np.testing.assert_array_equal(found.fraction, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.deletion, [0.85, 0.55, 0.45, 0.45, 0.5])
    np.testing.assert_allclose(found.insertion, [0.5, 0.8, 0.9, 0.9, 0.85])
    record = found.as_record()
    assert record.deletion_area == pytest.approx((0.425 + 0.55 + 0.45 + 0.45 + 0.25) / 4)
    assert record.insertion_area == pytest.approx((0.25 + 0.8 + 0.9 + 0.9 + 0.425) / 4)
    assert found.deletion_random.shape == (5, 5)
    np.testing.assert_allclose(found.deletion_random[:, [0, -1]], [[0.85, 0.5]] * 5)
    np.testing.assert_allclose(found.insertion_random[:, [0, -1]], [[0.5, 0.85]] * 5)


def test_random_orders_of_a_linear_model_are_straight_on_average_and_no_volume_runs_twice() -> None:
    model = Linear(row(0.1, 0.3, 0.0, -0.05), 0.5)
    found = of_row(model, drop=row(1, 2, 3, 4), random_orders=4000)
    record = found.as_record()
    np.testing.assert_allclose(record.deletion_random, np.linspace(0.85, 0.5, 5), atol=0.01)
    np.testing.assert_allclose(record.insertion_random, np.linspace(0.5, 0.85, 5), atol=0.01)
    assert record.deletion_random_area == pytest.approx(0.675, abs=0.005)
    assert model.volumes == 2**4, "every subset of four cells once, however many orders came to it"


def test_cells_that_already_look_like_the_reference_are_not_run() -> None:
    model = Linear(row(0.1, 0.3, 0.0, 0.0), 0.5)
    volume = torch.tensor([1.0, 1, 0, 0]).view(1, 4, 1, 1)
    drop, brain = row(4, 3, 2, 1), np.ones((4, 1, 1), dtype=bool)
    found = curves([model.eval()], volume, torch.zeros_like(volume), drop, brain, (1, 1, 1), 4, random_orders=50)
    np.testing.assert_allclose(found.deletion, [0.9, 0.8, 0.5, 0.5, 0.5])
    assert model.volumes == 2**2


def test_cells_rank_by_their_brain_voxels_and_are_replaced_whole() -> None:
    """Cells of two voxels, the last of one: {0, 1}, {2, 3}, {4}; brain in 1, 2 and 3 only."""
    weights = row(0.02, 0.04, 0.08, 0.01, 0.16)
    drop = row(99, 1, 2, 1, 50)
    volume, mask = torch.ones(1, 5, 1, 1), row(0, 1, 1, 1, 0).astype(bool)
    model = Linear(weights, 0.5).eval()
    found = curves([model], volume, torch.zeros_like(volume), drop, mask, (2, 1, 1), steps=2, random_orders=1)
    np.testing.assert_allclose(found.deletion, [0.81, 0.72, 0.66])
    np.testing.assert_allclose(found.insertion, [0.66, 0.75, 0.81])


def test_fractions_finer_than_the_cells_take_the_nearest_number_of_them() -> None:
    model = Linear(row(0.2, 0.1, 0.0, 0.0), 0.5)
    found = of_row(model, drop=row(2, 1, 9, 9), brain=(1, 1, 0, 0), steps=8)
    np.testing.assert_allclose(found.deletion, [0.8] * 3 + [0.6] * 3 + [0.5] * 3)


def plain_loop(
    model: torch.nn.Module, volume: torch.Tensor, reference: torch.Tensor, drop: np.ndarray, brain: np.ndarray,
    cell: tuple[int, int, int], steps: int,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """Deletion and insertion, one volume after the other."""
    windows = [
        tuple(slice(at * edge, (at + 1) * edge) for at, edge in zip(block, cell, strict=True))
        for block in np.ndindex(*(-(-size // edge) for size, edge in zip(brain.shape, cell, strict=True)))
    ]
    windows = [window for window in windows if brain[window].any()]
    windows.sort(key=lambda window: -drop[window][brain[window]].mean())
    filled = volume.clone()
    for window in windows:
        filled[(slice(None), *window)] = reference[(slice(None), *window)]
    with torch.inference_mode():
        chosen = int(model(volume[None])[0].argmax())
        found: tuple[list[float], list[float]] = ([], [])
        for step in range(steps + 1):
            for start, source, answers in zip((volume, filled), (filled, volume), found, strict=True):
                changed = start.clone()
                for window in windows[: round(step / steps * len(windows))]:
                    changed[(slice(None), *window)] = source[(slice(None), *window)]
                answers.append(model(changed[None])[0].double().softmax(dim=0)[chosen].item())
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_curves_equal_a_plain_loop(seed: int, shape: tuple[int, int, int], cell: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2 * int(np.prod(shape)), 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(noise(*model[1].weight.shape, seed=seed) - 0.5)
    volume, reference = noise(2, *shape, seed=seed + 1), noise(2, *shape, seed=seed + 2)
    drop, brain = rng.normal(size=shape), rng.random(shape) < 0.6
    brain[0, 0, 0] = True
    found = curves([model], volume, reference, drop, brain, cell, steps=5, random_orders=1)
    deletion, insertion = plain_loop(model, volume, reference, drop, brain, cell, steps=5)
    np.testing.assert_allclose(found.deletion, deletion, atol=1e-6)
    np.testing.assert_allclose(found.insertion, insertion, atol=1e-6)


def test_several_models_answer_with_their_mean_probability() -> None:
    """One says class 0 with 0.6, the other class 1 with 0.9: together class 1 with 0.65."""
    agreeing, outvoting = Linear(row(0.1, 0.0), 0.5).eval(), Linear(row(0.0, -0.4), 0.5).eval()
    volume = torch.ones(1, 2, 1, 1)
    brain = np.ones((2, 1, 1), dtype=bool)
    both = [agreeing, outvoting]
    found = curves(both, volume, torch.zeros_like(volume), row(1, 2), brain, (1, 1, 1), steps=2, random_orders=1)
    np.testing.assert_allclose(found.deletion, [0.65, 0.45, 0.5])


def planted(drop: np.ndarray) -> CurveNumbers:
    volume = noise(2, *SHAPE) + 0.5
    brain = np.ones(SHAPE, dtype=bool)
    brain[0] = False
    found = curves([PlantedLesion().eval()], volume, torch.zeros_like(volume), drop, brain, (2, 2, 2), random_orders=10)
    return found.as_record()


def test_the_map_that_knows_the_lesion_beats_random_order_and_its_inverse_loses() -> None:
    distance = sum(
        (axis - (side.start + side.stop - 1) / 2) ** 2 for axis, side in zip(np.indices(SHAPE), LESION, strict=True)
    )
    knowing, inverse = planted(-distance), planted(distance)
    for name in ("deletion_random_area", "insertion_random_area"):
        assert getattr(knowing, name) == getattr(inverse, name), "random orders know nothing of the map"
    assert knowing.deletion_area < knowing.deletion_random_area - 0.2 < inverse.deletion_area - 0.3
    assert knowing.insertion_area > knowing.insertion_random_area + 0.2 > inverse.insertion_area + 0.3


def test_seed_decides_the_random_orders_and_batch_size_nothing() -> None:
    torch.manual_seed(0)
    networks = [build_network(2, "resnet10", 4, 3, 2, True, 0.0, None).eval() for _ in range(2)]
    volume, drop = noise(2, *SHAPE), noise(*SHAPE, seed=1).numpy()
    before = volume.clone()

    def run(seed: int, batch_size: int) -> PerturbationCurves:
        reference, brain = torch.zeros_like(volume), np.ones(SHAPE, dtype=bool)
        return curves(networks, volume, reference, drop, brain, (3, 3, 3), 5, 2, seed, batch_size)

    first, again, other, alone = run(0, 8), run(0, 8), run(1, 8), run(0, 1)
    for name in ("deletion", "insertion", "deletion_random", "insertion_random"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        np.testing.assert_allclose(getattr(first, name), getattr(alone, name), atol=1e-6)
    assert np.ptp(first.deletion) > 1e-3, "a flat curve would prove nothing"
    assert not np.allclose(first.deletion_random, other.deletion_random)
    np.testing.assert_allclose(first.deletion, other.deletion, atol=1e-6)
    assert torch.equal(volume, before)


def test_record_is_plain_numbers_under_the_agreed_names() -> None:
    record = of_row(Linear(row(0.1, 0.3, 0.0, -0.05), 0.5), drop=row(1, 2, 3, 4)).as_record().model_dump()
    names = ("deletion", "insertion", "deletion_random", "insertion_random")
    assert list(record) == ["fraction", *names, *(f"{name}_area" for name in names)]
    assert json.loads(json.dumps(record)) == record


def test_training_mode_is_refused() -> None:
    volume = torch.ones(1, 4, 1, 1)
    brain = np.ones((4, 1, 1), dtype=bool)
    with pytest.raises(ValueError, match=r"training mode.*call model\.eval"):
        curves([Linear(row(1, 1, 1, 1), 0.0)], volume, volume, row(1, 2, 3, 4), brain, (1, 1, 1))
