"""Numbers, p-values, channels and rows in words."""

from ricenet.display import words


def test_every_kind_of_row_has_a_name_in_words():
    assert words.row_name("rd_post") == "dose + post-OP MRI"
    assert words.row_name("rd_event_flair") == "dose + event MRI + flair"
    assert words.row_name("modality_dropout") == "one model for all sets"
    assert words.row_name("rd_event-shuffled_labels") == "dose + event MRI, control: shuffled labels"
    assert words.row_name("metadata_only") == "site, scanner and the like in place of images"
    assert words.row_name("dose_volume") == "logistic regression on dose-volume numbers"
