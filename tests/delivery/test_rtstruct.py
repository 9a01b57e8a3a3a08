"""RTSTRUCT files in the form in which planning systems write them, with shapes that are known from formulas."""

import json

import numpy as np
import pytest
from helpers.dicom_objects import save, uid
from helpers.structure_sets import Drawn, ball_lps, structure_set
from pydicom.data import get_testdata_file

from ricenet.command.schemas import StructureRuleConfig, defaults_of
from ricenet.delivery.rtstruct import (
    check_structure_rules,
    name_structure,
    read_rois,
    read_structures,
    write_structures,
)
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.volume import Volume, read_volume

RULES = [StructureRuleConfig(**rule) for rule in defaults_of("ingest")["structures"]]
FRAME = uid("planning")
CENTRE_LPS = (7.3, -11.6, 4.2)
BALL_ML = 4 / 3 * np.pi * 12**3 / 1000


def planning_ct(step: float = 1.0) -> Volume:
    affine = np.diag([1.0, 1.0, step, 1.0])
    affine[:3, 3] = (-60, -60, -60)
    return Volume(np.zeros((120, 120, int(120 / step)), dtype=np.float32), affine)


def read(tmp_path, *drawn: Drawn, image: Volume | None = None, syntax: str = "implicit", **attributes):
    path = save(structure_set(drawn, **attributes), tmp_path / "rs.dcm", syntax)
    return read_structures(path, image or planning_ct(), RULES, FRAME)


def middle_ras(mask: Volume) -> np.ndarray:
    weights = mask.voxels / mask.voxels.sum()
    index = [float((weights * axis).sum()) for axis in np.indices(weights.shape)]
    return mask.world_from_voxel[:3, :3] @ index + mask.world_from_voxel[:3, 3]


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_a_structure_lies_where_it_was_drawn_and_has_its_volume(tmp_path, syntax):
    structures = read(tmp_path, Drawn("GTV", ball_lps(12, CENTRE_LPS), roi_type="GTV"), syntax=syntax)
    mask = structures.masks["GTV"]
    assert middle_ras(mask) == pytest.approx(np.array(CENTRE_LPS) * (-1, -1, 1), abs=0.05)
    assert mask.voxels.sum() / 1000 == pytest.approx(BALL_ML, rel=0.01)
    (record,) = structures.record.used
    assert (record.name, record.numbers, record.notes) == ("GTV", [1], [])
    assert record.ml == pytest.approx(BALL_ML, rel=0.01)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GTV", "GTV"), ("gtv_1", "GTV"), ("GTVp", "GTV"), ("CTV 60", "CTV"), ("CTV_6000 cGy", "CTV"),
        ("PTV_High", "PTV"), ("PTV54.0", "PTV"), ("PTV 5400", "PTV"), ("Brain", "Brain"), ("Whole Brain", "Brain"),
        ("Gehirn", "Brain"), ("BrainStem", "Brainstem"), ("Hirnstamm", "Brainstem"), ("Chiasm", "OpticChiasm"),
        ("Chiasma opticum", "OpticChiasm"), ("OpticNrv_L", "OpticNerve_L"), ("Optic Nerve Right", "OpticNerve_R"),
        ("Sehnerv li", "OpticNerve_L"), ("N. opticus re", "OpticNerve_R"), ("Eye_L", "Eye_L"),
        ("Hippocampus_R", "Hippocampus_R"),
        ("FU_1_CE", "FU_1_CE"), ("fu 12 ce", "FU_12_CE"), ("FU_03_CE", "FU_3_CE"), ("FU10CE", "FU_10_CE"),
        (" PTV ", "PTV"),
        # Helpers of planning, and what a rule must not take for a target:
        ("PTV-Brainstem", ""), ("PTV_opt", ""), ("zPTV ring", ""), ("GTV old Muster", ""), ("Brain-PTV", ""),
        ("Brainstem PRV", ""), ("PTV Muster", ""), ("External", ""), ("", ""), ("Chiasm_PRV3", ""), ("CTV-GTV", ""),
    ],
)  # fmt: skip
def test_names_of_planning_systems(written, name):
    assert name_structure(written, RULES) == name


def test_only_digits_of_a_name_are_taken_over():
    rules = [StructureRuleConfig(name=r"GTV_\1", matches=r"^gtv (\w+)$")]
    assert name_structure("GTV 12", rules) == "GTV_12"
    assert name_structure("GTV Muster", rules) == ""


