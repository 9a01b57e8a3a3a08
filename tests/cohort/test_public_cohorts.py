"""Small trees with exactly the layouts of the public cohorts; the files are empty, nobody opens an image here."""

import shutil
from pathlib import Path

import pytest
from helpers.public_source import form, source

from ricenet.cohort.label_table import LabelRow, read_labels
from ricenet.cohort.layouts import LesionMask
from ricenet.cohort.public_cohorts import cfb_gbm, lumiere, ucsd_ptgbm
from ricenet.errors import InvalidInput, WrongUsage

RATING = (
    '"Rating (according to RANO, PD: Progressive disease, SD: Stable disease, PR: Partial response, '
    'CR: Complete response, Pre-Op: Pre-Operative, Post-Op: Post-Operative)"'
)
RATIONALE = '"Rating rationale (CRET: complete resection of the enhancing tumor, L: Lesion)"'
RATINGS = [
    "Patient-001,week-000-1,,,Pre-Op,",
    "Patient-001,week-000-2,,,Post-Op ,CRET",
    "Patient-001,week-011,x,,SD,",
    'Patient-001,week-044,,x,PD,"new lesion, T2-Progr."',
    'Patient-001,week-044,,x,PD,"new lesion, T2-Progr."',
    "Patient-001,week-050,,,Post-Op,PRET",
    "Patient-001,week-056,,,PD,",
    "Patient-002,week-000,,,Post-Op/PD,",
    "Patient-002,week-003,,,PD,",
    "Patient-003,week-001,,,Post-Op,",
    "Patient-003,week-020,,,PD,",
    "Patient-003,week-030,,,,",
    "Patient-003,week-031,na,N-A,n/a,na",
]


@pytest.fixture
def bern(tmp_path: Path) -> Path:
    """LUMIERE: three patients, every rated scan with its four images."""
    delivery = tmp_path / "lumiere"
    for line in RATINGS:
        scan = delivery / "Imaging" / "/".join(line.split(",")[:2])
        scan.mkdir(parents=True, exist_ok=True)
        for name in ("CT1", "T1", "T2", "FLAIR"):
            (scan / f"{name}.nii.gz").touch()
    header = f"Patient,Date,LessThan3Months,NonMeasurableLesions,{RATING},{RATIONALE}"
    (delivery / "LUMIERE-ExpertRating-v202211.csv").write_text("\n".join([header, *RATINGS]) + "\n")
    return delivery


def bern_rows(delivery: Path) -> list[LabelRow]:
    cfg = source("lumiere")
    table = delivery / "LUMIERE-ExpertRating-v202211.csv"
    return read_labels(table, cfg.columns, cfg.label_map, [], cfg.label_source, form(cfg))


def test_lumiere_pairs_every_progression_with_the_last_operation_before_it(bern):
    entries = lumiere(bern, bern_rows(bern))
    used = [entry for entry in entries if not entry.excluded_because]
    assert [(e.label.patient_id, e.label.event_id, e.label.label, e.post_day, e.event_day) for e in used] == [
        ("Patient-001", "week-044", "recurrence", 0, 308),
        ("Patient-001", "week-056", "recurrence", 350, 392),
        ("Patient-003", "week-020", "recurrence", 7, 140),
    ]
    assert used[0].images == {
        "event": bern / "Imaging/Patient-001/week-044/CT1.nii.gz",
        "post": bern / "Imaging/Patient-001/week-000-2/CT1.nii.gz",
    }
    assert used[1].images["post"] == bern / "Imaging/Patient-001/week-050/CT1.nii.gz"
    assert all(entry.brain_mask is None for entry in entries)


def test_lumiere_says_why_a_scan_is_no_case(bern):
    reasons = {(e.label.patient_id, e.label.event_id): e.excluded_because for e in lumiere(bern, bern_rows(bern))}
    assert reasons["Patient-001", "week-011"] == "rating SD is no event of this study"
    assert reasons["Patient-002", "week-000"] == "rating Post-Op is no event of this study"
    assert reasons["Patient-002", "week-003"] == "post: no scan before the event is rated Post-Op"
    assert reasons["Patient-003", "week-030"] == reasons["Patient-003", "week-031"] == "not rated"
    assert len(reasons) == 12  # the repeated line counts once


