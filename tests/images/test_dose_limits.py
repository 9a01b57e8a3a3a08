import numpy as np
import pytest

from ricenet.errors import InvalidInput
from ricenet.images.dose_limits import check_coverage, check_dose, percent_below
from ricenet.images.volume import Volume


def dose(highest: float, lowest: float = 0.0) -> Volume:
    voxels = np.linspace(lowest, highest, 8**3, dtype=np.float32).reshape(8, 8, 8)
    return Volume(voxels, np.eye(4))


@pytest.mark.parametrize(
    ("highest", "prescription_gy", "fractions"),
    [
        (62.0, 60, 30),
        (42.0, 40.05, 15),
        (62.0, None, None),
        (99.0, None, 30),
        (20.5, 20, 1),
        (71.9, 60, None),
        (48.1, 60, 30),
    ],
)
def test_whole_treatments_pass_unchanged(highest, prescription_gy, fractions):
    given = dose(highest)
    checked = check_dose(given, prescription_gy, fractions)
    np.testing.assert_array_equal(checked.voxels, given.voxels)


@pytest.mark.parametrize(
    ("given", "prescription_gy", "fractions", "says"),
    [
        (dose(6200), 60, 30, "got 6200; is it in cGy"),
        (dose(6200), None, None, "got 6200; is it in cGy"),
        (dose(2.05), 60, 30, "one of 30 fractions: multiply it by 30"),
        (dose(2.05), None, None, "one fraction, or relative"),
        (dose(6.8), 34, 5, "one of 5 fractions"),  # hypofractionated: a maximum that a whole treatment could have
        (dose(45), 60, 30, "48.0-72.0 Gy for a prescription of 60 Gy, got 45.0"),
        (dose(75), 60, 30, "got 75.0"),
        (dose(60, lowest=-0.5), 60, 30, "at least 0 Gy, got -0.5"),
    ],
)
def test_what_no_treatment_looks_like(given, prescription_gy, fractions, says):
    with pytest.raises(InvalidInput) as caught:
        check_dose(given, prescription_gy, fractions)
    assert says in str(caught.value)


def test_rounding_below_zero_is_cut_off():
    assert check_dose(dose(60, lowest=-0.05), 60, 30).voxels.min() == 0


def test_coverage():
    check_coverage(0.95)
    with pytest.raises(InvalidInput, match="dose grid covers 94% of the brain, at least 95% expected"):
        check_coverage(0.94)


@pytest.mark.parametrize(
    ("share", "text"), [(0.94, "94%"), (0.949, "94.9%"), (0.9496, "94.96%"), (0.0, "0%"), (0.94999999, "94.999999%")]
)
def test_a_share_below_its_limit_never_looks_like_the_limit(share: float, text: str) -> None:
    assert percent_below(share, 0.95) == text
    with pytest.raises(InvalidInput, match=f"^dose grid covers {text} of the brain, at least 95% expected"):
        check_coverage(share)