@pytest.mark.parametrize(
    ("name", "matches"),
    [("GTV", "("), ("G TV", "x"), (r"GTV_\1", "^gtv$"), ("../GTV", "x"), ("", "x"), ("G" * 33, "x")],
)
def test_rules_are_checked_before_any_file_is_read(name, matches):
    check_structure_rules(RULES)
    with pytest.raises(WrongUsage, match=r"structures\[0\]"):
        check_structure_rules([StructureRuleConfig(name=name, matches=matches)])


def test_a_hole_drawn_as_a_second_contour_is_a_hole(tmp_path):
    contours = [*ball_lps(12, CENTRE_LPS), *ball_lps(5, CENTRE_LPS)]
    for geometry in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        (record,) = read(tmp_path, Drawn("CTV", contours, geometry)).record.used
        assert record.ml == pytest.approx(4 / 3 * np.pi * (12**3 - 5**3) / 1000, rel=0.01)


def test_slices_of_3_mm(tmp_path):
    structures = read(tmp_path, Drawn("PTV", ball_lps(25, CENTRE_LPS, 3.0)), image=planning_ct(3.0))
    (record,) = structures.record.used
    assert record.ml == pytest.approx(4 / 3 * np.pi * 25**3 / 1000, rel=0.01)
    assert record.notes == []


def test_uneven_slices_of_a_planning_ct_are_known_from_the_other_structures(tmp_path):
    planes = [-21.0, -14, -7, -3.5, 0, 3.5, 7, 14, 21]

    def prism(half: float, at) -> list[np.ndarray]:
        corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
        return [np.array([(x, y, z) for x, y in corners]) for z in at]

    drawn = [Drawn("Body", prism(40, planes)), Drawn("CTV", prism(10, planes[1:-1]))]
    structures = read(tmp_path, *drawn, image=planning_ct(3.5))
    (record,) = structures.record.used
    assert record.notes == []
    assert record.ml == pytest.approx(0.4 * (3.5 + 28 + 3.5), rel=0.005)


def test_what_no_rule_names_is_counted_and_its_name_stays_out(tmp_path):
    drawn = [Drawn("GTV", ball_lps(12, CENTRE_LPS)), Drawn("SECRET^NAME", ball_lps(5, (0, 0, 0)), roi_type="ORGAN")]
    structures = read(tmp_path, *drawn)
    (left_out,) = structures.record.left_out
    assert (left_out.number, left_out.name, left_out.type) == (2, "", "ORGAN")
    assert left_out.reason == "no rule names it"
    assert structures.flags == []
    assert "SECRET" not in structures.record.as_json()
    assert "SECRET" not in repr(read_rois(tmp_path / "rs.dcm"))


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        (Drawn("GTV", ball_lps(9, (0, 0, 0)), frame="another"), "it lies in another frame of reference"),
        (Drawn("GTV", []), "it has no contours"),
        (Drawn("GTV", [np.zeros((1, 3))], "POINT"), "it has only points or open contours"),
        (Drawn("GTV", ball_lps(9, (0, 0, 0)), "OPEN_PLANAR"), "it has only points or open contours"),
        (Drawn("GTV", ball_lps(9, (0, 0, 0)), "SOMETHING"), "a contour does not say whether it is closed"),
        (Drawn("GTV", ball_lps(9, (500, 0, 0))), "it lies outside the image"),
        (Drawn("GTV", [np.zeros((1, 3))]), "expected closed contours, got none with an area"),
    ],
)
def test_a_structure_that_cannot_be_used_is_left_out_with_the_reason(tmp_path, drawn, reason):
    structures = read(tmp_path, drawn, Drawn("PTV", ball_lps(20, CENTRE_LPS)))
    assert list(structures.masks) == ["PTV"]
    (left_out,) = structures.record.left_out
    assert (left_out.name, left_out.reason) == ("GTV", reason)
    assert structures.flags == [f"structure 1 (GTV) was left out: {reason}"]


def test_a_structure_without_a_frame_has_that_of_the_set(tmp_path):
    ball = ball_lps(12, CENTRE_LPS)
    assert list(read(tmp_path, Drawn("GTV", ball, frame=None)).masks) == ["GTV"]
    nowhere = read(tmp_path, Drawn("GTV", ball, frame=None), ReferencedFrameOfReferenceSequence=[])
    assert nowhere.record.left_out[0].reason == "its frame of reference is not known"