@pytest.mark.parametrize(
    ("baseline", "post"),
    [
        ("last_post_op", {"044": "week-000-2", "056": "week-050"}),
        ("first_post_op", {"044": "week-000-2", "056": "week-000-2"}),
        ("first_after_op", {"044": "week-000-2", "056": "week-000-2"}),
        ("previous_scan", {"044": "week-011", "056": "week-050"}),
    ],
)
def test_lumiere_baselines(bern, baseline, post):
    entries = {entry.label.event_id: entry for entry in lumiere(bern, bern_rows(bern), {"baseline": baseline})}
    assert {week: entries[f"week-{week}"].images["post"].parent.name for week in post} == post


def test_lumiere_another_baseline_brings_in_who_has_no_scan_after_an_operation(bern):
    """Patient-002 was rated Post-Op/PD: a baseline only for who asks for it."""
    entry = next(e for e in lumiere(bern, bern_rows(bern), {"baseline": "first_after_op"}) if e.label.row == 10)
    assert entry.images["post"].parent.name == "week-000"


def test_lumiere_segmentation_on_the_event_comes_before_the_registered_one(bern):
    scan = bern / "Imaging/Patient-001/week-044"
    registered = scan / "HD-GLIO-AUTO-segmentation/registered/segmentation.nii.gz"
    native = scan / "HD-GLIO-AUTO-segmentation/native/segmentation_CT1_origspace.nii.gz"
    other = scan / "DeepBraTumIA-segmentation/native/segmentation/ct1_seg_mask.nii.gz"
    for path in (registered, native, other):
        path.parent.mkdir(parents=True)

    def lesion(**options: str) -> LesionMask | None:
        return next(e for e in lumiere(bern, bern_rows(bern), options) if e.label.event_id == "week-044").lesion

    assert lesion() is None
    registered.touch()
    taken = lesion()
    assert taken is not None
    assert (taken.path, taken.labels) == (registered, (2,))
    assert "T1" in taken.frame_note
    native.touch()
    assert lesion() == LesionMask(native, (2,))
    other.touch()
    assert lesion(lesion="deepbratumia") == LesionMask(other, (1,))
    assert lesion(lesion="deepbratumia", lesion_label="2") == LesionMask(other, (2,))
    assert lesion(lesion="none") is None


@pytest.mark.parametrize("options", [{"baseline": "post"}, {"lesion": "brats"}, {"lesion_label": "two"}])
def test_an_option_that_there_is_not_is_refused(bern, options):
    with pytest.raises(WrongUsage, match=r"source.options"):
        lumiere(bern, bern_rows(bern), options)


def test_lumiere_with_a_table_of_ones_own(bern, tmp_path):
    own = tmp_path / "own.csv"
    own.write_text("Patient,Date,RICE reading\nPatient-001,week-044,rice\n")
    cfg = source("lumiere")
    rows = read_labels(own, cfg.columns | {"label": "RICE reading"}, cfg.label_map, [])
    (entry,) = lumiere(bern, rows)
    assert (entry.label.label, entry.images.keys(), entry.excluded_because) == ("rice", {"post", "event"}, "")


def test_lumiere_event_is_never_its_own_post_op_scan(bern):
    (entry,) = lumiere(bern, [LabelRow(2, "Patient-001", "week-050", "rice")])
    assert entry.images["post"] == bern / "Imaging/Patient-001/week-000-2/CT1.nii.gz"


