"""The MNI152 average brain that nilearn ships: a native T1 of 1 mm without skull, its left the mirror of its right."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from ricenet.images.volume import Volume, read_volume


@cache
def mni152() -> Volume:
    """(197, 233, 189) voxels from 0 to 255; read only."""
    name = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    return read_volume(Path(str(files("nilearn") / "datasets" / "data" / name)))
