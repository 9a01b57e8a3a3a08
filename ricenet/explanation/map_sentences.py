"""What a set's occlusion maps say, in sentences: one set of explanation/summary.json in, sentences out."""

from ricenet.cases.crop import SOURCE_WORDS
from ricenet.display.words import number, p_in_words, percent, signed
from ricenet.explanation.map_record import NumberParts, OcclusionRecord, PointingSummary, SetSummary

LISTED = 3  # numbers of a case, those with the largest parts

# By what a maximum should point at, the most telling that is known first; see ricenet.explanation.regions.
PLACES = {
    "lesion_or_dose_edge": "in the lesion or at the dose edge",
    "lesion": "in the lesion",
    "enhancement": "where the MRI became brightest",
}


def map_sentences(summary: SetSummary) -> list[str]:
    """The pointing game of the trained and the shuffled networks, how alike their maps are, perturbation, folds."""
    return [
        *_seen(summary), *_numbers(summary), *_pointing(summary), *_similarity(summary), *_curves(summary),
        *_folds(summary),
    ]  # fmt: skip


def _seen(summary: SetSummary) -> list[str]:
    seen = summary.seen
    if seen is None:
        return []
    places = ", ".join(f"{SOURCE_WORDS[source]} ({n})" for source, n in seen.sources.items())
    return [
        f"The networks see a cube of about {seen.size_mm:g} mm around a place in each case: {places}. Outside of it a "
        "map is 0, because nothing there can change the prediction; shares and chance are those of the brain inside."
    ]


def _numbers(summary: SetSummary) -> list[str]:
    """What the numbers of the cases do beside the images, of which the maps show nothing."""
    numbers = summary.numbers
    if numbers is None:
        return []
    largest = ", ".join(f"{name} ({number(value)})" for name, value in list(numbers.parts.items())[:LISTED])
    return [
        "The networks also see numbers of each case, which are held fixed while cubes are blanked: the maps are of the "
        f"images alone. In the log-odds of RICE the images stand for {number(numbers.image_log_odds)} and the numbers "
        f"for {number(numbers.numbers_log_odds)} (medians of the absolute values); the largest are {largest}. A "
        "number's part is exact: its weight times its distance to the training cases' mean."
    ]


def numbers_in_words(parts: NumberParts) -> str:
    """What a case's numbers do, in one line: the images' part, the numbers', and the largest of these."""
    listed = ", ".join(f"{name} {signed(part.log_odds)}" for name, part in list(parts.parts.items())[:LISTED])
    return (
        f"log-odds of RICE {signed(parts.log_odds)}: images {signed(parts.image_log_odds)}, "
        f"numbers {signed(parts.log_odds - parts.image_log_odds)} ({listed})"
    )


def _pointing(summary: SetSummary) -> list[str]:
    region = next((name for name in PLACES if name in summary.pointing), None)
    if region is None:
        return []
    whole = summary.seen is None
    where = f"{PLACES[region]} or within half a cube of it"
    sentences = [f"The maximum of a trained model's map lies {where} in {hits(summary.pointing[region], whole)}."]
    if summary.randomised is not None:
        pair = summary.randomised.paired[region]
        sentences += [
            f"With the same weights shuffled it does in {hits(summary.randomised.pointing[region], whole)}.",
            "What is bright or steep draws the maps of untrained networks, too; only what the trained ones hit more "
            f"often was learnt: theirs alone hit in {pair.only_trained} cases, those of the shuffled weights alone "
            f"in {pair.only_randomised} ({p_in_words(pair.p)}, exact McNemar, one-sided).",
        ]
    return sentences


def hits(pointing: PointingSummary, whole: bool = True) -> str:
    """Hits of cases with the interval, beside chance; `whole`: whether the networks see the whole brain."""
    low, high = pointing.interval
    brain = "brain" if whole else "brain that they see"
    return (
        f"{pointing.hits} of {pointing.n} cases ({percent(pointing.rate)}, 95% {percent(low)} to {percent(high)}), "
        f"where one anywhere in the {brain} would in {percent(pointing.chance)} ({p_in_words(pointing.p)}, one-sided)"
    )


def points_at(record: OcclusionRecord) -> str:
    """The regions that a case's maximum points at."""
    regions = {name: region.hit for name, region in record.pointing.items() if name != "lesion_or_dose_edge"}
    regions_hit = [name.replace("_", " ") for name, hit in regions.items() if hit]
    return ", ".join(regions_hit) if regions_hit else "none of the regions" if regions else "not known"


def _similarity(summary: SetSummary) -> list[str]:
    shuffled = summary.randomised
    if shuffled is None:
        return ["No map of shuffled weights was made (randomised=true), so whether the maps need training is open."]
    if shuffled.median_similarity is None or shuffled.similarity_range is None:
        return ["The maps of shuffled weights are constant: they have no ranks to compare."]
    low, high = shuffled.similarity_range
    return [
        f"Maps of trained and shuffled weights correlate at {signed(shuffled.median_similarity)} (Spearman inside the "
        f"brain, median; {signed(low)} to {signed(high)} over the cases). One that stayed the same would be worthless."
    ]


def _curves(summary: SetSummary) -> list[str]:
    curves = summary.curves
    if curves is None:
        return []
    return [
        f"Blanking the brain in the map's order leaves a median area of {number(curves.median_deletion_area)} under "
        f"the curve (random order {number(curves.median_deletion_random_area)}; smaller in {curves.n_deletion_better} "
        f"of {curves.n} cases); bringing it back gives {number(curves.median_insertion_area)} (random order "
        f"{number(curves.median_insertion_random_area)}; larger in {curves.n_insertion_better} of {curves.n})."
    ]


def _folds(summary: SetSummary) -> list[str]:
    agreement = summary.median_fold_agreement
    if agreement is None:
        return []
    return [f"The folds' maps of the same case correlate at {signed(agreement)} (Spearman, median)."]
