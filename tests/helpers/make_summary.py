"""For tests: made-up summaries whose curves belong together, and what every figure must hold."""

from functools import cache
from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.special import expit
from sklearn.metrics import confusion_matrix

from helpers import summaries
from ricenet.display import figure_style
from ricenet.evaluation.summary import Confusion, Contrast, RowScores, SummaryRecord
from ricenet.paper import PAPER
from ricenet.statistics import calibration, metrics

THRESHOLDS = np.round(np.arange(0.05, 0.951, 0.05), 2)


def confusion(labels: np.ndarray, decisions: np.ndarray) -> Confusion:
    tn, fp, fn, tp = confusion_matrix(labels, decisions, labels=[0, 1]).ravel().tolist()
    return Confusion(tp=tp, fn=fn, fp=fp, tn=tn)


@cache
def found(strength: float, n: int = 80, n_test: int = 12, seed: int = 0) -> RowScores:
    """A row of the results: n cases, two fifths rice, told apart by `strength` standard deviations; 9: perfectly.

    Read only: it is made once.
    """
    rng = np.random.default_rng(seed)
    labels, test = ((np.arange(size) % 5 < 2).astype(int) for size in (n, n_test))
    rice = expit(2 * rng.normal(strength * (labels - 0.5), 1)) if strength < 9 else 0.1 + 0.8 * labels
    vote = np.where(rng.random(n_test) < 0.85, test, 1 - test)
    who = np.arange(n)
    return summaries.row(
        n=n,
        n_test=n_test,
        oof=metrics.describe(labels, rice),
        oof_intervals=metrics.MeasureIntervals(*[(0.5, 0.9)] * 4, auroc=(0.61, 0.88) if n >= 50 else None),
        oof_confusion=confusion(labels, metrics.decide(rice)),
        test_confusion=confusion(test, vote) if n_test else None,
        calibration=calibration.calibration(labels, rice, who, draws=99, seed=seed),
        roc=calibration.roc(labels, rice),
        decision_curve=calibration.net_benefit(labels, rice, THRESHOLDS),
    )


def contrast(difference: float, passed: bool = False, half: float = 0.11, n: int = 80) -> Contrast:
    return summaries.contrast(
        difference=difference,
        interval=[difference - half, difference + half],
        p_holm=0.0004 if passed else 0.213,
        passed=passed,
        n=n,
    )


def power(smallest_detectable: float | None) -> dict:
    return summaries.summary_content()["power"] | {"smallest_detectable": smallest_detectable}


def full_summary() -> SummaryRecord:
    """Eight sets, one of them with two folds only, one perfect; three baselines; nine contrasts, two of them passed."""
    sets = {name: found(0.4 + 0.4 * index, seed=index) for index, name in enumerate(PAPER)}
    sets["post_event"] = found(1, n=32, seed=20)
    sets["rd_event"] = found(9)
    sets["modality_dropout"] = found(1.2, seed=21)
    others = [name for name in PAPER if name != "rd_post_event"]
    contrasts = {f"rd_post_event - {name}": contrast(0.31 - 0.08 * index) for index, name in enumerate(others)}
    contrasts |= {"rd_post - post": contrast(0.21, True), "rd_event - event": contrast(0.33, True)}
    contrasts["rd_post_event - dose_volume"] = contrast(0.05, n=48)
    same = calibration.calibration(np.arange(5) % 2, np.zeros(5), np.arange(5), 9, 0)
    constant = found(1).model_copy(update={"calibration": same})
    return summaries.summary(
        sets=sets,
        baselines={"majority_class": constant, "dose_volume": found(0.9, seed=30), "clinical": found(0.3, seed=31)},
        contrasts=contrasts,
        omnibus={"q": 21.42, "df": 6, "p": 0.0015, "n": 80, "sets": list(PAPER), "folds": list(range(5))},
        power=power(0.125),
    )


def smallest_summary() -> SummaryRecord:
    """One set of one fold, no test split, nothing to compare with."""
    baselines = {"majority_class": found(1, n=16)}
    return summaries.summary(sets={"rd": found(1, n=16, n_test=0)}, baselines=baselines, power=power(None))


def half_summary() -> SummaryRecord:
    """Two sets with different numbers of cases, one contrast, no omnibus test, too few cases to show anything."""
    return summaries.summary(
        sets={"rd": found(1), "rd_post_event": found(1.5, n=48, seed=1)},
        baselines={"dose_volume": found(0.9)},
        contrasts={"rd_post_event - rd": contrast(-0.004, half=0.3, n=48)},
        power=power(None),
    )


MAKERS = (full_summary, half_summary, smallest_summary)


def texts(figure: Figure) -> list[Text]:
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def require_readable(figure: Figure, smallest_points: float = 7) -> None:
    """Every text is whole, large enough and clear of the others, and the figure fits the page."""
    require_whole(figure, smallest_points)
    assert figure.get_figwidth() * figure_style.DPI <= 1100


def require_whole(figure: Figure, smallest_points: float) -> None:
    """Every text is whole, large enough and clear of the others."""
    shown = texts(figure)
    boxes = [text.get_window_extent() for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert figure.bbox.x0 <= box.x0, text
        assert box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.y1 <= figure.bbox.y1, text
        assert text.get_fontsize() >= smallest_points, text
    for (one, a), (other, b) in combinations(zip(shown, boxes, strict=True), 2):
        assert not a.overlaps(b), (one, other)
