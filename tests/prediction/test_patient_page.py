"""The page of one patient: numbers are the file's, doubts are said, text is never markup, a refusal has no number."""

import base64
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import prediction_sample as sample
from helpers import rt_records as rt
from helpers.html_page import Page, assert_for_everyone

from ricenet.display.viewer import Layer
from ricenet.prediction.patient_page import (
    PAGE_BYTES,
    prediction_sentences,
    quantity,
    region_name,
    three_digits,
    worth,
    write_page,
)
from ricenet.prediction.prediction_record import CitedModel, PredictionRecord, UnfitRecord

EVIL = "<img src=x onerror=alert(1)>"


def page_of(tmp_path: Path, prediction: PredictionRecord | UnfitRecord, shown: bool = False) -> Page:
    path = tmp_path / "page.html"
    layers, picture = (sample.layers(), sample.picture()) if shown else (None, None)
    write_page(path, prediction, layers, sample.world_from_voxel(), sample.brain(), picture)
    return Page(path)


def test_numbers_of_the_page_are_those_of_the_file(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.prediction())
    for section, told in {
        "findings": "the dose maximum lies above the training range range.dose_max_gy check the dose's unit",
        "answer": "0.44 (95% 0.28 to 0.61), calibrated on 80 out-of-fold predictions",
        "worth": "0.58 (95% 0.47 to 0.68) and an AUROC of 0.63 (95% 0.52 to 0.75)",
        "measures": "Dose maximum 71.4 60.1 to 69.0 Gy outside Brain volume 1872 1203 to 1960 ml yes",
        "map": "0.30 at x, y, z = −12, 4, 30 mm largest rise 0.05 cube, stride 16.0 mm, 8.00 mm",
        "preprocessing": "similarity 1.18 rotation (degrees) 2.56",
        "provenance": "ab12ab12",
    }.items():
        assert told in re.sub(" +", " ", page.sections[section]), section
    shares = re.sub(" +", " ", page.sections["map"])
    assert "dose 0 to 20 Gy 11% 82% dose above 54 Gy 66% 4% dose edge 23% 9%" in shares
    assert "5 of 5 vote for it, and they range from 0.55 to 0.91 (standard deviation 0.14)" in page.sections["answer"]
    assert "79 patients (48 recurrence, 32 RICE)" in page.sections["worth"]
    drawing = next(one["aria-label"] for one in page.all("svg") if one.get("role") == "img")
    assert drawing is not None
    assert "0.81, 0.62, 0.73, 0.91, 0.55; their mean: 0.71; calibrated: 0.44 (95% 0.28 to 0.61)" in drawing
    circles = [float(one["cx"] or "nan") for one in page.all("circle")]
    assert circles == pytest.approx([400 * one for one in sample.prediction().folds])


@pytest.mark.parametrize("fit", [True, False])
def test_it_says_which_of_the_delivered_series_was_taken_as_what(tmp_path: Path, fit: bool) -> None:
    made = sample.prediction if fit else sample.unfit
    page = page_of(tmp_path, made(delivery=sample.delivery()))
    told = re.sub(" +", " ", page.sections["delivery"])
    size = "118 × 140 × 76 1.80 × 1.80 × 3.00"
    assert f"s1a7d8e881a5d number 3 MR −21 {size} – yes post-OP MRI: rule 2: before radiotherapy" in told
    assert f"s404a5f2bd28c number 3 MR – {size} – no dicom.gap" in told
    assert "delivery" not in page_of(tmp_path, made()).sections


def test_it_says_what_was_passed_over_and_what_is_left_to_the_user(tmp_path: Path) -> None:
    delivery = sample.delivery()
    taken, broken = delivery["series"]
    other = taken | {"series": "s5", "acquisition": "2D", "plane": "axial", "contrast_by": "its name says so"}
    images = {role: dict(image) for role, image in delivery["images"].items()}
    images["post"]["passed_over"] = [{"series": "s5", "reason": "2D beside 3D"}]
    undecided = {"event": ["s5"]}
    made = sample.unfit(
        delivery=delivery | {"series": [taken, broken, other], "images": images, "undecided": undecided}
    )
    told = page_of(tmp_path, made).words["delivery"]
    expected = (
        "2D, axial yes its name says so not post-OP MRI: 2D beside 3D; event MRI? Name it with event_series= if it is"
    )
    assert expected in told


def test_structures_are_told_with_their_volumes_and_what_was_left_out(tmp_path: Path) -> None:
    used = {"name": "GTV", "numbers": [2, 5], "ml": 33.5, "notes": ["2 structures have this name and were joined"]}
    left_out = {"number": 7, "name": "", "type": "ORGAN", "reason": "no rule names it"}
    delivery = sample.delivery() | {"structures": {"used": [used], "left_out": [left_out]}}
    numbers = {"GTV": {"frame_of": "planning", "ml": 33.5, "grid_ml": 33.4, "in_brain": 1.0}}
    page = page_of(tmp_path, sample.prediction(delivery=delivery, structures=numbers))
    told = re.sub(" +", " ", page.sections["delivery"])
    assert "2, 5 GTV 33.5 2 structures have this name and were joined" in told
    assert "7 not read – no rule names it" in told
    assert "GTV 33.5 ml, drawn on planning" in page.sections["preprocessing"]
    assert "Structures" not in page_of(tmp_path, sample.prediction()).sections["preprocessing"]


