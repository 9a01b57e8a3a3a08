"""Made-up occlusion records and summaries, complete: what a test does not name has some plain value."""

from typing import Any

from ricenet.explanation.map_record import VERSION, OcclusionRecord, PointingSummary, SetSummary

SETTINGS = {
    "cube_mm": 16.0, "stride_mm": 8.0, "refine_mm": None, "fill": 0.0,
    "per_channel": False, "randomised": True, "curves": False, "precision": "fp32",
}  # fmt: skip


def occlusion_record(key: str, **changed: Any) -> OcclusionRecord:
    """A right prediction, one region, and none of what has to be asked for."""
    plain = {
        "version": VERSION, "case_key": key, "split": "cv", "modalities": "rd_event", "channels": ["event", "rd"],
        "label": "rice", "predicted": "rice", "probability": 0.8, "folds": [0], "sign": "positive: it needs it",
        "settings": SETTINGS, "method": "incremental, fp32", "logit_error": None,
        "cube_voxels": [4, 4, 4], "stride_voxels": [2, 2, 2], "positions": 100, "cubes_run": 90,
        "drop_max": 0.4, "drop_min": -0.1, "drop_max_world_mm": [1.0, 2.0, 3.0],
        "map_share": {"brain": 0.9, "lesion": 0.2}, "brain_share": {"lesion": 0.02},
        "pointing": {"lesion": {"hit": True, "chance": 0.1}}, "dose_gy": {"weighted_by_map": 40.0, "brain": 6.0},
        "per_channel": {}, "channel_share": {}, "fold_agreement": None, "randomised": None, "curves": None,
        "fingerprint": "f" * 64,
    }  # fmt: skip
    return OcclusionRecord(**{**plain, **changed})


def pointing_summary(hits: int, p: float) -> PointingSummary:
    """`hits` of 12 cases."""
    interval = (0.25, 0.75)
    return PointingSummary(n=12, hits=hits, rate=hits / 12, interval=interval, expected=2.4, chance=0.2, p=p)


def set_summary(**changed: Any) -> SetSummary:
    """12 cases of which nothing is known but what a test says."""
    plain = {
        "n": 12, "n_correct": 9, "settings": [SETTINGS], "methods": ["incremental, fp32"], "cases": [],
        "median_map_share": {}, "median_brain_share": {}, "median_channel_share": {}, "median_dose_gy": {},
        "median_fold_agreement": None, "pointing": {}, "randomised": None, "curves": None,
    }  # fmt: skip
    return SetSummary(**{**plain, **changed})
