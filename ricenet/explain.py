"""Occlusion maps of a finished grid: a run folder in, one folder of maps, picture and numbers per case out.

Run: python -m ricenet.explain run=outputs/demo case=all +modalities=rd_event

A cross-validation case is explained by the model of the fold that was scored on it, which never saw it in training; a
test case by the mean probability of all folds' models; of several seeds of a fold the lowest stands for it. Where
some cases lack channels, those that have the set's are explained. Models that see a crop (crop=lesion) are explained
inside it: the map is 0 elsewhere, because nothing there can change their prediction.
<run>/explanation/<modalities>/<case_key>/ gets occlusion.nii.gz on the case's own grid (and a map per channel, and one
of shuffled weights, where asked for), occlusion.png and occlusion.json; a case whose settings, weights and volume are
the same stays. Beside them: cohort.png, and for all sets summary.json, attribution.png, curves.png.
"""

import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ricenet.cohort.folds import Folds, lacking, read_folds, select
from ricenet.cohort.ready_cases import ReadyCase
from ricenet.command.atomic import replacing_folder
from ricenet.command.schemas import ExplainConfig
from ricenet.command.stage import stage
from ricenet.errors import Incomplete, InvalidInput, WrongUsage, about

if TYPE_CHECKING:
    from torch import nn

    from ricenet.explanation.case_map import ExplainSettings, FoldModel
    from ricenet.explanation.explained_case import Scene
    from ricenet.training.fused_numbers import FusedNumbers
    from ricenet.training.run_folder import FinishedRun

SHUFFLED_OVER = 8  # cases on which networks with shuffled weights get their normalisation
POSITIVE = ("cube_mm", "stride_mm", "refine_mm", "batch_size", "threads")

log = logging.getLogger(__name__)


@stage("explain", ExplainConfig, private=True)
def main(cfg: ExplainConfig) -> None:
    _check(cfg)
    from ricenet.explanation.case_map import ExplainSettings

    settings = ExplainSettings(
        cube_mm=cfg.cube_mm,
        stride_mm=cfg.stride_mm,
        refine_mm=cfg.refine_mm,
        fill=cfg.fill,
        per_channel=cfg.per_channel,
        randomised=cfg.randomised,
        curves=cfg.curves,
        precision=cfg.precision,
        batch_size=cfg.batch_size,
        memory_gb=cfg.memory_gb,
        device=_device(cfg.accelerator, cfg.threads),
        masks=None if cfg.masks is None else Path(cfg.masks),
    )
    explain(Path(cfg.run), cfg.modalities.name, cfg.case, settings)


def _check(cfg: ExplainConfig) -> None:
    """Validate the config before anything heavy is loaded."""
    for name in POSITIVE:
        value = getattr(cfg, name)
        if value is not None and value <= 0:
            raise WrongUsage(f"{name} should be above 0, got {value:g}")
    if cfg.memory_gb < 0:
        raise WrongUsage(f"memory_gb should not be below 0, got {cfg.memory_gb:g}")
    for name, allowed in {"accelerator": ("auto", "cpu", "gpu"), "precision": ("fp32", "bf16")}.items():
        if getattr(cfg, name) not in allowed:
            raise WrongUsage(f"{name} should be one of {', '.join(allowed)}, got {getattr(cfg, name)!r}")
    values = list(cfg.fill.values()) if isinstance(cfg.fill, dict) else [cfg.fill]
    if not all(isinstance(value, int | float) for value in values) and cfg.fill != "blur":
        raise WrongUsage(f"fill should be a number, blur, or numbers by channel, got {cfg.fill!r}")
    if cfg.masks is not None and not Path(cfg.masks).is_dir():
        raise WrongUsage("masks= is no folder; give a folder of <case_key>/lesion.nii.gz and cavity.nii.gz")


