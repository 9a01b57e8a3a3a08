"""What does a position of an occlusion map cost, and a whole map? MONAI's resnet18, 3 channels, cube 16, stride 8.

python benchmarks/occlusion.py [96] [128] [224]         (a quarter of an hour on two cores, 10 GB of memory)

Writes outputs/bench/occlusion_<size>.json and occlusion_<size>_bf16.json, CPU seconds a position on one thread, and
occlusion_map_<size>.json, seconds of a whole map on two. Ours answers a sample of the map's own batches, to which a
share of the clean pass is added. MONAI is sent to single cubes of it; captum begins at the corner and is stopped. Their
time is from the network's first call to its last answer: what they do before, behind and around it is not counted.
"""

import ctypes
import multiprocessing
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from bench import CPU, WALL, Clock, compare, extra_memory_gb
from monai.networks.nets import resnet18
from monai.visualize import OcclusionSensitivity
from multiply_adds import multiply_adds, whole_volume
from torch import Tensor, nn

from ricenet.occlusion.engines import prepare
from ricenet.occlusion.folded_resnet import fold
from ricenet.occlusion.incremental import IncrementalEngine
from ricenet.occlusion.receptive_windows import Boxes, Cubes, find_changes
from ricenet.occlusion.sensitivity import OcclusionPlan, drop_map, occlude, positions

CHANNELS, EDGE, STEP, BATCH = 3, 16, 8, 8
CUBE, STRIDE = (EDGE,) * 3, (STEP,) * 3
ROUNDS = {96: 4, 128: 3, 224: 2}  # a peer's pass takes half a minute at 224
SAMPLED = 6  # batches of a map
BF16_UP_TO = 128  # MONAI under autocast, which gains little
MAPS = (96, 224)
MADE = ((96, "dense"), (96, "brain"))  # whole; the others are projected from a sample
# Share of each axis that the ellipsoid spans: a brain of 140 x 175 x 140 mm in the paper's grid of 224 mm; and one that
# fills 40% of its grid, as where a grid is cut closely.
BRAINS = {"brain": (0.625, 0.78, 0.625), "brain of 40%": (0.873, 1.0, 0.873)}

Corner = tuple[int, ...]
Answers = dict[Corner, np.ndarray]  # (K,) float64 logits by the cube's lower corner
Run = tuple[float, Answers]  # seconds a position, and what was answered


def main(sizes: Sequence[int]) -> None:
    keep_freed_memory()
    for size in sizes:
        measured = ("ours", "MONAI") if size in MAPS else ()
        by_position(
            size, ROUNDS[size], extra_memory_gb={who: in_fresh_process(memory_gb, who, size) for who in measured}
        )
    for size in (size for size in sizes if size in MAPS):
        by_map(size, ROUNDS[size])


def keep_freed_memory() -> None:
    """Tell glibc, and take what the largest pass needs: on a VM fresh pages may cost a peer a third of its time."""
    mmap_max, trim_threshold = -4, -1
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, -1)
    torch.ones(7, 2**28)


