"""The types of the two JSON files of an explanation: occlusion.json of one case, summary.json over all of them."""

from collections.abc import Mapping
from pathlib import Path

from ricenet.cases.case_record import LesionPlace
from ricenet.command.records import Record

VERSION = 2  # of occlusion.json and summary.json; a higher one makes every case be explained again
RECORD = "occlusion.json"
SUMMARY = "summary.json"

Number = int | float  # a whole number stays one, as it was given


class MapSettings(Record):
    """The settings that decide a map and its numbers: keys of conf/explain.yaml."""

    cube_mm: float
    stride_mm: float
    refine_mm: float | None
    fill: Number | str | Mapping[str, Number]
    per_channel: bool
    randomised: bool
    curves: bool
    precision: str


class Pointing(Record):
    """One region of the pointing game.

    Attributes:
        hit: whether the map's maximum lies in the region or within the tolerance of it.
        chance: share of the brain's voxels, as far as the models see it, where a maximum would be a hit.
    """

    hit: bool
    chance: float


class MeanDose(Record):
    """Mean dose over the brain in Gy, weighted by the absolute map (None where it is 0) and unweighted."""

    weighted_by_map: float | None
    brain: float


class MapNumbers(Record):
    """Where a map lies, in numbers: see ricenet.explanation.attribution.measure.

    Attributes:
        drop_max, drop_min: highest and lowest probability drop.
        drop_max_world_mm: (x, y, z) of the maximum, RAS+, mm; None where nothing lowers the probability.
        map_share: share of the absolute map in the brain and in each region; None where the map is 0 everywhere.
        brain_share: each region's share of the brain's voxels.
        pointing: for each region that can be pointed at.
        dose_gy: None, and not in the file, where the dose is not known in Gy.
    """

    drop_max: float
    drop_min: float
    drop_max_world_mm: list[float] | None
    map_share: dict[str, float | None]
    brain_share: dict[str, float]
    pointing: dict[str, Pointing]
    dose_gy: MeanDose | None = None


class ShuffledNumbers(Record):
    """The map of the networks with shuffled weights.

    Attributes:
        similarity: Spearman's rank correlation with the trained networks' map inside the brain; None where one of the
            two is constant there.
    """

    drop_max: float
    pointing: dict[str, Pointing]
    similarity: float | None


class CurveNumbers(Record):
    """Deletion and insertion curves (see PerturbationCurves), and the areas below them."""

    fraction: list[float]
    deletion: list[float]
    insertion: list[float]
    deletion_random: list[float]
    insertion_random: list[float]
    deletion_area: float
    insertion_area: float
    deletion_random_area: float
    insertion_random_area: float


class SeenPart(Record):
    """What the models see of a case: a cube, outside of which a map is 0.

    Attributes:
        at: `lesion` or `random`.
        size_mm: edge of the cube.
        place: around which it lies.
        first_voxel: of the cube on the case's grid; it may lie before the grid's.
    """

    at: str
    size_mm: float
    place: LesionPlace
    first_voxel: tuple[int, int, int]


class NumberPart(Record):
    """One number of a case that the models see beside the volume.

    Attributes:
        value: None where the case does not have it.
        log_odds: by how much it moves the log-odds of RICE from those at the training cases' mean: an exact Shapley
            value (ricenet.networks.late_fusion), the mean over the models.
    """

    value: float | None
    log_odds: float


class NumberParts(Record):
    """What the numbers of a case do, of which the map shows nothing: they are held fixed while cubes are blanked.

    Attributes:
        log_odds: of RICE, the mean over the models: those of the image with all numbers at the training cases' mean,
            and the sum of all parts.
        image_log_odds: the first of these two.
        parts: by number, the largest first.
    """

    log_odds: float
    image_log_odds: float
    parts: dict[str, NumberPart]


class MapHeading(Record):
    """Which case was explained by which models, and how.

    Attributes:
        probability: mean probability of the class `predicted`.
        folds: of the models.
        sign: what a positive value of the map means, in words.
        method: "incremental" or "plain", and the precision.
        logit_error: in bf16 the largest difference of a logit to fp32; None in fp32.
        positions: places of the cube. cubes_run: forward passes over all maps and models.
        seen: the part of the volume that the models see; not in the file where they see all of it.
    """

    version: int
    case_key: str
    split: str
    modalities: str
    channels: list[str]
    label: str
    predicted: str
    probability: float
    folds: list[int]
    sign: str
    settings: MapSettings
    method: str
    logit_error: float | None
    cube_voxels: list[int]
    stride_voxels: list[int]
    positions: int
    cubes_run: int
    seen: SeenPart | None = None


