"""ricenet: radiation-induced contrast enhancement or glioblastoma recurrence, from two MRIs and the radiotherapy dose.

Research use only. Every stage is a command, `python -m ricenet.<stage>`; stages meet at files and never import one
another. Notebooks use the names of `__all__` (docs/api.md); each is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ricenet.cases.case_reader import load_cases
    from ricenet.delivery.rtdose import read_dose
    from ricenet.delivery.treatment import combine_doses
    from ricenet.errors import InvalidInput
    from ricenet.images.volume import Volume, read_volume
    from ricenet.occlusion.occlusion_map import occlusion_map
    from ricenet.prediction.predictor import load_model, predict_case
    from ricenet.statistics.checked_arrays import calibrate, compare, macro_f1

__version__ = "0.1.0"

__all__ = [
    "InvalidInput",
    "Volume",
    "calibrate",
    "combine_doses",
    "compare",
    "load_cases",
    "load_model",
    "macro_f1",
    "occlusion_map",
    "predict_case",
    "read_dose",
    "read_volume",
]

# Channel order of every volume, batch and figure: post-OP MRI, event MRI, radiotherapy dose. A cohort's further MRIs,
# as far as its configs name any (ricenet.cohort.channels), come behind these.
MODALITIES = ("post", "event", "rd")
# Index = class id. Ground truth of the paper is biopsy; RICE is the positive class.
LABELS = ("recurrence", "rice")

# Where the public names live. Importing them all would take seconds, and every --help would wait for it.
_MODULES = {
    "InvalidInput": "ricenet.errors",
    "Volume": "ricenet.images.volume",
    "calibrate": "ricenet.statistics.checked_arrays",
    "combine_doses": "ricenet.delivery.treatment",
    "compare": "ricenet.statistics.checked_arrays",
    "load_cases": "ricenet.cases.case_reader",
    "load_model": "ricenet.prediction.predictor",
    "macro_f1": "ricenet.statistics.checked_arrays",
    "occlusion_map": "ricenet.occlusion.occlusion_map",
    "predict_case": "ricenet.prediction.predictor",
    "read_dose": "ricenet.delivery.rtdose",
    "read_volume": "ricenet.images.volume",
}


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'ricenet' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