def by_position(size: int, rounds: int, **facts: Any) -> None:
    """CPU seconds a position, one thread: ours in both precisions and the peers in turn."""
    torch.set_num_threads(1)
    network, volume = build_network(), noise(size)
    cubes = all_cubes(volume)
    clean_s, fp32 = timed(partial(prepare, network, volume, "fp32"), CPU)
    clean_bf16_s, bf16 = timed(partial(prepare, network, volume, "bf16"), CPU)
    chosen = cubes[sample(fp32, cubes)]
    places = [tuple(chosen.corner[len(chosen.corner) * (2 * turn + 1) // (2 * rounds)]) for turn in range(rounds)]
    works: dict[str, Callable[[int], Run]] = {
        "ours": lambda turn: by_ricenet(fp32, volume, chosen, CPU, clean_s / len(cubes.corner)),
        "ours bf16": lambda turn: by_ricenet(bf16, volume, chosen, CPU, clean_bf16_s / len(cubes.corner)),
        "MONAI": lambda turn: by_monai(network, volume, places[turn], CPU),
        "captum": lambda turn: by_captum(network, volume, CPU),
    }
    if size <= BF16_UP_TO:
        works["MONAI bf16"] = lambda turn: by_monai(network, volume, places[turn], CPU, torch.bfloat16)
    seconds, answers = in_turn(works, rounds)
    corner = by_ricenet(fp32, volume, cubes_at(volume, list(answers["captum"])), CPU)[1]
    gmac = count(network, volume, cubes, chosen)
    facts |= {
        "volume": list(volume.shape),
        "positions": len(cubes.corner),
        "sampled": len(chosen.corner),
        "gmac": gmac,
        "bound": gmac["forward pass"] / gmac["position"],
        "difference": {peer: difference(answers["ours"] | corner, answers[peer]) for peer in ("MONAI", "captum")},
        "range": spans(answers["ours"]),
        "load": os.getloadavg()[0],
    }
    peers = {who: each for who, each in seconds.items() if not who.startswith("ours")}
    for name, engine, clean in (("ours", fp32, clean_s), ("ours bf16", bf16, clean_bf16_s)):
        ratio = statistics.median(peers["MONAI"]) / statistics.median(seconds[name])
        compare(
            f"occlusion_{size}{name.removeprefix('ours').replace(' ', '_')}",
            seconds[name],
            peers,
            f"{CPU.unit} a position",
            **facts,
            of_bound=ratio / facts["bound"],
            clean_pass_s=clean,
            cache_gb=engine.cache_bytes / 1e9,
            error_of_range=max(difference(answers["ours"], answers[name])["logit"] / span for span in facts["range"]),
        )


def by_map(size: int, rounds: int) -> None:
    """Wall seconds of a whole map in fp32, two threads: all of the volume filled, and two skull-stripped ones."""
    torch.set_num_threads(2)
    network, maps = build_network(), dict[str, dict[str, float]]()
    places = len(positions((size,) * 3, CUBE, STRIDE))
    volumes = {"dense": noise(size)} | {name: noise(size) * inside(size, spans) for name, spans in BRAINS.items()}
    for name, volume in volumes.items():
        cubes = all_cubes(volume)
        cubes = cubes[np.flatnonzero(cubes.length[:, 0])]
        made = (size, name) in MADE
        seconds = (made_map if made else projected_map)(network, volume, cubes)
        gmac = count(network, volume, cubes, cubes)
        maps[name] = {
            "seconds": seconds,
            "made": made,
            "passes": len(cubes.corner),
            "filled": float((volume[0] != 0).float().mean()),
            "bound": places * gmac["forward pass"] / (gmac["forward pass"] + len(cubes.corner) * gmac["position"]),
        }
    middle = (size // 2,) * 3
    monai = [places * by_monai(network, volumes["dense"], middle, WALL)[0] for _ in range(rounds)]
    compare(
        f"occlusion_map_{size}",
        [maps["brain"]["seconds"]],
        {"MONAI, scaled up": monai},
        f"{WALL.unit} a map",
        volume=list(volumes["dense"].shape),
        positions=places,
        maps=maps,
        ratio_by_map={name: statistics.median(monai) / one["seconds"] for name, one in maps.items()},
        load=os.getloadavg()[0],
    )


def made_map(network: nn.Module, volume: Tensor, cubes: Cubes) -> float:
    plan = OcclusionPlan(CUBE, STRIDE, batch_size=BATCH)
    start = WALL.read()
    answers = occlude([network], volume, torch.zeros_like(volume), {"all": range(CHANNELS)}, plan)["all"]
    drop_map(answers)
    seconds = WALL.read() - start
    assert answers[0].passes == len(cubes.corner)
    return seconds


def projected_map(network: nn.Module, volume: Tensor, cubes: Cubes) -> float:
    clean_s, engine = timed(partial(prepare, network, volume), WALL)
    each_s, _ = by_ricenet(engine, volume, cubes[sample(engine, cubes)], WALL)
    return clean_s + each_s * len(cubes.corner)


def build_network() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(spatial_dims=3, n_input_channels=CHANNELS, num_classes=2).eval()


def noise(size: int) -> Tensor:
    return torch.randn(CHANNELS, size, size, size, generator=torch.Generator().manual_seed(0))


def inside(size: int, spans: tuple[float, float, float]) -> Tensor:
    """(X, Y, Z) bool, of an ellipsoid in the middle."""
    offsets = torch.meshgrid(*[(2 * torch.arange(size) + 1) / size - 1] * 3, indexing="ij")
    return sum((offset / span) ** 2 for offset, span in zip(offsets, spans, strict=True)) < 1


def all_cubes(volume: Tensor) -> Cubes:
    return cubes_at(volume, positions(volume.shape[1:], CUBE, STRIDE))


def cubes_at(volume: Tensor, corners: Any) -> Cubes:
    return find_changes((volume != 0).any(dim=0).numpy(), np.array(corners), CUBE)


def sample(engine: IncrementalEngine, cubes: Cubes) -> np.ndarray:
    """Rows of whole batches as the engine forms them, at even steps from those with small windows to the largest.

    Batches of cubes picked one by one would have unequal windows, and 1.2 (96) to 1.4 times (224) the work.
    """
    order = engine._by_window(cubes)
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    picked = ((np.arange(SAMPLED) + 0.5) / SAMPLED * len(batches)).astype(int)
    return np.concatenate([batches[number] for number in sorted(set(picked))])


def timed(work: Callable[[], Any], clock: Clock) -> tuple[float, Any]:
    start = clock.read()
    result = work()
    return clock.read() - start, result


def in_turn(works: dict[str, Callable[[int], Run]], rounds: int) -> tuple[dict[str, list[float]], dict[str, Answers]]:
    """Of each the seconds and all answers; rounds go forwards and backwards."""
    seconds, answers = {who: list[float]() for who in works}, {who: Answers() for who in works}
    for turn in range(rounds):
        for who in reversed(works) if turn % 2 else works:
            each_s, found = works[who](turn)
            seconds[who].append(each_s)
            answers[who] |= found
    return seconds, answers


def by_ricenet(engine: IncrementalEngine, volume: Tensor, cubes: Cubes, clock: Clock, clean_s: float = 0.0) -> Run:
    """`clean_s`: a position's share of the clean pass."""
    blank = torch.zeros_like(volume)
    seconds, found = timed(lambda: list(engine.logits(cubes, blank, range(CHANNELS), BATCH)), clock)
    corners = [tuple(corner) for rows, _ in found for corner in cubes.corner[rows].tolist()]
    logits = torch.cat([logits for _, logits in found]).numpy()
    return clean_s + seconds / len(corners), dict(zip(corners, logits, strict=True))


class Enough(Exception):
    """A peer has answered what it was asked."""


class Watched(nn.Module):
    """A network that keeps its answers, times them from its first call on, and ends its caller after so many."""

    def __init__(self, network: nn.Module, calls: int, clock: Clock, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network, self.calls, self.clock, self.dtype = network, calls, clock, dtype
        self.answers, self.begun, self.seconds = list[np.ndarray](), 0.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.begun = self.begun or self.clock.read()
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(x)
        self.answers.append(logits[0].double().numpy())
        self.seconds = (self.clock.read() - self.begun) / len(self.answers)
        if len(self.answers) == self.calls:
            raise Enough
        return logits


def by_monai(
    network: nn.Module, volume: Tensor, corner: Corner, clock: Clock, dtype: torch.dtype = torch.float32
) -> Run:
    """One cube, in a batch of one, which is its fastest here and needs least memory."""
    watched = Watched(network, 1, clock, dtype).eval()
    peer = OcclusionSensitivity(
        watched,
        mask_size=EDGE,
        n_batch=1,
        mode=0.0,
        overlap=1 - STEP / EDGE,
        activate=lambda y: y.softmax(1),
        verbose=False,
    )
    margin = (EDGE - 1) // 2  # it widens a box by so much
    with warnings.catch_warnings(action="ignore"), suppress(Enough):  # the way it indexes is deprecated
        peer(volume[None], b_box=[bound for low in corner for bound in (low + margin, low + EDGE - margin)])
    return watched.seconds, {corner: watched.answers[0]}


def by_captum(network: nn.Module, volume: Tensor, clock: Clock) -> Run:
    """The untouched volume, with which it begins, and its first cube."""
    from captum.attr import Occlusion

    watched = Watched(network, 2, clock).eval()
    with suppress(Enough):
        Occlusion(watched).attribute(volume[None], (CHANNELS, *CUBE), (CHANNELS, *STRIDE), baselines=0.0, target=0)
    return watched.seconds, {(0, 0, 0): watched.answers[1]}


def difference(ours: Answers, peer: Answers) -> dict[str, float]:
    """The largest of a logit and of a probability, over the positions of the peer."""
    pairs = torch.from_numpy(np.stack([[ours[corner], logits] for corner, logits in peer.items()]))
    return {
        "logit": float(pairs.diff(dim=1).abs().max()),
        "probability": float(pairs.softmax(2).diff(dim=1).abs().max()),
    }


def spans(answers: Answers) -> list[float]:
    """(K,) range of each logit over the positions."""
    return np.ptp(np.stack(list(answers.values())), axis=0).tolist()


def count(network: nn.Module, volume: Tensor, cubes: Cubes, chosen: Cubes) -> dict[str, float]:
    """10^9 multiply-adds of a forward pass, and of a position: all of them, and those of the sample."""
    folded, size = fold(network), tuple(volume.shape[1:])
    assert folded is not None
    boxes = {
        "forward pass": whole_volume(size[0]),
        "position": Boxes(cubes.start, cubes.length, size),
        "sampled position": Boxes(chosen.start, chosen.length, size),
    }
    return {what: round(sum(multiply_adds(folded, each).values()) / 1e9, 3) for what, each in boxes.items()}


def in_fresh_process(work: Callable[..., float], *arguments: Any) -> float:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def memory_gb(who: str, size: int) -> float:
    """Peak beyond what network and volume take: of ours with the clean pass and a batch, of MONAI with one position."""
    torch.set_num_threads(1)
    network, volume = build_network(), noise(size)
    middle = (size // 2,) * 3
    if who == "MONAI":
        return extra_memory_gb(lambda: by_monai(network, volume, middle, CPU))
    cubes = cubes_at(volume, [middle] * BATCH)
    return extra_memory_gb(lambda: by_ricenet(prepare(network, volume), volume, cubes, CPU))


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or list(ROUNDS))
