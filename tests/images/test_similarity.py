"""Mutual information against its limits."""

import numpy as np
import pytest

from ricenet.images.similarity import mutual_information


def test_mutual_information_against_its_limits():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=200_000), rng.normal(size=200_000)
    assert mutual_information(a, a) == pytest.approx(2)
    assert mutual_information(a, -3 * a + 1) > 1.9
    assert mutual_information(a, b) == pytest.approx(1, abs=0.01)
    assert 1.02 < mutual_information(a, a + b) < 1.5