def test_lumiere_missing_images_and_links_out_are_reasons(bern, tmp_path):
    rows = bern_rows(bern)
    outside = tmp_path / "outside.nii.gz"
    outside.touch()
    post = bern / "Imaging/Patient-001/week-000-2/CT1.nii.gz"
    post.unlink()
    post.symlink_to(outside)
    (bern / "Imaging/Patient-001/week-044/CT1.nii.gz").unlink()
    entry = next(entry for entry in lumiere(bern, rows) if entry.label.event_id == "week-044")
    assert entry.excluded_because == "event: not in the delivery; post: a link that leaves the delivery"
    assert entry.images == {}


def test_a_link_inside_the_delivery_is_followed(bern):
    image = bern / "Imaging/Patient-001/week-044/CT1.nii.gz"
    shutil.move(image, bern / "store")
    image.symlink_to(bern / "store")
    assert lumiere(bern, bern_rows(bern))[3].excluded_because == ""


BAD_LUMIERE = {
    "no images": (lambda root: shutil.rmtree(root / "Imaging"), "no folder Imaging"),
    "no ratings": (lambda root: next(root.glob("*.csv")).unlink(), "got 0"),
    "two versions": (lambda root: (root / "LUMIERE-ExpertRating-v2.csv").touch(), "got 2"),
}


@pytest.mark.parametrize(("damage", "message"), BAD_LUMIERE.values(), ids=BAD_LUMIERE)
def test_another_layout_is_refused(bern, damage, message):
    rows = bern_rows(bern)
    damage(bern)
    with pytest.raises(InvalidInput, match=message) as refused:
        lumiere(bern, rows)
    assert refused.value.code == "source.layout"
    assert str(bern) not in str(refused.value)


@pytest.mark.parametrize(
    ("patient", "event"), [("../MUSTER", "week-044"), ("Patient-1", "week-044"), ("Patient-001", "week-044/../..")]
)
def test_lumiere_ids_are_no_paths(bern, patient, event):
    with pytest.raises(InvalidInput, match=r"^row 7 of the label table") as refused:
        lumiere(bern, [LabelRow(7, patient, event, "rice")])
    assert refused.value.code == "source.id"
    assert "MUSTER" not in str(refused.value)


@pytest.fixture
def caen(tmp_path: Path) -> Path:
    """CFB-GBM: patients 1 and 12 with a dose, 2 without a dose and mask, 3 without its t1."""
    delivery = tmp_path / "cfb"
    for number, times, kinds in (
        (1, ("t0", "t1", "t2"), ("rtdose", "brain_mask")),
        (2, ("t0", "t1"), ()),
        (3, ("t0",), ("rtdose", "brain_mask")),
        (12, ("t0", "t1"), ("rtdose", "brain_mask")),
    ):
        for time in times:
            folder = delivery / f"{number:03d}" / time
            folder.mkdir(parents=True)
            for kind in ("t1gd", "t1", "flair", "gtv", *(kinds if time == "t0" else ())):
                (folder / f"{number}_{time}_{kind}.nii.gz").touch()
    tables = {
        "treatment_data_v02_20260129": [
            "id_patient\tdelay_t0_to_radiotherapy (weeks)\tdose (Gy)\tfractions_number",
            "1\t3\t60\t30", "2\t\t\t", "12\t2\t40.05\t15",
        ],
        "mri_availability_v02_20260129": [
            "id_patient\ttemporality\ttime_diff_t0 (weeks)\tt1gd", "1\tt0\t0\t1", "1\tt1\t10\t1", "12\tt1\t8.5\t1",
        ],
        "treatment_imaging_availability_v03_20260619": [
            "id_patient\ttemporality\tgtv\tgtv_type\trtdose\ttreatment_machine\ttps",
            "1\tt1\t1\thuman\t0\t\t", "12\tt1\t1\tgenSegmentation\t0\t\t",
        ],
        "clinical_data_v03_20260619": [
            "id_patient\tsurvival (weeks)\tage_at_t0 (years)\twho_performance_status\tgender", "12\t60\t71\t1\tF",
        ],
        "rano_criteria_v03_20260619": [
            "id_patient\tsize_t0 (cm3)\trano_t0_to_t1\trano_t0_to_t2\trano_t1_to_t2",
            "1\t10\tSD\tPD\tProgressive Disease (PD)", "2\t9\tPD\t\t", "3\t9\tPD\t\t", "12\t8\tPD\t\t",
        ],
    }  # fmt: skip
    for name, lines in tables.items():
        (delivery / f"CFB-GBM_{name}.tsv").write_text("\n".join(lines) + "\n")
    return delivery


