"""Mutual information and the agreement of edges against their limits."""

import numpy as np
import pytest

from ricenet.images.similarity import edge_agreement, mutual_information


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