def explain(run: Path, modalities: str, requested: Any, settings: "ExplainSettings") -> None:
    """Explain the `requested` cases (see select) by the models of one modality set of the grid `run`, and sum them up.

    Raises:
        InvalidInput: nothing can be explained (see ricenet.training.run_folder.finished_folds,
        ricenet.cohort.folds.read_folds, select). WrongUsage: a fill for a channel that the set does not have.
        Incomplete: cases that could not be explained; the others are.
    """
    from ricenet.explanation.cohort_map import draw_mean, write_summary
    from ricenet.explanation.explained_case import read_scene
    from ricenet.training.run_folder import cases_folder, finished_folds, finished_runs

    runs = finished_runs(run)
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    finished = finished_folds(runs, modalities, cases, folds)
    first = next(iter(finished.values()))
    channels, crop = first.channels, first.record.crop
    relative_dose = first.record.sees_relative_dose
    _require_one_crop(finished.values())
    requested_cases, folds = select(folds, requested), folds.having(channels)
    chosen = _having(channels, requested_cases, requested, modalities)
    by_key = {case.case_key: case for case in folds.cases}

    numbers = _numbers(cases, folds, list(finished.values()))

    def scene(case_key: str) -> "Scene":
        of_images = read_scene(cases, by_key[case_key], channels, settings.masks, crop, relative_dose)
        return of_images if numbers is None else replace(of_images, numbers=numbers.named(case_key))

    explanation = run / "explanation"
    try:
        changed, failed = _explain_each(explanation / modalities, cases, folds, finished, chosen, scene, settings)
    finally:  # an interrupted command has explained some, too
        write_summary(explanation)
    if changed or not (explanation / modalities / "cohort.png").is_file():
        draw_mean(explanation, modalities, scene)
    if failed:
        raise Incomplete(f"{len(failed)} of {len(chosen)} case(s) not explained:\n  " + "\n  ".join(failed))


def _require_one_crop(runs: "Iterable[FinishedRun]") -> None:
    """Folds of one set that were cropped in different ways have no map in common."""
    of_folds = {run.fold: run.record.crop for run in runs}
    if len(set(map(repr, of_folds.values()))) > 1:
        listed = "; ".join(f"fold {fold}: {'none' if crop is None else crop}" for fold, crop in of_folds.items())
        raise InvalidInput(
            f"expected folds with one crop, got {listed}", "train the folds that differ again", code="run.crops_differ"
        )


def _numbers(cases: Path, folds: Folds, runs: "Sequence[FinishedRun]") -> "FusedNumbers | None":
    """The numbers of all cases that the models see; None where they see none.

    Raises:
        InvalidInput: they are not those of the training any more, or of some folds only.
    """
    from ricenet.training.fused_numbers import hashes, read_fused_numbers

    requested = {() if run.record.numbers is None else run.record.numbers.requested for run in runs}
    if len(requested) > 1:
        raise InvalidInput(
            "expected folds that see the same numbers", "train the folds that differ again", code="run.numbers_differ"
        )
    names = requested.pop()
    if not names:
        return None
    for key, now in hashes(cases, names).items():
        if any(getattr(run.record, key) != now for run in runs):
            raise InvalidInput(
                f"the numbers of the cases changed after training ({key})",
                "restore the cases folder as it was, or train the run again",
                code="run.cases_changed",
            )
    return read_fused_numbers(cases, folds.cases, names, runs[0].channels, runs[0].modalities)


def _having(channels: Sequence[str], cases: Sequence[ReadyCase], requested: Any, name: str) -> list[ReadyCase]:
    """Those of the cases that have the channels; refused where a case that lacks one was asked for by its key."""
    chosen = [case for case in cases if not lacking(case, channels)]
    if len(chosen) < len(cases) and (not chosen or requested not in ("all", "test", ["all"], ["test"])):
        lack = {case.case_key: lacking(case, channels) for case in cases if lacking(case, channels)}
        listed = "; ".join(f"{key} has no {', '.join(missing)}" for key, missing in list(lack.items())[:5])
        raise InvalidInput(
            f"modalities={name}: {len(lack)} of the {len(cases)} case(s) asked for lack channels of it ({listed})",
            "explain them by a set whose channels they have, or leave them out",
            code="case.channels",
        )
    if len(chosen) < len(cases):
        log.info("%s: %d of %d cases have its images, the others are left out", name, len(chosen), len(cases))
    return chosen


def _explain_each(
    out: Path,
    cases: Path,
    folds: Folds,
    finished: dict[int, "FinishedRun"],
    chosen: Sequence[ReadyCase],
    scene: Callable[[str], "Scene"],
    settings: "ExplainSettings",
) -> tuple[bool, list[str]]:
    """Explain each chosen case into `out`/<case_key>; returns whether any is new, and a line for each that failed."""

    @cache
    def member(fold: int) -> "FoldModel":
        return load_fold_model(finished[fold], cases, folds, settings)

    changed = False
    failed = []
    for number, case in enumerate(chosen, start=1):
        started = time.monotonic()
        label = f"{case.name} ({number} of {len(chosen)})"
        needed = range(folds.n_folds) if case.split == "test" else [folds.fold_of[case.case_key]]
        missing = ", ".join(str(fold) for fold in needed if fold not in finished)
        if missing:
            failed.append(f"{case.name}: needs fold {missing}, which is not finished; train it first")
            continue
        try:
            members = [member(fold) for fold in needed]
            with about(case.name):
                folder = cases / case.folder
                new = explain_case(out / case.case_key, folder, scene(case.case_key), members, settings, label)
            changed |= new
            log.info("%s: %s", label, f"{time.monotonic() - started:.0f} s" if new else "already explained, kept")
        except InvalidInput as error:
            failed.append(str(error))
    return changed, failed


