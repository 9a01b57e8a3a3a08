"""Say in sentences what an evaluation found.

Only what was declared beforehand is said to pass; no set is called the best of seven.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ricenet.command.row_names import NUMBERS, RowName
from ricenet.display.words import (
    BASELINES,
    channel_name,
    in_words,
    interval,
    is_set,
    number,
    p_in_words,
    row_name,
    signed,
    start_in_words,
)
from ricenet.paper import PAPER, PAPER_CHANNELS

if TYPE_CHECKING:
    from ricenet.evaluation.summary import PowerStatement, SplitAccess, SummaryRecord

FULL = "rd_post_event"


def headline(summary: "SummaryRecord") -> list[str]:
    """What is missing, network against best baseline, the full set, starts, contrasts, the test set, controls."""
    return [
        *_unfinished(summary),
        *_against_baseline(summary),
        *partial_cohort(summary),
        *_full_set(summary),
        *_starts(summary),
        *_contrasts(summary),
        *_test(summary),
        *_controls(summary),
        *_excluded(summary),
    ]


def _against_baseline(summary: "SummaryRecord") -> list[str]:
    """What scores higher, each main network or the best baseline that it was declared to be compared with."""
    sentences = []
    for name, baseline in networks_and_baselines(summary):
        contrast, words = summary.contrasts[f"{name} - {baseline}"], BASELINES[baseline].in_sentence
        low, high = contrast.interval
        unclear = f"Which is better, the network ({name}) or {words}, this cohort does not show"
        verdict = _verdict(contrast.interval, f"The network ({name})", words, unclear)
        scores = " and ".join(map(number, contrast.macro_f1))
        sentences.append(
            f"{verdict}: macro F1 {scores}, difference {signed(contrast.difference)} (95% {signed(low)} to "
            f"{signed(high)}, over {contrast.n} cases)."
        )
    return sentences


def networks_and_baselines(summary: "SummaryRecord") -> list[tuple[str, str]]:
    """The study's main set, and that set with numbers: each with the best baseline it was declared to be compared with.

    A network without such a baseline is left out.
    """
    main = main_set(summary)
    pairs = []
    for name in [] if main is None else [main, str(RowName(main, additions=(NUMBERS,)))]:
        compared = {row: summary.contrasts.get(f"{name} - {row}") for row in summary.baselines}
        scores = {row: contrast.macro_f1[1] for row, contrast in compared.items() if contrast}
        if scores:
            pairs.append((name, max(scores, key=lambda row: scores[row])))
    return pairs


def _verdict(bounds: Sequence[float], ours: str, theirs: str, unclear: str) -> str:
    """Which of two scores higher, by the interval of their difference; `unclear` where it holds 0."""
    low, high = bounds
    if low <= 0 <= high:
        return unclear
    return f"{ours} scores {'above' if low > 0 else 'below'} {theirs}"


def _unfinished(summary: "SummaryRecord") -> list[str]:
    if not summary.missing:
        return []
    return [
        f"Not finished: {len(summary.missing)} of {summary.cells} cells of the grid are missing "
        f"({missing_cells(summary)}). Every number below is of the finished ones."
    ]


def missing_cells(summary: "SummaryRecord") -> str:
    """The missing cells, a whole row of the grid in one word: `post; rd fold 3, 4`."""
    folds_of: dict[str, list[str]] = {}
    for cell in summary.missing:
        modalities, fold = cell.split("/fold")
        folds_of.setdefault(modalities, []).append(fold)
    whole = summary.n_folds
    return "; ".join(n if len(f) == whole else f"{n} fold {', '.join(f)}" for n, f in folds_of.items())


def partial_cohort(summary: "SummaryRecord") -> list[str]:
    """Which images some cases lack, and what that means for every number; empty where all cases have the same."""
    n = summary.cohort.validation.cases
    fewer = [
        f"{cases.validation} have the {channel_name(channel)}"
        for channel, cases in summary.channel_cases.items()
        if (cases.validation, cases.test) != (n, summary.cohort.test.cases)
    ]
    if not fewer:
        return []
    return [
        f"Not every case has every image: of {n} cross-validation cases {' and '.join(fewer)}. Each set is trained and "
        "scored on the cases that have all of its images, and rows are compared only over the cases that all of them "
        "have: scores of different sets are of different patients and do not compare by themselves."
    ]


def main_set(summary: "SummaryRecord") -> str | None:
    """The set that stands for the study: the one with all inputs; in a cohort without such the largest it can train.

    Where all networks start from others' weights, that row stands for its set.
    """
    possible = summary.possible
    candidates = [FULL, *([] if possible is None else [name for name in reversed(list(PAPER)) if name in possible])]
    rows = {name: name for name in summary.sets}
    if not PAPER.keys() & rows.keys():
        names = map(RowName.parse, summary.sets)
        rows = {name.of_set: str(name) for name in names if name.start and not (name.place or name.control)}
    return next((rows[name] for name in candidates if name in rows), None)


def is_single(summary: "SummaryRecord") -> bool:
    """Whether the cases can train one set alone, and nothing was declared that it could be compared with."""
    if summary.possible is None or summary.declared:
        return False
    return len(set(filter(is_set, [*summary.possible, *summary.sets]))) == 1  # sets with further channels count, too


def nothing_to_compare(summary: "SummaryRecord") -> str:
    """Why a study of one set shows no comparison."""
    (name,) = set(filter(is_set, [*(summary.possible or [FULL]), *summary.sets]))
    return f"These cases allow one set of inputs ({in_words(PAPER_CHANNELS[name])}), so no two sets are compared."


def _full_set(summary: "SummaryRecord") -> list[str]:
    name = main_set(summary)
    if name is None:
        return []
    row = RowName.parse(name)
    full, published = summary.sets[name], PAPER[row.of_set]["validation"]
    words = in_words(PAPER_CHANNELS[row.of_set])
    inputs = f"all three inputs ({words})" if row.of_set == FULL else f"the inputs that there are ({words})"
    models = f"models that start {start_in_words(row.start)}" if row.start else "models"
    sentence = (
        f"With {inputs} the {models} reach a pooled out-of-fold macro F1 of "
        f"{interval(full.oof_macro_f1, full.oof_interval)} over {full.n} cases, where chance gives "
        f"{number(full.chance.mean)} ({p_in_words(full.chance.p)}); the paper reports "
        f"{number(published)} as its mean over folds."
    )
    seeds = full.seeds
    if seeds and seeds.oof_sd is not None:
        sentence += (
            f" That is with {len(seeds.oof_macro_f1)} seeds averaged; a single one reaches "
            f"{number(seeds.oof_mean)} with a standard deviation of {number(seeds.oof_sd)}."
        )
    return [sentence]


def _starts(summary: "SummaryRecord") -> list[str]:
    """What a start from others' weights adds to the same network from scratch, for each row that has one."""
    sentences = []
    for pair in [*summary.declared, *summary.untestable]:
        ours, _, theirs = pair.partition(" - ")
        name = RowName.parse(ours)
        if name.start and theirs == str(name.from_scratch):
            sentences.append(_start(summary, ours, theirs, start_in_words(name.start)))
    return sentences


