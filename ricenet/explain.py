"""Occlusion maps of a finished grid: a run folder in, one folder of map, picture and numbers per case out.

Run: python -m ricenet.explain run=outputs/demo case=all +modalities=rd_event

A cross-validation case is explained by the model of the fold that was scored on it, which never saw it in training; a
test case by the mean probability of all folds' models; of several seeds of a fold the lowest stands for it.
<run>/explanation/<modalities>/<case_key>/ gets occlusion.nii.gz on the case's own grid, occlusion.png and
occlusion.json; a case whose settings, weights and volume are the same stays.
"""

import hashlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ricenet import LABELS
from ricenet.cohort import ReadyCase
from ricenet.config import ExplainConfig, Incomplete, InvalidInput, WrongUsage
from ricenet.folds import Folds, read_folds, select
from ricenet.stage import stage

if TYPE_CHECKING:
    import torch

    from ricenet.occlusion import Occlusion
    from ricenet.runs import FinishedRun
    from ricenet.scene import Scene

VERSION = 1  # of what is written: a higher one makes every case be explained again
SIGN = "positive: blanking there lowers the probability of the predicted class, so the answer needs what is there"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The cube and its stride in mm, what it is blanked with, whether each channel gets a map; and how it is run."""

    cube_mm: float
    stride_mm: float
    fill: float
    per_channel: bool
    batch_size: int
    device: str

    def recorded(self) -> dict[str, float | bool]:
        """What decides the map; batch size and device only decide how fast it comes."""
        return {name: getattr(self, name) for name in ("cube_mm", "stride_mm", "fill", "per_channel")}


@dataclass(frozen=True)
class Member:
    """One fold's trained network."""

    run: "FinishedRun"
    weights_hash: str
    network: "torch.nn.Module"


@stage("explain", ExplainConfig)
def main(cfg: ExplainConfig) -> None:
    _check(cfg)
    device = _device(cfg.accelerator, cfg.threads)
    settings = Settings(cfg.cube_mm, cfg.stride_mm, cfg.fill, cfg.per_channel, cfg.batch_size, device)
    explain(Path(cfg.run), cfg.modalities.name, cfg.case, settings)


def _check(cfg: ExplainConfig) -> None:
    """Refuse values that no later step could make sense of, before anything heavy is loaded."""
    for name in ("cube_mm", "stride_mm", "batch_size", "threads"):
        if getattr(cfg, name) <= 0:
            raise WrongUsage(f"{name} should be above 0, got {getattr(cfg, name):g}")
    if cfg.accelerator not in ("auto", "cpu", "gpu"):
        raise WrongUsage(f"accelerator should be auto, cpu or gpu, got {cfg.accelerator!r}")


def explain(run: Path, modalities: str, wanted: Any, settings: Settings) -> None:
    """Explain the `wanted` cases (see select) by the models of one modality set of the grid `run`, and sum them up.

    Raises:
        InvalidInput: nothing can be explained (see ricenet.runs.finished_folds, ricenet.folds.read_folds, select).
        Incomplete: cases that could not be explained; the others are.
    """
    from ricenet.runs import cases_folder, finished_folds, finished_runs

    runs = finished_runs(run)
    cases = cases_folder(run, runs)
    folds = read_folds(cases)
    finished = finished_folds(runs, modalities, cases, folds)
    chosen = select(folds, wanted)
    try:
        failed = _explain_each(run / "explanation" / modalities, cases, folds, finished, chosen, settings)
    finally:  # an interrupted command has explained some, too
        write_summary(run / "explanation")
    if failed:
        raise Incomplete(f"{len(failed)} of {len(chosen)} case(s) not explained:\n  " + "\n  ".join(failed))


def _explain_each(
    out: Path,
    cases: Path,
    folds: Folds,
    finished: dict[int, "FinishedRun"],
    chosen: Sequence[ReadyCase],
    settings: Settings,
) -> list[str]:
    """Explain each chosen case into `out`/<case_key>; returns a line for each that could not be."""

    @cache
    def member(fold: int) -> Member:
        from ricenet.cohort import file_hash
        from ricenet.network import load_network

        folder = finished[fold].folder
        return Member(
            finished[fold], file_hash(folder / "weights.safetensors"), load_network(folder).to(settings.device)
        )

    failed = []
    for number, case in enumerate(chosen, start=1):
        started, label = time.monotonic(), f"case {case.case_key} ({number} of {len(chosen)})"
        needed = range(folds.n_folds) if case.split == "test" else [folds.fold_of[case.case_key]]
        missing = ", ".join(str(fold) for fold in needed if fold not in finished)
        if missing:
            failed.append(f"case {case.case_key}: needs fold {missing}, which is not finished; train it first")
            continue
        try:
            new = explain_case(out / case.case_key, cases, case, [member(fold) for fold in needed], settings, label)
            log.info("%s: %s", label, f"{time.monotonic() - started:.0f} s" if new else "already explained, kept")
        except InvalidInput as error:
            failed.append(str(error))
    return failed


