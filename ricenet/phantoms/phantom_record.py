"""What a phantom cohort says of itself: how it was made (phantom.json), what is true of a patient (truth/NNN.json)."""

from ricenet.command.records import Record


class PhantomRecord(Record):
    """phantom.json: the keys of conf/phantom.yaml by which a cohort was drawn; it is written last.

    Attributes:
        without_post, without_rd: share of the patients who have no post-OP MRI, no dose.
        difficulty: standard or hard.
    """

    patients: int
    format: str
    spacing_mm: float
    size: int
    case_spacing_mm: float
    folds: int
    seed: int
    swap_label_effects: bool
    without_post: float = 0.0
    without_rd: float = 0.0
    difficulty: str = "standard"


class TruthRecord(Record):
    """truth/NNN.json: one patient of a raw phantom cohort.

    Attributes:
        label: recurrence or rice.
        quantities: of ricenet.phantoms.causal_model.
        event_from_post: (4, 4) world map between the two scans' frames, RAS+ mm.
        brain, lesion, cavity: masks on the post-OP scan's grid, or of a patient without one the event's; paths
            relative to the cohort folder.
    """

    label: str
    quantities: dict[str, float]
    event_from_post: list[list[float]]
    brain: str
    lesion: str
    cavity: str
