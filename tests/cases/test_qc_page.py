"""The page of a cases folder: what is odd stands first and is told, all are there, nothing is markup or hidden."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cases_folder import PARAMETERS, numbers, write_case, write_cases_folder, write_table
from helpers.html_page import EVIL, Page, assert_asks_for_nothing, assert_for_everyone
from PIL import Image
from scipy.stats import median_abs_deviation

from ricenet.cases.qc_numbers import OUTLIER_SD
from ricenet.cases.qc_page import agreed, page, qc_view, write_page
from ricenet.command.atomic import hold
from ricenet.errors import InvalidInput


def page_of(cases: Path, pictures: int | None = None) -> Page:
    with hold(cases):
        return Page(write_page(cases, page(cases, pictures)))


def order(shown: Page) -> list[str]:
    """The cases in the order of their pictures."""
    return re.findall(r'<h3 id="case-[^"]*">Case (\w+)</h3>', shown.source)


def images(shown: Page) -> list[Image.Image]:
    sources = [image["src"] or "" for image in shown.all("img")]
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    return [Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) for source in sources]


def test_a_planted_outlier_stands_first_and_is_told(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 12, {8: {"translation_mm": 61.8}})
    shown = page_of(cases)
    assert order(shown) == ["c08", *(f"c{place:02}" for place in range(12) if place != 8)]
    values = [numbers(place)["translation_mm"] for place in range(12)]
    values[8] = 61.8
    high = np.median(values) + OUTLIER_SD * median_abs_deviation(values, scale="normal")
    told = f"translation is 61.8 mm, high for this cohort: median {np.median(values):.1f}, expected"
    assert f"Case c08 {told}" in shown.words["pictures"]
    assert f"to {high:.1f} similarity" in shown.words["pictures"], "the upper end of what is expected"
    assert "translation 61.8 mm high ; brain 1580 ml" in shown.words["pictures"]
    assert "c08 1.166 7.0 61.8 high 1580 100.0% 62.8" in shown.words["numbers"]
    assert "Cases with a number that deserves a look: 1; they come first" in shown.words["summary"]
    assert images(shown)[0].getpixel((150, 120)) == pytest.approx((18, 18, 18), abs=2)


def test_fixed_limits_hold_for_few_cases_and_come_before_outliers(tmp_path: Path) -> None:
    odd = {1: {"event_coverage": 0.962}, 2: {"similarity": 1.012, "rotation_degrees": 40.0}}
    few = page_of(write_cases_folder(tmp_path / "few", 3, odd))
    assert order(few) == ["c02", "c01", "c00"]
    assert "Fewer than 10 cases" in few.words["summary"]
    assert "event coverage is 96.2%, below 99.0%: part of the brain is not in the image" in few.words["pictures"]
    assert "similarity is 1.012, below 1.030: as of images that do not lie on each other" in few.words["pictures"]
    assert "rotation is 40.0 degrees, above 30.0:" in few.words["pictures"]
    many = page_of(write_cases_folder(tmp_path / "many", 12, odd | {0: {"brain_ml": 9000.0}}))
    assert order(many)[:4] == ["c02", "c01", "c00", "c03"]
    assert "Fewer than" not in many.words["summary"]


def test_a_cohort_that_agrees_marks_nothing(tmp_path: Path) -> None:
    """Where the spread is nothing, a deviation of nothing is none: not every case that is not quite the same is odd."""
    same = {place: numbers(0) for place in range(12)}
    same[5] = numbers(0) | {"event_coverage": 0.9991, "rotation_degrees": 6.0, "dose_max_gy": 68.0}
    shown = page_of(write_cases_folder(tmp_path / "cases", 12, same))
    assert "No number is marked" in shown.words["summary"]
    assert order(shown) == sorted(order(shown))


def test_further_channels_have_no_limit_of_similarity_but_outliers(tmp_path: Path) -> None:
    flair = {place: {"flair_similarity": 1.01 + 0.0001 * place, "flair_rotation_degrees": 3.0} for place in range(12)}
    flair[4] = {"flair_similarity": 1.01, "flair_rotation_degrees": 31.0}
    shown = page_of(write_cases_folder(tmp_path / "cases", 12, flair))
    assert order(shown)[0] == "c04"
    assert "flair rotation is 31.0 degrees, above 30.0" in shown.words["pictures"]
    assert "flair similarity is" not in shown.text


def test_each_case_says_which_doses_were_used_and_which_left_out(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 3)
    none = page_of(cases)
    assert "doses" not in none.sections
    used = {"case_key": "c00", "used": "rd1 (PLAN, 60 Gy)", "left_out": "", "flags": ""}
    left_out = used | {"case_key": "c01", "left_out": f"rd2: {EVIL}", "flags": "added as parts of one treatment"}
    write_table(cases / "doses.csv", [used, left_out, used | {"case_key": "c77"}])
    shown = page_of(cases)
    assert "c00 rd1 (PLAN, 60 Gy) – – c01 rd1 (PLAN, 60 Gy) rd2:" in shown.words["doses"]
    assert "c77" not in shown.text, "a case that is not of qc.csv"
    told = shown.words["pictures"]
    assert "Doses used: rd1 (PLAN, 60 Gy). Case c01" in told
    assert f"Left out : rd2: {EVIL}. To know : added as parts of one treatment." in told
    assert told.count("Doses used") == 2
    assert EVIL not in shown.source
    assert_asks_for_nothing(shown)
    assert_for_everyone(shown)


def test_a_second_planning_image_is_judged_like_the_first(tmp_path: Path) -> None:
    turned = {"planning_2_rotation_degrees": 34.0, "planning_2_translation_mm": 8.0, "rd_2_max_gy": 14.2}
    without = dict.fromkeys(turned, "")
    shown = page_of(write_cases_folder(tmp_path / "cases", 3, {0: without, 1: without, 2: turned}))
    assert order(shown)[0] == "c02"
    assert "planning 2 rotation is 34.0 degrees, above 30.0" in shown.words["pictures"]
    assert "rd 2 max 14.2 Gy" in shown.words["pictures"]


def test_what_is_no_number_is_marked_and_shown(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 12, {3: {"dose_max_gy": "nan"}, 7: {"dose_max_gy": ""}})
    shown = page_of(cases)
    assert order(shown)[0] == "c03"
    assert "dose max: “nan” is no number" in shown.words["pictures"]
    assert "dose max – " in shown.words["pictures"].split("Case c07")[1], "not given: as where there is no dose"


def test_all_are_there_and_a_limit_counts_the_others(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 12, {11: {"similarity": 1.0}})
    (cases / "c05-0" / "qc.png").unlink()
    whole = page_of(cases)
    assert len(order(whole)) == len(images(whole)) == 11
    assert "left out;" not in whole.words["pictures"]
    assert 'href="#case-c05"' not in whole.source
    some = page_of(cases, 4)
    assert order(some) == ["c11", "c00", "c01", "c02"]
    assert "4 of 11 cases are shown, 7 are left out; show all with pictures=11" in some.words["pictures"]
    assert all(f" c{place:02} " in some.words["numbers"] for place in range(12)), "the table has all"
    assert images(page_of(cases, 0)) == []


def test_who_is_left_out_is_listed_with_the_reason(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 3)
    none = page_of(cases)
    assert "No case failed. No row of cohort.csv is excluded." in none.words["left-out"]
    assert "Not in cases.csv" not in none.text
    (cases / "excluded.csv").write_text("reason,cases\nmotion,2\npreprocess: file.damaged,1\n")
    row = {"case_key": "c99", "row": 14, "kind": "invalid", "code": "file.damaged", "message": "it ends too early"}
    write_table(cases / "failed.csv", [row])
    some = page_of(cases)
    assert "c99 14 invalid it ends too early file.damaged" in some.words["left-out"]
    assert "motion 2 preprocess: file.damaged 1" in some.words["left-out"]
    assert "Preprocessed cases: 3; failed: 1." in some.words["summary"]
    (cases / "cases.csv").unlink()
    (cases / "excluded.csv").unlink()
    unfinished = page_of(cases)
    assert "Not in cases.csv, which training reads: 3 of the 3 cases." in unfinished.words["summary"]
    assert "is not known: there is no excluded.csv" in unfinished.words["left-out"]


def test_parameters_are_told_and_where_cases_differ_counted(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 3)
    again = {"version": 2, "parameters": PARAMETERS | {"registration": "quick"}, "channels": ["post", "event"]}
    shutil.rmtree(cases / "c01-0")
    write_case(cases / "c01-0", "c01", numbers(1), **again)
    shown = page_of(cases)
    assert "preprocessing version 3 (2 cases); 2 (1 cases)" in shown.words["parameters"]
    assert "registration rigid (2 cases); quick (1 cases)" in shown.words["parameters"]
    assert "brain software hd-bet 1.1" in shown.words["parameters"]
    alt = {image["alt"] for image in shown.all("img")}
    assert sum("isodoses" in (text or "") for text in alt) == 2
    assert agreed([1, 2, 2], "runs") == "1 (1 runs); 2 (2 runs)"


def test_the_picture_is_of_the_folder_that_holds_the_numbers(tmp_path: Path) -> None:
    """Folders of other parameters, older and newer, stand beside the case's own."""
    cases = write_cases_folder(tmp_path / "cases", 2)
    write_case(cases / "c01-1", "c01", numbers(7), version=9)
    write_case(cases / "c01-2", "c01", numbers(1), version=8)  # the same numbers, and newer; cases.csv names the other
    assert "preprocessing version 3 channels" in page_of(cases).words["parameters"]
    (cases / "cases.csv").unlink()
    assert "preprocessing version 3 (1 cases); 8 (1 cases)" in page_of(cases).words["parameters"]


