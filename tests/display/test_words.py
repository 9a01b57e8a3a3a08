"""Numbers, p-values, channels and rows in words."""

from ricenet.display import words
from ricenet.paper import PAPER


def test_every_kind_of_row_has_a_name_in_words():
    assert words.row_name("rd_post") == "dose + post-OP MRI"
    assert words.row_name("modality_dropout") == "one model for all sets"
    assert words.row_name("rd_event-shuffled_labels") == "dose + event MRI, control: shuffled labels"
    assert words.row_name("metadata_only") == "site, scanner and the like in place of images"
    assert words.row_name("dose_volume") == "logistic regression on dose-volume numbers"
    assert words.row_name("lesion_dose@random") == "control: elastic-net regression on the dose at a random place"


def test_a_set_cropped_at_a_place_that_it_does_not_tell_says_so():
    assert words.row_name("rd@lesion") == "dose, cropped at a lesion found on MRI"
    assert words.row_name("rd_post_event@random") == "dose + post-OP MRI + event MRI, cropped at a random place"
    assert words.row_name("rd@lesion-shuffled_labels") == (
        "dose, cropped at a lesion found on MRI, control: shuffled labels"
    )
    channels_of = {"rd_flair@random": ["flair", "rd"]}
    assert words.row_name("rd_flair@random", channels_of) == "dose + flair, cropped at a random place"
    assert words.row_name("a@b") == "a@b"
    assert [row for row in ("rd", "rd@lesion", "modality_dropout", "rd_flair") if words.is_set(row)] == [
        "rd",
        "rd_flair",
    ]


def test_a_row_says_what_its_network_sees_besides_its_images():
    assert words.row_name("rd_event+numbers") == "dose + event MRI, with numbers of the case"
    assert words.row_name("rd@lesion+numbers-shuffled_labels") == (
        "dose, cropped at a lesion found on MRI, with numbers of the case, control: shuffled labels"
    )
    assert not words.is_set("rd_event+numbers")


def test_rows_have_short_names_for_figures():
    assert words.short_name("dose_volume") == "dose-volume regression"
    assert words.short_name("modality_dropout") == "one model for all sets"
    assert words.short_name("rd_post") == "dose + post-OP MRI"


def test_numbers_have_a_real_minus_and_no_signed_zero():
    assert words.number(-0.256) == "−0.26"
    assert words.number(-0.004) == words.number(0.004, "+") == "0.00"
    assert words.with_interval(0.1, [-0.05, 0.25], "+") == "+0.10 [−0.05, +0.25]"
    assert words.with_interval(0.1, None) == "0.10"
    assert words.signed(0.0312) == "+0.03"
    assert words.signed(-0.0312) == "−0.03"


def test_what_is_not_known_is_a_dash():
    assert words.number(None) == words.signed(None) == words.percent(None) == words.interval(None, None) == "–"


def test_an_interval_in_a_sentence():
    assert words.interval(-0.1, (-0.25, 0.05)) == "−0.10 (95% −0.25 to 0.05)"
    assert words.interval(0.5, None) == "0.50"


def test_p_values_never_are_zero():
    assert words.p_value(0.0005) == "< 0.001"
    assert words.p_in_words(0.0005) == "p < 0.001"
    assert words.p_value(0.001) == "0.001"
    assert words.p_in_words(0.0421) == "p = 0.042"
    assert words.percent(0.255) == "26%"


def test_the_channels_of_a_set_are_those_of_its_runs_and_not_its_name():
    channels_of = {"rd_t2_flair": ["rd", "t2_flair"], "rd_t2_flair-shuffled_labels": ["rd", "t2_flair"]}
    assert words.row_name("rd_t2_flair", channels_of) == "dose + t2_flair"
    assert words.row_name("rd_t2_flair-shuffled_labels", channels_of) == "dose + t2_flair, control: shuffled labels"
    assert words.row_name("all-mine", {"all-mine": ["post", "event", "rd", "t2_flair"]}) == (
        "dose + post-OP MRI + event MRI + t2_flair"
    )
    assert words.row_name("rd_t2_flair") == "rd_t2_flair"  # not known, so not guessed


def test_the_papers_sets_are_named_without_a_run():
    assert [words.row_name(name) for name in PAPER] == [
        "event MRI", "post-OP MRI", "dose", "post-OP MRI + event MRI", "dose + post-OP MRI", "dose + event MRI",
        "dose + post-OP MRI + event MRI",
    ]  # fmt: skip


def test_a_row_says_whose_weights_it_starts_from():
    assert words.row_name("rd+medicalnet") == "dose, from MedicalNet"
    assert words.row_name("rd_event+neuro_simclr_stem") == "dose + event MRI, from 3D-Neuro-SimCLR, stem frozen"
    assert words.row_name("rd+brainiac_frozen+numbers") == "dose, from BrainIAC, frozen, with numbers of the case"
    assert words.row_name("rd+ours") == "dose, from ours"
    assert words.start_name("ours") == "ours"
