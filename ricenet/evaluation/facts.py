"""What is known of a study, in words: an evaluation's summary and its run.json records in, a flat dict of facts out.

A fact has a name, and a text, a whole number or rows of a table for a value; what is not known is absent, so whoever
writes about a study cannot state it. No fact holds a path, a patient id or the key of a case.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ricenet.cohort.channels import in_order
from ricenet.display.words import BASELINES, ONE_MODEL, channel_name, interval, number, p_value, row_name, signed
from ricenet.evaluation.results_table import missing_cells
from ricenet.evaluation.sentences import FULL, looks, reach
from ricenet.paper import PAPER
from ricenet.training.run_record import RunRecord, Setting

FEW_PATIENTS = 50  # below, the test split cannot rank input combinations
PACKAGES = ("python", "ricenet", "torch", "lightning", "monai", "numpy", "torchmetrics")
INTERVAL_METHODS = {
    "bootstrap": "the BCa bootstrap ({draws} resamples, seed {seed})",
    "jeffreys": "draws from Jeffreys' Beta distributions (fewer than 50 patients, or no resample that differs)",
}
MODEL_SETTINGS = {  # of conf/model; those of other names are not shown
    "width": "{} feature maps in the first stage",
    "conv1_size": "first convolution of {0} x {0} x {0} voxels",
    "conv1_stride": "its stride {}",
    "max_pool": "a max pool after it: {}",
    "dropout": "dropout {} before the linear layer",
}


def read_facts(summary: Mapping[str, Any], records: Sequence[RunRecord]) -> dict[str, Any]:
    """The facts of one evaluated grid, by the names that checklists.yaml uses.

    Args:
        summary: of ricenet.evaluate; what a half-finished grid lacks may be absent or None.
        records: run.json of every finished run, leakage controls too.

    Returns:
        Texts and whole numbers; for tables lists of rows, which are dicts of the same.
    """
    networks = [record for record in records if record.control is None]
    facts = {
        **_of_runs(networks),
        **_of_versions(networks),
        **_of_cohort(summary),
        **_of_grid(summary),
        **_of_results(summary),
        **_of_comparisons(summary),
    }
    facts["limits"] = _limits(summary, facts)
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _of_runs(networks: Sequence[RunRecord]) -> dict[str, Any]:
    models = [record.model for record in networks]
    kinds = _distinct(model.get("architecture", model.get("name")) for model in models)
    weights = _distinct(model.get("pretrained") or "random" for model in models)
    channels = in_order(channel for record in networks for channel in record.modalities.channels)
    return {
        "finished_runs": len(networks) or None,
        "epochs": _listed(record.epochs for record in networks),
        "checkpoint": _listed(record.checkpoint for record in networks),
        "seeds": _listed(sorted(_distinct(record.seed for record in networks))),
        "architectures": _listed(kinds),
        "resnet": _listed(kind for kind in kinds if str(kind).startswith("resnet")),
        "networks": "; ".join(_distinct(map(_network, models))),
        "initialisation": "; ".join(map(_initialisation, weights)) if models else None,
        "inputs": ", ".join(map(channel_name, channels)),
    }


def _network(model: Mapping[str, Setting]) -> str:
    words = [text.format(_plain(model[key])) for key, text in MODEL_SETTINGS.items() if model.get(key) is not None]
    if model.get("channel_dropout"):
        words.append(f"each channel blanked in training with probability {_plain(model['channel_dropout'])}")
    name = model.get("architecture", model.get("name"))
    return ", ".join([str(name), *words]) if name else ""


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def _initialisation(weights: str) -> str:
    if weights == "random":
        return "random weights"
    digest = re.fullmatch(r"([0-9a-f]{12})[0-9a-f]{52}", weights)  # anything else could be somebody's path
    return f"transferred weights (SHA-256 {digest[1]})" if digest else "transferred weights"


def _of_versions(networks: Sequence[RunRecord]) -> dict[str, Any]:
    versions = [record.versions for record in networks]
    software = [", ".join(f"{name} {one[name]}" for name in PACKAGES if one.get(name)) for one in versions]
    return {
        "software": "; ".join(_distinct(software)),
        "ricenet_version": _listed(one.get("ricenet") for one in versions),
        "commit": _listed(one.get("commit") for one in versions),
        "machines": _listed(one.get("machine") for one in versions),
    }


def _of_cohort(summary: Mapping[str, Any]) -> dict[str, Any]:
    cohort = summary.get("cohort") or {}
    facts: dict[str, Any] = {}
    for prefix, part in (("cv", "validation"), ("test", "test")):
        counts = cohort.get(part) or {}
        if counts.get("cases"):
            facts |= {f"{prefix}_{key}": counts.get(key) for key in ("cases", "patients", "recurrence", "rice")}
    if (excluded := cohort.get("excluded")) is not None:
        facts["excluded_cases"] = sum(excluded.values())
        facts["excluded_reasons"] = ", ".join(f"{reason} {count}" for reason, count in excluded.items()) or "none"
    return facts | {"test_use": _test_use(summary, cohort)}


def _test_use(summary: Mapping[str, Any], cohort: Mapping[str, Any]) -> str | None:
    if (cohort.get("test") or {}).get("cases") == 0:
        return "There is no test split."
    access = summary.get("test_access") or {}
    return looks(access) if {"looked", "count"} <= access.keys() else None


def _of_grid(summary: Mapping[str, Any]) -> dict[str, Any]:
    sets, missing, n_folds = summary.get("sets") or {}, summary.get("missing"), summary.get("n_folds")
    # Only model-ready phantoms (phantom format=cases) keep the best possible answers beside their cases.
    drawn = any(found.get("bayes_macro_f1") is not None for found in sets.values())
    combinations = sum(name not in ONE_MODEL for name in sets)
    facts = {
        "combinations": combinations or None,
        "n_folds": n_folds,
        "folds_hash": (summary.get("folds_hash") or "")[:12],
        "synthetic_cohort": "phantom" if drawn else None,
        "volumes_by": "phantom" if drawn else "preprocessing" if combinations else None,
    }
    if missing and n_folds:
        cells = missing_cells({"missing": missing, "n_folds": n_folds})
        facts["unfinished"] = f"{len(missing)} of {summary.get('cells')} trainings are missing ({cells})"
    return facts


def _of_results(summary: Mapping[str, Any]) -> dict[str, Any]:
    sets = summary.get("sets") or {}
    rows = {**sets, **(summary.get("baselines") or {})}
    return {
        "results": [_result(name, found, summary.get("n_folds")) for name, found in rows.items()],
        "tested": [_on_test(name, one) for name, one in rows.items() if one.get("test_vote_macro_f1") is not None],
        "calibrated": [_calibrated(name, one) for name, one in rows.items() if one.get("calibration")],
        "interval_methods": _interval_methods(rows.values(), summary.get("bootstrap") or {}),
        "single_seeds": "; ".join(_single_seeds(name, found) for name, found in sets.items() if found.get("seeds")),
        "controls": [_control(one) for one in summary.get("controls") or ()],
        **_of_shown_set(sets),
    }


def _interval_methods(rows: Iterable[Mapping[str, Any]], how: Mapping[str, Any]) -> str:
    names = _distinct(found.get(key) for found in rows for key in ("oof_interval_method", "test_interval_method"))
    words = [text for name, text in INTERVAL_METHODS.items() if name in names]
    return " or ".join(words).format(draws=how.get("draws"), seed=how.get("seed"))


def _of_shown_set(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Errors and subgroups, of the set with all inputs; of the last one where it is not there yet."""
    if not sets:
        return {}
    shown = FULL if FULL in sets else list(sets)[-1]
    errors, levels = sets[shown].get("oof_confusion"), sets[shown].get("subgroups") or []
    facts = {
        "shown_set": _name(shown),
        "subgroup_columns": _listed(level.get("column") for level in levels),
        "subgroups": [_level(level) for level in levels],
    }
    if errors:
        counts = {"errors_of_rice": errors["fn"], "errors_of_recurrence": errors["fp"]}
        return facts | counts | {"errors_cases": sum(errors.values())}
    return facts


