"""Cohorts that need not have a post-OP MRI: what is missing passes with a flag, what is in doubt does not."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from ricenet.cohort.label_table import LabelRow
from ricenet.cohort.layouts import Entry, with_or_without_post

ROW = LabelRow(2, "p", "t1", "rice", split="cv")
EVENT, POST, RD, MASK, PLANNING = (Path(f"/d/{name}.nii.gz") for name in ("event", "post", "rd", "mask", "planning"))
WHOLE = Entry(ROW, {"post": POST, "event": EVENT, "rd": RD}, MASK, 0, 90, "")
LACKS = replace(WHOLE, images={"event": EVENT, "rd": RD}, excluded_because="post: not in the delivery")


def test_a_whole_entry_stays_and_one_without_post_is_excluded_unless_the_cohort_is_partial() -> None:
    for partial in (False, True):
        assert with_or_without_post(WHOLE, post=True, partial=partial) is WHOLE
    assert with_or_without_post(LACKS, post=True, partial=False) is LACKS
    taken = with_or_without_post(LACKS, post=True, partial=True)
    assert (taken.images, taken.brain_mask, taken.excluded_because) == ({"event": EVENT}, None, "")
    assert [flag.partition(":")[0] for flag in taken.flags] == [
        "post", "rd left out", "brain_mask left out",
    ]  # fmt: skip
    planned = replace(LACKS, images=LACKS.images | {"planning": PLANNING}, brain_mask=None)
    assert with_or_without_post(planned, post=True, partial=True).images == planned.images


@pytest.mark.parametrize(
    ("reasons", "left"),
    [
        ("post: no scan before the event is rated Post-Op", ""),
        ("post: no session before the event", ""),
        ("post: not in the delivery; event: not in the delivery", "event: not in the delivery"),
        ("post: a link that leaves the delivery", None),
        ("post: 3 sessions before the event; name one in post_session, or set options.baseline", None),
        ("post: no T1w with contrast (ce-) among 2 T1w of the session", None),
    ],
)
def test_only_what_is_not_there_may_be_missing(reasons: str, left: str | None) -> None:
    entry = replace(LACKS, excluded_because=reasons)
    assert with_or_without_post(entry, post=True, partial=True).excluded_because == (reasons if left is None else left)


def test_a_post_image_that_the_label_table_names_is_not_passed_over() -> None:
    for label in (replace(ROW, post_date=date(2020, 1, 2)), replace(ROW, extra={"post_session": "early"})):
        entry = replace(LACKS, label=label)
        assert with_or_without_post(entry, post=True, partial=True) is entry


def test_an_event_only_cohort_looks_for_no_post_and_keeps_the_frame_of_the_dose() -> None:
    """Twice the same: what was done once is not undone."""
    once = with_or_without_post(WHOLE, post=False, partial=False)
    assert (once.images, once.brain_mask, once.flags) == ({"event": EVENT, "rd": RD, "planning": POST}, None, ())
    assert with_or_without_post(once, post=False, partial=False) == once
    linked = replace(LACKS, excluded_because="post: a link that leaves the delivery")
    assert with_or_without_post(linked, post=False, partial=False).excluded_because == ""
    of_event = replace(WHOLE, images={"event": EVENT})
    assert with_or_without_post(of_event, post=False, partial=False).brain_mask == MASK
    refused = replace(LACKS, label=replace(ROW, excluded_because="no consent"))
    assert with_or_without_post(refused, post=False, partial=True) is refused