@pytest.mark.parametrize("fault", ["odd", "text", "count", "infinite", "moved"])
def test_damaged_contours_leave_their_structure_out(tmp_path, fault):
    dataset = structure_set([Drawn("GTV", ball_lps(12, CENTRE_LPS)), Drawn("PTV", ball_lps(20, CENTRE_LPS))])
    contour = dataset.ROIContourSequence[0].ContourSequence[3]
    if fault == "odd":
        contour.ContourData = contour.ContourData[:-1]
    elif fault == "text":
        contour.ContourData[0] = "12.25"  # below, in the file
    elif fault == "count":
        contour.NumberOfContourPoints += 1
    elif fault == "infinite":
        contour.ContourData[0] = "1e999"
    else:
        contour.ContourOffsetVector = [0, 0, 3]
    path = save(dataset, tmp_path / "rs.dcm", "implicit")
    if fault == "text":
        path.write_bytes(path.read_bytes().replace(b"12.25\\", b"SECR\\\\", 1))
    structures = read_structures(path, planning_ct(), RULES, FRAME)
    assert list(structures.masks) == ["PTV"]
    assert structures.record.left_out[0].name == "GTV"
    assert "SECR" not in structures.record.as_json()


def test_two_structures_of_one_name_are_joined_and_said(tmp_path):
    apart = [Drawn("GTV_1", ball_lps(12, CENTRE_LPS)), Drawn("GTV_2", ball_lps(6, (-30, 20, -10)))]
    structures = read(tmp_path, *apart)
    (record,) = structures.record.used
    assert record.numbers == [1, 2]
    assert record.ml == pytest.approx(4 / 3 * np.pi * (12**3 + 6**3) / 1000, rel=0.01)
    assert record.notes == ["2 structures have this name and were joined; a rule of its own tells one from another"]


def test_a_structure_that_leaves_the_image_says_how_much_of_it(tmp_path):
    structures = read(tmp_path, Drawn("GTV", ball_lps(12, (-60.0, 0, 0))))
    (record,) = structures.record.used
    assert structures.flags == ["structure GTV: 53% of it lies outside its image"]
    assert record.ml == pytest.approx(BALL_ML, rel=0.01)
    assert record.notes == ["53% of it lies outside the image"]  # which ends half a voxel before its centre


def test_contours_in_two_places_are_refused(tmp_path):
    dataset = structure_set([Drawn("GTV", ball_lps(12, CENTRE_LPS))])
    dataset.ROIContourSequence.append(dataset.ROIContourSequence[0])
    with pytest.raises(InvalidInput) as refused:
        read_structures(save(dataset, tmp_path / "rs.dcm"), planning_ct(), RULES, FRAME)
    assert refused.value.code == "rtstruct.roi_twice"


def test_another_object_or_no_object_is_refused(tmp_path):
    other = structure_set([], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    for path in (save(other, tmp_path / "rp.dcm"), tmp_path / "nothing.dcm"):
        with pytest.raises(InvalidInput, match="RTSTRUCT"):
            read_rois(path)


def test_masks_are_written_as_files_and_read_back(tmp_path):
    structures = read(tmp_path, Drawn("GTV", ball_lps(12, CENTRE_LPS)), Drawn("PTV", ball_lps(20, CENTRE_LPS)))
    hashes = write_structures(structures.masks, tmp_path)
    assert sorted(hashes) == ["structures/GTV.nii.gz", "structures/PTV.nii.gz"]
    again = read_volume(tmp_path / "structures" / "GTV.nii.gz")
    np.testing.assert_allclose(again.voxels, structures.masks["GTV"].voxels)
    np.testing.assert_allclose(again.world_from_voxel, structures.masks["GTV"].world_from_voxel)
    assert again.voxels.size < 0.02 * planning_ct().voxels.size  # cut to its box


def test_the_record_is_json_and_reads_again(tmp_path):
    record = read(tmp_path, Drawn("GTV", ball_lps(12, CENTRE_LPS)), Drawn("Body", ball_lps(40, CENTRE_LPS))).record
    assert type(record).model_validate(json.loads(record.as_json())) == record


def test_a_real_structure_set():
    """Of pydicom's test files, without a preamble: a box of 400 x 300 mm in three planes, and two isocentres."""
    patient, *isocentres = read_rois(get_testdata_file("rtstruct.dcm", download=False))
    assert [(roi.number, roi.roi_type, roi.open_contours) for roi in isocentres] == [
        (2, "ISOCENTER", 1),
        (3, "ISOCENTER", 1),
    ]
    assert (patient.number, patient.roi_type, patient.problem) == (1, "EXTERNAL", "")
    planes = {points[0, 2]: np.ptp(points, axis=0).tolist() for points in patient.contours}
    assert planes == {-200.0: [400, 300, 0], -190.0: [400, 300, 0], -180.0: [400, 300, 0]}