def test_likeness_tells_what_similarity_cannot(tmp_path: Path) -> None:
    """Another person's brain has the similarity of a right pair: the limit of similarity is gone where likeness is."""
    pairs = {0: 0.83, 1: 0.15, 2: 0.52}
    cases = write_cases_folder(tmp_path / "cases", 3)
    rows = [{"case_key": f"c{place:02}", **numbers(place), "likeness": pairs[place]} for place in range(3)]
    rows[0]["similarity"] = 1.0166
    write_table(cases / "qc.csv", rows)
    shown = page_of(cases)
    assert order(shown) == ["c01", "c02"], "whose similarity is another than in its record has no picture"
    told = shown.words["pictures"]
    assert "likeness is 0.15, below 0.42: two people correlate so little, or the registration failed" in told
    assert "likeness is 0.52, below 0.60: two contrasts, motion, or two people" in told
    assert "at least 0.42, surely from 0.60" in shown.words["numbers"]
    assert "c00 1.017 5.0 12.0 1500 100.0% 62.0 0.83" in shown.words["numbers"]
    assert "Cases with a number that deserves a look: 2;" in shown.words["summary"]


def test_each_image_says_whether_it_came_without_a_skull_and_a_mixed_pair_stands_first(tmp_path: Path) -> None:
    alike = {"post_brain": "stripped", "event_brain": "stripped"}
    pairs = {0: alike, 1: alike | {"event_brain": "head"}, 2: {"post_brain": "hdbet", "event_brain": "head"}}
    cases = write_cases_folder(tmp_path / "cases", 3)
    rows = [{"case_key": f"c{place:02}", **numbers(place), **pairs[place]} for place in range(3)]
    write_table(cases / "qc.csv", rows)
    shown = page_of(cases)
    assert order(shown) == ["c01", "c00", "c02"]
    assert "post came without a skull, beside an image with one: look at the outline" in shown.words["pictures"]
    assert "post brain stripped mixed ; event brain head" in shown.words["pictures"]
    assert "Cases with a number that deserves a look: 1;" in shown.words["summary"]
    assert len(images(shown)) == 3, "words do not hide whose picture it is"


