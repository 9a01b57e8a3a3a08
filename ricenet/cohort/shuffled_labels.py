"""The leakage control control=shuffled_labels: folds in, the same folds with labels that say nothing out.

Whatever is trained and scored on them must end at chance. A higher score is a leak between the folds, or an error of
the evaluation. Run: python -m ricenet.train -m control=shuffled_labels +modalities=rd_event 'fold=range(5)'

The other control, metadata_only, is in ricenet.training.metadata_only.
"""

from dataclasses import replace

import numpy as np

from ricenet.cohort.folds import Folds
from ricenet.command.row_names import SHUFFLED_LABELS
from ricenet.errors import InvalidInput

_SHUFFLING = 1  # of the generators that a seed gives, so that nothing else draws the same


def shuffled(folds: Folds, seed: int) -> Folds:
    """The same folds and hash with other labels: shuffled within each fold, and within the test split.

    Labels move between patients with the same number of cases; those of one patient stay together. The order is that
    of `seed` alone: every fold and every row of a grid sees the same labels, and each fold keeps its class counts.

    Raises:
        InvalidInput: no label was changed.
    """
    from ricenet.statistics.chance import shuffled_labels

    rng = np.random.default_rng([seed, _SHUFFLING])
    label_of: dict[str, int] = {}
    for part in (*map(folds.validation, range(folds.n_folds)), folds.test()):
        # folds.hash leaves the order of cases.csv open, so that order must not decide.
        cases = sorted(part, key=lambda case: (case.patient_key, case.case_key))
        if cases:
            labels, patients = (
                np.array(column) for column in zip(*((c.label, c.patient_key) for c in cases), strict=True)
            )
            new = shuffled_labels(labels, patients, rng).tolist()
            label_of |= {case.case_key: label for case, label in zip(cases, new, strict=True)}
    cases = [replace(case, label=label_of[case.case_key]) for case in folds.cases]
    if cases == folds.cases:
        raise InvalidInput(
            f"control={SHUFFLED_LABELS}: seed={seed} leaves every label as it was",
            "choose another seed; a fold needs patients of both classes with the same number of cases",
            code="control.unchanged",
        )
    return replace(folds, cases=cases)
