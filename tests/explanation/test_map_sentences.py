"""Sentences against a made-up summary: each number is there, and what is not known is not said."""

from helpers.occlusion_records import occlusion_record, pointing_summary, set_summary

from ricenet.explanation.map_record import NumberPart, NumberParts
from ricenet.explanation.map_sentences import hits, map_sentences, numbers_in_words, points_at


def test_trained_and_shuffled_stand_side_by_side() -> None:
    one = {"lesion": pointing_summary(9, 0.2), "lesion_or_dose_edge": pointing_summary(10, 1e-6)}
    other = {"lesion": pointing_summary(1, 0.9), "lesion_or_dose_edge": pointing_summary(2, 0.725)}
    paired = {region: {"only_trained": 9, "only_randomised": 1, "p": 0.0107} for region in one}
    randomised = {
        "n": 12,
        "pointing": other,
        "paired": paired,
        "median_similarity": -0.104,
        "similarity_range": [-0.3, 0.41],
    }
    trained, shuffled, pair, similar = map_sentences(set_summary(pointing=one, randomised=randomised))
    assert (
        "in the lesion or at the dose edge or within half a cube of it in 10 of 12 cases (83%, 95% 25% to 75%)"
        in trained
    )
    assert "anywhere in the brain would in 20% (p < 0.001, one-sided)" in trained
    assert "2 of 12 cases (17%" in shuffled
    assert "p = 0.725" in shuffled
    assert "theirs alone hit in 9 cases, those of the shuffled weights alone in 1 (p = 0.011, exact McNemar" in pair
    assert "−0.10" in similar
    assert "−0.30 to +0.41" in similar


def test_the_lesion_alone_or_the_enhancement_where_no_more_is_known() -> None:
    assert (
        "lies in the lesion or within" in map_sentences(set_summary(pointing={"lesion": pointing_summary(3, 0.5)}))[0]
    )
    assert (
        "where the MRI became brightest"
        in map_sentences(set_summary(pointing={"enhancement": pointing_summary(3, 0.5)}))[0]
    )
    assert map_sentences(set_summary()) == [
        "No map of shuffled weights was made (randomised=true), so whether the maps need training is open."
    ]


def test_curves_and_agreement_are_told() -> None:
    areas = {"median_deletion_area": 0.31, "median_deletion_random_area": 0.52,
             "median_insertion_area": 0.71, "median_insertion_random_area": 0.55}  # fmt: skip
    flat = {name: [0.5] for name in ("fraction", "deletion", "insertion", "deletion_random", "insertion_random")}
    curves = {"n": 12, **flat, "n_deletion_better": 11, "n_insertion_better": 9, **areas}
    sentences = map_sentences(set_summary(curves=curves, median_fold_agreement=0.44))
    assert "0.31 under the curve (random order 0.52; smaller in 11 of 12 cases)" in sentences[1]
    assert "0.71 (random order 0.55; larger in 9 of 12)" in sentences[1]
    assert "+0.44" in sentences[2]
    assert hits(pointing_summary(12, 0.0004)).startswith("12 of 12 cases (100%")


def test_a_case_points_at_what_it_hits() -> None:
    edge = {"dose_edge": {"hit": True, "chance": 0.1}}
    lesion = {"lesion": {"hit": False, "chance": 0.1}}
    both = {"lesion_or_dose_edge": {"hit": True, "chance": 0.2}}
    assert points_at(occlusion_record("c", pointing=edge | lesion | both)) == "dose edge"
    assert points_at(occlusion_record("c", pointing=lesion)) == "none of the regions"
    assert points_at(occlusion_record("c", pointing={})) == "not known"


def test_a_page_says_what_cropped_networks_see_and_where_chance_is_counted() -> None:
    seen = {"at": "lesion", "size_mm": 96.0, "sources": {"difference": 11, "none": 1}}
    sentences = map_sentences(set_summary(pointing={"lesion": pointing_summary(3, 0.5)}, seen=seen))
    assert sentences[0] == (
        "The networks see a cube of about 96 mm around a place in each case: where the event MRI is brighter than the "
        "post-OP MRI (11), the middle of the brain, as nothing in it enhances (1). Outside of it a map is 0, because "
        "nothing there can change the prediction; shares and chance are those of the brain inside."
    )
    assert "where one anywhere in the brain that they see would in" in sentences[1]


def test_numbers_beside_the_images_are_told_the_largest_first() -> None:
    parts = {"mean_gy": 1.24, "age": 0.5, "v20": 0.4, "v30": 0.01}
    sentences = map_sentences(set_summary(numbers={"image_log_odds": 0.9, "numbers_log_odds": 1.5, "parts": parts}))
    assert "the images stand for 0.90 and the numbers for 1.50 (medians" in sentences[0]
    assert "mean_gy (1.24), age (0.50), v20 (0.40). A number's part is exact" in sentences[0]

    of_case = {"age": NumberPart(value=None, log_odds=-1.0), "mean_gy": NumberPart(value=20.0, log_odds=0.25)}
    case = NumberParts(log_odds=-0.5, image_log_odds=0.25, parts=of_case)
    expected = "log-odds of RICE \u22120.50: images +0.25, numbers \u22120.75 (age \u22121.00, mean_gy +0.25)"
    assert numbers_in_words(case) == expected
