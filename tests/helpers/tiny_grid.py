"""A tiny finished grid on disk, for tests of what reads one: real cases, folds, answers; untrained networks."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ricenet import MODALITIES
from ricenet.cases.case_reader import load_case
from ricenet.cases.case_record import CaseRecord
from ricenet.cohort.folds import Folds, write_folds
from ricenet.cohort.ready_cases import ReadyCase, write_cases
from ricenet.networks.computed_inputs import behind_inputs
from ricenet.networks.input_settings import InputSettings
from ricenet.networks.late_fusion import LateFusion, for_case, of_volumes
from ricenet.networks.network import build_network
from ricenet.training.fused_numbers import FusedNumbers, hashes, read_fused_numbers
from ricenet.training.predictions import write_predictions
from ricenet.training.run_folder import case_hash, finish, run_folder
from ricenet.training.run_record import RunRecord

SHAPE, SPACING_MM, ORIGIN_MM = (14, 12, 10), 5.0, (-31.0, -40.0, -12.0)
MODEL = {
    "architecture": "resnet18", "width": 4, "conv1_size": 3, "conv1_stride": 1, "max_pool": True, "dropout": 0.0,
    "pretrained": None,
}  # fmt: skip


def write_tiny_cases(cases: Path, n_cv: int = 4, n_test: int = 2, n_folds: int = 2) -> Folds:
    """Random brains in a box with a bright lesion, a dose that falls off, and the masks a phantom knows."""
    rng = np.random.default_rng(0)
    world_from_voxel = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    world_from_voxel[:3, 3] = ORIGIN_MM
    ready = []
    for index in range(n_cv + n_test):
        key = f"{index:x}".rjust(12, "c")
        folder = cases / f"{key}-0"
        folder.mkdir(parents=True)
        brain, lesion = np.zeros(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
        brain[3:12, 2:10, 2:9] = True
        x, y, z = 4 + index % 4, 4, 4
        lesion[x : x + 3, y : y + 3, z : z + 2] = True
        volume = rng.normal(size=(3, *SHAPE)) * brain + 3 * lesion
        volume[2] = np.linspace(0, 1, SHAPE[0])[:, None, None] * brain
        np.save(folder / "volume.npy", volume.astype(np.float16))
        np.save(folder / "brain.npy", brain)
        np.savez(folder / "truth.npz", lesion=lesion, cavity=np.roll(lesion, 2, axis=1))
        record = CaseRecord(
            version=1, case_key=key, channels=MODALITIES, spacing_mm=SPACING_MM,
            world_from_voxel=world_from_voxel.tolist(), dose_scale_gy=60.0,
        )  # fmt: skip
        record.write(folder / "case.json")
        ready.append(ReadyCase(key, f"p{index}", index % 2, "cv" if index < n_cv else "test", folder.name))
    write_cases(cases, ready)
    return write_folds(cases, n_folds, seed=0)


def write_tiny_fold(
    run: Path,
    cases: Path,
    folds: Folds,
    channels: list[str],
    fold: int,
    seed: int | None = None,
    having: Folds | None = None,
    pool: str = "last",
    inputs: InputSettings | None = None,
    numbers: FusedNumbers | None = None,
) -> Path:
    """One finished fold: an untrained network whose output layer is steep enough for its answers to differ.

    having: the cases that it answers for, where not all have its channels.
    numbers: of the cases, that the network sees, too; its row is <set>+numbers.
    """
    torch.manual_seed(10 * fold + len(channels) if seed is None else seed)
    fitted = None if numbers is None else numbers.fitted(folds.training(fold))
    network = build_network(
        channels, pool=pool, inputs=inputs, numbers=() if fitted is None else fitted.numbers, **MODEL
    )
    with torch.no_grad():
        of_volumes(network)(torch.randn(4, len(channels), *SHAPE))  # moves the running statistics off their start
        behind_inputs(of_volumes(network)).fc.weight.mul_(4)
        if isinstance(network, LateFusion):
            torch.nn.init.normal_(network.head.weight, std=0.5)
    network.eval()
    name = "_".join(sorted(channels, key=["rd", "post", "event"].index)) + ("+numbers" if numbers else "")
    folder = run_folder(run, name, fold)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "weights.safetensors")
    rows = []
    of = having or folds
    for split, case in [("val", c) for c in of.validation(fold)] + [("test", c) for c in of.test()]:
        with torch.inference_mode():
            of_case = {} if numbers is None else numbers.named(case.case_key)
            logits = for_case(network, of_case)(torch.from_numpy(load_case(cases, case, channels))[None])[0]
        rows.append(
            {
                "case_key": case.case_key,
                "patient_key": case.patient_key,
                "split": split,
                "label": case.label,
                "logit_recurrence": logits[0].item(),
                "logit_rice": logits[1].item(),
                "prob_rice": logits.softmax(0)[1].item(),
            }
        )
    write_predictions(folder, rows)
    (folder / "metrics.csv").write_text("epoch\n0\n")
    (folder / "config.yaml").write_text("seed: 0\n")
    record = {
        "status": "done",
        "modalities": {"name": name, "channels": channels},
        "fold": fold,
        "n_folds": folds.n_folds,
        "seed": 0,
        "epochs": 1,
        "checkpoint": "last",
        "optimisation": {"schedule": "constant", "ema_decay": 0.99, "batch_norm": "precise"},
        "model": {"name": "tiny", **MODEL, "pool": pool},
        "inputs": inputs,
        "cases": f"../{cases.name}",
        "folds_hash": folds.hash,
        "case_hash": case_hash(cases, folds),
        "versions": {"ricenet": "0.1.0", "torch": "2"},
        "elapsed_s": 90.0,
    }
    if numbers is not None:
        record |= {"numbers": fitted, **hashes(cases, numbers.requested)}
    finish(folder, RunRecord.model_validate(record))
    return folder


def write_tiny_numbers(cases: Path, folds: Folds) -> FusedNumbers:
    """numbers.csv and covariates.csv of the tiny cases, in which one case has no age; and what is read of them."""
    keys = [case.case_key for case in folds.cases]
    rows = [f"{key},{20 + 3 * number}\n" for number, key in enumerate(keys)]
    (cases / "numbers.csv").write_text("".join(["case_key,mean_gy\n", *rows]))
    ages = [f"{key},{50 + 7 * number if number else ''}\n" for number, key in enumerate(keys)]
    (cases / "covariates.csv").write_text("".join(["case_key,age\n", *ages]))
    return read_fused_numbers(cases, folds.cases, ["mean_gy", "age"], MODALITIES, "rd_post_event+numbers")


def write_tiny_grid(root: Path, sets: tuple[str, ...] = ("rd_post_event",), n_folds: int = 2) -> tuple[Path, Folds]:
    """`root`/cases and the grid `root`/demo with every fold of `sets` finished; returns the grid and the folds."""
    folds = write_tiny_cases(root / "cases", n_folds=n_folds)
    for name in sets:
        channels = [channel for channel in MODALITIES if channel in name.split("_")]
        for fold in range(n_folds):
            write_tiny_fold(root / "demo", root / "cases", folds, channels, fold)
    return root / "demo", folds
