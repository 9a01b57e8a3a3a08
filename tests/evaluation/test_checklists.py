"""The checklists are complete, say what the summary says, and leave to people what a program cannot know."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.checklist_inputs import SETS, full_records, full_summary, record
from helpers.summaries import summary_content

from ricenet.cases.case_record import Crop
from ricenet.evaluation.checklists import Checklist, answers, fill, needed, read_checklists, write_checklists
from ricenet.evaluation.facts import read_facts

# Written off the published tables, not off checklists.yaml.
CLAIM_SECTIONS = {
    "Title": (1, 1), "Abstract": (2, 2), "Introduction": (3, 4), "Methods: study design": (5, 6),
    "Methods: data": (7, 13), "Methods: reference standard": (14, 18), "Methods: data partitions": (19, 20),
    "Methods: testing data": (21, 21), "Methods: model": (22, 24), "Methods: training": (25, 27),
    "Methods: evaluation": (28, 34), "Results: data": (35, 36), "Results: model performance": (37, 39),
    "Discussion": (40, 41), "Other information": (42, 44),
}  # fmt: skip
TRIPOD_ITEMS = [
    "1", "2", "3a", "3b", "3c", "4", "5a", "5b", "6a", "6b", "6c", "7", "8a", "8b", "8c", "9a", "9b", "9c", "10", "11",
    "12a", "12b", "12c", "12d", "12e", "12f", "12g", "13", "14", "15", "16", "17", "18a", "18b", "18c", "18d", "18e",
    "18f", "19", "20a", "20b", "20c", "21", "22", "23a", "23b", "24", "25", "26", "27a", "27b", "27c",
]  # fmt: skip
TRIPOD_DEVELOPMENT = ["9a", "12a", "12b", "12c", "15", "22", "27a", "27b"]
TRIPOD_EVALUATION = ["12f", "12g", "20c", "24"]


def checklist(file: str) -> Checklist:
    return next(one for one in read_checklists() if one.file == file)


def full_text(file: str) -> str:
    return fill(checklist(file), read_facts(record(full_summary()), full_records()))


def test_claim_has_its_44_items_in_its_sections():
    items = checklist("claim.md").items
    assert [item.number for item in items] == [str(number) for number in range(1, 45)]
    for section, (first, last) in CLAIM_SECTIONS.items():
        assert [int(item.number) for item in items if item.section == section] == list(range(first, last + 1)), section


def test_tripod_ai_has_its_52_items_and_says_which_are_of_development_or_evaluation():
    items = checklist("tripod_ai.md").items
    assert [item.number for item in items] == TRIPOD_ITEMS
    assert len(TRIPOD_ITEMS) == 52
    assert [item.number for item in items if item.applies == "D"] == TRIPOD_DEVELOPMENT
    assert [item.number for item in items if item.applies == "E"] == TRIPOD_EVALUATION
    assert {item.applies for item in items} == {"D", "E", "D;E"}


def test_every_item_is_answered_or_says_what_people_have_to_write():
    for one in read_checklists():
        assert all(item.answer or item.people for item in one.items)
        assert not [item.number for item in one.items if item.differs and not item.answer]


def test_every_fact_of_a_sentence_is_one_that_a_study_can_have_and_no_fact_is_idle():
    summary = full_summary() | {"missing": ["post/fold1"]}
    summary["sets"]["rd"]["bayes_macro_f1"] = 0.9
    cropped = [run.model_copy(update={"crop": Crop(at="lesion", size_mm=96)}) for run in full_records()]
    facts = read_facts(record(summary), full_records()) | read_facts(record(summary), cropped)
    used: set[str] = set()
    for one in read_checklists():
        for item in one.items:
            used |= set().union(*(needed(sentence) for sentence in item.answer))
            first = needed(item.answer[0]) if item.answer else set()
            assert not first or first & {*one.unknown, "synthetic_cohort"}, f"{item.number}: no word for its lack"
    assert used == facts.keys()


@pytest.mark.parametrize(
    ("file", "counts", "known_without_a_run"),
    [
        ("claim.md", (9, 22, 13), ["11", "12", "20", "27", "28", "31", "41"]),
        ("tripod_ai.md", (8, 24, 20), ["3b", "11", "12e", "12f", "15", "24", "27a"]),
    ],
)
def test_counts_of_a_full_and_of_an_empty_run(file: str, counts: tuple[int, int, int], known_without_a_run: list[str]):
    one = checklist(file)
    full = [answer.state for answer in answers(one, read_facts(record(full_summary()), full_records()))]
    filled, part, people = (full.count(state) for state in ("filled", "in part", "for people"))
    assert (filled, part, people) == counts
    # Without any run stands what the program does in every run: how it answers, measures, splits.
    assert [answer.item.number for answer in answers(one, {}) if answer.state != "for people"] == known_without_a_run
    text = full_text(file)
    assert f"**{filled} of {len(one.items)} items are filled by ricenet, {part} in part, {people} are left" in text
    assert text.count("[to be written by the authors: ") == part + people
    assert text.count(" (filled)\n") == filled


def test_the_tables_show_the_numbers_of_the_summary():
    text, summary = full_text("claim.md"), full_summary()
    tables = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| ")]
    rows: dict[str, list[str]] = {}
    for name, *cells in tables:
        rows.setdefault(name.strip(), []).extend(cell.strip() for cell in cells)
    words = ["event MRI", "post-OP MRI", "dose", "post-OP MRI + event MRI", "dose + post-OP MRI", "dose + event MRI"]
    for name, in_words in zip(SETS, [*words, "dose + post-OP MRI + event MRI"], strict=True):
        found, shown = summary["sets"][name], rows[in_words]
        low, high = found["oof_interval"]
        assert shown == [
            # folds, cases, macro F1, chance, mean over folds, balanced accuracy, Matthews correlation
            "4 of 5", "83", f"{found['oof_macro_f1']:.2f} (95% {low:.2f} to {high:.2f})", "0.49 (p &lt; 0.001)",
            f"{found['folds_mean']:.2f} ± 0.06", f"{found['oof']['balanced_accuracy']:.2f} (95% 0.41 to 0.92)",
            f"{found['oof']['mcc']:.2f} (95% 0.03 to 0.61)",
            # test cases, models, vote, mean
            "13", "4", f"{found['test_vote_macro_f1']:.2f} (95% 0.47 to 0.95)",
            f"{found['test_mean_macro_f1']:.2f} (95% 0.44 to 0.92)",
            # sensitivity, specificity, AUROC
            f"{found['oof']['sensitivity']:.2f} (95% 0.42 to 0.93)",
            f"{found['oof']['specificity']:.2f} (95% 0.43 to 0.94)", f"{found['oof']['auroc']:.2f}",
            # Brier score, slope, intercept
            "0.21", "0.83 (95% 0.52 to 1.14)", "–",
        ]  # fmt: skip
    assert rows["logistic regression on dose-volume numbers"][2] == "0.82 (95% 0.71 to 0.92)"
    assert rows["dose + post-OP MRI minus post-OP MRI"] == [
        "83", "+0.09 (95% +0.02 to +0.17)", "11 / 3", "0.029", "passes",
    ]  # fmt: skip
    lost = rows["dose + post-OP MRI + event MRI minus logistic regression on dose-volume numbers"]
    assert lost == ["83", "−0.13 (95% −0.21 to −0.05)", "5 / 9", "0.424", "does not pass"]


def test_the_sentences_show_the_numbers_of_the_summary():
    text = full_text("claim.md")
    for sentence in (
        "In cross-validation: 83 cases of 80 patients (49 recurrence, 34 RICE, counted in cases).",
        "In the held-out test split: 13 cases of 12 patients (7 recurrence, 6 RICE).",
        "3 case(s) were left out before training; by reason: motion 2, preprocess: dose.cgy 1.",
        "dealt at random, once, into 5 folds",
        "70 finished run(s), each of 800 epochs",
        "the kept network: constant learning rate; running batch-norm statistics, as in the paper.",
        "python 3.11.7, ricenet 0.1.0, torch 2.13.0",
        "the BCa bootstrap (9999 resamples, seed 17)",
        "21.5 on 6 degrees of freedom, p 0.002, 80 cases",
        "10 RICE called recurrence, 14 recurrences called RICE, of 83 cases",
        "The test split has been scored 2 times",
        "Single trainings, without averaging over seeds: dose + post-OP MRI + event MRI 0.68 ± 0.02.",
    ):
        assert sentence in text, sentence
    subgroup = "| site | A | 50 | 20 | 21 | 0.71 (95% 0.58 to 0.83) |\n| site | B | 30 | 20 | 21 | – |\n"
    assert full_text("tripod_ai.md").count(subgroup) == 2


@pytest.mark.parametrize("file", ["claim.md", "tripod_ai.md"])
def test_no_template_is_left_and_no_claim_is_made(file: str):
    for text in (full_text(file), fill(checklist(file), {})):
        assert not re.search(r"\{\{|\}\}|\{%|%\}|Undefined|\bnan\b|\bNone\b(?!\.)", text)
        assert not re.search(r"outperform|significan|clinically valid|state of the art", text, re.IGNORECASE)
        assert "Research use only" in text
        assert "not that it is adequate" in text


def test_an_item_whose_fact_is_missing_is_left_to_people_with_the_reason():
    facts = read_facts(record(full_summary()), full_records())
    del facts["excluded_cases"]
    text = fill(checklist("claim.md"), facts)
    part = text[text.index("### 8.") : text.index("### 9.")]
    assert "(for people)" in part
    assert "Of the cohort table" not in part
    assert "Not filled by ricenet: the cases folder does not tell how many cases were left out." in part
    assert "### 35. Numbers included and excluded (in part)" in text  # only its further sentence is gone


def test_how_the_model_was_chosen_is_told_as_it_was():
    def told(checkpoint: str) -> str:
        text = fill(checklist("claim.md"), {"checkpoint": checkpoint})
        return text[text.index("### 26.") : text.index("### 27.")]

    assert "the held-out fold chooses nothing" in told("last")
    assert "values are too high" in told("best")
    assert "Runs differ (last, best)" in told("last, best")


def test_a_phantom_is_not_said_to_be_preprocessed_or_to_have_patients():
    summary = full_summary()
    summary["sets"]["rd"]["bayes_macro_f1"] = 0.9
    text = fill(checklist("claim.md"), read_facts(record(summary), full_records()))
    assert "No number in this list is about patients." in text
    assert "nothing was registered, brain-extracted or resampled" in text
    assert "By ricenet.preprocess, in this order" not in text
    assert "By ricenet.preprocess, in this order" in full_text("claim.md")


def test_files_are_whole_repeatable_and_replaced(tmp_path: Path):
    folder = tmp_path / "grid" / "checklists"
    paths = write_checklists(record(full_summary()), full_records(), folder)
    before = [path.read_bytes() for path in paths]
    assert [path.name for path in paths] == ["claim.md", "tripod_ai.md"]
    assert sorted(path.name for path in folder.iterdir()) == ["claim.md", "tripod_ai.md"]
    write_checklists(record(summary_content()), [], folder)
    assert [path.read_bytes() for path in paths] != before
    write_checklists(record(full_summary()), full_records(), folder)
    assert [path.read_bytes() for path in paths] == before


def test_text_from_folders_and_tables_cannot_become_markup():
    evil = "x|y](https://evil.example) <script>alert(1)</script> **b** `c` {{ 7*7 }}\n# heading\n| a | b |"
    summary, records = full_summary(), full_records()
    summary["sets"] = {**summary["sets"], evil: summary["sets"]["rd"]}
    summary["cohort"]["excluded"] = {evil: 1}
    summary["declared"] = [f"{evil} - post"]
    summary["contrasts"] = {f"{evil} - post": summary["contrasts"]["rd_post - post"]}
    summary["controls"][0]["row"] = evil
    summary["sets"]["rd_post_event"]["subgroups"][0] |= {"column": evil, "level": evil}
    summary["missing"] = [f"{evil}/fold1"]
    changes = {
        name: {**getattr(records[0], name), key: evil}
        for name, key in (("versions", "torch"), ("model", "architecture"))
    }
    records[0] = records[0].model_copy(update=changes)
    for file in ("claim.md", "tripod_ai.md"):
        text = fill(checklist(file), read_facts(record(summary), records))
        assert "evil" in text
        assert not re.search(r"<script|https?://|\n# heading", text)
        assert len(re.findall(r"^#", text, re.MULTILINE)) == len(re.findall(r"^#", full_text(file), re.MULTILINE))
        assert "49" not in text.replace("0.49", "").replace("(49 recurrence", "")  # 7*7 was not calculated
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


def test_a_study_of_crops_does_not_say_that_whole_volumes_are_seen():
    (item,) = (item for item in checklist("claim.md").items if item.subject == "Selection of subsets")
    one = replace(checklist("claim.md"), items=(item,))
    assert "No patch or lesion is selected: every network sees whole volumes." in text_of(one, full_records())
    cropped = [run.model_copy(update={"crop": Crop(at="lesion", size_mm=96)}) for run in full_records()]
    told = text_of(one, cropped)
    assert "cropped to a cube of 96 mm around the lesion" in told
    assert "No patch" not in told


def text_of(one: Checklist, records: list) -> str:
    return " ".join(answer.text for answer in answers(one, read_facts(record(full_summary()), records)))
