"""The paper's sets: every combination of its three images, once."""

from itertools import chain, combinations

from ricenet import MODALITIES
from ricenet.paper import PAPER, PAPER_CHANNELS, sets_of


def test_the_sets_are_all_combinations() -> None:
    every = chain.from_iterable(combinations(MODALITIES, n) for n in (1, 2, 3))
    assert sorted(PAPER_CHANNELS.values()) == sorted(every)
    assert list(PAPER) == list(PAPER_CHANNELS)


def test_a_study_of_mri_alone_has_three() -> None:
    assert sets_of(["post", "event"]) == ["event", "post", "post_event"]
    assert sets_of(["event", "post", "rd", "t2_flair"]) == list(PAPER)
    assert sets_of([]) == []
