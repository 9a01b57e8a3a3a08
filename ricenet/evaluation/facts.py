"""Say in words what is known of a study: an evaluation's summary and its run.json records in, named facts out.

A fact has a name, and a text, a whole number or rows of a table for a value; what is not known is absent, so whoever
writes about a study cannot state it. No fact holds a path, a patient id or the key of a case.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from ricenet.cohort.channels import in_order
from ricenet.command.row_names import ONE_MODEL, RowName
from ricenet.display.words import (
    BASELINES,
    channel_name,
    interval,
    number,
    p_value,
    row_name,
    signed,
    start_name,
)
from ricenet.evaluation.sentences import is_single, looks, main_set, missing_cells, partial_cohort, reach
from ricenet.evaluation.summary import (
    BootstrapSettings,
    Contrast,
    ControlScores,
    RowScores,
    SeedSpread,
    SubgroupLevel,
    SummaryRecord,
)
from ricenet.paper import PAPER
from ricenet.statistics.calibration import Calibration
from ricenet.statistics.chance import Chance
from ricenet.training.run_record import RunRecord, Setting

MIN_RANKING_PATIENTS = 50  # below, the test split cannot rank input combinations
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


TableRow = dict[str, str | int]
Fact = str | int | list[TableRow]
Facts = dict[str, Fact | None]  # None, empty: not known


def read_facts(summary: SummaryRecord, records: Sequence[RunRecord]) -> dict[str, Fact]:
    """Read the facts of one evaluated grid, by the names that checklists.yaml uses.

    Args:
        summary: of ricenet.evaluate.
        records: run.json of every finished run, leakage controls too.

    Returns:
        Texts, whole numbers and, for tables, lists of rows.
    """
    networks = [record for record in records if record.control is None]
    facts: Facts = {
        **_of_runs(networks),
        **_of_versions(networks),
        **_of_cohort(summary),
        **_of_grid(summary),
        **_of_results(summary),
        **_of_comparisons(summary),
    }
    facts["limits"] = _limits(summary, facts)
    return {name: value for name, value in facts.items() if value is not None and value not in ("", [])}


def _of_runs(networks: Sequence[RunRecord]) -> Facts:
    models = [record.model for record in networks]
    kinds = _distinct(model.get("architecture", model.get("name")) for model in models)
    channels = in_order(channel for record in networks for channel in record.modalities.channels)
    crops = _cropped(networks)
    return {
        "finished_runs": len(networks) or None,
        "epochs": _listed(record.epochs for record in networks),
        "optimisation": "; or ".join(_distinct(run.optimisation and run.optimisation.in_words() for run in networks)),
        "checkpoint": _listed(record.checkpoint for record in networks),
        "seeds": _listed(sorted(_distinct(record.seed for record in networks))),
        "architectures": _listed(kinds),
        "resnet": _listed(kind for kind in kinds if str(kind).startswith("resnet")),
        "networks": "; ".join(_distinct(map(_network, models))),
        "initialisation": "; ".join(_distinct(map(_initialisation, networks))) or None,
        "inputs": ", ".join([*map(channel_name, channels), *_computed(networks), *crops]),
        "crops": "".join(crops),
        "whole_volumes": "whole volumes" if models and not crops else None,
    }


def _computed(networks: Sequence[RunRecord]) -> list[str]:
    """What any network computes from its stored channels, as the end of a list."""
    names = _distinct(
        name for record in networks if record.inputs for name in record.inputs.computed(record.modalities.channels)
    )
    return [f"and computed from them voxel by voxel: {', '.join(names)}"] if names else []


def _cropped(networks: Sequence[RunRecord]) -> list[str]:
    """What the networks see of the volumes, as the end of a list; sets that see all of them are named."""
    crops = _distinct(record.crop.in_words() for record in networks if record.crop)
    whole = _distinct(record.modalities.name for record in networks if record.crop is None and record.control is None)
    but = f" ({', '.join(whole)}: the whole volume)" if whole else ""
    return [f"cropped to {' or '.join(crops)}{but}"] if crops else []


def _network(model: Mapping[str, Setting]) -> str:
    words = [text.format(_plain(model[key])) for key, text in MODEL_SETTINGS.items() if model.get(key) is not None]
    if model.get("pool") == "multi":
        words.append("mean and maximum of all stages in front of the linear layer")
    if model.get("channel_dropout"):
        words.append(f"each channel blanked in training with probability {_plain(model['channel_dropout'])}")
    name = model.get("architecture", model.get("name"))
    return ", ".join([str(name), *words]) if name else ""


def _plain(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:g}"


def _initialisation(record: RunRecord) -> str:
    weights = record.model.get("pretrained")
    if not weights:
        return "random weights"
    digest = re.fullmatch(r"([0-9a-f]{12})[0-9a-f]{52}", str(weights))  # anything else could be somebody's path
    transferred = f"transferred weights (SHA-256 {digest[1]})" if digest else "transferred weights"
    start = record.pretrained
    if start is None:
        return transferred
    return (
        f"{transferred} of {start_name(start.source)}, {start.in_words()} ({start.citation}; licence: {start.licence})"
    )


def _of_versions(networks: Sequence[RunRecord]) -> Facts:
    versions = [record.versions for record in networks]
    software = [", ".join(f"{name} {of_run[name]}" for name in PACKAGES if of_run.get(name)) for of_run in versions]
    return {
        "software": "; ".join(_distinct(software)),
        "ricenet_version": _listed(of_run.get("ricenet") for of_run in versions),
        "commit": _listed(of_run.get("commit") for of_run in versions),
        "machines": _listed(of_run.get("machine") for of_run in versions),
    }


def _of_cohort(summary: SummaryRecord) -> Facts:
    cohort = summary.cohort
    facts: Facts = {}
    for prefix, counts in (("cv", cohort.validation), ("test", cohort.test)):
        if counts.cases:
            facts |= {f"{prefix}_{name}": count for name, count in counts}
    if cohort.excluded is not None:
        facts["excluded_cases"] = sum(cohort.excluded.values())
        facts["excluded_reasons"] = ", ".join(f"{reason} {n}" for reason, n in cohort.excluded.items()) or "none"
    facts["partial_cohort"] = " ".join(partial_cohort(summary))
    return facts | {"test_use": looks(summary.test_access) if cohort.test.cases else "There is no test split."}


def _of_grid(summary: SummaryRecord) -> Facts:
    # Only model-ready phantoms (phantom format=cases) keep the best possible predictions beside their cases.
    drawn = any(scores.bayes_macro_f1 is not None for scores in summary.sets.values())
    names = map(RowName.parse, summary.sets)
    combinations = len({name.of_set for name in names if name.of_set != ONE_MODEL and not name.place})
    facts: Facts = {
        "combinations": combinations or None,
        "n_folds": summary.n_folds,
        "folds_hash": summary.folds_hash[:12],
        "synthetic_cohort": "phantom" if drawn else None,
        "volumes_by": "phantom" if drawn else "preprocessing" if combinations else None,
    }
    if summary.missing:
        missing = len(summary.missing)
        facts["unfinished"] = f"{missing} of {summary.cells} trainings are missing ({missing_cells(summary)})"
    return facts


def _of_results(summary: SummaryRecord) -> Facts:
    rows = {**summary.sets, **summary.baselines}
    return {
        "results": [_result(name, scores, summary.n_folds) for name, scores in rows.items()],
        "tested": [_on_test(name, scores) for name, scores in rows.items() if scores.test_vote_macro_f1 is not None],
        "calibrated": [_calibrated(name, scores.calibration) for name, scores in rows.items()],
        "interval_methods": _interval_methods(rows.values(), summary.bootstrap),
        "single_seeds": "; ".join(
            _single_seeds(name, scores.seeds) for name, scores in summary.sets.items() if scores.seeds
        ),
        "controls": [_control(control) for control in summary.controls],
        **_of_shown_set(summary),
    }


def _interval_methods(rows: Iterable[RowScores], how: BootstrapSettings) -> str:
    names = {name for scores in rows for name in (scores.oof_interval_method, scores.test_interval_method)}
    words = [text for name, text in INTERVAL_METHODS.items() if name in names]
    return " or ".join(words).format(draws=how.draws, seed=how.seed)


def _of_shown_set(summary: SummaryRecord) -> Facts:
    """Errors and subgroups, of the set with all inputs; of the last one where it is not there yet."""
    sets = summary.sets
    if not sets:
        return {}
    name = main_set(summary) or list(sets)[-1]
    errors, levels = sets[name].oof_confusion, sets[name].subgroups
    return {
        "shown_set": _name(name),
        "subgroup_columns": _listed(level.column for level in levels),
        "subgroups": [_level(level) for level in levels],
        "errors_of_rice": errors.fn,
        "errors_of_recurrence": errors.fp,
        "errors_cases": errors.n,
    }


def _result(name: str, scores: RowScores, n_folds: int) -> TableRow:
    spread = "" if scores.folds_sd is None else f" ± {number(scores.folds_sd)}"
    return {
        "name": _name(name),
        "folds": f"{scores.folds_finished} of {n_folds}",
        "n": scores.n,
        "macro_f1": interval(scores.oof_macro_f1, scores.oof_interval),
        "chance": _chance(scores.chance),
        "over_folds": number(scores.folds_mean) + spread,
        **{
            field.name: interval(getattr(scores.oof, field.name), getattr(scores.oof_intervals, field.name))
            for field in fields(scores.oof)
        },
    }


def _chance(chance: Chance) -> str:
    return f"{number(chance.mean)} (p {p_value(chance.p)})"


def _on_test(name: str, scores: RowScores) -> TableRow:
    return {
        "name": _name(name),
        "n": scores.n_test,
        "models": len(scores.test_members),
        "vote": interval(scores.test_vote_macro_f1, scores.test_interval),
        "mean": interval(scores.test_mean_macro_f1, scores.test_mean_interval),
    }


def _calibrated(name: str, values: Calibration) -> TableRow:
    return {
        "name": _name(name),
        "brier": number(values.brier),
        "slope": interval(values.slope, values.slope_interval),
        "intercept": interval(values.intercept, values.intercept_interval),
    }


def _level(level: SubgroupLevel) -> TableRow:
    counts = level.model_dump(include={"column", "level", "n", "rice", "right"})
    return counts | {"macro_f1": interval(level.macro_f1, level.interval)}


def _single_seeds(name: str, seeds: SeedSpread) -> str:
    spread = "" if seeds.oof_sd is None else f" ± {number(seeds.oof_sd)}"
    return f"{_name(name)} {number(seeds.oof_mean)}{spread}"


def _of_comparisons(summary: SummaryRecord) -> Facts:
    facts: Facts = {
        "declared": "; ".join(map(_pair, summary.declared)),
        "declared_count": len(summary.declared) or None,
        "compared": [_compared(pair, contrast) for pair, contrast in summary.contrasts.items()],
        "smallest_difference": None if is_single(summary) else reach(summary.power),
    }
    if omnibus := summary.omnibus:
        facts["omnibus"] = (
            f"Cochran's Q over {len(omnibus.sets)} input combinations: {omnibus.q:.1f} on {omnibus.df} "
            f"degrees of freedom, p {p_value(omnibus.p)}, {omnibus.n} cases"
        )
    return facts


def _pair(contrast: str) -> str:
    return " minus ".join(map(_name, contrast.split(" - ")))


def _name(row: str) -> str:
    """A row of the results in words; one that is neither a modality set nor a baseline by its own name."""
    return row_name(row) if row in PAPER or row in BASELINES else row


def _compared(pair: str, contrast: Contrast) -> TableRow:
    low, high = contrast.interval
    return {
        "name": _pair(pair),
        "n": contrast.n,
        "difference": f"{signed(contrast.difference)} (95% {signed(low)} to {signed(high)})",
        "discordant": f"{contrast.mcnemar.only_ours} / {contrast.mcnemar.only_theirs}",
        "p": p_value(contrast.p_holm),
        "passes": "passes" if contrast.passed else "does not pass",
    }


def _control(control: ControlScores) -> TableRow:
    return {
        "name": control.row,
        "seed": control.seed,
        "macro_f1": interval(control.oof_macro_f1, control.oof_interval),
        "chance": _chance(control.chance),
        "found": "ABOVE CHANCE: find out why" if control.above_chance else "at chance",
    }


def _limits(summary: SummaryRecord, facts: Facts) -> str:
    """What ricenet itself knows to weaken the study."""
    seeds, checkpoint = str(facts["seeds"]), str(facts["checkpoint"])
    test = summary.cohort.test
    limits = {
        "the cohort is synthetic": facts["synthetic_cohort"],
        f"the grid is not finished ({facts.get('unfinished')})": facts.get("unfinished"),
        f"the test split has {test.patients} patients, too few to rank input combinations": (
            test.cases and test.patients < MIN_RANKING_PATIENTS
        ),
        "an epoch was chosen on the very fold that is scored": "best" in checkpoint,
        "one seed was used, so the spread between trainings is not known": seeds and "," not in seeds,
        "no leakage control was run": not summary.controls,
        "a leakage control is above chance": any(control.above_chance for control in summary.controls),
    }
    return "; ".join(text for text, holds in limits.items() if holds)


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values in the order of their first appearance, without None and empty text."""
    return list(dict.fromkeys(value for value in values if value not in (None, "")))


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, _distinct(values)))