def _result(name: str, found: Mapping[str, Any], n_folds: int | None) -> dict[str, Any]:
    folds = found.get("folds") or []
    values, bounds = found.get("oof") or {}, found.get("oof_intervals") or {}
    spread = "" if found.get("folds_sd") is None else f" ± {number(found['folds_sd'])}"
    return {
        "name": _name(name),
        "folds": f"{sum(value is not None for value in folds)} of {n_folds or len(folds)}",
        "n": found.get("n", 0),
        "macro_f1": interval(found.get("oof_macro_f1"), found.get("oof_interval")),
        "chance": _chance(found.get("chance") or {}),
        "over_folds": number(found.get("folds_mean")) + spread,
        **{
            key: interval(values.get(key), bounds.get(key))
            for key in ("balanced_accuracy", "mcc", "sensitivity", "specificity", "auroc")
        },
    }


def _chance(chance: Mapping[str, Any]) -> str:
    return number(chance.get("mean")) + (f" (p {p_value(chance['p'])})" if chance.get("p") is not None else "")


def _on_test(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _name(name),
        "n": found.get("n_test", 0),
        "models": len(found.get("test_members") or found.get("folds") or []),
        "vote": interval(found["test_vote_macro_f1"], found.get("test_interval")),
        "mean": interval(found.get("test_mean_macro_f1"), found.get("test_mean_interval")),
    }


