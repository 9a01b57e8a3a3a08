"""Compare folds in Weights & Biases or TensorBoard: curves grouped by row of the grid, mean and band over the folds.

to=wandb saves a workspace in your project. W&B imports no workspace from a file, so the committed workspace is this
code: building it needs neither key nor network, and only this command sends it.
to=tensorboard reads metrics.csv of every run, whatever logger it had, and needs no account.
Run: python -m ricenet.dashboard entity=YOU project=ricenet    |    to=tensorboard run=outputs/demo
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ricenet.command.atomic import partial_folder, remove_folder
from ricenet.command.schemas import DashboardConfig
from ricenet.command.stage import stage
from ricenet.errors import InvalidInput, WrongUsage

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot
    from wandb_workspaces.workspaces import Workspace

    from ricenet.evaluation.fold_curves import Curve

SCORES = {"val/macro_f1": "Validation macro-F1", "val/auroc": "Validation AUROC", "val/loss": "Validation loss"}
CURVES = {**SCORES, "train/loss": "Training loss"}
GROUP = "Group"  # of a W&B run: its row of the grid, so that a control is no fold of its modality set
TENSORBOARD = "tensorboard-folds"
CHART = "Mean and SD of the folds"
MOST_LINES = 100  # W&B draws the first ten otherwise: seven sets and three of their controls
REQUIRED = {"wandb": ("entity", "project"), "tensorboard": ("run",)}


@stage("dashboard", DashboardConfig)
def main(cfg: DashboardConfig) -> None:
    """Save the comparison where it was asked for, and print how to look at it."""
    if cfg.to not in REQUIRED:
        raise WrongUsage(f"to={cfg.to}: expected one of {', '.join(REQUIRED)}")
    missing = [key for key in REQUIRED[cfg.to] if not getattr(cfg, key)]
    if missing:
        raise WrongUsage(f"to={cfg.to} needs {' and '.join(f'{key}=' for key in missing)}")
    if cfg.to == "tensorboard":
        folder = write_tensorboard(Path(cfg.run or ""))
        print(f"tensorboard --logdir {folder}\nMean and band are under CUSTOM SCALARS.")
        if _is_partial(Path(cfg.run or "")):
            print("Rows are of different cases, who have their images: compare them with ricenet.evaluate alone.")
    else:
        print(save_workspace(cfg.entity or "", cfg.project, cfg.row))


def _is_partial(run: Path) -> bool:
    from ricenet.training.grid_state import read_cells

    return any(cell.record and cell.record.n_cases is not None for cell in read_cells(run))


def write_tensorboard(run: Path) -> Path:
    """Write `run`/tensorboard-folds with one event file per row of the grid, in place of the ones before.

    Each holds, per metric, the scalars mean, mean_minus_sd and mean_plus_sd by epoch, and the layout of the margin
    charts. Where a single run is left there is no SD and the three are equal: the chart wants a band everywhere.

    Args:
        run: folder of a grid, outputs/<name>, finished or not.

    Raises:
        InvalidInput: no run has finished an epoch, or TensorBoard is not installed.
    """
    from ricenet.evaluation.fold_curves import read_curves

    curves = read_curves(run)
    if not curves:
        raise InvalidInput(
            "no run in this folder has finished an epoch",
            "run= is the folder of a whole grid, outputs/<name>; train first: python -m ricenet.train cases=DIR ...",
            code="run.no_epoch",
        )
    target = run / TENSORBOARD
    with partial_folder(run, TENSORBOARD) as folder:
        for row, by_metric in curves.items():
            _write_events(folder / row, by_metric)
        remove_folder(target)
        folder.rename(target)
    return target


def _write_events(folder: Path, by_metric: "Mapping[str, Curve]") -> None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "to=tensorboard needs TensorBoard", "pip install tensorboard", code="package.missing"
        ) from error

    # purge_step: a TensorBoard that is open drops the points of the file before instead of drawing both.
    with SummaryWriter(folder, purge_step=0) as writer:
        names = sorted(by_metric, key=[*CURVES, *by_metric].index)
        writer.add_custom_scalars({CHART: {CURVES.get(name, name): ["Margin", _tags(name)] for name in names}})
        for name, curve in by_metric.items():
            low, high = (np.where(curve.n > 1, edge, curve.mean) for edge in (curve.low, curve.high))
            for tag, values in zip(_tags(name), (curve.mean, low, high), strict=True):
                for epoch, value in zip(curve.epochs, values, strict=True):
                    writer.add_scalar(tag, value, int(epoch))
    (events,) = folder.iterdir()
    events.rename(folder / f"events.out.tfevents.{time.time_ns()}")  # its own name holds that of the machine


def _tags(metric: str) -> list[str]:
    return [f"{metric}/{part}" for part in ("mean", "mean_minus_sd", "mean_plus_sd")]


def save_workspace(entity: str, project: str, row: str | None) -> str:
    """Send the workspace to W&B; its address.

    Raises:
        InvalidInput: wandb-workspaces is not installed, or there is no key.
    """
    import wandb

    try:
        workspace = build_workspace(entity, project, row)
        wandb.Api()
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "to=wandb needs wandb-workspaces", "pip install wandb-workspaces", code="package.missing"
        ) from error
    except wandb.errors.UsageError as error:
        raise InvalidInput(
            "no W&B key here",
            "run wandb login, or take to=tensorboard, or read the same curves in the report page",
            code="wandb.key",
        ) from error
    workspace.save()
    return workspace.url


def build_workspace(entity: str, project: str, row: str | None = None) -> "Workspace":
    """Curves over the epochs and last values side by side, grouped by row of the grid, controls beside the sets.

    With `row` the view of that row alone, each fold a line of its own: W&B filters the runs of a view, not of a panel.
    """
    from wandb_workspaces.expr import Metric
    from wandb_workspaces.workspaces import RunsetSettings, Section, Workspace

    if row is not None:
        return Workspace(
            entity=entity,
            project=project,
            name=f"ricenet folds of {row}",
            sections=[Section(name=f"{row}: each fold", panels=[*map(_fold_lines, CURVES)], is_open=True)],
            runset_settings=RunsetSettings(filters=[Metric(GROUP) == row]),
        )
    return Workspace(
        entity=entity,
        project=project,
        name="ricenet folds",
        sections=[
            Section(name="Over the epochs: mean and SD of the folds", panels=[*map(_curve, CURVES)], is_open=True),
            Section(name="Modality sets side by side", panels=[*map(_bars, SCORES)], is_open=True),
        ],
        runset_settings=RunsetSettings(groupby=[Metric(GROUP)]),
    )


def _curve(metric: str) -> "LinePlot":
    from wandb_workspaces.reports.v2 import LinePlot

    return LinePlot(
        title=CURVES[metric], x="epoch", y=[metric],
        groupby=GROUP, groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=MOST_LINES,
    )  # fmt: skip


def _fold_lines(metric: str) -> "LinePlot":
    from wandb_workspaces.reports.v2 import LinePlot

    return LinePlot(title=CURVES[metric], x="epoch", y=[metric], max_runs_to_show=MOST_LINES)


def _bars(metric: str) -> "BarPlot":
    from wandb_workspaces.reports.v2 import BarPlot

    return BarPlot(
        title=f"{CURVES[metric]}, last epoch", metrics=[metric],
        groupby=GROUP, groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=MOST_LINES,
    )  # fmt: skip


if __name__ == "__main__":
    main()