@pytest.mark.parametrize("fit", [True, False])
def test_it_says_what_was_done_with_each_rt_object_and_why(tmp_path: Path, fit: bool) -> None:
    made = sample.prediction if fit else sample.unfit
    told = page_of(tmp_path, made(delivery=sample.delivery())).words["delivery"]
    assert "The dose that counts has a maximum of 69.1 Gy (physical dose) and lies in the frame of the planning" in told
    used = f"{rt.USED} used counts 30 times FRACTION_SESSION PHYSICAL 2.30 64 × 56 × 40 3.0 × 3.0 × 2.5 mm {rt.PLAN} 1"
    left_out = f"{rt.LEFT_OUT} left out planned 20 days after the event PLAN PHYSICAL 37.20 64 × 56 × 40"
    unreadable = f"{rt.UNREADABLE} unreadable DoseUnits is RELATIVE – – – – –"
    assert re.search(
        f"{used} with images {left_out}.* {rt.UNDELIVERED} not delivered 2 without images {unreadable}", told
    )
    assert f"{rt.PLAN} plan used – −9 30 60 UNAPPROVED 1 with images" in told
    assert f"{rt.STRUCTURE_SET} structure set listed – – – – – 1 with images" in told
    assert f"plan {rt.UNDELIVERED}: not delivered; its fractions" in told


def test_a_refused_patients_objects_are_listed_so_that_somebody_can_choose(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.unfit(delivery=sample.delivery(refused=True)))
    told = page.words["delivery"]
    reason = "undecided the case was refused before this was decided"
    assert [told.count(key) for key in (rt.USED, rt.UNDECIDED, rt.LEFT_OUT, rt.UNREADABLE)] == [1] * 4
    assert f"{rt.USED} {reason}" in told
    assert f"{rt.UNDECIDED} {reason}" in told
    assert "exclude_doses=" in told
    assert "The dose that counts" not in told
    assert_for_everyone(page)


def test_warnings_come_first_and_the_limits_are_said(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.prediction())
    order = [attributes["id"] for attributes in page.all("h2")]
    assert order[:4] == ["findings", "answer", "worth", "images"]
    assert "Research use only; not a medical device; no diagnosis" in page.sections["findings"]
    assert "not why" in page.sections["map"]
    assert "phantom" not in page.text


def test_a_model_of_phantoms_says_so_before_anything_else(tmp_path: Path) -> None:
    model = sample.content()["model"]
    model["cohort"]["phantom"] = True
    page = page_of(tmp_path, sample.prediction(model=model))
    assert page.sections["findings"].index("trained on a phantom") < page.sections["findings"].index("Research use")
    page = page_of(tmp_path, sample.unfit(model=model))
    assert "trained on a phantom" in page.sections["findings"]


@pytest.mark.parametrize(
    ("calibrated", "said"),
    [
        ({"probability": 0.44, "interval": [0.28, 0.61], "n": 80}, ["different sides", "includes one half", "curve"]),
        ({"probability": 0.64, "interval": [0.52, 0.71], "n": 80}, ["curve"]),
        ({"probability": 0.64, "interval": [0.42, 0.71], "n": 80}, ["includes one half", "curve"]),
        (None, ["do not allow a calibration"]),
    ],
)
def test_what_speaks_against_a_prediction_is_said(calibrated: Any, said: list[str]) -> None:
    sentences = prediction_sentences(sample.prediction(calibrated=calibrated))[2:]
    assert len(sentences) == len(said)
    assert all(word in sentence for word, sentence in zip(said, sentences, strict=True))


def test_an_uncalibrated_mean_is_not_called_a_probability_of_the_patient() -> None:
    first = prediction_sentences(sample.prediction(calibrated=None))[0]
    assert "0.71" in first
    assert "not calibrated" in first


def test_one_model_has_no_spread() -> None:
    alone = sample.prediction(folds=[0.71], spread=None, votes={"recurrence": 0, "rice": 1})
    assert prediction_sentences(alone)[1] == "The models predict radiation-induced (RICE): their mean is 0.71."


def test_models_that_may_be_no_better_than_chance_are_said_to_be() -> None:
    assert not any("better than chance" in sentence for sentence in worth(evaluated()))
    assert any("better than chance" in sentence for sentence in worth(evaluated(auroc_interval=(0.49, 0.75))))
    assert "AUROC of –." in worth(evaluated(auroc=None, auroc_interval=None))[0]


def evaluated(**changed: Any) -> CitedModel:
    model = sample.content()["model"]
    return sample.prediction(model=model | {"evaluation": model["evaluation"] | changed}).model


