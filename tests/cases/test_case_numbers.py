"""What a case has of NUMBERS, and that the numbers are those of its parts; docs/numbers.md is their table."""

from pathlib import Path

import numpy as np
import pytest
from helpers.solids import PLACES_MM, SHAPE, SPACING_MM, ball

from ricenet.cases.case_numbers import NUMBERS, dose_volume, names_of, numbers_of_case
from ricenet.errors import InvalidInput
from ricenet.images.enhancement import Lesion

BRAIN = ball(25)
LESION = Lesion(ball(9, (5, 0, 0)), "mask", None)
PAGE = Path(__file__).parents[2] / "docs" / "numbers.md"


def images(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    post, event = rng.normal(size=(2, *SHAPE))
    return {"post": post, "event": event + 3 * LESION.mask, "rd": 40 + 0.5 * PLACES_MM[..., 0]}


def test_a_whole_case_has_every_number_in_the_order_of_the_table() -> None:
    numbers = numbers_of_case(images(), BRAIN, SPACING_MM, LESION, 50.0, ball(5, (-15, 0, 0)))
    assert tuple(numbers) == tuple(number.name for number in NUMBERS)
    assert all(np.isfinite(list(numbers.values())))
    assert len(set(numbers)) == len(NUMBERS)
    assert (*names_of("dose_volume"), *names_of("lesion_dose"), *names_of("lesion_image")) == tuple(numbers)


def test_the_difference_is_event_minus_post_each_in_sd_of_the_brain() -> None:
    drawn = images()
    numbers = numbers_of_case(drawn, BRAIN, SPACING_MM, LESION, 50.0)
    scored = {role: (drawn[role] - drawn[role][BRAIN].mean()) / drawn[role][BRAIN].std() for role in ("post", "event")}
    difference = (scored["event"] - scored["post"])[LESION.mask]
    assert numbers["lesion_difference_mean"] == pytest.approx(difference.mean())
    assert numbers["lesion_event_max"] == pytest.approx(scored["event"][LESION.mask].max())
    rescaled = {**drawn, "event": 100 + 7 * drawn["event"]}
    assert numbers_of_case(rescaled, BRAIN, SPACING_MM, LESION, 50.0) == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("lacking", "absent"),
    [("rd", ("max_gy", "lesion_dose_mean_gy")), ("post", ("lesion_post_mean", "lesion_difference_sd"))],
)
def test_what_the_case_lacks_has_no_number(lacking: str, absent: tuple[str, ...]) -> None:
    given = {role: image for role, image in images().items() if role != lacking}
    numbers = numbers_of_case(given, BRAIN, SPACING_MM, LESION, 50.0)
    assert not set(absent) & numbers.keys()
    assert "lesion_event_mean" in numbers


def test_without_a_prescription_nothing_is_relative_to_one() -> None:
    numbers = numbers_of_case(images(), BRAIN, SPACING_MM, LESION, None)
    assert not [name for name in numbers if name.startswith(("lesion_share", "lesion_mm_inside", "lesion_field"))]
    assert "lesion_dose_mean_gy" in numbers


def test_without_a_lesion_only_the_brain_has_numbers() -> None:
    nothing = Lesion(np.zeros(SHAPE, dtype=bool), "none", 0.4)
    assert tuple(numbers_of_case(images(), BRAIN, SPACING_MM, nothing, 50.0)) == names_of("dose_volume")


def test_dose_volume_of_a_brain_of_four_voxels() -> None:
    dose = np.array([[[0.0, 25.0], [45.0, 62.0], [80.0, 80.0]]])
    brain = np.array([[[True, True], [True, True], [False, False]]])
    expected = {"max_gy": 62, "mean_gy": 33, "v20": 0.75, "v30": 0.5, "v40": 0.5, "v50": 0.25, "v60": 0.25}
    assert dose_volume(dose, brain) == expected


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_brain_and_a_dose_that_is_not_finite_are_refused(empty: bool) -> None:
    with pytest.raises(InvalidInput, match="finite dose") as error:
        dose_volume(np.full((2, 2, 2), np.nan), np.full((2, 2, 2), not empty))
    assert error.value.code == "dose.not_finite"


def test_the_page_has_the_table_of_the_numbers() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    expected = [
        f"| `{number.name}` | {number.unit} | {number.definition} | {number.ibsi or ''} |".replace("|  |", "| |")
        for number in NUMBERS
    ]
    assert [row for row in rows if row.count("|") == 5] == expected
