"""For tests: a made-up summary and run records of a finished grid, with every key that the checklists look at."""

from typing import Any

from helpers.summaries import contrast_content, control_content, row_content, summary_content
from ricenet.evaluation.summary import SummaryRecord
from ricenet.training.run_record import RunRecord

SETS = ("event", "post", "rd", "post_event", "rd_post", "rd_event", "rd_post_event")


def full_summary() -> dict[str, Any]:
    """The content of summary.json: seven sets, two baselines, declared contrasts, a control, subgroups."""
    sets = {name: _row(0.501 + 0.031 * index) for index, name in enumerate(SETS)}
    for found in sets.values():
        found["subgroups"] = [
            _level("site", "A", 50, 0.713, [0.58, 0.83]),
            _level("site", "B", 30, None, None),
        ]
    sets["rd_post_event"]["seeds"] = {
        "of_folds": {str(fold): [0, 1] for fold in range(5)}, "oof_macro_f1": [0.66, 0.7], "oof_mean": 0.681,
        "oof_sd": 0.023,
    }  # fmt: skip
    return summary_content(
        cohort={
            "validation": {"cases": 83, "patients": 80, "recurrence": 49, "rice": 34},
            "test": {"cases": 13, "patients": 12, "recurrence": 7, "rice": 6},
            "excluded": {"motion": 2, "preprocess: dose.cgy": 1},
        },
        sets=sets,
        baselines={"majority_class": _row(0.377), "dose_volume": _row(0.819)},
        declared=["rd_post - post", "rd_post_event - dose_volume", "rd_event - event"],
        contrasts={
            "rd_post - post": _contrast(0.093, [0.021, 0.168], (11, 3), 0.0287, True),
            "rd_post_event - dose_volume": _contrast(-0.132, [-0.214, -0.047], (5, 9), 0.424, False),
        },
        omnibus={"q": 21.47, "df": 6, "p": 0.0015, "sets": list(SETS), "folds": [0, 1, 2, 3, 4], "n": 80},
        controls=[
            control_content(
                row="rd_post_event-shuffled_labels",
                seed=3,
                oof_macro_f1=0.487,
                oof_interval=[0.38, 0.59],
                chance={"mean": 0.493, "p95": 0.58, "p": 0.61},
            )
        ],
        power=summary_content()["power"] | {"discordance_observed": True},
        test_access={"looked": True, "count": 2},
    )


def record(summary: dict[str, Any]) -> SummaryRecord:
    """The record of a summary's content."""
    return SummaryRecord.model_validate(summary)


def _row(macro_f1: float) -> dict[str, Any]:
    return row_content(
        oof_macro_f1=macro_f1,
        oof_interval=[macro_f1 - 0.111, macro_f1 + 0.099],
        oof={
            "balanced_accuracy": macro_f1 + 0.011,
            "mcc": macro_f1 - 0.322,
            "sensitivity": macro_f1 + 0.023,
            "specificity": macro_f1 + 0.017,
            "auroc": macro_f1 + 0.043,
        },
        oof_intervals={
            "balanced_accuracy": [0.41, 0.92],
            "mcc": [0.03, 0.61],
            "sensitivity": [0.42, 0.93],
            "specificity": [0.43, 0.94],
            "auroc": None,
        },
        chance={"mean": 0.491, "p95": 0.57, "p": 0.0007},
        folds=[0.6, 0.7, None, 0.8, 0.65],
        folds_mean=macro_f1 + 0.007,
        folds_sd=0.061,
        calibration=row_content()["calibration"] | {"brier": 0.207, "intercept": None, "intercept_interval": None},
        test_members=[0, 1, 3, 4],
        test_vote_macro_f1=macro_f1 + 0.052,
        test_mean_macro_f1=macro_f1 + 0.033,
    )


def _level(column: str, level: str, n: int, macro_f1: float | None, interval: list[float] | None) -> dict[str, Any]:
    return {
        "column": column, "level": level, "n": n, "n_patients": n, "rice": 20, "recurrence": n - 20, "right": 21,
        "macro_f1": macro_f1, "interval": interval, "interval_method": None,
    }  # fmt: skip


def _contrast(
    difference: float, interval: list[float], discordant: tuple[int, int], p: float, passed: bool
) -> dict[str, Any]:
    return contrast_content(
        difference=difference,
        interval=interval,
        mcnemar={"only_ours": discordant[0], "only_theirs": discordant[1], "p": p / 3},
        p_holm=p,
        passed=passed,
        n=83,
    )


def full_records() -> list[RunRecord]:
    """A run.json for every set, fold and two seeds, and one of a leakage control."""
    runs = [_record(name, fold, seed) for name in SETS for fold in range(5) for seed in (0, 1)]
    control = _record("rd_post_event-shuffled_labels", 0, 3)
    return [*runs, control.model_copy(update={"control": "shuffled_labels", "epochs": 3})]


def _record(name: str, fold: int, seed: int) -> RunRecord:
    return RunRecord.model_validate(
        {
            "status": "done",
            "modalities": {"name": name, "channels": name.partition("-")[0].split("_")},
            "fold": fold,
            "n_folds": 5,
            "seed": seed,
            "epochs": 800,
            "checkpoint": "last",
            "optimisation": {"schedule": "constant", "batch_norm": "running"},
            "model": {
                "name": "resnet18",
                "architecture": "resnet18",
                "width": 64,
                "conv1_size": 7,
                "conv1_stride": 1,
                "max_pool": True,
                "dropout": 0.0,
                "channel_dropout": 0.0,
                "pretrained": None,
            },
            "cases": "../cases",
            "folds_hash": "0123456789abcdef" * 4,
            "case_hash": "fedcba9876543210" * 4,
            "versions": {
                "ricenet": "0.1.0",
                "commit": "8a4c2a552a96b2e8dd02d94e4b15f6226eb8256a",
                "torch": "2.13.0",
                "lightning": "2.6.6",
                "monai": "1.6.1",
                "numpy": "2.3.5",
                "torchmetrics": "1.9.0",
                "python": "3.11.7",
                "machine": "NVIDIA H100",
                "threads": 1,
            },
            "elapsed_s": 25.3,
            "control": None,
        }
    )
