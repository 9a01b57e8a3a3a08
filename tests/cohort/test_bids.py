"""BIDS datasets as people make them: the right session, the right T1w; what cannot be known is asked about."""

import json
import shutil
from datetime import date
from pathlib import Path

import pytest
from helpers.public_source import form, source

from ricenet.cohort.bids import bids, label_table
from ricenet.cohort.label_table import LabelRow, read_labels
from ricenet.cohort.layouts import Entry, LesionMask
from ricenet.errors import InvalidInput, WrongUsage

ALL = {"roles": "post event rd"}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """sub-01: two sessions with days, dose and masks; sub-02: three sessions without days; sub-03: one, no session."""
    root = tmp_path / "bids"
    for session in ("01", "02"):
        stem = f"sub-01/ses-{session}/anat/sub-01_ses-{session}"
        touch(root, f"{stem}_T1w.nii.gz", f"{stem}_ce-gadolinium_T1w.nii.gz", f"{stem}_FLAIR.nii.gz")
        touch(root, f"{stem}_ce-gadolinium_T2w.nii.gz", f"{stem}_ce-gadolinium_T1w.json")
    touch(
        root,
        "sub-01/ses-01/dose/sub-01_ses-01_dose.nii.gz",
        "derivatives/hdbet/sub-01/ses-01/anat/sub-01_ses-01_desc-brain_mask.nii.gz",
        "derivatives/hdbet/sub-01/ses-02/anat/sub-01_ses-02_desc-brain_mask.nii.gz",
        "derivatives/lesions/sub-01/ses-02/anat/sub-01_ses-02_label-lesion_mask.nii.gz",
    )
    (root / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\nses-02\t2020-03-11T09:00:00\nses-01\t2020-03-01T09:00:00.5Z\n"
    )
    for session in ("a2", "a10", "b1"):
        touch(root, f"sub-02/ses-{session}/anat/sub-02_ses-{session}_ce-GD_T1w.nii")
    touch(root, "sub-03/anat/sub-03_acq-postcontrast_T1w.nii.gz", "sub-03/anat/sub-03_acq-mprage_T1w.nii.gz")
    (root / "participants.tsv").write_text("participant_id\tage\tlabel\nsub-01\t60\trice\nsub-03\t50\trecurrence\n")
    return root


def take(root: Path, *rows: LabelRow, **options: str) -> list[Entry]:
    return bids(root, list(rows), ALL | options)


def one(root: Path, row: LabelRow, **options: str) -> Entry:
    return take(root, row, **options)[0]


def rows_of(root: Path, path: Path) -> list[LabelRow]:
    cfg = source("bids")
    table = label_table(path, root)
    keep = [*cfg.covariates, *cfg.inputs]
    return read_labels(table, cfg.columns, cfg.label_map, keep, "", form(cfg, optional=tuple(cfg.optional)))


def test_two_sessions_are_the_post_op_mri_and_the_event(dataset):
    row, _ = rows_of(dataset, dataset / "participants.tsv")
    entry = one(dataset, row)
    anat = dataset / "sub-01/ses-01/anat/sub-01_ses-01_ce-gadolinium_T1w.nii.gz"
    assert entry.images == {
        "post": anat,
        "event": Path(str(anat).replace("ses-01", "ses-02")),
        "rd": dataset / "sub-01/ses-01/dose/sub-01_ses-01_dose.nii.gz",
    }
    derivatives = dataset / "derivatives"
    assert entry.brain_mask == derivatives / "hdbet/sub-01/ses-01/anat/sub-01_ses-01_desc-brain_mask.nii.gz"
    assert entry.lesion == LesionMask(derivatives / "lesions/sub-01/ses-02/anat/sub-01_ses-02_label-lesion_mask.nii.gz")
    assert (entry.post_day, entry.event_day, entry.flags, entry.excluded_because) == (0, 10, (), "")
    assert "rd" not in one(dataset, row, roles="post event").images


def test_days_since_radiotherapy_where_the_table_knows_its_start(dataset):
    row = LabelRow(2, "01", "e1", "rice", radiotherapy_start=date(2020, 3, 4))
    entry = one(dataset, row)
    assert (entry.post_day, entry.event_day, entry.label.extra) == (-3, 7, {"days_since_rt": "7"})
    late = LabelRow(2, "01", "e1", "rice", radiotherapy_start=date(2020, 4, 1))
    assert one(dataset, late).excluded_because == "the event does not lie after the start of radiotherapy"


