"""Made-up metrics.csv files of a grid's runs."""

import csv
from pathlib import Path

import numpy as np

METRICS = ("train/loss", "val/auroc", "val/loss", "val/macro_f1")


def write_metrics(run: Path, row: str, folder: str, table: dict[str, list]) -> None:
    path = run / row / folder / "metrics.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("epoch", *table))
        writer.writerows((epoch, *values) for epoch, values in enumerate(zip(*table.values(), strict=True)))


def write_grid(run: Path, rows: list[str], folds: int = 5, epochs: int = 12) -> None:
    rng = np.random.default_rng(0)
    for row in rows:
        for fold in range(folds):
            write_metrics(run, row, f"fold{fold}", {name: list(rng.uniform(0.2, 0.9, epochs)) for name in METRICS})
