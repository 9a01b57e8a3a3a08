"""What is stated of a study: present where it is known and equal to the summary, absent where it is not."""

import json
from copy import deepcopy
from typing import Any

import pytest
from helpers.checklist_inputs import full_records, full_summary, record
from helpers.summaries import summary_content
from pydantic import ValidationError

from ricenet.cases.case_record import Crop
from ricenet.evaluation.facts import read_facts
from ricenet.networks.input_settings import InputSettings
from ricenet.training.run_record import Optimisation, Row

NO_ROWS = summary_content()


def test_counts_and_settings_are_those_of_the_summary_and_the_runs():
    facts = read_facts(record(full_summary()), full_records())

    assert (facts["cv_cases"], facts["cv_patients"], facts["cv_recurrence"], facts["cv_rice"]) == (83, 80, 49, 34)
    assert (facts["test_cases"], facts["test_patients"]) == (13, 12)
    assert (facts["excluded_cases"], facts["excluded_reasons"]) == (3, "motion 2, preprocess: dose.cgy 1")
    assert (facts["finished_runs"], facts["epochs"], facts["seeds"], facts["checkpoint"]) == (70, "800", "0, 1", "last")
    assert facts["inputs"] == "post-OP MRI, event MRI, dose"
    assert (facts["errors_of_rice"], facts["errors_of_recurrence"], facts["errors_cases"]) == (10, 14, 83)
    assert facts["folds_hash"] == "0123456789ab"
    assert facts["declared"].startswith("dose + post-OP MRI minus post-OP MRI; ")
    assert "12.5 points" in facts["smallest_difference"]
    assert "unfinished" not in facts
    assert "synthetic_cohort" not in facts


def test_a_further_channel_is_an_input_and_its_set_a_combination():
    summary, records = full_summary(), full_records()
    summary["sets"]["rd_post_event_flair"] = summary["sets"]["rd"]
    further = Row(name="rd_post_event_flair", channels=["post", "event", "rd", "flair"])
    records[0] = records[0].model_copy(update={"modalities": further})
    facts = read_facts(record(summary), records)
    assert facts["inputs"] == "post-OP MRI, event MRI, dose, flair"
    assert facts["combinations"] == read_facts(record(full_summary()), [])["combinations"] + 1


def test_without_rows_and_runs_only_the_cohort_and_the_plan_are_known():
    assert read_facts(record(NO_ROWS), []).keys() == {
        "cv_cases", "cv_patients", "cv_recurrence", "cv_rice", "test_cases", "test_patients", "test_recurrence",
        "test_rice", "excluded_cases", "excluded_reasons", "test_use", "n_folds", "folds_hash",
        "smallest_difference", "limits",
    }  # fmt: skip


def test_no_count_of_exclusions_is_not_a_count_of_none():
    summary = full_summary()
    summary["cohort"]["excluded"] = None
    assert not {"excluded_cases", "excluded_reasons"} & read_facts(record(summary), []).keys()

    summary["cohort"]["excluded"] = {}
    facts = read_facts(record(summary), [])
    assert (facts["excluded_cases"], facts["excluded_reasons"]) == (0, "none")


def test_a_control_run_says_nothing_of_how_the_networks_were_trained():
    records = full_records()
    assert records[-1].control
    assert records[-1].epochs == 3
    assert read_facts(record(NO_ROWS), records) == read_facts(record(NO_ROWS), records[:-1])
    assert read_facts(record(NO_ROWS), records[-1:]) == read_facts(record(NO_ROWS), [])


def test_runs_that_differ_are_all_named():
    records = full_records()
    changes = {"epochs": 14, "checkpoint": "best", "model": {**records[3].model, "width": 8}}
    records[3] = records[3].model_copy(update=changes)
    facts = read_facts(record(NO_ROWS), records)
    assert (facts["epochs"], facts["checkpoint"]) == ("800, 14", "last, best")
    assert facts["networks"].count("feature maps") == 2
    assert "an epoch was chosen on the very fold that is scored" in facts["limits"]


def test_computed_inputs_and_pooling_are_told():
    records, inputs = full_records(), InputSettings(isodoses_gy=(20.0, 50.0), isodose_edge_gy=2.0, difference=True)
    records = [run.model_copy(update={"inputs": inputs, "model": {**run.model, "pool": "multi"}}) for run in records]
    facts = read_facts(record(NO_ROWS), records)
    assert facts["inputs"] == (
        "post-OP MRI, event MRI, dose, and computed from them voxel by voxel: dose above 20 Gy, dose above 50 Gy, "
        "event minus post"
    )
    assert "mean and maximum of all stages" in str(facts["networks"])


def test_a_phantom_is_known_by_its_best_possible_scores():
    summary = full_summary()
    assert read_facts(record(summary), [])["volumes_by"] == "preprocessing"
    summary["sets"]["rd"]["bayes_macro_f1"] = 0.86
    facts = read_facts(record(summary), [])
    assert (facts["synthetic_cohort"], facts["volumes_by"]) == ("phantom", "phantom")
    assert facts["limits"].startswith("the cohort is synthetic")


def test_the_source_of_the_volumes_is_not_guessed_from_a_row_that_is_no_modality_set():
    sets = {"modality_dropout": full_summary()["sets"]["rd"]}
    facts = read_facts(record(NO_ROWS | {"sets": sets}), [])
    assert not {"volumes_by", "combinations"} & facts.keys()
    assert facts["results"][0]["name"] == "modality_dropout"