def _start(summary: "SummaryRecord", ours: str, theirs: str, start: str) -> str:
    contrast = summary.contrasts.get(f"{ours} - {theirs}")
    if contrast is None:
        return (
            f"What it adds to start {start} ({ours}) is not known: the same network from scratch ({theirs}, "
            "model.pretrained=null) has no predictions for the same cases."
        )
    low, high = contrast.interval
    unclear = f"Whether it helps to start {start} ({ours}) and not from scratch ({theirs}), this cohort does not show"
    network, twin = f"The network that starts {start} ({ours})", f"the same network from scratch ({theirs})"
    verdict = _verdict(contrast.interval, network, twin, unclear)
    first, second = map(number, contrast.macro_f1)
    return (
        f"{verdict}: macro F1 {first} and {second}, difference {signed(contrast.difference)} (95% {signed(low)} to "
        f"{signed(high)}, over {contrast.n} cases)."
    )


def _contrasts(summary: "SummaryRecord") -> list[str]:
    contrasts, declared = summary.contrasts, summary.declared
    if is_single(summary):
        return [nothing_to_compare(summary)]
    if not declared:
        return untestable(summary) or ["No contrast of this study's sets was declared, so no two sets are compared."]
    sentences = [
        f"{pair.replace(' - ', ' minus ')}: {signed(contrast.difference)} macro F1 (95% "
        f"{signed(contrast.interval[0])} to {signed(contrast.interval[1])}) over {contrast.n} common cases; this "
        "declared contrast passes "
        f"(Holm-adjusted {p_in_words(contrast.p_holm)})."
        for pair, contrast in contrasts.items()
        if contrast.passed
    ]
    others = len(contrasts) - len(sentences)
    absent = len(declared) - len(contrasts)
    if others or absent:
        sentences.append(
            f"{others} of {len(declared)} contrasts that were declared beforehand do not pass"
            + (f", {absent} cannot be computed{'' if summary.channel_cases else ' yet'}" if absent else "")
            + ": their sets may or may not differ."
        )
    return [*sentences, *untestable(summary), reach(summary.power)]


