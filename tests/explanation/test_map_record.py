"""The two JSON files, against one written by hand in the order of their keys."""

import json
from pathlib import Path

import pytest
from helpers.occlusion_records import occlusion_record

from ricenet.errors import InvalidInput
from ricenet.explanation.map_record import OcclusionRecord, read_record

NUMBERS = {
    "drop_max": 0.1 + 0.2, "drop_min": -1e-9, "drop_max_world_mm": [1.5, -2.0, 3.25],
    "map_share": {"brain": 0.9, "lesion": None}, "brain_share": {"lesion": 0.02},
    "pointing": {"lesion": {"hit": False, "chance": 1 / 3}},
}  # fmt: skip
WHOLE = {
    "version": 2, "case_key": "c1", "split": "test", "modalities": "rd_event", "channels": ["event", "rd"],
    "label": "rice", "predicted": "recurrence", "probability": 0.7, "folds": [0, 1], "sign": "positive",
    "settings": {
        "cube_mm": 16.0, "stride_mm": 8.0, "refine_mm": None, "fill": {"rd": 1, "event": 0.5},
        "per_channel": True, "randomised": True, "curves": True, "precision": "bf16",
    },
    "method": "incremental, bf16", "logit_error": 0.01, "cube_voxels": [3, 3, 4], "stride_voxels": [2, 2, 2],
    "positions": 10, "cubes_run": 60,
    **NUMBERS, "dose_gy": {"weighted_by_map": None, "brain": 6.0},
    "per_channel": {"event": NUMBERS, "rd": NUMBERS | {"dose_gy": {"weighted_by_map": 1.0, "brain": 6.0}}},
    "channel_share": {"event": None, "rd": 1.0}, "fold_agreement": 0.4,
    "randomised": {"drop_max": 0.2, "pointing": {"lesion": {"hit": True, "chance": 0.5}}, "similarity": None},
    "curves": {
        "fraction": [0.0, 1.0], "deletion": [0.9, 0.2], "insertion": [0.2, 0.9], "deletion_random": [0.9, 0.3],
        "insertion_random": [0.3, 0.9], "deletion_area": 0.5, "insertion_area": 0.6, "deletion_random_area": 0.7,
        "insertion_random_area": 0.8,
    },
    "fingerprint": "0" * 64,
}  # fmt: skip
BARE = {name: value for name, value in WHOLE.items() if name != "dose_gy"} | {
    "per_channel": {}, "channel_share": {}, "fold_agreement": None, "randomised": None, "curves": None,
}  # fmt: skip


@pytest.mark.parametrize("content", [WHOLE, BARE])
def test_a_file_is_read_and_written_byte_by_byte(tmp_path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1) + "\n"
    (tmp_path / "occlusion.json").write_text(text)
    assert read_record(tmp_path).as_json() == text


def test_a_damaged_file_is_named_with_the_folder_to_remove(tmp_path: Path) -> None:
    folder = tmp_path / "rd_event" / "c1"
    folder.mkdir(parents=True)
    occlusion_record("c1").write(folder / "occlusion.json")
    text = (folder / "occlusion.json").read_text()
    (folder / "occlusion.json").write_text(text.replace('"drop_max": 0.4', '"drop_max": "much"'))
    with pytest.raises(InvalidInput, match=r"drop_max.*remove explanation/rd_event/c1, then explain") as error:
        read_record(folder)
    assert error.value.code == "record.damaged"


def test_what_is_written_is_what_was_made() -> None:
    record = occlusion_record("c1", curves=WHOLE["curves"], per_channel={"rd": NUMBERS})
    assert OcclusionRecord.model_validate_json(record.as_json()) == record