def test_volumes_of_structures_stand_under_the_picture(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 1)
    shutil.rmtree(cases / "c00-0")
    drawn = {"frame_of": "planning", "ml": 33.51, "grid_ml": 33.4, "in_brain": 0.99}
    lesion = {"frame_of": "event", "ml": 2.0, "grid_ml": 1.2, "in_brain": 0.2}
    write_case(cases / "c00-0", "c00", numbers(0), structures={"GTV": drawn, "lesion": lesion})
    text = page(cases)
    assert "GTV 33.5 ml, drawn on planning; lesion 2 ml, drawn on event, on the grid 1.2 ml, only 20% of it" in text
    assert "outlines of GTV, lesion" in text


def test_a_case_without_a_post_image_says_so_and_its_missing_numbers_are_no_marks(tmp_path: Path) -> None:
    lacking = dict.fromkeys(("similarity", "rotation_degrees", "translation_mm", "dose_max_gy"), "")
    cases = write_cases_folder(tmp_path / "cases", 4, {3: lacking})
    for path in cases.glob("*/case.json"):
        record = json.loads(path.read_text())
        record["parameters"]["reference"] = "post"
        record["channels"] = ["event"] if record["case_key"] == "c03" else record["channels"]
        path.write_text(json.dumps(record))
    shown = page_of(cases)
    alts = [image["alt"] or "" for image in shown.all("img")]
    assert "the brain's outline on the post-OP MRI and the event MRI, both in tiles" in alts[0]
    assert alts[3].endswith("case c03: the brain's outline on the event MRI")
    assert "No number is marked" in shown.words["summary"]
    assert "channels post, event, rd (3 cases); event (1 cases)" in shown.words["parameters"]
    assert "reference post (3 cases); event (1 cases)" in shown.words["parameters"]


