"""What the page says of occlusion maps: the explanation folder of a run in, the view of occlusion.html.j2 out."""

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ricenet.display.page import Picture, figure, jpeg
from ricenet.errors import InvalidInput
from ricenet.explanation.attribution import VERSION
from ricenet.explanation.map_sentences import map_sentences
from ricenet.explanation.regions import DOSE_BANDS, POINTED

MAP_FIGURES = {
    "attribution": "Where the occlusion maps lie, what their maxima point at, and which channel they come from.",
    "curves": "Probability while the brain is blanked (deletion) or brought back (insertion), map's order and random.",
}
SHARES = (*DOSE_BANDS, "lesion", "cavity", "enhancement")


def occlusion_view(explanation: Path, pictures: int) -> dict[str, Any]:
    """The explained sets, each with its row of summary.json, its cases and some pictures; and what all have in common.

    Raises:
        InvalidInput: a summary of another version.
    """
    summary = _read(explanation / "summary.json") or {"version": VERSION, "sets": {}}
    if summary.get("version") != VERSION:
        raise InvalidInput(
            "explanation/summary.json was written by another version of ricenet",
            f"run python -m ricenet.explain run=outputs/{explanation.resolve().parent.name} again",
        )
    found = summary["sets"]
    return {
        "sets": [_explained_set(explanation / name, one, pictures) for name, one in found.items()],
        "regions": [name for name in POINTED if any(name in one["pointing"] for one in found.values())],
        "shares": [name for name in SHARES if any(name in one["median_map_share"] for one in found.values())],
        "figures": [drawn for name, caption in MAP_FIGURES.items() if (drawn := figure(explanation, name, caption))],
    }


def _explained_set(folder: Path, summary: dict[str, Any], pictures: int) -> dict[str, Any]:
    records = [_read(folder / key / "occlusion.json") for key in sorted(summary["cases"])]
    shown = _spread(records, key=lambda record: (record["label"], record["predicted"]))[:pictures]
    cohort, alt = folder / "cohort.png", "Axial, coronal and sagittal slices of the mean occlusion map"
    return {
        "name": folder.name,
        "summary": summary,
        "sentences": map_sentences(summary),
        "records": records,
        "pictures": [_occlusion_picture(folder / record["case_key"], record) for record in shown],
        "cohort": Picture(jpeg(cohort), alt, "Mean map over all explained cases.") if cohort.is_file() else None,
    }


def _occlusion_picture(folder: Path, record: dict[str, Any]) -> Picture:
    where = record["drop_max_world_mm"]
    place = "nowhere does blanking lower it" if where is None else "at ({:.0f}, {:.0f}, {:.0f}) mm".format(*where)
    answer = "right" if record["label"] == record["predicted"] else "wrong"
    caption = (
        f"Case {record['case_key']}: {record['label']}, predicted {record['predicted']} "
        f"({record['probability']:.2f}, {answer}). Largest probability drop {record['drop_max']:.2f}, {place}."
    )
    alt = f"Axial, coronal and sagittal slices of case {record['case_key']} with its occlusion map and dose contours"
    return Picture(jpeg(folder / "occlusion.png"), alt, caption)


def _spread(records: list[dict[str, Any]], key: Any) -> list[dict[str, Any]]:
    """The same records with the groups of `key` taking turns, so that the first few show every kind."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [record for turn in zip_longest(*groups.values()) for record in turn if record is not None]


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
