import numpy as np
import pytest
from scipy.optimize import minimize

from ricenet.evaluation import elastic_net
from ricenet.evaluation.elastic_net import Penalty


def draw(patients: int, columns: int, effect: float, seed: int = 0):
    """Numbers of which the first tells the classes apart by `effect` SD; two cases a patient."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(patients) % 2, 2)
    numbers = rng.normal(size=(2 * patients, columns))
    numbers[:, 0] += effect * labels
    return numbers * 10 + 5, labels, np.repeat([f"p{n}" for n in range(patients)], 2)


def test_minimises_the_elastic_net_objective(monkeypatch):
    """Against a general optimiser, at a given penalty, on classes of different size."""
    penalty = Penalty(0.3, 0.4)
    monkeypatch.setattr(elastic_net, "choose_penalty", lambda *_: penalty)
    numbers, labels, patients = draw(16, 3, 2)
    numbers, labels, patients = numbers[:25], labels[:25].copy(), patients[:25]
    labels[:4] = 0
    pipeline = elastic_net.fit(numbers, labels, patients, seed=0)
    x = (numbers - numbers.mean(0)) / numbers.std(0)
    weight = len(labels) / 2 / np.bincount(labels)[labels]

    def objective(of):
        positive, negative, intercept = of[:3], of[3:6], of[6]
        w = positive - negative  # both at least 0, so that the L1 norm is smooth
        loss = weight @ np.logaddexp(0, np.where(labels == 1, -1, 1) * (x @ w + intercept))
        return penalty.C * loss + 0.4 * (positive + negative).sum() + 0.3 * w @ w

    best = minimize(objective, np.full(7, 0.1), bounds=[(0, None)] * 6 + [(None, None)], tol=1e-12).x
    expected = 1 / (1 + np.exp(-(x @ (best[:3] - best[3:6]) + best[6])))
    assert pipeline.predict_proba(numbers)[:, 1] == pytest.approx(expected, abs=2e-3)


def test_penalty_is_strong_where_nothing_is_to_be_learned():
    weak = elastic_net.choose_penalty(*draw(20, 3, 4), seed=0)
    strong = elastic_net.choose_penalty(*draw(20, 30, 0), seed=0)
    assert strong.C < 0.2
    assert weak.C > 0.2


def test_inner_folds_keep_patients_together():
    _, labels, patients = draw(20, 1, 0)
    splits = elastic_net._inner_splits(labels, patients, 3)
    assert len(splits) == elastic_net.INNER_FOLDS
    assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(40))
    for training, held_out in splits:
        assert not set(patients[training]) & set(patients[held_out])
        assert set(labels[training]) == set(labels[held_out]) == {0, 1}


@pytest.mark.parametrize("patients", [2, 3])
def test_too_few_patients_to_choose_get_the_default(patients):
    numbers, labels, who = draw(patients, 2, 3)
    assert elastic_net.choose_penalty(numbers, labels, who, 0) == Penalty()
    assert elastic_net.fit(numbers, labels, who, 0).predict_proba(numbers).shape == (2 * patients, 2)


def test_a_missing_number_is_the_mean_and_a_sign_of_its_own():
    numbers, labels, patients = draw(20, 2, 0)
    numbers[labels == 1, 1] = np.nan  # whether it is there gives the label away
    model = elastic_net.fit(numbers, labels, patients, 0)
    unseen = np.array([[5, np.nan], [5, numbers[labels == 0, 1].mean()]])
    assert (model.predict_proba(unseen)[:, 1] > 0.5).tolist() == [True, False]


def test_same_seed_same_bits_and_columns_without_a_number_are_no_harm():
    numbers, labels, patients = draw(20, 3, 1)
    numbers[:, 2] = np.nan
    first, again = (elastic_net.fit(numbers, labels, patients, 1).predict_proba(numbers) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.isfinite(first).all()
