"""Which channels are computed from the stored ones: the keys of conf/inputs, in run.json and model.json too."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import ConfigDict, Field

from ricenet.command.records import Record
from ricenet.command.schemas import InputsConfig
from ricenet.errors import WrongUsage

MAX_GY = 500.0
MAX_ISODOSES = 64
Gy = Annotated[float, Field(gt=0, le=MAX_GY)]


class InputSettings(Record):
    """Settings of ricenet.networks.computed_inputs.ComputedInputs.

    Attributes:
        isodoses_gy: Gy of the whole treatment; one channel per level, in sets with the dose.
        isodose_edge_gy: Gy, the softness of their edges.
        difference: whether event minus post is a channel, in sets with both.
        relative_dose: whether the network sees the dose as if every prescription were DOSE_SCALE_GY (60 Gy): a level in
            Gy is a share of the prescription then, and a stored 1 is all of it.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    isodoses_gy: Annotated[tuple[Gy, ...], Field(max_length=MAX_ISODOSES)]
    isodose_edge_gy: Gy
    difference: bool
    relative_dose: bool = False

    @classmethod
    def from_config(cls, config: InputsConfig) -> Self:
        """The settings that conf/inputs gives.

        Raises:
            WrongUsage: a level or an edge that is no dose, or too many levels.
        """
        for key, doses in {
            "isodoses_gy": config.isodoses_gy,
            "isodose_edge_gy": [config.isodose_edge_gy],
        }.items():
            impossible = [dose for dose in doses if not 0 < dose <= MAX_GY]
            if impossible:
                raise WrongUsage(f"inputs.{key} should be above 0 and at most {MAX_GY:g} Gy, got {impossible[0]:g}")
        if len(config.isodoses_gy) > MAX_ISODOSES:
            raise WrongUsage(
                f"inputs.isodoses_gy should have at most {MAX_ISODOSES} levels, got {len(config.isodoses_gy)}"
            )
        return cls(
            isodoses_gy=tuple(config.isodoses_gy),
            isodose_edge_gy=config.isodose_edge_gy,
            difference=config.difference,
            relative_dose=config.relative_dose,
        )

    def levels_gy(self, channels: Sequence[str]) -> tuple[float, ...]:
        """The isodose levels that a set of these stored channels has."""
        return self.isodoses_gy if "rd" in channels else ()

    def has_relative_dose(self, channels: Sequence[str]) -> bool:
        """Whether a set of these stored channels sees the dose relative to its prescription."""
        return self.relative_dose and "rd" in channels

    def has_difference(self, channels: Sequence[str]) -> bool:
        """Whether a set of these stored channels has event minus post."""
        return self.difference and {"post", "event"} <= set(channels)

    def of_the_dose(self, channels: Sequence[str]) -> list[bool]:
        """For each input of a network of these stored channels, stored and computed, whether it shows the dose."""
        stored = [channel == "rd" for channel in channels]
        return [*stored, *[True] * len(self.levels_gy(channels)), *[False] * self.has_difference(channels)]

    def computed(self, channels: Sequence[str]) -> list[str]:
        """What is appended to the stored `channels`, in order: names for readers."""
        from ricenet.images.dose_limits import DOSE_SCALE_GY  # here: status and evaluate --help start without numpy

        share = "dose above {:.0%} of the prescription"
        names = [
            share.format(level / DOSE_SCALE_GY) if self.relative_dose else f"dose above {level:g} Gy"
            for level in self.levels_gy(channels)
        ]
        return [*names, *(["event minus post"] if self.has_difference(channels) else [])]
