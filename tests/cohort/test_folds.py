"""Folds: stratified, grouped, written once, and refused when anything under them was changed."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from helpers.make_grid import make_cases

from ricenet.cohort.folds import read_folds, select, write_folds
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.errors import InvalidInput

PAPER_COHORT = {"cv": (48, 32), "test": (7, 5)}


def written(folder, cases, n_folds=5, seed=0):
    folder.mkdir(exist_ok=True, parents=True)
    write_cases(folder, cases)
    return write_folds(folder, n_folds, seed)


def test_papers_cohort_is_dealt_evenly(tmp_path):
    folds = written(tmp_path, make_cases(PAPER_COHORT))
    for fold in range(5):
        count = Counter(case.label for case in folds.validation(fold))
        assert count[0] in (9, 10)
        assert count[1] in (6, 7)
    assert sorted(len(folds.validation(fold)) for fold in range(5)) == [16] * 5
    assert {case.case_key for case in folds.test()} == {case.case_key for case in folds.cases if case.split == "test"}


def test_every_case_is_scored_once_and_never_trained_on(tmp_path):
    folds = written(tmp_path, make_cases(PAPER_COHORT, events_per_patient=2))
    scored = Counter(case.case_key for fold in range(5) for case in folds.validation(fold))
    assert set(scored.values()) == {1}
    assert len(scored) == 160
    for fold in range(5):
        training, validation = folds.training(fold), folds.validation(fold)
        patients = [{case.patient_key for case in part} for part in (training, validation, folds.test())]
        assert not patients[0] & patients[1]
        assert not patients[0] & patients[2]
        assert len(training) + len(validation) == 160


def test_same_seed_same_folds_other_seed_others(tmp_path):
    first, again, other = (
        written(tmp_path / name, make_cases(PAPER_COHORT), seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert (tmp_path / "a/folds.json").read_bytes() == (tmp_path / "b/folds.json").read_bytes()
    assert first.hash == again.hash != other.hash


def test_written_once(tmp_path):
    folds = written(tmp_path, make_cases(PAPER_COHORT))
    before = (tmp_path / "folds.json").read_bytes()
    assert write_folds(tmp_path, 5, 0) == folds == read_folds(tmp_path)
    for n_folds, seed in ((4, 0), (5, 1)):
        with pytest.raises(InvalidInput, match=rf"folds=5 seed=0, asked folds={n_folds} seed={seed}"):
            write_folds(tmp_path, n_folds, seed)
    assert (tmp_path / "folds.json").read_bytes() == before
    assert not list(tmp_path.glob(".folds*"))


def test_too_few_patients(tmp_path):
    with pytest.raises(InvalidInput, match="4 rice patient"):
        written(tmp_path, make_cases({"cv": (9, 4)}))
    with pytest.raises(InvalidInput, match="at least 2"):
        written(tmp_path, make_cases({"cv": (9, 4)}), n_folds=1)
    assert not (tmp_path / "folds.json").exists()


def test_a_deal_that_cannot_be_scored_is_not_written(tmp_path):
    # Two patients own all cases of rice but few are single: grouped, some fold stays without one class.
    cases = [ReadyCase(f"a{i}", f"p{i % 2}", 1, "cv", "f") for i in range(20)]
    cases += [ReadyCase(f"b{i}", f"p{i % 2}", 0, "cv", "f") for i in range(20)]
    with pytest.raises(InvalidInput, match="holds only"):
        written(tmp_path, [*cases, ReadyCase("c", "p2", 0, "cv", "f"), ReadyCase("d", "p3", 1, "cv", "f")], n_folds=3)
    assert not (tmp_path / "folds.json").exists()


def change(folder, **content):
    path = folder / "folds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


@pytest.mark.parametrize(
    ("n_folds", "message"), [(4, "in fold 4, but folds.json says n_folds=4"), (6, "fold 5 holds only no case")]
)
def test_number_of_folds_changed_by_hand(tmp_path, n_folds, message):
    written(tmp_path, make_cases(PAPER_COHORT))
    change(tmp_path, n_folds=n_folds)
    with pytest.raises(InvalidInput, match=message):
        read_folds(tmp_path)


def test_a_case_moved_by_hand(tmp_path):
    folds = written(tmp_path, make_cases(PAPER_COHORT))
    key = folds.cases[0].case_key
    change(tmp_path, fold_of={**folds.fold_of, key: (folds.fold_of[key] + 1) % 5})
    with pytest.raises(InvalidInput, match="does not fit cases"):
        read_folds(tmp_path)


CHANGES = [(",recurrence,", ",rice,"), (",cv,", ",test,"), ("cv0000e0,patient-cv0000", "cv0000e0,patient-cv0001")]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_cases_changed_after_the_folds(tmp_path, old, new):
    written(tmp_path, make_cases(PAPER_COHORT))
    table = tmp_path / "cases.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput, match="does not fit cases"):
        read_folds(tmp_path)
    table.write_text(text)
    read_folds(tmp_path)


def test_a_patient_in_both_splits(tmp_path):
    cases = make_cases(PAPER_COHORT)
    with pytest.raises(InvalidInput, match="a leak"):
        written(tmp_path, [*cases, ReadyCase("other", cases[0].patient_key, 0, "test", "f")])


def test_broken_tables(tmp_path):
    cases = make_cases(PAPER_COHORT)
    with pytest.raises(InvalidInput, match="twice"):
        written(tmp_path, [*cases, cases[0]])
    with pytest.raises(InvalidInput, match="case x: split should be cv or test, got 'validation'"):
        written(tmp_path, [*cases, ReadyCase("x", "x", 0, "validation", "f")])
    with pytest.raises(InvalidInput, match="no folds"):
        read_folds(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "folds.json").write_text(text)
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_folds(tmp_path)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_does_not_exist(tmp_path, fold):
    with pytest.raises(InvalidInput, match=f"0 to 4 .*got {fold}"):
        written(tmp_path, make_cases(PAPER_COHORT)).require_fold(fold)


def test_selection_by_word_key_and_list(tmp_path):
    folds = written(tmp_path, make_cases({"cv": (4, 4), "test": (1, 1)}), n_folds=2)
    first, second = (case.case_key for case in folds.cases[:2])
    assert select(folds, "all") == folds.cases
    assert [case.split for case in select(folds, "test")] == ["test", "test"]
    for several in (f"{second}, {first}", [second, first], [second, first, second]):
        assert [case.case_key for case in select(folds, several)] == [second, first]
    with pytest.raises(InvalidInput, match="none of the 10 cases"):
        select(folds, "nobody")
    with pytest.raises(InvalidInput, match="no test split"):
        select(written(tmp_path / "cv", make_cases({"cv": (4, 4)}), n_folds=2), "test")


def partial(tmp_path, channels_of):
    """The paper's cohort of which each case has the channels that `channels_of` says by its place and label."""
    cases = [replace(case, channels=channels_of(place)) for place, case in enumerate(make_cases(PAPER_COHORT))]
    return written(tmp_path, cases)