def explain_case(
    out: Path, cases: Path, case: ReadyCase, members: Sequence[Member], settings: Settings, label: str
) -> bool:
    """Write one case's maps, picture and numbers; False when they stand there already, made from the same.

    Raises:
        InvalidInput: a cube larger than the volume, or an answer that is not finite.
    """
    from ricenet.attribution import draw
    from ricenet.occlusion import drop_map
    from ricenet.scene import read_scene
    from ricenet.volume import write_volume

    fingerprint = _fingerprint(settings, members, cases / case.folder)
    if _recorded_fingerprint(out) == fingerprint:
        return False
    scene = read_scene(cases, case, members[0].run.channels)
    answers = occlusions(scene, members, settings, label)
    maps = {name: drop_map(per_member) for name, per_member in answers.items()}
    record = describe(scene, members, settings, answers, maps) | {"fingerprint": fingerprint}
    title = "Case {case_key}: {label}, predicted {predicted} ({probability:.2f})".format(**record)
    with _replacing(out) as temporary:
        for name, drop in maps.items():
            write_volume(temporary / f"{name}.nii.gz", drop, scene.world_from_voxel)
        picture = draw(
            scene.mri,
            maps["occlusion"],
            scene.world_from_voxel,
            scene.dose_gy,
            scene.truth.get("lesion"),
            f"{title}; {scene.mri_role} MRI",
        )
        picture.savefig(temporary / "occlusion.png", dpi=150, metadata={"Software": None})
        (temporary / "occlusion.json").write_text(json.dumps(record, indent=1) + "\n")
    return True


def occlusions(
    scene: "Scene", members: Sequence[Member], settings: Settings, label: str
) -> dict[str, list["Occlusion"]]:
    """Each model's answers with all channels blanked at once and, if asked for, one at a time; by map name.

    Raises:
        InvalidInput: a cube larger than the volume, or an answer that is not finite.
    """
    import torch

    from ricenet.occlusion import occlude

    key, cube, stride = scene.case.case_key, scene.voxels(settings.cube_mm), scene.voxels(settings.stride_mm)
    volume = torch.from_numpy(scene.volume).to(settings.device)
    if any(edge > size for edge, size in zip(cube, volume.shape[1:], strict=True)):
        raise InvalidInput(f"case {key}: cube_mm={settings.cube_mm:g} is larger than its volume; choose a smaller cube")
    blanked: dict[str, list[int] | None] = {"occlusion": None}
    if settings.per_channel:
        blanked |= {f"occlusion_{name}": [index] for index, name in enumerate(members[0].run.channels)}
    answers = {
        name: [
            occlude(one.network, volume, cube, stride, settings.fill, settings.batch_size, channels, f"{label} {name}")
            for one in members
        ]
        for name, channels in blanked.items()
    }
    if not all(np.isfinite(answer.logits).all() for per_member in answers.values() for answer in per_member):
        raise InvalidInput(
            f"case {key}: a model's answer is not finite; check the case's volume and the fold's training"
        )
    return answers


def describe(
    scene: "Scene",
    members: Sequence[Member],
    settings: Settings,
    answers: dict[str, list["Occlusion"]],
    maps: dict[str, np.ndarray],
) -> dict:
    """The content of occlusion.json: what was explained, how, and where the maps lie."""
    from ricenet.attribution import measure
    from ricenet.occlusion import predicted_class

    first, cube = answers["occlusion"][0], scene.voxels(settings.cube_mm)
    predicted, probability = predicted_class(answers["occlusion"])
    numbers = {
        name: measure(drop, scene.world_from_voxel, cube, scene.brain, scene.truth, scene.dose_gy)
        for name, drop in maps.items()
    }
    return {
        "case_key": scene.case.case_key,
        "split": scene.case.split,
        "modalities": members[0].run.modalities,
        "channels": list(members[0].run.channels),
        "label": LABELS[scene.case.label],
        "predicted": LABELS[predicted],
        "probability": probability,
        "folds": [one.run.fold for one in members],
        "sign": SIGN,
        "settings": settings.recorded(),
        "cube_voxels": cube,
        "stride_voxels": scene.voxels(settings.stride_mm),
        "positions": len(first.positions),
        "forward_passes": sum(answer.passes for per_member in answers.values() for answer in per_member),
        **numbers.pop("occlusion"),
        "per_channel": {name.removeprefix("occlusion_"): values for name, values in numbers.items()},
    }


def write_summary(explanation: Path) -> None:
    """Gather the occlusion.json of every case into summary.json, per modality set."""
    from ricenet.attribution import summarise
    from ricenet.partial import replace_file

    # Names with a dot in front are folders another process is still writing.
    records = [json.loads(path.read_text()) for path in sorted(explanation.glob("[!.]*/[!.]*/occlusion.json"))]
    names = dict.fromkeys(record["modalities"] for record in records)
    sets = {name: summarise([record for record in records if record["modalities"] == name]) for name in names}
    if sets:
        replace_file(explanation / "summary.json", json.dumps({"sets": sets}, indent=1) + "\n")


def _device(accelerator: str, threads: int) -> str:
    import torch

    if accelerator == "gpu" and not torch.cuda.is_available():
        raise WrongUsage("accelerator=gpu, but torch finds no CUDA device here; use accelerator=cpu")
    torch.set_num_threads(threads)
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def _fingerprint(settings: Settings, members: Sequence[Member], folder: Path) -> str:
    from ricenet.cohort import file_hash

    inputs = [folder / name for name in ("volume.npy", "brain.npy", "case.json", "truth.npz")]
    parts = {
        "version": VERSION,
        "settings": settings.recorded(),
        "weights": [one.weights_hash for one in members],
        "inputs": [file_hash(path) for path in inputs if path.is_file()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _recorded_fingerprint(out: Path) -> str | None:
    record = out / "occlusion.json"
    return json.loads(record.read_text())["fingerprint"] if record.is_file() else None


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends well, and leaves no trace when not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp made it 0700
        if out.exists():
            shutil.rmtree(out)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
