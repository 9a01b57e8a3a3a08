"""Write the model card of an exported model: model.json and evaluation.json in; Markdown out.

Its questions are those of Mitchell et al. 2019, Model Cards for Model Reporting (arXiv 1810.03993). What comes from
files is escaped; the text stands in modelcard.md.j2.
"""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from ricenet.display.markdown import escaped
from ricenet.display.words import channel_name, interval, number, percent, start_name
from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.prediction.model_json import ModelRecord
from ricenet.prediction.monai_bundle import PHANTOM, REFERENCES, RESEARCH_ONLY
from ricenet.prediction.training_range import describe
from ricenet.statistics.recalibration import DRAWS

BRAIN = {
    "auto": "HD-BET where the image has a skull, a stripped image as it is",
    "hdbet": "HD-BET",
    "hdbet2": "HD-BET, version 2",
    "mask": "a mask of the user's",
    "none": "what is not 0 in stripped images",
}


def model_card(model: ModelRecord, evaluation: Mapping[str, object]) -> str:
    """The text of docs/README.md; `evaluation`: the content of evaluation.json."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "display" / "templates"),
        undefined=jinja2.StrictUndefined,
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "percent": percent, "digits": lambda value: f"{value:.4g}"}
    return environment.get_template("modelcard.md.j2").render(
        model=model,
        evaluation=evaluation,
        warning=PHANTOM if model.cohort.phantom else "",
        research_only=RESEARCH_ONLY,
        references=REFERENCES,
        channels=" + ".join(map(channel_name, model.channels)),
        missing=[fold for fold in range(model.n_folds) if fold not in model.folds],
        start=None if model.pretrained is None else start_name(model.pretrained.source),
        brain=BRAIN[model.preprocessing.brain],
        scale_gy=DOSE_SCALE_GY,
        numbers=list(model.seen_numbers),
        seen=None if model.crop is None else model.crop.voxels(model.preprocessing.spacing_mm),
        draws=DRAWS,
        ranges=[(describe(name), measured) for name, measured in model.ranges.items()],
        interval=interval,
    )