def caen_rows(delivery: Path) -> list[LabelRow]:
    cfg = source("cfb_gbm")
    return read_labels(
        next(delivery.glob("*rano*")), cfg.columns, cfg.label_map, cfg.covariates, cfg.label_source, form(cfg)
    )


def test_cfb_gbm_reads_the_cohorts_own_tables(caen):
    entries = {(e.label.patient_id, e.label.event_id): e for e in cfb_gbm(caen, caen_rows(caen))}
    assert entries.keys() == {("1", "t1"), ("1", "t2"), ("2", "t1"), ("3", "t1"), ("12", "t1")}
    last = entries["12", "t1"]
    assert last.images == {
        "post": caen / "012/t0/12_t0_t1gd.nii.gz",
        "event": caen / "012/t1/12_t1_t1gd.nii.gz",
        "rd": caen / "012/t0/12_t0_rtdose.nii.gz",
    }
    assert last.brain_mask == caen / "012/t0/12_t0_brain_mask.nii.gz"
    assert (last.label.fractions, last.label.prescription_gy) == (15, 40.05)
    assert (last.post_day, last.event_day) == (0, 60)
    assert entries["1", "t2"].images["event"] == caen / "001/t2/1_t2_t1gd.nii.gz"
    assert entries["1", "t2"].event_day is None
    assert last.label.label_source == "volume rule, +40%"
    assert last.label.extra == {
        "days_since_rt": "46", "age_years": "71", "sex": "F", "who_performance_status": "1", "survival_weeks": "60",
        "lesion_source": "generated",
    }  # fmt: skip
    assert last.lesion == LesionMask(caen / "012/t1/12_t1_gtv.nii.gz")
    assert last.flags == ("lesion: the cohort's GTV, generated",)
    assert entries["1", "t2"].flags == ("lesion: the cohort's GTV, of unknown origin",)


def test_cfb_gbm_may_lie_in_its_own_folder_below_the_tables(caen):
    rows = caen_rows(caen)
    (caen / "CFB-GBM").mkdir()
    for folder in caen.glob("0*"):
        shutil.move(folder, caen / "CFB-GBM")
    assert cfb_gbm(caen, rows)[-1].images["event"] == caen / "CFB-GBM/012/t1/12_t1_t1gd.nii.gz"


def test_cfb_gbm_event_before_radiotherapy_is_no_event(caen):
    path = next(caen.glob("*treatment_data*"))
    path.write_text(path.read_text().replace("12\t2\t", "12\t9\t"))
    assert cfb_gbm(caen, caen_rows(caen))[-1].excluded_because == (
        "the event does not lie after the start of radiotherapy"
    )


@pytest.mark.parametrize(("name", "line"), [("treatment_data", "12\t2\t20\t10"), ("mri_availability", "12\tt1\t30\t1")])
def test_cfb_gbm_two_rows_that_contradict_each_other(caen, name, line):
    """A boost, or a correction: the last one must not just win. The same row once more does no harm."""
    path = next(caen.glob(f"*{name}*"))
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert cfb_gbm(caen, caen_rows(caen))[-1].label.fractions == 15
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InvalidInput, match="1 rows of one of the cohort's own tables contradict") as refused:
        cfb_gbm(caen, caen_rows(caen))
    assert refused.value.code == "table.twice"


def test_cfb_gbm_gtv_only_where_it_is_wanted(caen):
    entry = cfb_gbm(caen, caen_rows(caen), {"lesion": "none"})[-1]
    assert (entry.lesion, entry.flags, entry.label.extra.get("lesion_source")) == (None, (), None)


