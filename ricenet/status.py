"""The state of a grid: the folder of a grid in, each fold of each modality set in one table out.

Run: python -m ricenet.status run=outputs/demo

It reads a few small files of every run folder, so it can be run at any time, also while the grid is being trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ricenet.command.schemas import StatusConfig
from ricenet.command.stage import stage
from ricenet.errors import InvalidInput

if TYPE_CHECKING:
    from ricenet.training.grid_state import Cell


@stage("status", StatusConfig)
def main(cfg: StatusConfig) -> None:
    """Print the table of the grid, why runs failed, and how to go on."""
    from ricenet.training.grid_state import read_cells
    from ricenet.training.grid_summary import as_text

    cells = read_cells(Path(cfg.run))
    if not cells:
        raise InvalidInput(
            "no run in this folder",
            "run= is the folder of a whole grid, outputs/<name>; train first: python -m ricenet.train cases=DIR ...",
            code="run.missing",
        )
    print("\n".join([as_text(cells), *_how_to_go_on(cells)]))


def _how_to_go_on(cells: "Sequence[Cell]") -> list[str]:
    failed = [cell for cell in cells if cell.state == "failed"]
    lines = ["failed:", *(f"  {cell.name} fold {cell.fold}: {cell.message}" for cell in failed)] if failed else []
    if any(cell.state in ("failed", "killed", "interrupted") for cell in cells):
        lines.append(
            "To continue, run the same train command again: finished runs are skipped, interrupted ones are resumed."
        )
    return lines


if __name__ == "__main__":
    main()