class OcclusionRecord(MapNumbers, MapHeading):  # fields of the last base come first in the file: the heading
    """occlusion.json: one case's map in numbers.

    Attributes:
        per_channel: by channel, the numbers of the map with that channel alone blanked; empty where not asked for.
        channel_share: see ricenet.explanation.attribution.channel_shares.
        fold_agreement: see ricenet.explanation.attribution.rank_agreement; None for a single model.
        randomised, curves: None where not asked for.
        fingerprint: SHA-256 of all that decides the map.
        numbers: not in the file where the models see none.
    """

    per_channel: dict[str, MapNumbers]
    channel_share: dict[str, float | None]
    fold_agreement: float | None
    randomised: ShuffledNumbers | None
    curves: CurveNumbers | None
    fingerprint: str
    numbers: NumberParts | None = None


def read_record(folder: Path) -> OcclusionRecord:
    """The record of `folder`, <run>/explanation/<modalities>/<case_key>.

    Raises:
        InvalidInput: see Record.read.
    """
    hint = f"remove explanation/{folder.parent.name}/{folder.name}, then explain that case again"
    return OcclusionRecord.read(folder / RECORD, hint)


class PointingSummary(Record):
    """The pointing game in one region, over the cases that know it.

    Attributes:
        rate: hits / n. interval: its 95% interval (Clopper-Pearson).
        expected: hits, and chance: mean rate, if the maximum fell on any voxel of the brain with equal probability.
        p: probability of so many hits or more if it did (one-sided, exact, the cases being independent).
    """

    n: int
    hits: int
    rate: float
    interval: tuple[float, float]
    expected: float
    chance: float
    p: float


class PairedHits(Record):
    """Trained against shuffled weights, case by case: how many hit in one alone, and McNemar's exact p, one-sided."""

    only_trained: int
    only_randomised: int
    p: float


class ShuffledSummary(Record):
    """The maps of networks with shuffled weights: how they point, and how they resemble those of the trained ones.

    Attributes:
        pointing, paired: by region.
        median_similarity: over the cases whose similarity is known; None where it is of none.
        similarity_range: [lowest, highest] of these.
    """

    n: int
    pointing: dict[str, PointingSummary]
    paired: dict[str, PairedHits]
    median_similarity: float | None
    similarity_range: tuple[float, float] | None


class CurveSummary(Record):
    """Deletion and insertion curves: means over the cases at each fraction, medians of the areas below.

    Attributes:
        n: cases that are in; those with other fractions are left out.
        n_deletion_better, n_insertion_better: cases whose map deletes faster (smaller area), inserts faster (larger
            area) than random order.
    """

    n: int
    fraction: list[float]
    deletion: list[float]
    insertion: list[float]
    deletion_random: list[float]
    insertion_random: list[float]
    median_deletion_area: float
    median_insertion_area: float
    median_deletion_random_area: float
    median_insertion_random_area: float
    n_deletion_better: int
    n_insertion_better: int


class SeenParts(Record):
    """What the models of a set see of its cases.

    Attributes:
        at, size_mm: as of SeenPart.
        sources: how many cases have a place that was found so (LesionPlace.source).
    """

    at: str
    size_mm: float
    sources: dict[str, int]


class NumberSummary(Record):
    """What the numbers do over the cases: medians of the absolute values of NumberParts, the parts largest first."""

    image_log_odds: float
    numbers_log_odds: float
    parts: dict[str, float]


class SetSummary(Record):
    """One modality set's explained cases taken together.

    Attributes:
        n_correct: cases whose predicted class is their label.
        settings, methods: the distinct ones. cases: their keys.
        median_*: over the cases that have the number; no entry, or None, where none has.
        randomised, curves: None where no case has them.
        seen: None, and not in the file, where the models see whole volumes.
        numbers: None, and not in the file, where the models see none.
    """

    n: int
    n_correct: int
    settings: list[MapSettings]
    methods: list[str]
    cases: list[str]
    median_map_share: dict[str, float]
    median_brain_share: dict[str, float]
    median_channel_share: dict[str, float]
    median_dose_gy: dict[str, float]
    median_fold_agreement: float | None
    pointing: dict[str, PointingSummary]
    randomised: ShuffledSummary | None
    curves: CurveSummary | None
    seen: SeenParts | None = None
    numbers: NumberSummary | None = None


class ExplanationSummary(Record):
    """explanation/summary.json: by modality set."""

    version: int
    sets: dict[str, SetSummary]
