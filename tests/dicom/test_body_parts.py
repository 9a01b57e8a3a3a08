"""A T1 of another part of the body is no image of a head, whatever its name says of contrast."""

import pytest

from ricenet.dicom.body_parts import shows_other_part
from ricenet.dicom.series_words import read_name, words_of


@pytest.mark.parametrize(
    "part", ["SELLA", "pituitary", "Hypophyse", "ipofisi", "ORBITS", "IAC", "KHBW", "cervical", "coluna", "rochers"]
)
def test_a_t1_of_another_part_of_the_body_is_no_head(part):
    assert read_name(f"COR T1 {part} POST").kind == "other"
    assert read_name(f"T1 brain and {part} post").kind == "t1"
    assert read_name("t1 orbitomeatal km").kind == "t1", "a plane"
    assert read_name("t1 cervello km").kind == "t1", "a brain"


@pytest.mark.parametrize(
    "name",
    ["T1 MPRAGE POST", "t1 head km", "T1 Hypothalamus", "t1 hippocampus", "T1 head and neck coil", "T1 interface"],
)
def test_a_name_of_a_head_shows_it(name):
    assert not shows_other_part(words_of(name))
