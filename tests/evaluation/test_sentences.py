"""The sentences of the report, for summaries made by hand."""

from copy import deepcopy

from helpers.summaries import contrast_content, control_content, row_content, summary_content

from ricenet.evaluation import sentences
from ricenet.evaluation.summary import PowerStatement, SplitAccess, SummaryRecord

FULL = row_content(
    oof_macro_f1=0.81, oof_interval=[0.72, 0.89], n=80, n_test=12, test_vote_macro_f1=0.916, test_interval=[0.64, 0.98]
)
SUMMARY = summary_content(
    sets={"rd_post_event": FULL},
    declared=["rd_post_event - event", "rd_post_event - rd", "rd_post - post"],
    contrasts={
        "rd_post_event - event": contrast_content(),
        "rd_post_event - rd": contrast_content(difference=-0.02, interval=[-0.1, 0.1], p_holm=1.0, passed=False),
    },
)


def headline(summary: dict) -> list[str]:
    return sentences.headline(SummaryRecord.model_validate(summary))


def test_only_what_was_declared_and_passed_is_said_to_pass():
    text = " ".join(headline(SUMMARY))
    assert "rd_post_event minus event: +0.20 macro F1 (95% +0.10 to +0.30) over 80 common cases" in text
    assert "Holm-adjusted p = 0.004" in text
    assert "rd_post_event minus rd" not in text
    assert "1 of 3 contrasts that were declared beforehand do not pass, 1 cannot be computed yet" in text
    assert "12.5 points" in text
    assert "0.81 (95% 0.72 to 0.89) over 80 cases, where chance gives 0.49 (p < 0.001)" in text
    assert "scored once" in text
    assert "No leakage control was run" in text
    assert "No case of the cohort table was excluded" in text
    for word in ("outperform", "significan"):
        assert word not in text.lower()


def test_what_is_missing_comes_first():
    summary = SUMMARY | {"missing": ["rd/fold0", *(f"post/fold{fold}" for fold in range(5))]}
    assert headline(summary)[0].startswith("Not finished: 6 of 35 cells of the grid are missing")
    assert "rd fold 0; post" in headline(summary)[0]


def test_network_against_its_best_baseline_is_the_first_sentence_also_where_it_loses():
    baselines = {"dose_volume": row_content(oof_macro_f1=0.78), "clinical": row_content(oof_macro_f1=0.6)}
    pair = "rd_post_event - dose_volume"
    for difference, interval, says in (
        (0.09, [0.01, 0.17], "The network (rd_post_event) scores above a logistic regression on seven dose"),
        (-0.22, [-0.36, -0.08], "The network (rd_post_event) scores below a logistic regression on seven dose"),
        (
            0.03,
            [-0.05, 0.11],
            "Which is better, the network (rd_post_event) or a logistic regression on seven dose",
        ),
    ):
        contrasts = {
            pair: contrast_content(difference=difference, interval=interval, macro_f1=[0.81, 0.78]),
            "rd_post_event - clinical": contrast_content(difference=0.2, interval=[0.1, 0.3]),
        }
        first = headline(SUMMARY | {"baselines": baselines, "contrasts": contrasts, "declared": list(contrasts)})[0]
        assert first.startswith(says)
        assert f"macro F1 0.81 and 0.78, difference {difference:+.2f} (95% {interval[0]:+.2f} to" in first.replace(
            "−", "-"
        )
    undeclared = headline(SUMMARY | {"baselines": baselines})[0]
    assert undeclared.startswith("With all three inputs")


def test_the_network_with_numbers_is_told_against_its_own_best_row():
    """The rows are chosen and told by their scores over the common cases, which in a partial cohort are fewer."""
    baselines = {name: row_content(oof_macro_f1=0.99) for name in ("dose_volume", "lesion_dose", "all_numbers")}
    contrasts = {
        "rd_post_event - dose_volume": contrast_content(macro_f1=[0.81, 0.77]),
        "rd_post_event - lesion_dose": contrast_content(macro_f1=[0.8, 0.87], difference=-0.07, interval=[-0.2, -0.01]),
        "rd_post_event+numbers - all_numbers": contrast_content(macro_f1=[0.9, 0.86], interval=[-0.1, 0.2]),
    }
    sets = {"rd_post_event": FULL, "rd_post_event+numbers": FULL}
    summary = SUMMARY | {"sets": sets, "baselines": baselines, "contrasts": contrasts, "declared": list(contrasts)}
    first, second, third = headline(summary)[:3]
    assert first.startswith(
        "The network (rd_post_event) scores below an elastic-net regression on the dose at the lesion: macro F1 0.80 "
        "and 0.87"
    )
    assert second.startswith(
        "Which is better, the network (rd_post_event+numbers) or an elastic-net regression on all numbers of the dose "
        "and the lesion, this cohort does not show: macro F1 0.90 and 0.86"
    )
    assert third.startswith("With all three inputs")


