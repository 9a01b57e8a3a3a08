import csv
from pathlib import Path

from helpers.cases_folder import write_case

from ricenet.cases.case_record import LesionPlace
from ricenet.cases.case_tables import (
    lesions_elsewhere,
    masks_not_used,
    write_csv,
    write_doses,
    write_failures,
    write_tables,
)
from ricenet.cohort.table import Case
from ricenet.command.processes import Ended


def case(key: str, row: int) -> Case:
    return Case(key, f"patient of {key}", row, label=0, split="cv", images={"post": Path("/data/MUSTERMANN.nii.gz")})


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_are_ordered_by_key_and_columns_are_those_of_any_row(tmp_path):
    write_csv(tmp_path / "x.csv", {"c2": {"a": 1}, "c1": {"b": "x, y\nz"}})
    assert (tmp_path / "x.csv").read_text() == 'case_key,a,b\nc1,,"x, y\nz"\nc2,1,\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_failures_name_the_row_and_the_rule_and_the_file_goes_when_there_are_none(tmp_path):
    failed = {"c1": Ended("invalid", code="brain.volume", message="12 ml", name="case c1 (row 3 of cohort.csv)")}
    write_failures(tmp_path, [case("c0", 2), case("c1", 3)], failed)
    row = {"case_key": "c1", "row": "3", "kind": "invalid", "code": "brain.volume"}
    assert read(tmp_path / "failed.csv") == [{**row, "message": "case c1 (row 3 of cohort.csv): 12 ml"}]
    assert "MUSTERMANN" not in (tmp_path / "failed.csv").read_text()
    write_failures(tmp_path, [case("c0", 2), case("c1", 3)], {})
    assert not (tmp_path / "failed.csv").exists()


def test_doses_are_a_table_and_go_when_the_cohort_says_nothing_of_them(tmp_path):
    write_doses(tmp_path, {"c1": {"used": "rd1 (PLAN, 60 Gy)", "left_out": "rd2: planned 3 days after the event"}})
    row = {"case_key": "c1", "used": "rd1 (PLAN, 60 Gy)", "left_out": "rd2: planned 3 days after the event"}
    assert read(tmp_path / "doses.csv") == [row]
    write_doses(tmp_path, {})
    assert not (tmp_path / "doses.csv").exists()


def test_timings_of_earlier_runs_stay_as_long_as_their_case_does(tmp_path):
    for key in ("c0", "c1", "c2"):
        write_case(tmp_path / key, key, {"brain_ml": 1400.5})
    first = {key: Ended("done", {"read": 1.5}, seconds=2.0, peak_gb=0.3) for key in ("c0", "c1")}
    write_tables(tmp_path, {"c0": "c0", "c1": "c1"}, first)
    second = {"c2": Ended("done", {"read": 2.5}, seconds=3.0, peak_gb=0.4), "c1": Ended("failed", message="killed")}
    write_tables(tmp_path, {"c0": "c0", "c2": "c2"}, second)
    assert read(tmp_path / "timings.csv") == [
        {"case_key": "c0", "read": "1.5", "total": "2.0", "peak_gb": "0.3"},
        {"case_key": "c2", "read": "2.5", "total": "3.0", "peak_gb": "0.4"},
    ]
    assert read(tmp_path / "qc.csv") == [{"case_key": key, "brain_ml": "1400.5"} for key in ("c0", "c2")]


def test_what_each_image_came_as_stands_beside_the_numbers(tmp_path):
    write_case(tmp_path / "c0", "c0", {"brain_ml": 1400.5})
    write_case(tmp_path / "c1", "c1", {"brain_ml": 1500.5}, brains={"post": "hdbet", "event": "stripped"})
    write_tables(tmp_path, {"c0": "c0", "c1": "c1"}, {})
    assert read(tmp_path / "qc.csv") == [
        {"case_key": "c0", "brain_ml": "1400.5", "post_brain": "", "event_brain": ""},
        {"case_key": "c1", "brain_ml": "1500.5", "post_brain": "hdbet", "event_brain": "stripped"},
    ]


def test_how_the_lesion_was_found_stands_beside_the_numbers(tmp_path):
    event = LesionPlace(source="event", voxel=(1.0, 2.0, 3.0), contrast=3.5)
    none = LesionPlace(source="none", voxel=(1.0, 2.0, 3.0), contrast=0.75)
    mask = LesionPlace(source="mask", voxel=(1.0, 2.0, 3.0))
    places = [{}, {"event": event}, {"difference": none, "event": event}, {"mask": mask, "event": event}]
    for number, lesion in enumerate(places):
        write_case(tmp_path / f"c{number}", f"c{number}", {}, **({"lesion": lesion} if lesion else {}))
    write_tables(tmp_path, {f"c{number}": f"c{number}" for number in range(4)}, {})
    assert [(row["lesion_place"], row["enhancement_contrast"]) for row in read(tmp_path / "qc.csv")] == [
        ("", ""), ("event", "3.5"), ("none", "0.75"), ("mask", "3.5"),
    ]  # fmt: skip
    assert masks_not_used(tmp_path, ["c0", "c1", "c3"]) == ["c1"], "of c0 an older version did not say"


def test_a_lesion_is_compared_with_its_coordinates_in_the_frame_of_the_event(tmp_path):
    """Grid voxels of 1 mm from the post-OP MRI's origin; the event MRI is moved by (5, 0, -2) mm."""
    moved = [[1.0, 0, 0, 5], [0, 1.0, 0, 0], [0, 0, 1.0, -2], [0, 0, 0, 1.0]]
    identity = [[float(row == column) for column in range(4)] for row in range(4)]
    maps = {"post_from_post": identity, "event_from_post": moved}
    place = LesionPlace(source="difference", voxel=(10.0, 20.0, 30.0), contrast=3.5)
    none = LesionPlace(source="none", voxel=(10.0, 20.0, 30.0), contrast=0.5)
    for key, lesion in (("c0", place), ("c1", place), ("c2", place), ("c3", none)):
        write_case(tmp_path / key, key, {}, lesion={"difference": lesion, "event": lesion}, transforms=maps)
    places_mm = {"c0": (15.0, 20.0, 28.0), "c1": (15.0, 36.0, 28.0), "c3": (0.0, 0.0, 0.0)}
    write_tables(tmp_path, {key: key for key in ("c0", "c1", "c2", "c3")}, {}, places_mm)
    assert [row["lesion_off_mm"] for row in read(tmp_path / "qc.csv")] == ["0.0", "16.0", "", ""]
    assert lesions_elsewhere(tmp_path, 15.0) == ["c1"]
    write_tables(tmp_path, {"c2": "c2"}, {})
    assert lesions_elsewhere(tmp_path, 15.0) == [], "no such column"
