"""The Weights & Biases workspace that compares folds: curves grouped by modality set, mean and band over the folds.

Building it needs neither key nor network; saving it sends it to your project, so it is done only by this command.
Run: python -m ricenet.dashboard entity=YOU project=ricenet
"""

from typing import TYPE_CHECKING

from ricenet.config import DashboardConfig, InvalidInput
from ricenet.stage import stage

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot
    from wandb_workspaces.workspaces import Workspace

SCORES = {"val/macro_f1": "Validation macro-F1", "val/auroc": "Validation AUROC", "val/loss": "Validation loss"}
SET = "modalities.name"


@stage("dashboard", DashboardConfig)
def main(cfg: DashboardConfig) -> None:
    """Save the workspace and print its address."""
    import wandb

    try:
        wandb.Api()
    except wandb.errors.UsageError as error:
        raise InvalidInput("no W&B key here; run wandb login, or read the same numbers in the report page") from error
    workspace = build_workspace(cfg.entity, cfg.project)
    workspace.save()
    print(workspace.url)


def build_workspace(entity: str, project: str) -> "Workspace":
    """Two sections, curves over the epochs and last values side by side, with runs grouped by modality set."""
    from wandb_workspaces.workspaces import Config, RunsetSettings, Section, Workspace

    curves = [_curve(title, metric) for metric, title in {**SCORES, "train/loss": "Training loss"}.items()]
    bars = [_bars(f"{title}, last epoch", metric) for metric, title in SCORES.items()]
    return Workspace(
        entity=entity,
        project=project,
        name="ricenet folds",
        sections=[
            Section(name="Over the epochs: mean and SD of the folds", panels=[*curves], is_open=True),
            Section(name="Modality sets side by side", panels=[*bars], is_open=True),
        ],
        runset_settings=RunsetSettings(groupby=[Config(SET)]),
    )


def _curve(title: str, metric: str) -> "LinePlot":
    from wandb_workspaces.reports.v2 import LinePlot

    return LinePlot(title=title, x="epoch", y=[metric], groupby=SET, groupby_aggfunc="mean", groupby_rangefunc="stddev")


def _bars(title: str, metric: str) -> "BarPlot":
    from wandb_workspaces.reports.v2 import BarPlot

    return BarPlot(title=title, metrics=[metric], groupby=SET, groupby_aggfunc="mean", groupby_rangefunc="stddev")


if __name__ == "__main__":
    main()
