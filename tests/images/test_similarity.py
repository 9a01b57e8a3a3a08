"""Mutual information, the agreement of edges and the likeness of two brains against their limits."""

import numpy as np
import pytest
from scipy import ndimage

from ricenet.images.similarity import SURELY_FROM, edge_agreement, likeness, mutual_information

SHAPE = (60, 64, 56)


def test_mutual_information_against_its_limits():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=200_000), rng.normal(size=200_000)
    assert mutual_information(a, a) == pytest.approx(2)
    assert mutual_information(a, -3 * a + 1) > 1.9
    assert mutual_information(a, b) == pytest.approx(1, abs=0.01)
    assert 1.02 < mutual_information(a, a + b) < 1.5


def test_edges_agree_whatever_the_contrast_and_by_chance_to_a_third():
    rng = np.random.default_rng(0)
    image, other = rng.normal(size=(2, 40, 42, 44)).astype(np.float32)
    everywhere = np.ones(image.shape, dtype=bool)
    assert edge_agreement(image, image, everywhere, 2.0) == pytest.approx(1)
    assert edge_agreement(image, 1000 - 3 * image, everywhere, 2.0) == pytest.approx(1, abs=1e-4)
    assert edge_agreement(image, other, everywhere, 2.0) == pytest.approx(1 / 3, abs=0.03)
    x, y, _ = np.indices(image.shape, dtype=np.float32)
    assert edge_agreement(x, y, everywhere, 2.0) == pytest.approx(0, abs=1e-6)
    inner = np.zeros(image.shape, dtype=bool)
    inner[8:-8, 8:-8] = True
    assert edge_agreement(x, x + y, inner, 2.0) == pytest.approx(0.5, abs=1e-3)  # 45 degrees apart
    for where, flat in ((~everywhere, image), (everywhere, np.zeros_like(image))):
        assert edge_agreement(image, flat, where, 2.0) == 0


def test_edges_count_only_where_asked():
    rng = np.random.default_rng(1)
    image, other = rng.normal(size=(2, 40, 42, 44)).astype(np.float32)
    half = np.zeros(image.shape, dtype=bool)
    half[:20] = True
    mixed = np.where(np.pad(half[8:], [(0, 8), (0, 0), (0, 0)]) | half, image, other)
    assert edge_agreement(image, mixed, half, 2.0) > 0.9 > edge_agreement(image, mixed, ~half, 2.0)


@pytest.fixture
def brain() -> np.ndarray:
    grid = np.indices(SHAPE) - np.array([30, 32, 28])[:, None, None, None]
    return (grid**2).sum(axis=0) < 25**2


def person(seed: int) -> np.ndarray:
    """Folds of about two voxels, nobody else's."""
    return 100 + 400 * ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.0)


def test_one_person_is_alike_however_bright_and_two_are_not(brain: np.ndarray) -> None:
    noise = np.random.default_rng(9).normal(0, 2, SHAPE)
    assert likeness(person(1), person(1), brain, 1.0) == pytest.approx(1)
    assert likeness(person(1), 3 * person(1) + 50, brain, 1.0) == pytest.approx(1, abs=1e-3)
    assert likeness(person(1), person(1) + noise, brain, 1.0) > SURELY_FROM
    assert abs(likeness(person(1), person(2), brain, 1.0)) < 0.1


def test_a_lesion_and_a_receive_field_do_not_make_two_people_of_one(brain: np.ndarray) -> None:
    event = person(1) * np.linspace(0.6, 1.4, SHAPE[0])[:, None, None]
    event[25:33, 25:33, 25:33] = 900
    assert likeness(person(1), event, brain, 1.0) > SURELY_FROM


def test_where_there_is_nothing_to_compare_nobody_is_alike(brain: np.ndarray) -> None:
    assert likeness(person(1), np.full(SHAPE, 7.0), brain, 1.0) == 0
    assert likeness(person(1), person(1), np.zeros(SHAPE, bool), 1.0) == 0
