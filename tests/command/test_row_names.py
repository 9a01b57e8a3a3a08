"""Names of rows: every part is read back as it was written, and other names are left as they are."""

import pytest

from ricenet.command.row_names import RowName
from ricenet.command.schemas import TrainConfig, compose

NAMES = {
    "rd_event": RowName("rd_event"),
    "rd@lesion": RowName("rd", "lesion"),
    "rd_post_event+numbers": RowName("rd_post_event", additions=("numbers",)),
    "rd_event+medicalnet-shuffled_labels": RowName("rd_event", additions=("medicalnet",), control="shuffled_labels"),
    "rd@random+medicalnet+numbers": RowName("rd", "random", ("medicalnet", "numbers")),
    "metadata_only": RowName("metadata_only"),
    "all-mine": RowName("all-mine"),
    "a@b": RowName("a@b"),
}


@pytest.mark.parametrize(("text", "name"), NAMES.items())
def test_a_name_is_read_back_as_it_was_written(text: str, name: RowName) -> None:
    assert RowName.parse(text) == name
    assert str(name) == text


def test_only_a_set_without_place_addition_or_control_is_a_set() -> None:
    assert [text for text, name in NAMES.items() if name.is_set] == ["rd_event", "metadata_only", "all-mine", "a@b"]
    assert not RowName.parse("modality_dropout").is_set


def test_the_same_row_from_scratch_keeps_its_numbers() -> None:
    name = RowName.parse("rd@random+medicalnet+numbers")
    assert name.start == "medicalnet"
    assert str(name.from_scratch) == "rd@random+numbers"
    assert name.from_scratch.start == ""


def test_a_training_is_named_by_its_config() -> None:
    keys = ["cases=/cases", "+modalities=rd", "crop=lesion", "crop.everywhere=true", "control=shuffled_labels"]
    assert RowName.parse(compose("train", TrainConfig, keys).row) == RowName("rd", "lesion", (), "shuffled_labels")
