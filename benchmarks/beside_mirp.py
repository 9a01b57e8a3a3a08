"""Do our numbers of a lesion equal those of MIRP? Solids and a phantom in; twelve numbers side by side out.

    python benchmarks/beside_mirp.py write /tmp/solids
    python -m venv /tmp/mirp && /tmp/mirp/bin/pip install mirp
    /tmp/mirp/bin/python benchmarks/beside_mirp.py compare /tmp/solids

Two steps, because MIRP (EUPL) brings another numpy: the first writes NIfTI and our numbers, the second reads them in an
environment of its own.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = {  # ours -> column of MIRP; the last is a variance
    "lesion_volume_ml": "morph_vol_approx",
    "lesion_sphericity": "morph_sphericity",
    **{name: f"stat_{name}" for name in ("mean", "min", "p10", "median", "p90", "max", "iqr")},
    "skewness": "stat_skew",
    "kurtosis": "stat_kurt",
    "sd": "stat_var",
}


def write(folder: Path) -> None:
    import nibabel as nib
    import numpy as np

    from ricenet.images.lesion_intensity import first_order
    from ricenet.images.lesion_shape import lesion_shape

    folder.mkdir(parents=True, exist_ok=True)
    ours = {}
    for name, mask, image, spacing_mm in solids():
        affine = np.diag([spacing_mm] * 3 + [1.0])
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / f"{name}-mask.nii.gz")
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), folder / f"{name}-image.nii.gz")
        shape = lesion_shape(mask, np.ones(mask.shape, dtype=bool), spacing_mm)
        ours[name] = shape | first_order(image.astype(np.float32)[mask])
    (folder / "ours.json").write_text(json.dumps(ours))


def solids() -> "Iterator[tuple]":
    """Name, mask, image and spacing: a ball and a shell in a noisy ramp, and the lesion found in a phantom."""
    import numpy as np

    from ricenet.images.enhancement import find_lesion
    from ricenet.phantoms.causal_model import draw_cohort
    from ricenet.phantoms.ready_volumes import draw_ready_volumes

    shape, spacing_mm = (48, 44, 40), 1.5
    places_mm = np.moveaxis(np.indices(shape), 0, -1) * spacing_mm - spacing_mm * (np.array(shape) - 1) / 2
    from_middle_mm = np.linalg.norm(places_mm, axis=-1)
    image = 40 + 0.5 * places_mm[..., 0] + np.random.default_rng(0).normal(size=shape)
    yield "ball", from_middle_mm <= 12, image, spacing_mm
    yield "shell", (from_middle_mm <= 18) & (from_middle_mm > 12), image, spacing_mm
    ready = draw_ready_volumes(draw_cohort(8, 5)[0], 64, 3.0)
    yield "phantom", find_lesion(ready.images, ready.brain, 3.0).mask, ready.images["event"], 3.0


def compare(folder: Path) -> None:
    from mirp import extract_features  # type: ignore[import-not-found]

    for name, ours in json.loads((folder / "ours.json").read_text()).items():
        theirs = extract_features(
            image=str(folder / f"{name}-image.nii.gz"),
            mask=str(folder / f"{name}-mask.nii.gz"),
            base_feature_families=["morphological", "statistics"],
        )[0].iloc[0]
        for number, prefix in NAMES.items():
            value = float(next(theirs[column] for column in theirs.index if column.startswith(prefix)))
            value = value / 1000 if number == "lesion_volume_ml" else value**0.5 if number == "sd" else value
            # MIRP gives volumes in mm3, a kurtosis in excess and a variance.
            print(f"{name} {number}: {ours[number]:.5f}, MIRP {value:.5f}, difference {ours[number] - value:+.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "compare"):
        sys.exit(__doc__)
    {"write": write, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
