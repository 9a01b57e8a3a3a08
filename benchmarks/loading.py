"""How long does a training worker read one case of 3 x 224^3 voxels? Files in the page cache, one thread.

python benchmarks/loading.py        (two minutes, 4 GB of memory)

Writes outputs/bench/loading.json. Ours is what training calls for every case and epoch: the content box of the memory
map, float16; what is around it is 0, and the augmentation makes the whole of it. Peers hand out the whole in float32,
and so does the row `ours, whole in float32`. `in_ram` names those that need no file any more, because they keep every
case in memory.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import safetensors.torch
import torch
from bench import measure
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import Compose, ConcatItemsd, LoadImaged, RandFlipd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ricenet import MODALITIES
from ricenet.cases.case_reader import CaseVolumes
from ricenet.cohort.ready_cases import ReadyCase

ROUNDS = 7
SIZE = 224
CASE = ReadyCase("c0", "p0", 0, "cv", "c0")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    disk_mb = write_case(folder, head_like(np.random.default_rng(0)))
    nifti = {channel: folder / f"{channel}.nii.gz" for channel in MODALITIES}
    load = [LoadImaged(MODALITIES, ensure_channel_first=True), ConcatItemsd(MODALITIES, "volume")]
    # A random transform follows in training, and because of it CacheDataset copies what it keeps.
    training = Compose([*load, RandFlipd("volume", prob=0.0)])
    persistent = PersistentDataset([nifti], training, cache_dir=folder / "persistent")
    cached = CacheDataset([nifti], training, progress=False)
    persistent[0]
    mapped, in_ram = case_volumes(folder), case_volumes(folder, "ram")
    content = mapped.read(0)
    measure(
        "loading",
        lambda: mapped.read(0),
        {
            "ours, first read": lambda: case_volumes(folder).read(0),
            "ours, whole in float32": lambda: mapped.read(0).whole().float(),
            "ours, cache=ram": lambda: in_ram.read(0),
            "NIfTI, nibabel": partial(read_nifti, nifti),
            "NIfTI, MONAI LoadImaged": partial(Compose(load), nifti),
            "MONAI PersistentDataset": lambda: persistent[0],
            "MONAI CacheDataset": lambda: cached[0],
            "safetensors float16 to float32": lambda: read_safetensors(folder / "volume.safetensors"),
            "npy float16 to float32": lambda: torch.from_numpy(np.load(folder / "c0/volume.npy")).float(),
        },
        ROUNDS,
        volume=[len(MODALITIES), SIZE, SIZE, SIZE],
        content=list(content.voxels.shape),
        in_ram=["ours, cache=ram", "MONAI CacheDataset"],
        disk_mb=disk_mb | {"MONAI PersistentDataset": megabytes(folder, "persistent/*.pt")},
    )


def head_like(random: np.random.Generator) -> NDArray[np.float16]:
    """Two skull-stripped MRIs, an ellipsoid of 140 x 175 x 140 voxels each, and a dose that falls off to 0."""
    places = np.meshgrid(*[np.arange(SIZE, dtype=np.float32) - SIZE / 2] * 3, indexing="ij", sparse=True)
    inside = sum((place / radius) ** 2 for place, radius in zip(places, (70, 87.5, 70), strict=True)) < 1
    volume = np.zeros((len(MODALITIES), SIZE, SIZE, SIZE), np.float16)
    for channel in volume[:2]:
        smooth = gaussian_filter(random.standard_normal(inside.shape, np.float32), 4)
        noisy = smooth / smooth.std() + 0.1 * random.standard_normal(inside.shape, np.float32)
        channel[inside] = noisy[inside]
    distance = np.sqrt(sum((place - centre) ** 2 for place, centre in zip(places, (20, 10, 15), strict=True)))
    volume[2] = np.clip(1.3 - distance / 70, 0, 1)
    return volume


def write_case(folder: Path, volume: NDArray[np.float16]) -> dict[str, float]:
    """The same case in every format, and the size of each in MB."""
    case = folder / CASE.folder
    case.mkdir()
    np.save(case / "volume.npy", volume)
    (case / "case.json").write_text(json.dumps({"channels": MODALITIES, "spacing_mm": 1.0}))
    safetensors.torch.save_file({"volume": torch.from_numpy(volume)}, folder / "volume.safetensors")
    for channel, voxels in zip(MODALITIES, volume, strict=True):
        nibabel.save(nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)), folder / f"{channel}.nii.gz")
    patterns = {"NIfTI": "*.nii.gz", "npy float16": "c0/volume.npy", "safetensors float16": "*.safetensors"}
    return {name: megabytes(folder, pattern) for name, pattern in patterns.items()}


def megabytes(folder: Path, pattern: str) -> float:
    return round(sum(path.stat().st_size for path in folder.glob(pattern)) / 2**20, 1)


def case_volumes(folder: Path, cache: str = "none") -> CaseVolumes:
    return CaseVolumes(folder, [CASE], MODALITIES, cache)


def read_nifti(paths: dict[str, Path]) -> Tensor:
    images = [nibabel.Nifti1Image.from_filename(path) for path in paths.values()]
    return torch.from_numpy(np.stack([image.get_fdata(dtype=np.float32) for image in images]))


def read_safetensors(path: Path) -> Tensor:
    return safetensors.torch.load_file(path)["volume"].float()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
