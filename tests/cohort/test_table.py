import re
import stat
from pathlib import Path

import pytest

from ricenet.cohort.pseudonyms import pseudonym, read_key
from ricenet.cohort.table import Case, inspect_cohort, read_cohort
from ricenet.errors import InvalidInput

COLUMNS = (
    "patient_id",
    "event_id",
    "label",
    "split",
    "post",
    "event",
    "rd",
    "dose_unit",
    "fractions",
    "prescription_gy",
)
ROW = ("MUSTER", "", "rice", "cv", "a.nii", "b.nii", "c.nii", "Gy", "30", "60")


def table(root: Path, *rows: dict[str, str], columns=COLUMNS) -> Path:
    for name in ("a.nii", "b.nii", "c.nii"):
        (root / name).write_bytes(b"image")
    lines = [",".join({**dict(zip(COLUMNS, ROW, strict=True)), **row}[column] for column in columns) for row in rows]
    (root / "cohort.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    return root


def test_a_good_row(tmp_path):
    (case,) = read_cohort(table(tmp_path, {}))
    assert isinstance(case, Case)
    assert (case.label, case.split, case.fractions, case.prescription_gy) == (1, "cv", 30, 60)
    assert case.images == {
        role: tmp_path / f"{name}.nii" for role, name in zip(("post", "event", "rd"), "abc", strict=True)
    }
    assert case.row == 2
    assert "MUSTER" not in case.name + case.key + case.patient_key


def test_pseudonym_needs_the_key_which_only_its_owner_reads(tmp_path):
    (first,) = read_cohort(table(tmp_path, {}))
    (again,) = read_cohort(tmp_path)
    assert first == again
    key = tmp_path / "cohort.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert first.patient_key == pseudonym(bytes.fromhex(key.read_text()), "MUSTER")
    key.unlink()
    assert read_cohort(tmp_path)[0].key != first.key


def test_doses_in_frames_of_their_own(tmp_path):
    columns = (*COLUMNS, "planning_3", "rd_3", "planning_2", "rd_2")
    given = {"rd_2": "a.nii", "planning_2": "b.nii", "rd_3": "b.nii", "planning_3": ""}
    (case,) = read_cohort(table(tmp_path, given, columns=columns))
    assert list(case.further_doses) == ["rd_2", "planning_2", "rd_3"]
    assert list(case.files) == ["post", "event", "rd", "rd_2", "planning_2", "rd_3"]
    assert case.doses == {"rd": "planning", "rd_2": "planning_2", "rd_3": "planning_3"}
    assert case.mri == ["post", "event"]
    assert case.extra == {}
    for wrong, says in (
        ({"rd": ""}, "rd_2 is given, but no rd"),
        ({"rd_2": ""}, "planning_2 is given, but no rd_2"),
        ({"rd_3": "none.nii"}, "the rd_3 file does not exist"),
    ):
        with pytest.raises(InvalidInput, match=says):
            read_cohort(table(tmp_path, given | wrong, columns=columns))


def test_a_table_without_further_doses_has_none(tmp_path):
    (case,) = read_cohort(table(tmp_path, {}))
    assert (case.further_doses, list(case.doses)) == ({}, ["rd"])


BAD = {
    "label": ({"label": "RICE"}, "[label.unknown]"),
    "split": ({"split": "val"}, "[split.unknown]"),
    "patient": ({"patient_id": " "}, "[table.patient]"),
    "missing file": ({"event": "absent.nii"}, "[path.missing]"),
    "folder": ({"event": "."}, "[path.missing]"),
    "null byte": ({"event": "b\0.nii"}, "[path."),
    "parent": ({"post": "../a.nii"}, "[path.outside]"),
    "absolute": ({"post": "/etc/hostname"}, "[path.outside]"),
    "no event": ({"event": ""}, "[image.missing]"),
    "unit": ({"dose_unit": "cGy"}, "[dose.unit]"),
    "prescription": ({"prescription_gy": "6000"}, "[dose.prescription]"),
    "prescription nan": ({"prescription_gy": "nan"}, "[dose.prescription]"),
    "number": ({"fractions": "thirty"}, "[table.number]"),
    "fractions nan": ({"fractions": "nan"}, "[dose.fractions]"),
    "fractions inf": ({"fractions": "inf"}, "[dose.fractions]"),
    "fractions half": ({"fractions": "30.5"}, "[dose.fractions]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_a_finding_with_code_and_row(tmp_path, name):
    change, code = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        read_cohort(table(tmp_path, {"patient_id": "OTHER"}, change))
    (line,) = str(caught.value).splitlines()
    assert code in line
    assert re.search(r"case \w+ \(row 3 of cohort.csv\): ", line)
    assert "MUSTER" not in line
    assert str(tmp_path) not in line


def test_all_findings_come_at_once(tmp_path):
    with pytest.raises(InvalidInput) as caught:
        read_cohort(table(tmp_path, {"label": "x"}, {"patient_id": "B", "split": "x", "event": "absent"}))
    assert len(str(caught.value).splitlines()) == 3


def test_rows_that_do_not_go_together(tmp_path):
    with pytest.raises(InvalidInput, match=r"patient.duplicate.*row 3.*row 2"):
        read_cohort(table(tmp_path, {}, {}))
    with pytest.raises(InvalidInput, match=r"split.leak"):
        read_cohort(table(tmp_path, {"event_id": "1"}, {"event_id": "2", "split": "test"}))
    with pytest.raises(InvalidInput, match=r"modality.missing.*modality rd"):
        read_cohort(table(tmp_path, {}, {"patient_id": "B", "rd": ""}))
    assert len(read_cohort(table(tmp_path, {"event_id": "1"}, {"event_id": "2"}))) == 2


def test_every_further_channel_that_some_case_has_is_missed_in_the_others(tmp_path):
    columns = (*COLUMNS, "flair", "t2")
    rows = [{"patient_id": name, "flair": flair, "t2": "", "rd": rd} for name, flair, rd in
            (("A", "a.nii", "c.nii"), ("B", "", "c.nii"), ("C", "b.nii", ""))]  # fmt: skip
    _, findings = inspect_cohort(table(tmp_path, *rows, columns=columns), ["t2", "flair"])
    assert [found.code for found in findings] == ["modality.missing", "modality.missing"]
    for found, row, channel in zip(findings, (3, 4), ("flair", "rd"), strict=True):
        assert found.case.endswith(f"(row {row} of cohort.csv)")
        assert found.message == f"modality {channel} is missing although other cases have it"


def test_an_event_only_cohort_needs_no_key_and_no_column(tmp_path):
    without = tuple(column for column in COLUMNS if column not in ("post", "rd"))
    rows = [{"patient_id": "A"}, {"patient_id": "B"}]
    cases = read_cohort(table(tmp_path, *rows, columns=without))
    assert [(case.channels, case.anchor) for case in cases] == [(("event",), "event")] * 2
    emptied = read_cohort(table(tmp_path, *({**row, "post": "", "rd": ""} for row in rows)))
    assert [case.images for case in emptied] == [case.images for case in cases]


def test_cases_that_differ_are_refused_unless_the_cohort_is_partial(tmp_path):
    """By hand: the first has all, the second no post-OP MRI, the third no dose; and the key stands in the hint."""
    columns = (*COLUMNS, "planning")
    rows = [{"patient_id": "A", "planning": ""}, {"patient_id": "B", "post": "", "planning": "a.nii"},
            {"patient_id": "C", "rd": "", "planning": ""}]  # fmt: skip
    root = table(tmp_path, *rows, columns=columns)
    with pytest.raises(InvalidInput) as refused:
        read_cohort(root)
    lines = str(refused.value).splitlines()
    assert [re.findall(r"\[(.*)\].*row (\d).*modality (\w+)", line)[0] for line in lines] == [
        ("modality.missing", "3", "post"),
        ("modality.missing", "4", "rd"),
    ]
    assert all("partial=true" in line for line in lines)
    assert [case.channels for case in read_cohort(root, partial=True)] == [
        ("post", "event", "rd"), ("event", "rd"), ("post", "event"),
    ]  # fmt: skip
    _, findings = inspect_cohort(root, partial=True)
    assert [(found.severity, found.channel) for found in findings] == [("info", "post"), ("info", "rd")]


@pytest.mark.parametrize("partial", [False, True])
def test_without_a_post_image_a_dose_needs_the_image_it_was_planned_on(tmp_path, partial):
    columns = (*COLUMNS, "planning", "rd_2", "planning_2")
    row = {"post": "", "planning": "a.nii", "rd_2": "c.nii", "planning_2": "b.nii"}
    (case,) = read_cohort(table(tmp_path, row, columns=columns), partial=partial)
    assert list(case.files) == ["event", "rd", "planning", "rd_2", "planning_2"]
    for lacking, dose in (("planning", "rd"), ("planning_2", "rd_2")):
        with pytest.raises(InvalidInput, match=rf"dose\.no_frame.*{dose} is given, but neither post nor {lacking}:"):
            read_cohort(table(tmp_path, row | {lacking: ""}, columns=columns), partial=partial)


def test_link_out_of_the_folder(tmp_path):
    (tmp_path / "elsewhere.nii").write_bytes(b"image")
    root = tmp_path / "cohort"
    root.mkdir()
    (root / "link.nii").symlink_to(tmp_path / "elsewhere.nii")
    with pytest.raises(InvalidInput, match=r"path\.outside"):
        read_cohort(table(root, {"post": "link.nii"}))


def test_short_row(tmp_path):
    table(tmp_path, {})
    (tmp_path / "cohort.csv").write_text("label,split,post,event,patient_id\nrice,cv\n")
    with pytest.raises(InvalidInput, match=r"table\.patient"):
        read_cohort(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column"),
        (b"patient_id,label\n", "has no column event, split"),
        (b"patient_id,label,split,post,event\n", "holds no case"),
        ("patient_id,label,split,post,event\nMüller,rice,cv,a,b\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_tables_that_are_none(tmp_path, content, says):
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        read_cohort(tmp_path)


def test_no_table(tmp_path):
    with pytest.raises(InvalidInput, match=r"no cohort.csv"):
        read_cohort(tmp_path)


def test_a_key_that_is_none_or_cannot_be_written(tmp_path):
    (tmp_path / "cohort.key").write_text("not hexadecimal")
    with pytest.raises(InvalidInput, match="should hold 64 hexadecimal digits"):
        read_cohort(table(tmp_path, {}))
    with pytest.raises(InvalidInput, match=r"cannot be written \(No such file or directory\)"):
        read_key(tmp_path / "absent" / "labels.csv.key")


@pytest.mark.parametrize("text", ["-31.5 12 40", "-31.5; 12; 40", "(-31.5,12,40)"])
def test_where_the_lesion_is_said_to_be(tmp_path, text):
    columns = (*COLUMNS, "lesion_mm")
    (case,) = read_cohort(table(tmp_path, {"lesion_mm": f'"{text}"'}, columns=columns))
    assert case.lesion_mm == (-31.5, 12.0, 40.0)
    assert "lesion_mm" not in case.extra
    assert read_cohort(table(tmp_path, {}))[0].lesion_mm is None


@pytest.mark.parametrize("text", ["12,5 -30 4", "left frontal", "1 2", "1 2 nan"])
def test_coordinates_that_are_not_three_numbers_are_an_error(tmp_path, text):
    _, findings = inspect_cohort(table(tmp_path, {"lesion_mm": f'"{text}"'}, columns=(*COLUMNS, "lesion_mm")))
    assert [finding.code for finding in findings] == ["lesion.coordinates"]
    assert text not in str(findings[0])