def test_a_partial_cohort_is_dealt_as_a_whole_and_used_by_channel(tmp_path):
    whole = written(tmp_path / "whole", make_cases(PAPER_COHORT))
    folds = partial(tmp_path / "partial", lambda place: ("event", "rd") if place % 3 else ("post", "event"))
    assert (folds.hash, folds.fold_of) == (whole.hash, whole.fold_of)
    having = folds.having(["event", "rd"])
    assert (having.hash, having.n_folds) == (folds.hash, folds.n_folds)
    for fold in range(5):
        for part in ("validation", "training"):
            expected = [case for case in getattr(folds, part)(fold) if "rd" in case.channels]
            assert getattr(having, part)(fold) == expected
    assert having.test() == [case for case in folds.test() if "rd" in case.channels]
    assert set(having.fold_of) == {case.case_key for case in having.cases if case.split == "cv"}
    assert having.common(folds.having(["post"])).cases == []
    assert folds.having_any(["post", "rd"]) is folds
    assert folds.having_any(["post"]).cases == folds.having(["post"]).cases
    assert folds.is_partial
    assert not whole.is_partial
    assert whole.having(["anything"]) is whole


def test_a_fold_that_the_channels_leave_one_class_or_no_case_is_refused(tmp_path):
    """Fold 0 has the only recurrences with a dose, and nobody in fold 1 has one."""
    whole = written(tmp_path / "whole", make_cases(PAPER_COHORT))
    with_dose = {case.case_key for case in whole.validation(0)}
    with_dose |= {case.case_key for case in whole.cases if case.label and whole.fold_of.get(case.case_key) != 1}
    keys = [case.case_key for case in make_cases(PAPER_COHORT)]
    folds = partial(tmp_path / "p", lambda place: ("event", "rd") if keys[place] in with_dose else ("event",))
    having = folds.having(["rd"])
    assert [having.is_trainable(fold) for fold in range(5)] == [False, False, True, True, True]
    with pytest.raises(InvalidInput, match=r"rd fold 0: .* got 0 recurrence, 19 rice to train and 9 ") as refused:
        having.require_trainable(0, "rd")
    assert refused.value.code == "folds.channels"
    with pytest.raises(InvalidInput, match=r"0 recurrence, 0 rice to validate, of the \d+ case"):
        having.require_trainable(1, "rd")
    having.require_trainable(2, "rd")
    folds.require_channels(["rd", "event"], "rd_event")
    with pytest.raises(InvalidInput, match="post_event: no case has the channel post"):
        folds.require_channels(["post", "event"], "post_event")
