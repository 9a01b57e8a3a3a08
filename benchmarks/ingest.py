"""What does the choice of doses cost an ingest, and does its memory stay flat? 200 patients of a hospital, two cores.

git worktree add /tmp/before eb4ea2d
python benchmarks/ingest.py /tmp/before patients=200 rounds=1      (about half an hour)

Writes outputs/bench/ingest.json: seconds of wall time per patient of ricenet.ingest, this checkout (ours) against an
earlier one on one delivery, rounds interleaved; and the peak memory of the largest process with a quarter of the
patients and with all. The delivery: phantoms as DICOM, and beside each one's dose what both versions leave out in the
same way (copies, records, rejected drafts, beams of a plan that is whole), in five mixtures.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import pydicom
from bench import OUT, compare
from pydicom.uid import generate_uid

SPACING_MM = 4
FRACTION = 4  # of the patients, for the smaller delivery


def main(before: Path, patients: int, rounds: int) -> None:
    delivery = OUT / "ingest-delivery"
    draw(delivery, patients)
    checkouts = {"ours": Path(__file__).parents[1], "before": before}
    seconds: dict[str, list[float]] = {who: [] for who in checkouts}
    memory_gb: dict[str, float] = {}
    for turn in range(rounds):
        for who in reversed(checkouts) if turn % 2 else checkouts:
            wall_s, memory_gb[who] = ingest(checkouts[who], delivery, "labels.csv")
            seconds[who].append(wall_s / patients)
    few = quarter_of(delivery / "labels.csv")
    _, with_few_gb = ingest(checkouts["ours"], delivery, few)
    compare(
        "ingest",
        seconds.pop("ours"),
        seconds,
        "s per patient",
        patients=patients,
        peak_gb={**memory_gb, f"ours, {patients // FRACTION} patients": with_few_gb},
    )


def draw(delivery: Path, patients: int) -> None:
    """Phantoms as a hospital delivers them, each with one of five mixtures of further RT objects."""
    if (delivery / "labels.csv").exists():
        return
    command = [sys.executable, "-m", "ricenet.phantom", f"out={delivery}", "format=dicom", f"patients={patients}"]
    if os.spawnvp(os.P_WAIT, command[0], [*command, f"spacing_mm={SPACING_MM}"]):
        raise RuntimeError("the phantoms could not be drawn")
    doses = [path for path in sorted((delivery / "dicom").rglob("*")) if modality(path) == "RTDOSE"]
    for number, path in enumerate(doses):
        for kind in (("copy",), ("record",), ("rejected",), ("copy", "record"), ("rejected", "record", "copy"))[
            number % 5
        ]:
            add(path, kind)


def modality(path: Path) -> str:
    """Of a DICOM file; "" for a folder."""
    return pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).Modality if path.is_file() else ""


def add(path: Path, kind: str) -> None:
    """Write a further object beside the dose at `path`."""
    dose = pydicom.dcmread(path)
    target = path.with_name(f"{path.stem}-{kind}.dcm")
    if kind == "copy":
        shutil.copyfile(path, target)
        return
    dose.SOPInstanceUID = dose.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if kind == "record":
        dose.DoseSummationType = "RECORD"
    else:
        plan = pydicom.dcmread(next(each for each in sorted(path.parent.iterdir()) if modality(each) == "RTPLAN"))
        plan.SOPInstanceUID = plan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        plan.ApprovalStatus = "REJECTED"
        plan.save_as(path.with_name(f"{path.stem}-{kind}-plan.dcm"))
        dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID = plan.SOPInstanceUID
    dose.save_as(target)


def quarter_of(labels: Path) -> str:
    """A label table of the first patients; returns its name."""
    header, *rows = labels.read_text().splitlines()
    few = labels.with_name("few.csv")
    few.write_text("\n".join([header, *rows[: len(rows) // FRACTION]]) + "\n")
    return few.name


def ingest(checkout: Path, delivery: Path, labels: str) -> tuple[float, float]:
    """One run of a checkout into an empty folder: wall seconds, and peak GB of its largest process."""
    out = OUT / "ingest-out"
    shutil.rmtree(out, ignore_errors=True)
    keys = [f"delivery={(delivery / 'dicom').absolute()}", f"labels={(delivery / labels).absolute()}"]
    command = [sys.executable, "-m", "ricenet.ingest", *keys, f"out={out.absolute()}", "test_share=0.15", "jobs=2"]
    start = time.perf_counter()
    process = os.spawnvpe(os.P_NOWAIT, command[0], command, os.environ | {"PYTHONPATH": str(checkout.absolute())})
    _, status, usage = os.wait4(process, 0)
    wall_s = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{checkout.name}: ingest ended with {os.waitstatus_to_exitcode(status)}")
    shutil.rmtree(out)
    return wall_s, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    options = dict(argument.split("=") for argument in sys.argv[2:])
    main(Path(sys.argv[1]), int(options.get("patients", 200)), int(options.get("rounds", 1)))