def test_more_sessions_are_asked_about_and_ordered_as_people_count(dataset):
    entry = one(dataset, LabelRow(2, "sub-02", "e1", "rice"))
    assert entry.excluded_because == "event: 3 sessions, and the label table does not say which (event_id)"
    row = LabelRow(2, "sub-02", "ses-b1", "rice")
    assert one(dataset, row).excluded_because.startswith("post: 2 sessions before the event; name one in post_session")
    for baseline, session in (("first", "a2"), ("previous", "a10")):
        entry = one(dataset, row, baseline=baseline)
        assert entry.images["post"].name == f"sub-02_ses-{session}_ce-GD_T1w.nii"
        assert "order of their names" in entry.flags[0]
    named = LabelRow(2, "sub-02", "b1", "rice", extra={"post_session": "ses-a2"})
    assert one(dataset, named).images["post"].name == "sub-02_ses-a2_ce-GD_T1w.nii"
    for wrong in (
        LabelRow(2, "sub-02", "ses-c1", "rice"),
        LabelRow(2, "sub-02", "b1", "rice", extra={"post_session": "c1"}),
    ):
        assert "not in the delivery" in one(dataset, wrong).excluded_because
    with pytest.raises(WrongUsage, match=r"options.baseline"):
        one(dataset, row, baseline="last")


def test_the_session_of_the_events_day(dataset):
    row = LabelRow(2, "01", "e1", "rice", event_date=date(2020, 3, 11))
    assert one(dataset, row).images["event"].parent.parent.name == "ses-02"
    row = LabelRow(2, "01", "e1", "rice", event_date=date(2020, 3, 12))
    assert one(dataset, row).excluded_because == "event: 0 sessions on the day of event_date"


def test_an_event_alone_without_sessions(dataset):
    row = LabelRow(2, "sub-03", "e1", "recurrence")
    entry = one(dataset, row, roles="event")
    assert entry.images == {"event": dataset / "sub-03/anat/sub-03_acq-postcontrast_T1w.nii.gz"}
    assert (entry.excluded_because, entry.flags) == ("", ())
    assert one(dataset, row).excluded_because == "post: no session before the event"


AGENTS = ["gadolinium", "gad", "gd", "GADOLINIUM", "gadovist", "dotarem", "yes"]
NO_AGENTS = ["none", "no", "pre", "noncontrast", "native", "without"]


@pytest.mark.parametrize("agent", AGENTS + NO_AGENTS)
def test_the_entity_ce_names_an_agent_or_says_none(tmp_path, agent):
    touch(tmp_path, f"sub-1/anat/sub-1_ce-{agent}_T1w.nii.gz", "sub-1/anat/sub-1_T1w.nii.gz")
    entry = one(tmp_path, LabelRow(2, "1", "e1", "rice"), roles="event")
    if agent in AGENTS:
        assert f"ce-{agent}_" in entry.images["event"].name
    else:
        assert entry.excluded_because == "event: no T1w with contrast (ce-) among 2 T1w of the session"


@pytest.mark.parametrize(
    ("acq", "contrast"),
    [
        *((acq, True) for acq in ("postcontrast", "GD", "mprageGad", "3dce", "post")),
        *((acq, False) for acq in ("postop", "noncontrast", "precontrast", "space", "mprage")),
    ],
)
def test_without_ce_the_entity_acq_may_say_it(tmp_path, acq, contrast):
    touch(tmp_path, f"sub-1/anat/sub-1_acq-{acq}_T1w.nii.gz")
    entry = one(tmp_path, LabelRow(2, "1", "e1", "rice"), roles="event")
    assert ("event" in entry.images) is contrast


def test_of_several_runs_the_latest_counts(tmp_path):
    stem = "sub-1/ses-1/anat/sub-1_ses-1"
    touch(tmp_path, *(f"{stem}_ce-gd_run-{run}_T1w.nii.gz" for run in (2, 9, 10)))
    row = LabelRow(2, "1", "1", "rice")
    entry = one(tmp_path, row, roles="event")
    assert "_run-10_" in entry.images["event"].name
    assert entry.flags == ("event: the latest of 3 runs was taken",)
    lines = [f"anat/sub-1_ses-1_ce-gd_run-{run}_T1w.nii.gz\t2020-01-01T10:0{n}:00" for n, run in enumerate((10, 9, 2))]
    scans = tmp_path / "sub-1/ses-1/sub-1_ses-1_scans.tsv"
    scans.write_text("filename\tacq_time\n" + "\n".join(lines))
    assert "_run-2_" in one(tmp_path, row, roles="event").images["event"].name


