"""Read the volumes of finished case folders for training, as float16, without the empty margin.

Volumes are memory-mapped, and only their content, the box of what is not 0, is copied; no NIfTI is touched. Run
`data.cache=ram` where the cases lie on a slow or shared disk: everything is read once, before the workers are forked,
which then share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ricenet.cases.case_record import Crop, read_case_record
from ricenet.cases.crop import Triple, Window, window_of
from ricenet.cohort.covariates import read_covariates
from ricenet.cohort.folds import lacking
from ricenet.cohort.ready_cases import ReadyCase, read_cases
from ricenet.command.memory import available_gb
from ricenet.errors import InvalidInput, WrongUsage, about
from ricenet.images.dose_limits import DOSE_SCALE_GY

DOSE = "rd"


@dataclass(frozen=True)
class Content:
    """The part of a volume that is not 0.

    Attributes:
        voxels: (C, x, y, z) float16.
        start: its first voxel in the volume; below 0, or reaching beyond `shape`, where the volume is a crop, as the
            content beyond it is what augmentation can turn into it.
        shape: (X, Y, Z) of the volume.
    """

    voxels: Tensor
    start: Triple
    shape: Triple

    def whole(self) -> Tensor:
        """The volume (C, X, Y, Z) float16; 0 around the content."""
        return cut(self.voxels, [-first for first in self.start], self.shape)

    def moved(self, by: Sequence[int]) -> "Content":
        """The content of a volume that begins so many voxels further on."""
        x, y, z = (first - step for first, step in zip(self.start, by, strict=True))
        return replace(self, start=(x, y, z))


def cut(voxels: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The box (C, *shape) of (C, x, y, z) that begins at the voxel `start`, a copy; 0 beyond what there is."""
    result = torch.zeros(len(voxels), *shape, dtype=voxels.dtype, device=voxels.device)
    inside, outside = Window((start[0], start[1], start[2]), (shape[0], shape[1], shape[2])).shared(voxels.shape[1:])
    result[(slice(None), *inside)] = voxels[(slice(None), *outside)]
    return result