def poisoned(value: Any) -> Any:
    """The same with every text in it replaced, those of keys excepted."""
    if isinstance(value, dict):
        return {name: poisoned(one) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return EVIL if isinstance(value, str) else value


def poisoned_unfit() -> UnfitRecord:
    return UnfitRecord.model_validate_json(json.dumps(poisoned(sample.unfit().model_dump(mode="json"))))


def test_text_from_files_is_never_markup(tmp_path: Path) -> None:
    content = poisoned(sample.content()) | {"predicted": "rice", "versions": {EVIL: EVIL}}
    content["preprocessing"][EVIL] = content["occlusion"]["map_share"][EVIL] = 1.0
    hostile = PredictionRecord.model_validate_json(json.dumps(content))
    named = [Layer(one.name, EVIL, one.voxels, one.kind, one.low, one.high, EVIL) for one in sample.layers()]
    path = tmp_path / "page.html"
    write_page(path, hostile, named, sample.world_from_voxel(), sample.brain(), sample.picture())
    page = Page(path)
    assert EVIL not in page.source
    assert "<img src=x" not in page.source
    assert page.text.count(EVIL) > 15, "shown as text"
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert EVIL not in page_of(tmp_path, poisoned_unfit()).source


def test_a_case_that_does_not_fit_gets_no_number(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, sample.unfit(), None, np.eye(4), np.ones((1, 1, 1), bool), None)
    page = Page(path)
    assert [attributes["id"] for attributes in page.all("h2")] == ["findings", "provenance", "limits"]
    assert "the dose does not cover the brain" in page.sections["findings"]
    assert "check the planning image's frame of reference" in page.sections["findings"]
    assert not re.search(r"\d", page.sections["findings"] + page.sections["limits"])
    assert "probability" not in page.source.lower()
    assert not page.all("script")
    assert not page.all("img")
    assert not page.all("svg")
    assert "script-src" not in page.source


def test_the_policy_names_exactly_the_scripts_and_nothing_else_may_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.prediction(), shown=True)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    code = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert len(code) == 2
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in code]
    named = re.search(r"script-src ([^;]*);", policy)
    assert named is not None
    assert named[1].split() == [f"'sha256-{one}'" for one in hashes]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"unsafe|connect-src|worker-src|blob:|\*|http", policy)
    kinds = [one.get("type") for one in page.all("script")]
    assert kinds == ["application/json", None, None]
    outside = [one for one in page.all("img") + page.all("a") if not re.match("#|data:", one.get("src") or one["href"])]
    assert outside == []
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object")]
    assert not [attributes for _, attributes in page.tags if any(name in attributes for name in ("style", "onclick"))]


@pytest.mark.heavy
def test_a_page_stays_below_its_size(tmp_path: Path) -> None:
    rng, shape = np.random.default_rng(0), (140, 140, 140)
    noise = [Layer(f"m{index}", "MRI", rng.normal(size=shape).astype("f4"), "mri", -2, 2, "") for index in range(3)]
    path = tmp_path / "page.html"
    write_page(path, sample.prediction(), noise, np.eye(4), np.ones(shape, bool), sample.picture())
    assert 3_000_000 < path.stat().st_size < PAGE_BYTES
    assert "blocks of 2 × 2 × 2 voxels are averaged to 2.0 × 2.0 × 2.0 mm" in path.read_text()


def test_the_page_can_be_read_by_everyone(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.prediction(), shown=True)
    assert page.all("html") == [{"lang": "en"}]
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) == 6
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= set(identifiers)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    page = page_of(tmp_path, sample.prediction(occlusion=None, measures=[], findings=[]))
    assert "None was made" in page.sections["map"]
    assert "nothing was compared" in page.sections["measures"]
    assert "no proof that all is well" in page.sections["findings"]
    assert "None were requested" in page.sections["images"]


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    one, other = (page_of(tmp_path, sample.prediction(), shown=True).source for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("value", "text"),
    [(71.43, "71.4"), (1872.188, "1872"), (0.012345, "0.0123"), (-2.5, "−2.50"), (0.0, "0"), (16, "16"), ("a", "a"),
     (True, "True"), (None, "–")],
)  # fmt: skip
def test_numbers_have_three_digits(value: Any, text: str) -> None:
    assert three_digits(value) == text


def test_names_in_words() -> None:
    assert [region_name(one) for one in ("dose_20_40", "dose_above_54", "dose_edge", "lesion")] == [
        "dose 20 to 40 Gy", "dose above 54 Gy", "dose edge", "lesion",
    ]  # fmt: skip
    assert [quantity(one) for one in ("dose_max_gy", "similarity", "event_coverage")] == [
        "dose max (Gy)", "similarity", "event coverage",
    ]  # fmt: skip


def test_it_says_what_cropped_models_see(tmp_path: Path) -> None:
    place = {"source": "difference", "voxel": [10.0, 12.5, 9.0], "contrast": 3.2}
    seen = {"at": "lesion", "size_mm": 96.0, "place": place, "first_voxel": [2, 4, 1]}
    page = page_of(tmp_path, sample.prediction(seen=seen))
    said = "The models see a cube of about 96 mm, around where the event MRI is brighter than the post-OP MRI; nothing"
    assert said in re.sub(r"\s+", " ", page.sections["answer"])
    assert "The models see" not in page_of(tmp_path, sample.prediction()).sections["answer"]
