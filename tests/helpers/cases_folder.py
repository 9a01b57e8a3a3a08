"""A cases folder as preprocess leaves it, made by hand: tables, records and pictures, no volumes."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ricenet.cases.case_record import CaseRecord

PARAMETERS = {"brain": "hdbet", "registration": "rigid", "spacing_mm": 1.0, "size": 224, "brain_software": "hd-bet 1.1"}


def numbers(place: int) -> dict[str, float]:
    """Of an unremarkable case; no two places agree."""
    return {
        "similarity": round(1.15 + 0.002 * place, 4),
        "rotation_degrees": round(5.0 + 0.25 * place, 4),
        "translation_mm": round(12.0 + 0.5 * place, 4),
        "brain_ml": round(1500.0 + 10 * place, 3),
        "event_coverage": 1.0,
        "dose_max_gy": round(62.0 + 0.1 * place, 4),
    }


def write_cases_folder(root: Path, patients: int, change: Mapping[int, Mapping[str, Any]] | None = None) -> Path:
    """Cases c00, c01 ...; `change`: by place the numbers that are others."""
    root.mkdir()
    qc = {f"c{place:02}": numbers(place) | dict((change or {}).get(place, {})) for place in range(patients)}
    for key, row in qc.items():
        write_case(root / f"{key}-0", key, {name: value for name, value in row.items() if value != ""})
    write_table(root / "qc.csv", [{"case_key": key, **row} for key, row in qc.items()])
    write_table(root / "cases.csv", [{"case_key": key, "folder": f"{key}-0"} for key in qc])
    (root / "excluded.csv").write_text("reason,cases\n")
    return root


def write_case(folder: Path, key: str, qc: Mapping[str, Any], **record: Any) -> None:
    """Its record and a small picture, whose grey tells the case."""
    folder.mkdir()
    known = {"version": 3, "case_key": key, "channels": ["post", "event", "rd"], "parameters": PARAMETERS}
    grid = {"world_from_voxel": np.eye(4).tolist(), "spacing_mm": 1.0, "dose_scale_gy": 60.0}
    CaseRecord(**(known | grid | {"qc": dict(qc)} | record)).write(folder / "case.json")
    grey = 10 + int(key.lstrip("c") or 0) if key.lstrip("c").isdigit() else 0
    Image.fromarray(np.full((240, 300, 3), grey, dtype=np.uint8)).save(folder / "qc.png")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
