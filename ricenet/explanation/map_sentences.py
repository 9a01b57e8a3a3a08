"""What a set's occlusion maps say, in sentences: one set of explanation/summary.json in, sentences out."""

from collections.abc import Mapping
from typing import Any

from ricenet.display.words import number, p_in_words, percent, signed

# By what a maximum should point at, the most telling that is known first; see ricenet.explanation.regions.
PLACES = {
    "lesion_or_dose_edge": "in the lesion or at the dose edge",
    "lesion": "in the lesion",
    "enhancement": "where the MRI became brightest",
}


def map_sentences(summary: Mapping[str, Any]) -> list[str]:
    """The pointing game of the trained and the shuffled networks, how alike their maps are, perturbation, folds."""
    return [*_pointing(summary), *_similarity(summary), *_curves(summary), *_folds(summary)]


def _pointing(summary: Mapping[str, Any]) -> list[str]:
    region = next((name for name in PLACES if name in summary["pointing"]), None)
    if region is None:
        return []
    where = f"{PLACES[region]} or within half a cube of it"
    sentences = [f"The maximum of a trained model's map lies {where} in {hits(summary['pointing'][region])}."]
    if summary["randomised"] is not None:
        shuffled, pair = (summary["randomised"][key][region] for key in ("pointing", "paired"))
        sentences += [
            f"With the same weights shuffled it does in {hits(shuffled)}.",
            "What is bright or steep draws the maps of untrained networks, too; only what the trained ones hit more "
            f"often was learnt: theirs alone hit in {pair['only_trained']} cases, those of the shuffled weights alone "
            f"in {pair['only_randomised']} ({p_in_words(pair['p'])}, exact McNemar, one-sided).",
        ]
    return sentences


def hits(one: Mapping[str, Any]) -> str:
    """Hits of cases with the interval, beside chance."""
    low, high = one["interval"]
    return (
        f"{one['hits']} of {one['n']} cases ({percent(one['rate'])}, 95% {percent(low)} to {percent(high)}), where one "
        f"anywhere in the brain would in {percent(one['chance'])} ({p_in_words(one['p'])}, one-sided)"
    )


def points_at(record: Mapping[str, Any]) -> str:
    """The regions that a case's maximum points at; `record` is its occlusion.json."""
    known = {name: one["hit"] for name, one in record["pointing"].items() if name != "lesion_or_dose_edge"}
    found = [name.replace("_", " ") for name, hit in known.items() if hit]
    return ", ".join(found) if found else "none of the regions" if known else "not known"


def _similarity(summary: Mapping[str, Any]) -> list[str]:
    found = summary["randomised"]
    if found is None:
        return ["No map of shuffled weights was made (randomised=true), so whether the maps need training is open."]
    if found["median_similarity"] is None:
        return ["The maps of shuffled weights are constant: they have no ranks to compare."]
    low, high = found["similarity_range"]
    return [
        f"Maps of trained and shuffled weights correlate at {signed(found['median_similarity'])} (Spearman inside the "
        f"brain, median; {signed(low)} to {signed(high)} over the cases). One that stayed the same would be worthless."
    ]


def _curves(summary: Mapping[str, Any]) -> list[str]:
    found = summary["curves"]
    if found is None:
        return []
    areas = {name: number(found[f"median_{name}_area"]) for name in ("deletion", "insertion")}
    random = {name: number(found[f"median_{name}_random_area"]) for name in ("deletion", "insertion")}
    return [
        f"Blanking the brain in the map's order leaves a median area of {areas['deletion']} under the curve "
        f"(random order {random['deletion']}; smaller in {found['n_deletion_better']} of {found['n']} cases); bringing "
        f"it back gives {areas['insertion']} (random order {random['insertion']}; larger in "
        f"{found['n_insertion_better']} of {found['n']})."
    ]


def _folds(summary: Mapping[str, Any]) -> list[str]:
    agreement = summary["median_fold_agreement"]
    if agreement is None:
        return []
    return [f"The folds' maps of the same case correlate at {signed(agreement)} (Spearman, median)."]