def test_an_unfinished_grid_is_said_to_be_one():
    summary = full_summary() | {"missing": ["post/fold3", "post/fold4"]}
    facts = read_facts(record(summary), full_records())
    assert facts["unfinished"] == "2 of 35 trainings are missing (post fold 3, 4)"
    assert facts["unfinished"] in facts["limits"]


def test_a_control_above_chance_is_a_limit_and_a_control_that_nobody_ran_is_one_too():
    summary = full_summary()
    assert "control" not in read_facts(record(summary), [])["limits"]
    summary["controls"][0]["above_chance"] = True
    facts = read_facts(record(summary), [])
    assert "a leakage control is above chance" in facts["limits"]
    assert facts["controls"][0]["found"].startswith("ABOVE CHANCE")
    summary["controls"] = []
    assert "no leakage control was run" in read_facts(record(summary), [])["limits"]


@pytest.mark.parametrize("looked", [True, False])
def test_the_use_of_the_test_split_is_told_as_it_was(looked: bool):
    summary = full_summary() | {"test_access": {"looked": looked, "count": 2 if looked else None}}
    assert ("2 times" in read_facts(record(summary), [])["test_use"]) == looked
    summary["cohort"]["test"] = {"cases": 0, "patients": 0, "recurrence": 0, "rice": 0}
    assert read_facts(record(summary), [])["test_use"] == "There is no test split."


def test_whatever_is_absent_or_none_the_summary_is_refused_or_the_facts_can_be_read():
    records = full_records()
    refused, read = 0, 0
    for holder, key in [*_places(full_summary())]:
        for value in (None, "absent"):
            summary = full_summary()
            _change(summary, holder, key, value)
            try:
                content = record(summary)
            except ValidationError:
                refused += 1
            else:
                json.dumps(read_facts(content, records))
                read += 1
    assert refused
    assert read
    for key in ("control", "elapsed_s", "seconds_per_epoch", "message", "metadata", "covariates_hash"):
        read_facts(record(NO_ROWS), [records[0].model_copy(update={key: None})])
    for group in ("model", "versions"):
        content = getattr(records[0], group)
        for key in content:
            rest = {name: value for name, value in content.items() if name != key}
            kept = [records[0].model_copy(update={group: of}) for of in (rest, {**content, key: None}, {})]
            json.dumps(read_facts(record(NO_ROWS), kept))


def _places(summary: dict[str, Any]):
    """Every key of the summary, of its cohort and of what stands under a set, a contrast or a control."""
    yield from (((), key) for key in summary)
    yield from ((("cohort",), key) for key in summary["cohort"])
    for holder in (("sets", "rd_post_event"), ("baselines", "dose_volume"), ("contrasts", "rd_post - post")):
        yield from ((holder, key) for key in summary[holder[0]][holder[1]])
    yield from ((("controls", 0), key) for key in summary["controls"][0])


def _change(summary: dict[str, Any], holder: tuple, key: str, value: Any) -> None:
    for part in holder:
        summary = summary[part]
    if value == "absent":
        del summary[key]
    else:
        summary[key] = value


def test_no_path_id_or_key_becomes_a_fact():
    canary, summary, records = "CANARY-17/home/somebody", full_summary(), deepcopy(full_records())
    for index, one in enumerate(records):
        places = {
            "cases": canary,
            "status": canary,
            "message": canary,
            "case_hash": canary,
            "model": {**one.model, "pretrained": canary, "name": canary, "note": canary},
            "versions": {**one.versions, "user": canary, "threads": canary},
        }
        records[index] = one.model_copy(update=places)
    summary |= {"notes": [canary]}
    for holder, key in ((summary, "patient_id"), (summary["sets"]["rd"], "cases"), (summary["sets"]["rd"]["roc"], "x")):
        holder[key] = canary
        with pytest.raises(ValidationError):
            record(summary)
        del holder[key]
    facts = read_facts(record(summary), records)
    assert "CANARY" not in json.dumps(facts)
    assert facts["initialisation"] == "transferred weights"


def test_transferred_weights_are_named_by_their_hash():
    run = full_records()[0]
    run = run.model_copy(update={"model": {**run.model, "pretrained": "0123456789abcdef" * 4}})
    assert read_facts(record(NO_ROWS), [run])["initialisation"] == "transferred weights (SHA-256 0123456789ab)"


def test_how_the_networks_were_trained_is_told_in_words():
    records = [run.model_copy(update={"optimisation": None}) for run in full_records()]
    assert "optimisation" not in read_facts(record(NO_ROWS), records)  # runs of before
    precise, running = (Optimisation(schedule="cosine", batch_norm=kind) for kind in ("precise", "running"))
    records = [run.model_copy(update={"optimisation": precise}) for run in records]
    records[3] = records[3].model_copy(update={"optimisation": running})
    assert read_facts(record(NO_ROWS), records)["optimisation"] == f"{precise.in_words()}; or {running.in_words()}"


def test_what_cropped_networks_see_is_told_and_who_sees_all():
    crop = Crop(at="lesion", size_mm=96)
    runs = [
        run.model_copy(update={"crop": crop} if "event" in run.modalities.channels else {}) for run in full_records()
    ]
    whole = sorted({run.modalities.name for run in runs if run.crop is None})
    assert whole
    facts = read_facts(record(NO_ROWS), runs)
    told = facts["inputs"]
    assert told.endswith(facts["crops"])
    assert "whole_volumes" not in facts
    assert "dose, cropped to a cube of 96 mm around the lesion (" in told
    assert all(name in told.partition("(")[2] for name in whole)
    uncropped = read_facts(record(NO_ROWS), full_records())
    assert "cropped" not in uncropped["inputs"]
    assert "crops" not in uncropped
    assert uncropped["whole_volumes"] == "whole volumes"
