"""Write what is true of a phantom: draws in; truth.csv, appearance.csv, and truth/NNN.json with its masks out."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ricenet import LABELS
from ricenet.command.atomic import replacing_text
from ricenet.images.volume import write_volume
from ricenet.phantoms.causal_model import Draw, modality_sets
from ricenet.phantoms.phantom_record import TruthRecord
from ricenet.phantoms.scanner import Scans


def write_cohort_truth(folder: Path, draws: Sequence[Draw], case_keys: Sequence[str]) -> None:
    """Write truth.csv, each case's Bayes scores; of difficulty=hard also appearance.csv, how each case looks."""
    sets = modality_sets()
    scores = (
        {"case_key": case_key, "label": LABELS[draw.label]}
        | {name: f"{draw.bayes_llr(channels):.6f}" for name, channels in sets.items()}
        for draw, case_key in zip(draws, case_keys, strict=True)
    )
    write_table(folder / "truth.csv", ("case_key", "label", *sets), scores)
    if any(draw.difficulty == "hard" for draw in draws):
        rows = [{"case_key": key, **draw.appearance.row()} for draw, key in zip(draws, case_keys, strict=True)]
        write_table(folder / "appearance.csv", tuple(rows[0]), rows)


def write_patient_truth(folder: Path, name: str, draw: Draw, scans: Scans, channels: Sequence[str]) -> None:
    """Write a raw patient's quantities, true transform and masks on the post-OP scan's grid; without one, the event's.

    Args:
        folder: of all patients' truth.
        name: of the patient's files.
        draw: the patient.
        scans: the patient's scans.
        channels: which images the patient has.
    """
    masks = {mask: f"{name}_{mask}.nii.gz" for mask in ("brain", "lesion", "cavity")}
    for mask, file in masks.items():
        frame = scans.frames["post" if "post" in channels else "event"]
        scan = frame.scan(getattr(scans.patient, mask), scans.patient.grid)
        write_volume(folder / file, scan.voxels > 0.5, scan.world_from_voxel)
    TruthRecord(
        label=LABELS[draw.label],
        quantities=draw.quantities,
        event_from_post=scans.event_from_post.tolist(),
        **{mask: f"{folder.name}/{file}" for mask, file in masks.items()},
    ).write(folder / f"{name}.json")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV, atomically; what a row lacks is empty."""
    with replacing_text(path) as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