def test_images_that_differ_otherwise_are_asked_about(tmp_path):
    stem = "sub-1/anat/sub-1"
    touch(tmp_path, f"{stem}_acq-mprage_ce-gd_T1w.nii.gz", f"{stem}_acq-tse_ce-gd_T1w.nii.gz")
    touch(tmp_path, f"{stem}_acq-tse_ce-gd_part-phase_T1w.nii.gz")
    row = LabelRow(2, "1", "e1", "rice")
    assert "2 T1w with contrast, which differ in acq" in one(tmp_path, row, roles="event").excluded_because
    chosen = one(tmp_path, row, roles="event", acq="tse")
    assert chosen.images["event"].name == "sub-1_acq-tse_ce-gd_T1w.nii.gz"


def test_doses_in_other_places(dataset):
    row = LabelRow(2, "01", "e1", "rice")
    dose = dataset / "sub-01/ses-01/dose/sub-01_ses-01_dose.nii.gz"
    dose.with_name("sub-01_ses-01_dose.json").write_text(json.dumps({"Units": "cGy"}))
    assert one(dataset, row).excluded_because == "rd: its sidecar gives Units that are not Gy"
    dose.with_name("sub-01_ses-01_dose.json").write_text(json.dumps({"Units": "Gy"}))
    assert one(dataset, row).excluded_because == ""
    boost = "derivatives/rt/sub-01/ses-01/dose/sub-01_ses-01_acq-boost_dose.nii.gz"
    touch(dataset, boost)
    assert one(dataset, row).excluded_because.startswith("rd: 2 doses; name that of the whole treatment")
    named = LabelRow(
        2,
        "01",
        "e1",
        "rice",
        extra={"rd": f"bids::{boost}", "planning": "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"},
    )
    images = one(dataset, named).images
    assert images["rd"] == dataset / boost
    assert images["planning"].name == "sub-01_ses-01_T1w.nii.gz"
    for path, reason in (
        ("x.nii.gz", "rd: not in the delivery"),
        ("../out.nii.gz", "rd: a link that leaves the delivery"),
    ):
        (dataset.parent / "out.nii.gz").touch()
        assert one(dataset, LabelRow(2, "01", "e1", "rice", extra={"rd": path})).excluded_because == reason


@pytest.mark.parametrize("role", ["rd", "planning"])
def test_a_path_to_another_patients_image_is_refused(dataset, role):
    for path in ("sub-02/ses-a2/anat/sub-02_ses-a2_ce-GD_T1w.nii", "bids::sourcedata/sub-02_dose.nii.gz"):
        entry = one(dataset, LabelRow(2, "01", "e1", "rice", extra={role: path}))
        assert f"{role}: the path in the label table is another patient's" in entry.excluded_because
        assert "sub-02" not in entry.excluded_because


def test_one_of_several_sessions_doses_is_told(dataset):
    touch(dataset, "sub-01/ses-02/dose/sub-01_ses-02_dose.nii.gz")
    entry = one(dataset, LabelRow(2, "01", "e1", "rice"))
    assert entry.images["rd"].name == "sub-01_ses-01_dose.nii.gz"
    assert entry.flags == ("rd: of 2 doses that of one session was taken, where the MRI is in whose frame it lies",)


def test_a_dose_beside_another_session_than_the_mri_in_whose_frame_it_lies_is_told(dataset):
    dose = "dose/sub-01_ses-01_dose.nii.gz"
    (dataset / "sub-01/ses-02/dose").mkdir()
    shutil.move(dataset / "sub-01/ses-01" / dose, dataset / "sub-01/ses-02" / dose)
    entry = one(dataset, LabelRow(2, "01", "e1", "rice"))
    assert entry.flags == ("rd: delivered with another session than the MRI in whose frame it is taken to lie",)
    planned = LabelRow(2, "01", "e1", "rice", extra={"planning": "sub-01/ses-02/anat/sub-01_ses-02_T1w.nii.gz"})
    assert one(dataset, planned).flags == ()


def test_post_session_lies_before_the_event(dataset):
    for event, post in (("02", "02"), ("01", "02")):
        entry = one(dataset, LabelRow(2, "01", event, "rice", extra={"post_session": post}))
        assert entry.excluded_because == "post: the session that post_session names does not lie before the event"