class CaseVolumes:
    """The wanted channels of a table of cases, by index.

    Args:
        may_lack: whether a case may lack some of the channels (not all): they are read as 0 then, see `present`.
        windows: the crop of each case; None: whole volumes.
        margin: voxels around a crop that are kept as its content, too.
        relative_dose: whether the dose is read relative to each case's prescription (dose_factors).

    Attributes:
        some_lack: whether one does.
        shape: (X, Y, Z) of every volume, of a crop where there are windows.

    Raises:
        InvalidInput: a case folder is not finished, lacks a channel, or has another grid than the others.
        WrongUsage: cache="ram" needs more memory than there is.
    """

    def __init__(
        self,
        cases: Path,
        table: Sequence[ReadyCase],
        channels: Sequence[str],
        cache: str = "none",
        may_lack: bool = False,
        windows: Sequence[Window] | None = None,
        margin: int = 0,
        relative_dose: bool = False,
    ) -> None:
        find = _find_present if may_lack else find_case
        self.places: list[tuple[Path, Sequence[int | None]]] = [find(cases, case, channels) for case in table]
        self.dose = channels.index(DOSE) if relative_dose else None
        self.factors = dose_factors(cases, table) if relative_dose else []
        self.some_lack = any(None in rows for _, rows in self.places)
        self.boxes: dict[int, tuple[slice, ...]] = {}
        self.kept: list[Content] = []
        self.grid = self._one_grid(table)
        self.windows, self.margin = windows, margin
        self.shape = windows[0].shape if windows else self.grid
        if cache == "ram":
            self.require_memory("ram")
            self.kept = [self.read(i) for i in tqdm(range(len(table)), "cases into memory", leave=False, disable=None)]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> Content:
        """The content of one case; shared with later calls where it is cached: do not change it in place."""
        if self.kept:
            return self.kept[index]
        path, rows = self.places[index]
        volume = np.load(path, mmap_mode="r")
        if index not in self.boxes:
            self.boxes[index] = self._content_box(index, volume, [row for row in rows if row is not None])
        box = self.boxes[index]
        absent = np.zeros([side.stop - side.start for side in box], volume.dtype)
        voxels = np.stack([absent if row is None else volume[row][box] for row in rows])
        if self.dose is not None:
            voxels[self.dose] *= volume.dtype.type(self.factors[index])
        first = self.windows[index].start if self.windows else (0, 0, 0)
        x, y, z = (side.start - before for side, before in zip(box, first, strict=True))
        return Content(torch.from_numpy(voxels), (x, y, z), self.shape)

    def framed(self, index: int) -> tuple[Tensor, Triple]:
        """The content of one case in a box that is equally large for all, and the box's first voxel in the volume.

        A box of whole volumes begins at their first voxel.
        """
        content = self.read(index)
        if not self.windows:
            return content.whole(), (0, 0, 0)
        x, y, z = (min(n + 2 * self.margin, length) for n, length in zip(self.shape, self.grid, strict=True))
        return cut(content.voxels, (0, 0, 0), (x, y, z)), content.start

    def _content_box(self, index: int, volume: NDArray[np.float16], rows: Sequence[int]) -> tuple[slice, ...]:
        """The box of a case that is read: what is not 0, as far as it lies around the case's crop."""
        if not self.windows:
            return _content_box(volume, rows)
        window, margin = self.windows[index], self.margin
        near = tuple(
            slice(min(max(first - margin, 0), length - 1), max(min(first + n + margin, length), 1))
            for first, n, length in zip(window.start, window.shape, self.grid, strict=True)
        )
        box = _content_box(volume[(slice(None), *near)], rows)
        return tuple(
            slice(side.start + part.start, side.start + part.stop) for side, part in zip(near, box, strict=True)
        )

    def present(self, index: int) -> list[bool]:
        """Per channel, whether the case has it."""
        return [row is not None for row in self.places[index][1]]

    def _one_grid(self, table: Sequence[ReadyCase]) -> Triple:
        maps = [np.load(path, mmap_mode="r") for path, _ in self.places]
        shapes = {volume.shape[1:]: case.case_key for volume, case in zip(maps, table, strict=True)}
        if len(shapes) > 1:
            grids = "; ".join(f"{shape} (e.g. case {key})" for shape, key in shapes.items())
            raise InvalidInput(
                f"cases have different grids: {grids}", "preprocess all with one size and spacing", code="cases.grids"
            )
        return next(iter(shapes))

    def require_memory(self, cache: str) -> None:
        """Refuse data.cache=`cache` where not all volumes fit into the machine's memory; raises WrongUsage."""
        path, rows = self.places[0]
        volume = np.load(path, mmap_mode="r")
        sides = [min(n + 2 * self.margin, length) for n, length in zip(self.shape, self.grid, strict=True)]
        need = len(self) * len(rows) * prod(sides) * volume.itemsize / 2**30
        if need > available_gb():
            raise WrongUsage(
                f"data.cache={cache} needs up to {need:.1f} GB for {len(self)} cases, {available_gb():.1f} GB are "
                "free; use data=cohort"
            )


def find_case(cases: Path, case: ReadyCase, channels: Sequence[str]) -> tuple[Path, list[int]]:
    """One case's volume.npy, (all its channels, X, Y, Z) float16, and the rows of the wanted `channels` in it.

    Raises:
        InvalidInput: the case folder is not finished, or lacks a channel.
    """
    available = read_case_record(cases, case).channels
    missing = [channel for channel in channels if channel not in available]
    if missing:
        with about(case.name):
            raise InvalidInput(
                f"has no channel {', '.join(missing)}, only {', '.join(available)}",
                "preprocess a cohort with that modality or choose +modalities= without it",
                code="case.channels",
            )
    return cases / case.folder / "volume.npy", [available.index(channel) for channel in channels]


def _find_present(cases: Path, case: ReadyCase, channels: Sequence[str]) -> tuple[Path, list[int | None]]:
    """As find_case, with None for each channel that a partial cohort's table says the case lacks."""
    kept = [channel for channel in channels if not lacking(case, [channel])]
    path, rows = find_case(cases, case, kept)
    row_of = dict(zip(kept, rows, strict=True))
    return path, [row_of.get(channel) for channel in channels]


def load_case(cases: Path, case: ReadyCase, channels: Sequence[str]) -> NDArray[np.float32]:
    """Read the wanted channels of one case: (C, X, Y, Z) float32, in the order of `channels`; raises as find_case."""
    path, rows = find_case(cases, case, channels)
    return np.load(path, mmap_mode="r")[rows].astype(np.float32)


