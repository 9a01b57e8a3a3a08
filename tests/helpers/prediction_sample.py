"""A made-up prediction.json, and a small case to show with it, for the tests of the page about a patient."""

import io
import json
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from PIL import Image

from helpers import rt_records
from ricenet.display.viewer import Layer
from ricenet.prediction.prediction_record import PredictionRecord, UnfitRecord

SHAPE = (40, 48, 36)
DOSE_AT, DROP_AT = (12, 30, 20), (26, 20, 17)


def prediction(**changed: Any) -> PredictionRecord:
    """Fit, RICE for all five models, calibrated to the other side of one half."""
    return PredictionRecord.model_validate_json(json.dumps(content() | changed))


def content() -> dict[str, Any]:
    """Of its prediction.json."""
    return {
        "version": 1,
        "case_key": "c0123456789ab",
        "fit": True,
        "model": {
            "name": "rd_post_event",
            "channels": ["post", "event", "rd"],
            "folds": [0, 1, 2, 3, 4],
            "digest": "ab12" * 16,
            "cohort": {"cases": 80, "patients": 79, "recurrence": 48, "rice": 32, "phantom": False},
            "evaluation": {
                "oof_macro_f1": 0.583,
                "oof_interval": [0.471, 0.684],
                "auroc": 0.632,
                "auroc_interval": [0.523, 0.751],
            },
        },
        "predicted": "rice",
        "probability": 0.7112,
        "folds": [0.81, 0.62, 0.73, 0.91, 0.55],
        "spread": 0.137,
        "votes": {"recurrence": 0, "rice": 5},
        "vote": "rice",
        "calibrated": {"probability": 0.443, "interval": [0.281, 0.612], "n": 80},
        "measures": [
            {
                "name": "dose_max_gy",
                "title": "Dose maximum",
                "unit": "Gy",
                "value": 71.43,
                "low": 60.12,
                "high": 69.04,
                "inside": False,
            },
            {
                "name": "brain_ml",
                "title": "Brain volume",
                "unit": "ml",
                "value": 1872.188,
                "low": 1203.0,
                "high": 1960.0,
                "inside": True,
            },
        ],
        "findings": [
            {
                "code": "range.dose_max_gy",
                "severity": "warning",
                "message": "the dose maximum lies above the training range",
                "hint": "check the dose's unit",
                "channel": "rd",
            }
        ],
        "occlusion": {
            "drop_max": 0.3012,
            "drop_min": -0.0512,
            "drop_max_world_mm": [-12.3, 4.5, 30.2],
            "map_share": {"dose_0_20": 0.11, "dose_above_54": 0.66, "dose_edge": 0.23},
            "brain_share": {"dose_0_20": 0.82, "dose_above_54": 0.04, "dose_edge": 0.09},
            "cube_mm": 16,
            "stride_mm": 8,
            "method": "incremental, fp32",
            "sign": "positive: the answer needs what is there",
        },
        "preprocessing": {"similarity": 1.1806, "rotation_degrees": 2.5594},
        "delivery": None,
        "versions": {"ricenet": "0.1.0", "torch": "2.13.0"},
        "seconds": 93.1,
    }


def delivery(refused: bool = False) -> dict[str, Any]:
    """What delivery.intake records of a DICOM delivery: a series taken, one that is broken, a dose of three used."""
    series = {
        "series": "s1a7d8e881a5d",
        "number": 3,
        "modality": "MR",
        "day": -21,
        "shape": [118, 140, 76],
        "spacing_mm": [1.8, 1.8, 3.0],
        "contrast": True,
        "in_the_frame_of_the_dose": False,
        "problem": None,
    }
    broken = series | {"series": "s404a5f2bd28c", "day": None, "contrast": False, "problem": "dicom.gap"}
    taken = {"series": "s1a7d8e881a5d", "reason": "rule 2: before radiotherapy", "candidates": ["s1a7d8e881a5d"]}
    return {
        **({} if refused else {"images": {"post": taken}}),
        "series": [series, broken],
        "rt_objects": rt_records.rt_objects(refused),
        **({} if refused else {"dose": rt_records.treatment()}),
    }


def unfit(**changed: Any) -> UnfitRecord:
    """The same case without a prediction."""
    common = ("version", "case_key", "model", "delivery", "versions")
    kept = {name: value for name, value in content().items() if name in common}
    finding = {
        "code": "dose.coverage",
        "severity": "error",
        "message": "the dose does not cover the brain",
        "hint": "check the planning image's frame of reference",
        "channel": "rd",
    }
    return UnfitRecord.model_validate_json(json.dumps(kept | {"fit": False, "findings": [finding]} | changed))


def world_from_voxel() -> np.ndarray:
    """Voxels of 4 mm, axes turned by 10 degrees about the third one."""
    turn, affine = np.deg2rad(10), np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= 4
    affine[:3, 3] = -61.7, -90.2, -62.9
    return affine


def _blob(at: tuple[int, ...], width: float, height: float) -> np.ndarray:
    grid = np.indices(SHAPE) - np.array(at)[:, None, None, None]
    return (height * np.exp(-(grid**2).sum(axis=0) / (2 * width**2))).astype(np.float32)


def brain() -> np.ndarray:
    """(X, Y, Z) bool, an ellipsoid."""
    size = np.array(SHAPE)[:, None, None, None]
    return (((np.indices(SHAPE) - (size - 1) / 2) / (0.42 * size)) ** 2).sum(axis=0) < 1


def layers() -> list[Layer]:
    """Two MRIs, a dose of up to 66 Gy at DOSE_AT, a map of up to .3 at DROP_AT and below 0 elsewhere."""
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.3, size=SHAPE).astype(np.float32)
    x = np.linspace(-2, 2, SHAPE[0], dtype=np.float32)[:, None, None]
    drop = _blob(DROP_AT, 3, 0.3) - _blob((14, 24, 17), 3, 0.1)
    return [
        Layer("post", "post-OP MRI", noise + x, "mri", -2.5, 2.5, "SD"),
        Layer("event", "event MRI", noise - x, "mri", -2.5, 2.5, "SD"),
        Layer("rd", "Dose", _blob(DOSE_AT, 5, 66), "dose", 0, 66, "Gy"),
        Layer("map", "Occlusion map", drop, "map", -0.3, 0.3, ""),
    ]


def structures() -> Layer:
    """Two balls: GTV around DOSE_AT, lesion around DROP_AT, which does not reach it."""
    masks = [_blob(at, 5, 1) > 0.6 for at in (DROP_AT, DOSE_AT)]
    bits = masks[0].astype(np.float32) + 2 * masks[1]
    return Layer("structures", "Structures", bits, "masks", 0, 4, "", ("lesion", "GTV"))


def position(voxel: tuple[int, ...]) -> np.ndarray:
    """(3,) world mm of a voxel."""
    return apply_affine(world_from_voxel(), voxel)


def picture() -> bytes:
    """A PNG in green."""
    stream = io.BytesIO()
    Image.new("RGB", (300, 200), "green").save(stream, "PNG")
    return stream.getvalue()
