"""The names of a grid's rows: what is trained, written into the run folder's name and read from it again.

A name is `<set>[@<place>][+<addition>...][-<control>]`: the modality set (or the one model for all sets), where it is
cropped if its images do not tell, what the network starts from or sees besides its images, and the leakage control.
"""

from dataclasses import dataclass
from typing import Self

SHUFFLED_LABELS, METADATA_ONLY = CONTROLS = ("shuffled_labels", "metadata_only")
ONE_MODEL = "modality_dropout"
PLACES = ("lesion", "random")
NUMBERS = "numbers"  # the addition of a network that sees numbers of the case besides its images


@dataclass(frozen=True)
class RowName:
    """The parts of a row's name.

    Attributes:
        of_set: name of the modality set, of the one model for all sets, or of a row without images.
        place: one of PLACES, where the set is cropped at a place that its images do not tell; else empty.
        additions: NUMBERS, or whose weights the network starts from, in this order.
        control: one of CONTROLS, else empty.
    """

    of_set: str
    place: str = ""
    additions: tuple[str, ...] = ()
    control: str = ""

    def __str__(self) -> str:
        place = f"@{self.place}" if self.place else ""
        control = f"-{self.control}" if self.control else ""
        return "+".join([f"{self.of_set}{place}", *self.additions]) + control

    @classmethod
    def parse(cls, row: str) -> Self:
        """Read the name of a row; what follows @ or - and is no place or control belongs to the set's name."""
        name, _, control = row.rpartition("-")
        if not name or control not in CONTROLS:
            name, control = row, ""
        placed, *additions = name.split("+")
        of_set, _, place = placed.partition("@")
        if place not in PLACES:
            of_set, place = placed, ""
        return cls(of_set, place, tuple(additions), control)

    @property
    def is_set(self) -> bool:
        """Whether it is a modality set and nothing else."""
        return self.of_set != ONE_MODEL and not (self.place or self.additions or self.control)

    @property
    def start(self) -> str:
        """Whose weights the network starts from; empty where they are drawn at random."""
        return next((addition for addition in self.additions if addition != NUMBERS), "")

    @property
    def from_scratch(self) -> Self:
        """The same row with weights drawn at random."""
        kept = tuple(addition for addition in self.additions if addition == NUMBERS)
        return type(self)(self.of_set, self.place, kept, self.control)