def test_a_number_for_want_of_a_name_is_no_session(tmp_path):
    """ses-e1 and ses-e2; only what the table itself says names one, and e5 is none of them."""
    touch(tmp_path, *(f"sub-1/ses-e{n}/anat/sub-1_ses-e{n}_ce-gd_T1w.nii.gz" for n in (1, 2)))
    table = tmp_path / "table.csv"
    table.write_text("participant_id,label\nsub-1,rice\n")
    (row,) = rows_of(tmp_path, table)
    assert "_ses-e2_" in one(tmp_path, row, roles="event").images["event"].name
    table.write_text("participant_id,session_id,label\nsub-1,e1,rice\nsub-1,e5,rice\n")
    first, fifth = rows_of(tmp_path, table)
    assert "_ses-e1_" in one(tmp_path, first, roles="event").images["event"].name
    assert one(tmp_path, fifth, roles="event").excluded_because == "event: the session is not in the delivery"


def test_masks_in_another_space_or_in_doubt_are_left_out_with_a_flag(dataset):
    row = LabelRow(2, "01", "e1", "rice")
    anat = dataset / "derivatives/lesions/sub-01/ses-02/anat"
    shutil.move(
        anat / "sub-01_ses-02_label-lesion_mask.nii.gz", anat / "sub-01_ses-02_space-MNI_label-lesion_mask.nii.gz"
    )
    entry = one(dataset, row)
    assert (entry.lesion, entry.flags) == (None, ("lesion left out: its mask lies in another space",))
    touch(anat, "sub-01_ses-02_label-tumor_mask.nii.gz", "sub-01_ses-02_label-lesion_desc-b_mask.nii.gz")
    assert one(dataset, row).flags == ("lesion left out: 2 masks of the session could be it",)


def test_labels_may_stand_in_sessions_tsv(dataset):
    (dataset / "participants.tsv").write_text("participant_id\tage\nsub-01\t60\n")
    (dataset / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\tlabel\nses-01\t2020-03-01T09:00:00\tn/a\nses-02\t2020-03-11T09:00:00\trice\n"
    )
    rows = rows_of(dataset, dataset / "participants.tsv")
    assert [(row.patient_id, row.event_id, row.label, row.excluded_because) for row in rows] == [
        ("sub-01", "ses-01", "", "not rated"),
        ("sub-01", "ses-02", "rice", ""),
    ]
    assert take(dataset, *rows)[1].event_day == 10


def test_rows_of_sessions_tsv_have_what_participants_tsv_says(dataset):
    """A test split must not get lost."""
    (dataset / "participants.tsv").write_text("participant_id\tsplit\tfractions\nsub-01\ttest\t30\n")
    (dataset / "sub-01/sub-01_sessions.tsv").write_text("session_id\tlabel\nses-02\trice\n")
    (row,) = rows_of(dataset, dataset / "participants.tsv")
    assert (row.patient_id, row.event_id, row.split, row.fractions) == ("sub-01", "ses-02", "test", 30)


def test_a_label_under_another_header_is_not_looked_for_in_sessions_tsv(dataset):
    (dataset / "participants.tsv").write_text("participant_id\tdiagnosis\nsub-01\trice\n")
    assert label_table(dataset / "participants.tsv", dataset, "diagnosis").headers == ["participant_id", "diagnosis"]
    # No table has a label: the error is to name the headers of the one that was given.
    assert label_table(dataset / "participants.tsv", dataset).headers == ["participant_id", "diagnosis"]


def test_what_is_no_dataset_or_no_id_is_refused_without_a_name(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=r"no folder sub-\*") as refused:
        one(tmp_path / "empty", LabelRow(2, "1", "e1", "rice"))
    assert refused.value.code == "source.layout"
    with pytest.raises(InvalidInput, match="row 7 of the label table: patient_id does not match") as refused:
        one(dataset, LabelRow(7, "../MUSTER", "e1", "rice"))
    assert "MUSTER" not in str(refused.value)
    with pytest.raises(InvalidInput, match=r"rows 2 and 3 .* in two ways"):
        take(dataset, LabelRow(2, "sub-01", "e1", "rice"), LabelRow(3, "01", "ses-02", "rice"))
    assert one(dataset, LabelRow(2, "99", "e1", "rice")).excluded_because == "event: the patient is not in the delivery"