def test_cfb_gbm_says_why_an_event_is_no_case(caen):
    entries = {(e.label.patient_id, e.label.event_id): e for e in cfb_gbm(caen, caen_rows(caen))}
    assert entries["1", "t1"].excluded_because == "stable disease is no event of this study"
    assert entries["3", "t1"].excluded_because == "event: not in the delivery"


def test_cfb_gbm_without_a_dose_is_whole_for_a_cohort_of_mri(caen):
    entry = next(e for e in cfb_gbm(caen, caen_rows(caen)) if e.label.patient_id == "2")
    assert (entry.images.keys(), entry.brain_mask, entry.excluded_because) == ({"post", "event"}, None, "")
    assert (entry.label.fractions, entry.label.prescription_gy) == (None, None)


def test_cfb_gbm_dose_behind_a_link_is_refused(caen, tmp_path):
    (tmp_path / "dose").touch()
    dose = caen / "012/t0/12_t0_rtdose.nii.gz"
    dose.unlink()
    dose.symlink_to(tmp_path / "dose")
    assert cfb_gbm(caen, caen_rows(caen))[-1].excluded_because == "rd: a link that leaves the delivery"


def test_cfb_gbm_label_table_has_the_last_word(caen):
    (entry,) = cfb_gbm(caen, [LabelRow(2, "001", "t1", "rice", fractions=31, prescription_gy=62.0)])
    assert (entry.label.fractions, entry.label.prescription_gy, entry.event_day) == (31, 62.0, 70)
    assert entry.label.patient_id == "001"


def test_cfb_gbm_without_its_calendar_knows_no_days(caen):
    next(caen.glob("*availability*")).unlink()
    assert {entry.event_day for entry in cfb_gbm(caen, caen_rows(caen))} == {None}


def test_cfb_gbm_refuses_what_it_cannot_read(caen):
    with pytest.raises(InvalidInput, match=r"rows 4 and 5 .* in two ways"):
        cfb_gbm(caen, [LabelRow(4, "12", "t1", "rice"), LabelRow(5, "012", "t2", "rice")])
    for row in (LabelRow(4, "../12", "t1", "rice"), LabelRow(4, "12", "t0", "rice")):
        with pytest.raises(InvalidInput, match=r"^row 4 of the label table"):
            cfb_gbm(caen, [row])
    rows = caen_rows(caen)
    next(caen.glob("*treatment_data*")).write_text("id_patient\tdose\n1\t60\n")
    with pytest.raises(InvalidInput, match=r"'dose \(Gy\)' in the table \*treatment_data\*.tsv, got 0") as refused:
        cfb_gbm(caen, rows)
    assert refused.value.code == "table.columns"


@pytest.fixture
def san_diego(tmp_path: Path) -> Path:
    """UCSD-PTGBM: one patient with two time points, one with one, one whose folder is not there."""
    delivery = tmp_path / "ucsd"
    for name in ("UCSD-PTGBM-0001_01", "UCSD-PTGBM-0001_02", "UCSD-PTGBM-0149_02"):
        folder = delivery / "UCSD-PTGBM" / name
        folder.mkdir(parents=True)
        kinds = ("T1pre", "T1post", "T2", "FLAIR", "SWAN", "BraTS_tumor_seg")
        for kind in (*kinds, *(f"{part}_cellular_tumor_seg" for part in ("total", "enhancing", "non_enhancing"))):
            (folder / f"{name}_{kind}.nii.gz").write_bytes(b"x")
    (folder / "UCSD-PTGBM-0149_02_total_cellular_tumor_seg.nii.gz").write_bytes(b"")
    return delivery