def test_a_control_above_chance_is_told_with_its_numbers():
    control = control_content(
        kind="metadata_only", row="metadata_only", above_chance=True, oof_macro_f1=0.7, oof_interval=[0.6, 0.8],
        chance={"mean": 0.49, "p95": 0.58, "p": 0.002},
    )  # fmt: skip
    text = " ".join(headline(SUMMARY | {"controls": [control]}))
    assert "metadata_only (seed 0) is above chance: 0.70 (95% 0.60 to 0.80), p = 0.002" in text
    quiet = " ".join(headline(SUMMARY | {"controls": [control | {"above_chance": False}]}))
    assert "1 leakage control(s) stay at chance" in quiet


def test_a_cohort_too_small_for_any_difference_says_so():
    content = SUMMARY["power"] | {"smallest_detectable": None, "discordance_observed": True}
    power = PowerStatement.model_validate(content)
    assert "could not show any difference" in sentences.reach(power)
    assert "as observed here" in sentences.reach(power)


def test_looks_at_the_test_split():
    assert "not looked at" in sentences.looks(SplitAccess(looked=False, count=None))
    assert "read-only" in sentences.looks(SplitAccess(looked=True, count=None))
    assert "scored 4 times" in sentences.looks(SplitAccess(looked=True, count=4))


def test_seeds_and_exclusions():
    summary = deepcopy(SUMMARY)
    summary["sets"]["rd_post_event"]["seeds"] = {
        "of_folds": {"0": [0, 1]}, "oof_macro_f1": [0.7, 0.8], "oof_mean": 0.75, "oof_sd": 0.0707,
    }  # fmt: skip
    summary["cohort"]["excluded"] = {"dose.unit": 2, "in words (see cohort.csv)": 1}
    text = " ".join(headline(summary))
    assert "with 2 seeds averaged; a single one reaches 0.75 with a standard deviation of 0.07" in text
    assert "3 case(s) of the cohort table were excluded: dose.unit (2), in words (see cohort.csv) (1)" in text


def test_contrasts_that_need_sets_without_dose():
    """A study of MRI alone: what is declared, what of it needs sets that the study has not, what is tested."""
    needs = {"rd_post - post": ["rd_post"], "rd_post_event - rd": ["rd_post_event", "rd"]}
    none_fits = " ".join(headline(SUMMARY | {"declared": [], "contrasts": {}, "untestable": needs}))
    told = "2 of them need sets or baselines that this study does not have (rd_post, rd_post_event, rd)"
    assert f"2 contrasts were declared beforehand; {told} and cannot be tested." in none_fits
    assert "was declared, so no two sets" not in none_fits
    one = {"post_event - post": contrast_content(passed=False)}
    some_fit = " ".join(headline(SUMMARY | {"declared": [*one], "contrasts": one, "untestable": needs}))
    assert "1 of 1 contrasts that were declared beforehand do not pass" in some_fit
    assert f"3 contrasts were declared beforehand; {told} and cannot be tested." in some_fit
    single = headline(SUMMARY | {"untestable": {"rd_post - post": ["rd_post"]}})
    assert any("; 1 of them needs sets" in sentence for sentence in single)


def test_nothing_declared():
    text = " ".join(headline(SUMMARY | {"declared": [], "contrasts": {}}))
    assert "no two sets are compared" in text


TWIN = "rd_event+medicalnet_frozen - rd_event"


def starts(**of_contrast) -> list[str]:
    summary = SUMMARY | {
        "declared": [TWIN],
        "contrasts": {TWIN: contrast_content(**of_contrast)} if of_contrast else {},
    }
    return [sentence for sentence in headline(summary) if "start" in sentence]


def test_what_a_start_from_others_weights_adds_is_one_sentence():
    assert starts(interval=[0.1, 0.3]) == [
        "The network that starts from MedicalNet, frozen (rd_event+medicalnet_frozen) scores above the same network "
        "from scratch (rd_event): macro F1 0.80 and 0.60, difference +0.20 (95% +0.10 to +0.30, over 80 cases)."
    ]
    assert "scores below the same network" in starts(difference=-0.2, interval=[-0.3, -0.1])[0]
    assert starts(interval=[-0.1, 0.3])[0].startswith(
        "Whether it helps to start from MedicalNet, frozen (rd_event+medicalnet_frozen) and not from scratch "
        "(rd_event), this cohort does not show: macro F1 0.80 and 0.60"
    )


def test_a_start_without_its_twin_says_so():
    assert "the same network from scratch (rd_event, model.pretrained=null) has no predictions" in starts()[0]
    untestable = SUMMARY | {"declared": [], "contrasts": {}, "untestable": {TWIN: ["rd_event"]}}
    assert any("is not known: the same network from scratch (rd_event" in sentence for sentence in headline(untestable))


def test_where_all_networks_start_from_others_weights_that_row_stands_for_its_set():
    started = SUMMARY | {"sets": {"rd+medicalnet": FULL, "rd_post_event+medicalnet": FULL}}
    summary = SummaryRecord.model_validate(started)
    assert sentences.main_set(summary) == "rd_post_event+medicalnet"
    text = " ".join(sentences.headline(summary))
    assert "the models that start from MedicalNet reach a pooled out-of-fold macro F1 of 0.81" in text
    assert "majority vote of dose + post-OP MRI + event MRI, from MedicalNet reaches" in text
    beside = SummaryRecord.model_validate(SUMMARY | {"sets": {"rd": FULL, "rd_post_event+medicalnet": FULL}})
    assert sentences.main_set(beside) is None
