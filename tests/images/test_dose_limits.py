from dataclasses import asdict, replace

import numpy as np
import pytest

from ricenet.command.schemas import CONF_DIR, DoseLimitsConfig, IngestConfig, PreprocessConfig, VerifyConfig, compose
from ricenet.errors import InvalidInput, WrongUsage
from ricenet.images.dose_limits import (
    check_coverage,
    check_dose,
    check_highest,
    dose_warnings,
    limits_from,
    nearest_sum,
    percent_below,
    preset,
)
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


# Radiosurgery and few large fractions, as deliveries.md found them: maximum / prescription of 1.25 to 2.
STEREOTACTIC = [(40.0, 20, 1), (43.75, 35, 5), (41.7, 30, 5), (48.0, 24, 1)]


@pytest.mark.parametrize(("highest", "prescription_gy", "fractions"), STEREOTACTIC)
def test_stereotactic_treatments_pass_with_a_warning_or_by_the_key(highest, prescription_gy, fractions):
    check_highest(highest, prescription_gy, fractions)
    found = dose_warnings(highest, prescription_gy, fractions, case="case x")
    assert [each.code for each in found] == ["dose.per_fraction", "dose.stereotactic"]
    assert {(each.severity, each.channel, each.case) for each in found} == {("warning", "rd", "case x")}
    assert f"{prescription_gy / fractions:.3g} Gy per fraction, expected at most 3" in found[0].message
    assert f"{highest / prescription_gy:.2f} x the prescription" in found[1].message
    check_highest(highest, prescription_gy, fractions, preset("stereotactic"))
    assert dose_warnings(highest, prescription_gy, fractions, preset("stereotactic")) == []
    check_highest(highest, prescription_gy, None, preset("stereotactic"))


@pytest.mark.parametrize(
    ("highest", "prescription_gy", "fractions"),
    [
        (40.0, 20, None),  # nobody knows that it is one fraction
        (80.0, 60, 30),  # 2 Gy per fraction: no stereotactic treatment
        (50.0, 20, 1),  # 2.5 x
        (75.0, 60, 12),  # 5 Gy per fraction, not above
    ],
)
def test_stereotactic_limits_hold_by_themselves_only_above_5_gy_per_fraction(highest, prescription_gy, fractions):
    with pytest.raises(InvalidInput, match="dose_limits=stereotactic") as refused:
        check_highest(highest, prescription_gy, fractions)
    assert refused.value.code == "dose.not_as_prescribed"


@pytest.mark.parametrize(
    ("highest", "prescription_gy", "fractions", "codes"),
    [
        (64.0, 62, 5, ["dose.per_fraction"]),
        (36.0, 34, 10, ["dose.per_fraction"]),
        (31.0, 30, 10, []),
        (62.0, 60, 30, []),
        (42.0, 40.05, 15, []),
        (62.0, 62, None, []),
        (62.0, None, 5, []),
    ],
)
def test_a_high_dose_per_fraction_is_a_warning(highest, prescription_gy, fractions, codes):
    check_highest(highest, prescription_gy, fractions)
    assert [each.code for each in dose_warnings(highest, prescription_gy, fractions)] == codes


def test_every_stage_takes_the_presets_and_single_keys():
    for stage, schema, keys in (
        ("ingest", IngestConfig, ["delivery=d", "labels=l", "out=o"]),
        ("verify", VerifyConfig, ["cohort=c"]),
        ("preprocess", PreprocessConfig, ["cohort=c", "cases=d"]),
    ):
        assert limits_from(compose(stage, schema, keys).dose_limits) == preset()
        chosen = [*keys, "dose_limits=stereotactic", "dose_limits.highest_gy=110"]
        assert limits_from(compose(stage, schema, chosen).dose_limits) == replace(
            preset("stereotactic"), highest_gy=110
        )
    for path in (CONF_DIR / "dose_limits").glob("*.yaml"):
        assert preset(path.stem).name == path.stem
    with pytest.raises(InvalidInput, match="5-100 Gy, got 109"):
        check_highest(109, None, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"over_prescription": [0.8]}, r"got \[0.8\]"),
        ({"over_prescription": [1.2, 0.8]}, "over_prescription"),
        ({"highest_gy": 6000.0}, "highest_gy should lie between 5 and 500, got 6000"),
        ({"gy_per_fraction": 0.0}, "gy_per_fraction should be above 0"),
    ],
)
def test_limits_that_admit_no_treatment_are_refused(changed, said):
    with pytest.raises(WrongUsage, match=said):
        limits_from(DoseLimitsConfig(**asdict(preset()) | changed))
    with pytest.raises(WrongUsage, match="stereotactic, got 'sbrt'"):
        preset("sbrt")


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([30, 15], "48.0-72.0 Gy for a prescription of 60 Gy, got 45.0"),
        ([73, 15], "got 73.0"),
        ([1.5, 0.6], "one of 30 fractions"),
        ([6000, 15], "is it in cGy"),
        ([101, 15], "5-100 Gy, got 101"),
    ],
)
def test_parts_in_several_frames_are_judged_by_what_their_sum_can_be(parts, says):
    check_highest(nearest_sum([47, 15], 60), 60, 30)  # 47 to 62 Gy
    check_highest(nearest_sum([60, 21], 60), 60, 33)  # 60 to 81 Gy: they may lie apart
    check_highest(nearest_sum([46, 14], None), None, None)
    with pytest.raises(InvalidInput, match=says):
        check_highest(nearest_sum(parts, 60), 60, 30)
    with pytest.raises(InvalidInput, match="one fraction, or relative"):
        check_highest(nearest_sum([2, 1], None), None, None)


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