def test_text_from_files_is_never_markup(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 2)
    evil = {"channels": ["post", "event", EVIL], "parameters": {EVIL: EVIL, "brain": EVIL}}
    qc = {"similarity": 1.1, EVIL: 2.0, f"{EVIL} b": 3.0, f"{EVIL} c": 4.0}
    write_case(cases / "evil", EVIL, qc, **evil)
    write_table(cases / "qc.csv", [{"case_key": EVIL, **qc}, {"case_key": "c00", **dict.fromkeys(qc, EVIL)}])
    write_table(cases / "failed.csv", [dict.fromkeys(("case_key", "row", "kind", "code", "message"), EVIL)])
    write_table(cases / "excluded.csv", [{"reason": EVIL, "cases": 1}])
    shown = page_of(cases)
    assert "<img src=x" not in shown.source
    assert_asks_for_nothing(shown)
    for section, least in {"left-out": 6, "numbers": 4, "pictures": 4, "parameters": 4}.items():
        assert shown.sections[section].count(EVIL) >= least, section


def test_the_page_asks_for_nothing_and_can_be_read_by_everyone(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 12, {8: {"translation_mm": 61.8}})
    shown = page_of(cases)
    assert_asks_for_nothing(shown)
    assert_for_everyone(shown)
    assert len(shown.all("article")) == 12
    assert str(tmp_path) not in shown.source
    assert not re.search("recurrence|rice[^n]", shown.text.lower()), "no label: who decides must not know"
    alt = shown.all("img")[0]["alt"]
    assert alt is not None
    assert alt.startswith("Axial, coronal and sagittal slices of case c08: the brain's outline")


def test_the_page_is_the_same_each_time_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 3)
    first = page_of(cases).source
    assert page_of(cases).source == first
    assert {path.name for path in cases.glob(".*")} == {".lock"}


def test_five_hundred_pictures_stay_below_60_mb(tmp_path: Path) -> None:
    """Noise in half of the picture compresses worse than any MRI on black."""
    cases = write_cases_folder(tmp_path / "cases", 1)
    noise = np.random.default_rng(0).normal(128, 12, (960, 1800))
    noise[:, 900:] = 0
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).convert("RGB").save(cases / "c00-0" / "qc.png")
    shown = page_of(cases)
    (picture,) = images(shown)
    assert picture.width * picture.height <= 1200 * 960
    assert picture.width / picture.height == pytest.approx(1800 / 960, rel=0.01)
    assert 500 * len(shown.all("img")[0]["src"] or "") < 60e6


@pytest.mark.parametrize("table", [None, "similarity,brain_ml\n1.1,1500\n"])
def test_a_folder_without_quality_control_is_refused(tmp_path: Path, table: str | None) -> None:
    if table:
        (tmp_path / "qc.csv").write_text(table)
    with pytest.raises(InvalidInput, match=r"qc\.csv"):
        page(tmp_path)


def test_an_empty_table_is_a_page(tmp_path: Path) -> None:
    (tmp_path / "qc.csv").write_text("case_key,similarity\n")
    assert qc_view(tmp_path, None)["rows"] == []
    assert "Preprocessed cases: 0;" in page_of(tmp_path).words["summary"]


def test_a_record_that_is_another_cases_is_not_shown(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 2)
    record = json.loads((cases / "c00-0" / "case.json").read_text())
    (cases / "c00-0" / "case.json").write_text(json.dumps(record | {"qc": numbers(5)}))
    shown = page_of(cases)
    assert order(shown) == ["c01"]
    assert "Not in cases.csv, which training reads: 1 of the 2 cases." in shown.words["summary"]


def test_a_damaged_record_is_refused_by_its_folder(tmp_path: Path) -> None:
    cases = write_cases_folder(tmp_path / "cases", 2)
    (cases / "c01-0" / "case.json").write_text('{"version": 3')
    with pytest.raises(InvalidInput, match=r"^case folder c01-0: case\.json cannot be read: .*; remove this folder"):
        page(cases)
