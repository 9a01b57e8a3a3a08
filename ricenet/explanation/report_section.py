"""What the page says of occlusion maps: the explanation folder of a run in, the view of occlusion.html.j2 out."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ricenet.command.records import read_version
from ricenet.display.page import Picture, figure, jpeg
from ricenet.errors import InvalidInput
from ricenet.explanation.map_record import (
    SUMMARY,
    VERSION,
    ExplanationSummary,
    OcclusionRecord,
    SetSummary,
    read_record,
)
from ricenet.explanation.map_sentences import map_sentences, numbers_in_words
from ricenet.explanation.regions import DOSE_BANDS, POINTED

MAP_FIGURES = {
    "attribution": "Where the occlusion maps lie, what their maxima point at, and which channel they come from.",
    "curves": "Probability while the brain is blanked (deletion) or brought back (insertion), map's order and random.",
}
SHARES = (*DOSE_BANDS, "lesion", "cavity", "enhancement")


@dataclass(frozen=True)
class ExplainedSet:
    """One modality set of the section; `cohort`: the picture of its mean map, if it was drawn."""

    name: str
    summary: SetSummary
    sentences: list[str]
    records: list[OcclusionRecord]
    pictures: list[Picture]
    cohort: Picture | None


@dataclass(frozen=True)
class OcclusionView:
    """The section: the explained sets, and the regions and charts that they have in common."""

    sets: list[ExplainedSet]
    regions: list[str]
    shares: list[str]
    figures: list[Picture]


def occlusion_view(explanation: Path, pictures: int) -> OcclusionView:
    """Read what the section shows; a section without sets where nothing was explained.

    Args:
        explanation: the folder that ricenet.explain wrote.
        pictures: at most so many of each set's cases get a picture.

    Raises:
        InvalidInput: a summary of another version, or a file that cannot be read.
    """
    path = explanation / SUMMARY
    if not path.is_file():
        return OcclusionView([], [], [], [])
    again = f"run python -m ricenet.explain run=outputs/{explanation.resolve().parent.name} again"
    if read_version(path) != VERSION:
        raise InvalidInput(
            "explanation/summary.json was written by another version of ricenet", again, code="summary.version"
        )
    summaries = ExplanationSummary.read(path, again).sets
    return OcclusionView(
        sets=[_explained_set(explanation / name, summary, pictures) for name, summary in summaries.items()],
        regions=[name for name in POINTED if any(name in summary.pointing for summary in summaries.values())],
        shares=[name for name in SHARES if any(name in summary.median_map_share for summary in summaries.values())],
        figures=[chart for name, caption in MAP_FIGURES.items() if (chart := figure(explanation, name, caption))],
    )


def _explained_set(folder: Path, summary: SetSummary, pictures: int) -> ExplainedSet:
    records = [read_record(folder / key) for key in sorted(summary.cases)]
    cohort = folder / "cohort.png"
    alt = "Axial, coronal and sagittal slices of the mean occlusion map"
    return ExplainedSet(
        name=folder.name,
        summary=summary,
        sentences=map_sentences(summary),
        records=records,
        pictures=[_occlusion_picture(folder / record.case_key, record) for record in _spread(records)[:pictures]],
        cohort=Picture(jpeg(cohort), alt, "Mean map over all explained cases.") if cohort.is_file() else None,
    )


def _occlusion_picture(folder: Path, record: OcclusionRecord) -> Picture:
    where = record.drop_max_world_mm
    place = "nowhere does blanking lower it" if where is None else "at ({:.0f}, {:.0f}, {:.0f}) mm".format(*where)
    verdict = "right" if record.label == record.predicted else "wrong"
    caption = (
        f"Case {record.case_key}: {record.label}, predicted {record.predicted} "
        f"({record.probability:.2f}, {verdict}). Largest probability drop {record.drop_max:.2f}, {place}."
    )
    if record.numbers is not None:
        caption += f" {numbers_in_words(record.numbers).capitalize()}."
    alt = f"Axial, coronal and sagittal slices of case {record.case_key} with its occlusion map and dose contours"
    return Picture(jpeg(folder / "occlusion.png"), alt, caption)


def _spread(records: Sequence[OcclusionRecord]) -> list[OcclusionRecord]:
    """The same records with labels and predictions taking turns, so that the first few show every kind."""
    groups: dict[tuple[str, str], list[OcclusionRecord]] = {}
    for record in records:
        groups.setdefault((record.label, record.predicted), []).append(record)
    return [record for turn in zip_longest(*groups.values()) for record in turn if record is not None]