def load_fold_model(run: "FinishedRun", cases: Path, folds: Folds, settings: "ExplainSettings") -> "FoldModel":
    """One fold's network and, if asked for, its double with shuffled weights."""
    from ricenet.command.atomic import file_hash
    from ricenet.explanation.case_map import FoldModel
    from ricenet.networks.late_fusion import of_volumes
    from ricenet.occlusion.folded_resnet import fold
    from ricenet.training.trained_network import load_network

    network = load_network(run.folder).to(settings.device)
    if fold(of_volumes(network)) is None:
        log.warning(
            "%s fold %d: %s cannot be run incrementally; every cube takes a whole forward pass",
            run.modalities, run.fold, run.record.model["architecture"],
        )  # fmt: skip
    shuffled = _shuffled(network, run, cases, folds) if settings.randomised else None
    return FoldModel(run, file_hash(run.folder / "weights.safetensors"), network, shuffled)


def _shuffled(network: "nn.Module", run: "FinishedRun", cases: Path, folds: Folds) -> "nn.Module":
    import torch

    from ricenet.cases.case_reader import load_seen
    from ricenet.explanation.weight_shuffling import shuffled
    from ricenet.networks.late_fusion import LateFusion

    crop, relative_dose = run.record.crop, run.record.sees_relative_dose
    volumes = (
        torch.from_numpy(load_seen(cases, case, run.channels, crop, relative_dose))
        for case in folds.cases[:SHUFFLED_OVER]
    )
    if not isinstance(network, LateFusion):
        return shuffled(network, volumes, seed=run.fold)
    double = copy.deepcopy(network)  # the numbers' part stays: they are held fixed
    double.network = shuffled(network.network, volumes, seed=run.fold)
    return double


def explain_case(
    out: Path,
    case_folder: Path,
    scene: "Scene",
    members: Sequence["FoldModel"],
    settings: "ExplainSettings",
    label: str,
) -> bool:
    """Write one case's maps, picture and numbers; False where they exist already, made from the same inputs.

    Raises:
        InvalidInput: a cube larger than the volume, or a prediction that is not finite.
    """
    from ricenet.explanation.case_map import map_case
    from ricenet.explanation.map_figures import draw_case
    from ricenet.explanation.map_record import RECORD
    from ricenet.explanation.map_sentences import numbers_in_words
    from ricenet.images.volume import write_volume

    fingerprint = _fingerprint(settings, members, case_folder, scene)
    if _recorded_fingerprint(out) == fingerprint:
        return False
    case_map = map_case(scene, members, settings, fingerprint, label)
    record = case_map.record
    title = f"Case {record.case_key}: {record.label}, predicted {record.predicted} ({record.probability:.2f})"
    if record.numbers is not None:
        title += f"\n{numbers_in_words(record.numbers)}"
    with replacing_folder(out) as temporary:
        for name, drop in case_map.maps.items():
            write_volume(temporary / f"{name}.nii.gz", drop, scene.world_from_voxel)
        picture = draw_case(scene, case_map.maps["occlusion"], title)
        picture.savefig(temporary / "occlusion.png", dpi=150, metadata={"Software": None})
        record.write(temporary / RECORD)
    return True


def _device(accelerator: str, threads: int) -> str:
    import torch

    from ricenet.occlusion.engines import find_device

    torch.set_num_threads(threads)
    return find_device(accelerator)


def _fingerprint(settings: "ExplainSettings", members: Sequence["FoldModel"], folder: Path, scene: "Scene") -> str:
    """Of everything that decides what explain_case writes."""
    from ricenet.command.atomic import file_hash
    from ricenet.explanation.map_record import VERSION

    paths = [folder / name for name in ("volume.npy", "brain.npy", "case.json", "truth.npz")]
    if settings.masks is not None:
        paths += sorted((settings.masks / scene.case.case_key).glob("*.nii.gz"))
    parts = {
        "version": VERSION,
        "settings": settings.recorded().model_dump(mode="json"),
        "weights": [member.weights_hash for member in members],
        "inputs": [file_hash(path) for path in paths if path.is_file()],
        "prescription_gy": scene.prescription_gy,
    }
    if scene.seen is not None:
        parts["seen"] = asdict(scene.seen)
    if scene.numbers:
        parts["numbers"] = dict(scene.numbers)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _recorded_fingerprint(out: Path) -> str | None:
    from ricenet.command.records import read_version
    from ricenet.explanation.map_record import RECORD, VERSION, read_record

    return read_record(out).fingerprint if read_version(out / RECORD) == VERSION else None


if __name__ == "__main__":
    main()
