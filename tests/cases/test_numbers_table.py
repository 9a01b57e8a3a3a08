"""numbers.json of a case, and the tables of a cases folder: written, read, refused where something is missing."""

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.solids import PLACES_MM, SHAPE, SPACING_MM, ball

from ricenet.cases.case_numbers import NUMBERS, names_of
from ricenet.cases.case_record import CASE_FILE, CaseRecord
from ricenet.cases.numbers_table import (
    NUMBERS_FILE,
    CaseNumbers,
    at_random_place,
    is_measured,
    measure_folder,
    read_numbers,
    write_numbers,
)
from ricenet.cases.structures import write_masks
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.errors import InvalidInput

BRAIN = ball(25)


def write_case(cases: Path, key: str, channels: tuple[str, ...] = ("post", "event", "rd"), **masks) -> ReadyCase:
    """A case folder whose dose is a ramp and whose lesion is a ball 10 mm to the right."""
    folder = cases / key
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = {"post": rng.normal(size=SHAPE), "event": rng.normal(size=SHAPE) + 6 * ball(8, (10, 0, 0)),
              "rd": (40 + 0.5 * PLACES_MM[..., 0]) / 60}  # fmt: skip
    np.save(folder / "volume.npy", np.stack([images[role] for role in channels]).astype(np.float16))
    np.save(folder / "brain.npy", BRAIN)
    write_masks(folder, masks)
    CaseRecord(
        version=3, case_key=key, channels=channels, world_from_voxel=np.eye(4).tolist(), spacing_mm=SPACING_MM,
        dose_scale_gy=60.0 if "rd" in channels else None,
    ).write(folder / CASE_FILE)  # fmt: skip
    return ReadyCase(key, f"p{key}", 0, "cv", key, channels)


def test_a_case_is_measured_at_the_lesion_that_enhances(tmp_path: Path) -> None:
    write_case(tmp_path, "c1")
    before = (tmp_path / "c1" / CASE_FILE).read_bytes()
    assert not is_measured(tmp_path / "c1")
    measure_folder(tmp_path / "c1", 50.0)
    assert is_measured(tmp_path / "c1")
    assert (tmp_path / "c1" / CASE_FILE).read_bytes() == before
    record = CaseNumbers.read(tmp_path / "c1" / NUMBERS_FILE)
    assert record.source == "difference"
    assert record.contrast is not None
    assert record.contrast > 2
    assert record.numbers["lesion_dose_mean_gy"] == pytest.approx(45, abs=0.3)
    assert record.random["lesion_dose_mean_gy"] != pytest.approx(45, abs=0.3)
    assert record.random["max_gy"] == record.numbers["max_gy"]
    assert record.random["lesion_volume_ml"] == pytest.approx(record.numbers["lesion_volume_ml"], rel=0.05)


def test_the_users_mask_comes_first_and_a_cavity_among_the_structures_is_used(tmp_path: Path) -> None:
    write_case(tmp_path, "c1", lesion=ball(8, (-10, 0, 0)), Resection_Cavity=ball(4, (4, 0, 0)))
    measure_folder(tmp_path / "c1", None)
    record = CaseNumbers.read(tmp_path / "c1" / NUMBERS_FILE)
    assert (record.source, record.contrast, record.prescription_gy) == ("mask", None, None)
    assert record.numbers["lesion_dose_mean_gy"] == pytest.approx(35, abs=0.3)
    assert record.numbers["lesion_mm_to_cavity"] == pytest.approx(2, abs=SPACING_MM)


def test_numbers_of_another_version_are_computed_anew(tmp_path: Path) -> None:
    write_case(tmp_path, "c1")
    measure_folder(tmp_path / "c1", 50.0)
    record = CaseNumbers.read(tmp_path / "c1" / NUMBERS_FILE)
    record.model_copy(update={"version": 0}).write(tmp_path / "c1" / NUMBERS_FILE)
    assert not is_measured(tmp_path / "c1")


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Path, list[ReadyCase]]:
    table = [write_case(tmp_path, "c2", ("event", "rd")), write_case(tmp_path, "c1", ("post", "event"))]
    for case in table:
        measure_folder(tmp_path / case.folder, 50.0)
    write_numbers(tmp_path, {case.case_key: case.folder for case in table})
    return tmp_path, table


def test_tables_hold_every_number_to_the_bit_and_nothing_where_there_is_none(cases) -> None:
    folder, table = cases
    names = (*names_of("dose_volume"), "lesion_post_mean", "lesion_event_mean")
    for at, random_place in (("numbers", False), ("random", True)):
        records = [CaseNumbers.read(folder / case.folder / NUMBERS_FILE) for case in table]
        expected = [[getattr(record, at).get(name, np.nan) for name in names] for record in records]
        np.testing.assert_array_equal(read_numbers(folder, table, names, random_place=random_place), expected)
    assert np.isnan(read_numbers(folder, table, ["lesion_post_mean"])).tolist() == [[True], [False]]
    with (folder / "numbers.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["case_key", *(number.name for number in NUMBERS)]
    assert [row[0] for row in rows[1:]] == ["c1", "c2"]


def test_what_is_missing_is_refused_with_the_command_that_writes_it(cases) -> None:
    folder, table = cases
    other = ReadyCase("c9", "p9", 0, "cv", "c9")
    for words, rows, names in (("no column depth", table, ["depth"]), ("no row of case c9", [*table, other], ["v20"])):
        with pytest.raises(InvalidInput, match=words) as error:
            read_numbers(folder, rows, names)
        assert error.value.code == "numbers.missing"
    (folder / "numbers_random.csv").unlink()
    with pytest.raises(InvalidInput, match=r"no numbers_random.csv .* run python -m ricenet.preprocess"):
        read_numbers(folder, table, ["v20"], random_place=True)
    assert read_numbers(folder, [], ["v20"]).shape == (0, 1)


def test_a_moved_mask_keeps_its_shape_and_stays_in_the_brain() -> None:
    mask = ball(6, (12, 3, -4))
    places = []
    for key in (f"c{number}" for number in range(60)):
        moved = at_random_place(mask, BRAIN, key)
        assert BRAIN[moved].all()
        assert 0.95 * mask.sum() <= moved.sum() <= mask.sum()
        np.testing.assert_array_equal(at_random_place(mask, BRAIN, key), moved)
        places.append(np.argwhere(moved).mean(axis=0) * SPACING_MM - SPACING_MM * (np.array(SHAPE) - 1) / 2)
    assert np.linalg.norm(np.mean(places, axis=0)) < 4, "places are spread over the whole brain"
    assert np.std(places, axis=0).min() > 5
    nothing = np.zeros(SHAPE, dtype=bool)
    assert not at_random_place(nothing, BRAIN, "c1").any()


def test_a_mask_that_fits_nowhere_is_cut_at_the_brain() -> None:
    moved = at_random_place(ball(30), BRAIN, "c1")
    assert moved.any()
    assert BRAIN[moved].all()