def san_diego_rows(folder: Path) -> list[LabelRow]:
    cfg = source("ucsd_ptgbm")
    (folder / "clinical.csv").write_text(
        "ID,BraTS ID,Patient's Age,Sex at birth,Days from Acquistion to Date of first radiation \n"
        "UCSD-PTGBM-0001_01,B1,60,F,-200\nUCSD-PTGBM-0001_02,B2,60,F,-300\nUCSD-PTGBM-0149_02,B3,55,M,20\n"
        "UCSD-PTGBM-0150_01,B4,48,M,\nUCSD-PTGBM-0151_01,B5,48,M,-90\n"
    )
    (folder / "negative.csv").write_text(
        "ID,Dx\nUCSD-PTGBM-0001_01,Radiation necrosis (pathology)\nUCSD-PTGBM-0150_01,PsP (clinically confirmed)\n"
        "UCSD-PTGBM-0151_01,NS\n"
    )
    table, negative = folder / "clinical.csv", folder / "negative.csv"
    given = form(cfg, completed_by=negative)
    return read_labels(table, cfg.columns, cfg.label_map, cfg.covariates, cfg.label_source, given)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Recurrent tumor", "recurrence"),
        ("Radiation necrosis (pathology)", "rice"),
        ("treatment-related changes", "rice"),
        ("No recurrent tumor, radiation necrosis", ""),
        ("recurrence and radiation necrosis", ""),
        ("tumor + treatment effect", ""),
        ("no residual disease", ""),
    ],
)
def test_ucsd_ptgbm_a_text_that_speaks_of_both_is_no_label(tmp_path, text, label):
    cfg = source("ucsd_ptgbm")
    table = tmp_path / "own.csv"
    table.write_text(f'ID,Dx\nUCSD-PTGBM-0001_01,"{text}"\n')
    columns = {"patient_id": "ID", "label": "Dx"}
    (row,) = read_labels(table, columns, cfg.label_map, [], cfg.label_source, form(cfg))
    assert (row.label, "map it yourself" in row.excluded_because) == (label, not label)


def test_ucsd_ptgbm_is_the_event_alone(san_diego, tmp_path):
    rows = san_diego_rows(tmp_path)
    assert [(row.patient_id[-4:], row.event_id, row.label, row.label_source) for row in rows] == [
        ("0001", "01", "rice", "pathology"),
        ("0001", "02", "recurrence", "imaging and clinical course"),
        ("0149", "02", "recurrence", "imaging and clinical course"),
        ("0150", "01", "rice", "imaging and clinical course"),
        ("0151", "01", "", "imaging and clinical course"),
    ]
    first, second, late, absent, unclear = ucsd_ptgbm(san_diego, rows)
    folder = san_diego / "UCSD-PTGBM/UCSD-PTGBM-0001_01"
    assert first.images == {"event": folder / "UCSD-PTGBM-0001_01_T1post.nii.gz"}
    assert first.lesion == LesionMask(folder / "UCSD-PTGBM-0001_01_BraTS_tumor_seg.nii.gz", (3,))
    assert (first.post_day, first.event_day, first.excluded_because, first.flags) == (None, None, "", ())
    assert [entry.label.extra["days_since_rt"] for entry in (first, second)] == ["200", "300"]
    assert first.label.extra["age_years"] == "60"
    assert late.excluded_because == "the event does not lie after the start of radiotherapy"
    assert late.flags == ("a file of 0 bytes: total_cellular_tumor_seg.nii.gz",)
    assert absent.excluded_because == "event: not in the delivery"
    assert unclear.excluded_because == "non-specific, neither tumour nor treatment effect"
    assert ucsd_ptgbm(san_diego, rows, {"lesion": "none"})[0].lesion is None


def test_ucsd_ptgbm_of_another_place_is_refused(san_diego, tmp_path):
    rows = san_diego_rows(tmp_path)
    with pytest.raises(InvalidInput, match="no folder UCSD-PTGBM-0001_01") as refused:
        ucsd_ptgbm(tmp_path / "ucsd/UCSD-PTGBM/UCSD-PTGBM-0001_01", rows)
    assert refused.value.code == "source.layout"
    shutil.copytree(san_diego / "UCSD-PTGBM", san_diego / "copy")
    assert ucsd_ptgbm(san_diego, rows)[0].excluded_because == "event: the time point is in two folders"