def untestable(summary: "SummaryRecord") -> list[str]:
    """How many contrasts were declared for rows that this study cannot have, and which rows; empty where none was."""
    n, others = len(summary.untestable), len(summary.declared)
    if not n:
        return []
    lacking = ", ".join(dict.fromkeys(row for rows in summary.untestable.values() for row in rows))
    declared = "1 contrast was" if n + others == 1 else f"{n + others} contrasts were"
    return [
        f"{declared} declared beforehand; {n} of them need{'s' if n == 1 else ''} sets or baselines that this study "
        f"does not have ({lacking}) and cannot be tested."
    ]


def reach(power: "PowerStatement") -> str:
    """What the cohort could have shown at all."""
    seen = "as observed here" if power.discordance_observed else "an assumption"
    if power.smallest_detectable is None:
        what = "could not show any difference in accuracy"
    else:
        points = 100 * power.smallest_detectable
        what = f"could show a difference in accuracy of {points:.1f} points, not a smaller one"
    patients = f"{power.patients} patients"
    if power.cohort_patients is not None:
        patients = f"the {power.patients} of {power.cohort_patients} patients that one declared pair of sets shares"
    return (
        f"With {patients} this cohort {what} ({power.power:.0%} power, before any adjustment for "
        f"several contrasts, where two models predict {power.discordance:.0%} of the patients differently, {seen})."
    )


def _test(summary: "SummaryRecord") -> list[str]:
    name = main_set(summary)
    if name is None or summary.sets[name].test_vote_macro_f1 is None:
        return []
    full = summary.sets[name]
    few = "" if is_single(summary) else "So few cases cannot rank the sets. "
    return [
        f"On the {full.n_test} held-out test cases the majority vote of {row_name(name)} reaches "
        f"{interval(full.test_vote_macro_f1, full.test_interval)}. {few}" + looks(summary.test_access)
    ]


def looks(access: "SplitAccess") -> str:
    """How often the test split was scored."""
    if not access.looked:
        return "The test split was not looked at."
    if access.count is None:
        return "How often the test split was used is not known: its cases folder is read-only."
    times = "once" if access.count == 1 else f"{access.count} times, with different models each time"
    return f"The test split has been scored {times}."


def _controls(summary: "SummaryRecord") -> list[str]:
    if not summary.controls:
        return ["No leakage control was run (control=shuffled_labels, control=metadata_only)."]
    above = [control for control in summary.controls if control.above_chance]
    if not above:
        return [f"{len(summary.controls)} leakage control(s) stay at chance."]
    return [
        f"Leakage control {control.row} (seed {control.seed}) is above chance: "
        f"{interval(control.oof_macro_f1, control.oof_interval)}, {p_in_words(control.chance.p)}. "
        "Find out why before any other number is believed."
        for control in above
    ]


def _excluded(summary: "SummaryRecord") -> list[str]:
    excluded = summary.cohort.excluded
    if excluded is None:
        return []
    if not excluded:
        return ["No case of the cohort table was excluded."]
    reasons = ", ".join(f"{reason} ({count})" for reason, count in excluded.items())
    return [f"{sum(excluded.values())} case(s) of the cohort table were excluded: {reasons}."]
