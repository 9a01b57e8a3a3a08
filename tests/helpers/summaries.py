"""For tests: a valid evaluation/summary.json, as content and as record; a test says what it is about."""

from typing import Any

from ricenet.evaluation.summary import Contrast, RowScores, SummaryRecord
from ricenet.paper import PAPER

MEASURES = ("balanced_accuracy", "mcc", "sensitivity", "specificity", "auroc")


def row_content(**changes: Any) -> dict[str, Any]:
    """A row of the results: five folds, 83 cases, 13 of the test split."""
    content = {
        "oof_macro_f1": 0.71,
        "oof_interval": [0.6, 0.81],
        "oof_interval_method": "bootstrap",
        "oof": dict.fromkeys(MEASURES, 0.7),
        "oof_intervals": dict.fromkeys(MEASURES, (0.6, 0.8)),
        "oof_confusion": {"tp": 24, "fn": 10, "fp": 14, "tn": 35},
        "chance": {"mean": 0.49, "p95": 0.58, "p": 0.0001},
        "folds": [0.6, 0.7, 0.7, 0.8, 0.65],
        "folds_mean": 0.69,
        "folds_sd": 0.07,
        "seeds": None,
        "n": 83,
        "n_patients": 80,
        "calibration": {
            "brier": 0.21,
            "log_loss": 0.6,
            "slope": 0.83,
            "slope_interval": [0.52, 1.14],
            "intercept": -0.1,
            "intercept_interval": [-0.5, 0.3],
            "ece": 0.1,
            "ece_null": 0.08,
            "bins": [{"mean_probability": 0.4, "observed": 0.5, "interval": [0.4, 0.6], "n": 83}],
            "histogram": [0, 0, 0, 0, 83, 0, 0, 0, 0, 0],
        },
        "roc": {"fpr": [0.0, 0.2, 1.0], "tpr": [0.0, 0.7, 1.0]},
        "decision_curve": {"threshold": [0.25, 0.5], "model": [0.3, 0.1], "all": [0.2, -0.2]},
        "n_test": 13,
        "test_members": [0, 1, 2, 3, 4],
        "test_members_macro_f1": [0.7, 0.7, 0.8, 0.6, 0.7],
        "test_vote_macro_f1": 0.75,
        "test_mean_macro_f1": 0.74,
        "test_interval": [0.47, 0.95],
        "test_confusion": {"tp": 4, "fn": 2, "fp": 1, "tn": 6},
        "test_interval_method": "jeffreys",
        "test_mean_interval": [0.44, 0.92],
        "test_vote_right": 10,
        "test_vote_right_interval": [0.5, 0.92],
        "subgroups": [],
    }
    return content | changes


def control_content(**changes: Any) -> dict[str, Any]:
    """A leakage control at chance."""
    run = {"kind": "shuffled_labels", "row": "rd-shuffled_labels", "seed": 0, "above_chance": False}
    chance = {"mean": 0.49, "p95": 0.58, "p": 0.61}
    return row_content(oof_macro_f1=0.47, oof_interval=[0.36, 0.58], chance=chance) | run | changes


def contrast_content(**changes: Any) -> dict[str, Any]:
    """A contrast that passes, over five folds."""
    content = {
        "difference": 0.2,
        "interval": [0.1, 0.3],
        "interval_method": "bootstrap",
        "macro_f1": [0.8, 0.6],
        "mcnemar": {"only_ours": 14, "only_theirs": 5, "p": 0.0042},
        "better_chance_p": 0.0001,
        "fold_test": {"t": 2.1, "df": 4, "p": 0.1, "factor": 0.45},
        "folds": [0, 1, 2, 3, 4],
        "n": 80,
        "n_patients": 80,
        "p_holm": 0.004,
        "passed": True,
    }
    return content | changes


def summary_content(**changes: Any) -> dict[str, Any]:
    """A finished grid of no rows; tests add those they are about."""
    content = {
        "version": 2,
        "cohort": {
            "validation": {"cases": 80, "patients": 80, "recurrence": 48, "rice": 32},
            "test": {"cases": 12, "patients": 12, "recurrence": 7, "rice": 5},
            "excluded": {},
        },
        "n_folds": 5,
        "folds_hash": "0123456789abcdef" * 4,
        "bootstrap": {"draws": 9999, "seed": 17, "confidence": 0.95},
        "cells": 35,
        "missing": [],
        "sets": {},
        "paper": PAPER,
        "declared": [],
        "contrasts": {},
        "omnibus": None,
        "power": {
            "patients": 80,
            "power": 0.8,
            "alpha": 0.05,
            "discordance": 0.15,
            "discordance_observed": False,
            "smallest_detectable": 0.125,
        },
        "baselines": {},
        "notes": [],
        "one_model": {},
        "controls": [],
        "test_access": {"looked": True, "count": 1},
    }
    return content | changes


def row(**changes: Any) -> RowScores:
    """The record of `row_content`."""
    return RowScores.model_validate(row_content(**changes))


def contrast(**changes: Any) -> Contrast:
    """The record of `contrast_content`."""
    return Contrast.model_validate(contrast_content(**changes))


def summary(**changes: Any) -> SummaryRecord:
    """The record of `summary_content`."""
    return SummaryRecord.model_validate(summary_content(**changes))