def _calibrated(name: str, found: Mapping[str, Any]) -> dict[str, str]:
    values = found["calibration"]
    return {
        "name": _name(name),
        "brier": number(values.get("brier")),
        "slope": interval(values.get("slope"), values.get("slope_interval")),
        "intercept": interval(values.get("intercept"), values.get("intercept_interval")),
    }


def _level(level: Mapping[str, Any]) -> dict[str, Any]:
    counts = {key: level.get(key, "–") for key in ("column", "level", "n", "rice", "right")}
    return counts | {"macro_f1": interval(level.get("macro_f1"), level.get("interval"))}


def _single_seeds(name: str, found: Mapping[str, Any]) -> str:
    seeds = found["seeds"]
    spread = "" if seeds.get("oof_sd") is None else f" ± {number(seeds['oof_sd'])}"
    return f"{_name(name)} {number(seeds.get('oof_mean'))}{spread}"


def _of_comparisons(summary: Mapping[str, Any]) -> dict[str, Any]:
    declared, omnibus, power = (summary.get(key) for key in ("declared", "omnibus", "power"))
    facts = {
        "declared": "; ".join(map(_pair, declared or ())),
        "declared_count": len(declared) if declared else None,
        "compared": [_compared(name, one) for name, one in (summary.get("contrasts") or {}).items()],
    }
    if omnibus:
        facts["omnibus"] = (
            f"Cochran's Q over {len(omnibus['sets'])} input combinations: {omnibus['q']:.1f} on {omnibus['df']} "
            f"degrees of freedom, p {p_value(omnibus['p'])}, {omnibus['n']} cases"
        )
    if power:
        facts["smallest_difference"] = reach(power)
    return facts


def _pair(contrast: str) -> str:
    return " minus ".join(map(_name, contrast.split(" - ")))


def _name(row: str) -> str:
    """A row of the results in words; one that is neither a modality set nor a baseline by its own name."""
    return row_name(row) if row in PAPER or row in BASELINES else row


def _compared(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    low, high = one.get("interval") or (None, None)
    pairs = one.get("mcnemar") or {}
    return {
        "name": _pair(name),
        "n": one.get("n", 0),
        "difference": f"{signed(one.get('difference'))} (95% {signed(low)} to {signed(high)})",
        "discordant": f"{pairs.get('only_ours', '–')} / {pairs.get('only_theirs', '–')}",
        "p": "–" if one.get("p_holm") is None else p_value(one["p_holm"]),
        "passes": {True: "passes", False: "does not pass", None: "not tested"}[one.get("passed")],
    }


def _control(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": one.get("row", "–"),
        "seed": one.get("seed", "–"),
        "macro_f1": interval(one.get("oof_macro_f1"), one.get("oof_interval")),
        "chance": _chance(one.get("chance") or {}),
        "found": "ABOVE CHANCE: find out why" if one.get("above_chance") else "at chance",
    }


def _limits(summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """What ricenet itself knows to weaken the study."""
    seeds, tested = facts["seeds"], facts.get("test_patients", FEW_PATIENTS)
    above = any(one.get("above_chance") for one in summary.get("controls") or ())
    found = {
        "the cohort is synthetic": facts["synthetic_cohort"],
        f"the grid is not finished ({facts.get('unfinished')})": facts.get("unfinished"),
        f"the test split has {tested} patients, too few to rank input combinations": tested < FEW_PATIENTS,
        "an epoch was chosen on the very fold that is scored": "best" in facts["checkpoint"],
        "one seed was used, so the spread between trainings is not known": seeds and "," not in seeds,
        "no leakage control was run": summary.get("controls") == [],
        "a leakage control is above chance": above,
    }
    return "; ".join(text for text, holds in found.items() if holds)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values in the order of their first appearance, without None and empty text."""
    return list(dict.fromkeys(value for value in values if value not in (None, "")))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, _distinct(values)))