def read_prescriptions(cases: Path) -> Mapping[str, float]:
    """The prescription of the whole treatment in Gy by case key, of the cases of which covariates.csv says it."""
    covariates = read_covariates(cases, [case.case_key for case in read_cases(cases)])
    return {} if covariates is None else covariates.numbers.get("prescription_gy", {})


def dose_factors(cases: Path, table: Sequence[ReadyCase]) -> list[float]:
    """By what the dose of each case is multiplied to be relative to its prescription: DOSE_SCALE_GY / prescription.

    1 for a case of a partial cohort that has no dose.

    Raises:
        InvalidInput: a case without a prescription in covariates.csv (`dose.no_prescription`), naming the first.
    """
    prescriptions = read_prescriptions(cases)
    dosed = [case for case in table if not lacking(case, [DOSE])]
    without = [case for case in dosed if case.case_key not in prescriptions]
    if without:
        with about(without[0].name):
            raise InvalidInput(
                f"inputs.relative_dose=true needs prescription_gy, {len(without)} of {len(dosed)} cases have none",
                "choose inputs.relative_dose=false, or fill the column prescription_gy of cohort.csv and run python -m "
                "ricenet.preprocess again (its covariates= has to name the column)",
                code="dose.no_prescription",
            )
    factors = {case.case_key: DOSE_SCALE_GY / prescriptions[case.case_key] for case in dosed}
    return [factors.get(case.case_key, 1.0) for case in table]


def load_seen(
    cases: Path, case: ReadyCase, channels: Sequence[str], crop: Crop | None = None, relative_dose: bool = False
) -> NDArray[np.float32]:
    """Read what a network of these channels sees of one case, all or the crop; raises as load_case, dose_factors."""
    volume = load_case(cases, case, channels)
    if relative_dose:
        volume[channels.index(DOSE)] *= dose_factors(cases, [case])[0]
    return volume if crop is None else window_of(cases, case, channels, crop).cut(volume)


@dataclass(frozen=True)
class LoadedCase:
    """One case of a cases folder, its volume still on disk.

    Attributes:
        case_key: pseudonym of the case.
        patient_key: pseudonym of the patient; cases of one patient share it.
        label: 0 recurrence, 1 rice.
        split: cv or test.
        channels: of `volume`, in its order.
        world_from_voxel: (4, 4) RAS+ mm, of the grid that all channels share.
        path: of volume.npy.
    """

    case_key: str
    patient_key: str
    label: int
    split: str
    channels: tuple[str, ...]
    world_from_voxel: NDArray[np.float64]
    path: Path = field(repr=False)
    rows: list[int] = field(repr=False)

    def volume(self) -> NDArray[np.float32]:
        """Read (C, X, Y, Z): MRI z-scored inside the brain and 0 outside, dose in Gy / 60."""
        return np.load(self.path, mmap_mode="r")[self.rows].astype(np.float32)


def load_cases(folder: Path | str, channels: Sequence[str] | None = None) -> list[LoadedCase]:
    """List the cases of a cases folder, as ricenet.preprocess and ricenet.phantom write it, ordered by case key.

    Args:
        folder: with cases.csv.
        channels: which channels of each volume, and in which order; None: all that the case has.

    Raises:
        InvalidInput: no cases.csv, or a case that is unfinished or lacks one of `channels`.
    """
    return [_load(Path(folder), case, channels) for case in read_cases(Path(folder))]


def _load(cases: Path, case: ReadyCase, channels: Sequence[str] | None) -> LoadedCase:
    record = read_case_record(cases, case)
    chosen = record.channels if channels is None else tuple(channels)
    path, rows = find_case(cases, case, chosen)
    return LoadedCase(case.case_key, case.patient_key, case.label, case.split, chosen, record.affine, path, rows)


def case_spacing_mm(cases: Path, case: ReadyCase) -> float:
    """Isotropic voxel size of a case's grid in mm."""
    return read_case_record(cases, case).spacing_mm


def _content_box(volume: NDArray[np.float16], rows: Sequence[int]) -> tuple[slice, ...]:
    """The smallest box that holds every voxel that is not 0 in one of the rows; one voxel where all are 0."""
    inside = np.zeros(volume.shape[1:], dtype=bool)
    for row in rows:
        inside |= volume[row].view(np.uint16) << 1 != 0  # without the sign bit: numpy compares halves slowly
    return tuple(_extent(np.any(inside, axis=others)) for others in ((1, 2), (0, 2), (0, 1)))


def _extent(occupied: NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(occupied)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 1)
