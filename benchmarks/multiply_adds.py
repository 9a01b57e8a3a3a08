"""What an incremental occlusion map could gain at best: multiply-adds of a forward pass over those of a position.

python benchmarks/multiply_adds.py      prints the bounds of docs/performance.md (seconds; nothing is timed)

Direct convolutions, no voxel answered that a cube cannot change, but for conv1, which answers all that the pool needs
for it. MONAI's resnet18, 3 channels, cube 16, stride 8.
"""

from collections import Counter

import numpy as np
from monai.networks.nets import resnet18

from ricenet.occlusion.folded_resnet import FoldedResNet, fold
from ricenet.occlusion.receptive_windows import Boxes, Voxels
from ricenet.occlusion.sensitivity import positions


def main() -> None:
    network = fold(resnet18(spatial_dims=3, n_input_channels=3, num_classes=2).eval())
    assert network is not None
    print("| volume | positions | forward pass, GMAC | position, GMAC | bound | of it conv1, layer1 to 4 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in (96, 128, 224):
        corner = positions([size] * 3, [16] * 3, [8] * 3)
        whole = sum(multiply_adds(network, whole_volume(size)).values())
        parts = multiply_adds(network, Boxes(corner, np.full_like(corner, 16), (size,) * 3))
        each = sum(parts.values())
        shares = ", ".join(f"{part / each:.0%}" for part in parts.values())
        print(
            f"| {size}^3 | {len(corner):,} | {whole / 1e9:,.0f} | {each / 1e9:.1f} | {whole / each:.1f}x | {shares} |"
        )


def whole_volume(size: int) -> Boxes:
    """A box that is all of it: what it can change is what a forward pass computes."""
    return Boxes(np.zeros((1, 3), dtype=np.int64), np.full((1, 3), size), (size,) * 3)


def multiply_adds(network: FoldedResNet, boxes: Boxes) -> dict[str, float]:
    """By stage, the mean over the boxes, each of them with its own windows."""
    total, stem = Counter[str](), network.stem
    conv1 = boxes.spread(stem.kernel, stem.step, stem.padding)
    boxes = conv1.spread(3, 2, 1)
    total["conv1"] = stem.weight.numel() * voxels(pooled_from(boxes, conv1.size))
    for number, block in enumerate(network.blocks):
        stage = f"layer{number // 2 + 1}"
        if block.shortcut is not None:
            total[stage] += block.shortcut.weight.numel() * voxels(boxes.spread(1, block.shortcut.step, 0))
        for conv in block.branch:
            boxes = boxes.spread(conv.kernel, conv.step, conv.padding)
            total[stage] += conv.weight.numel() * voxels(boxes)
    return {stage: float(count) for stage, count in total.items()}


def pooled_from(boxes: Boxes, size: Voxels) -> Boxes:
    """The voxels in front of the pool that it needs for boxes of its output."""
    first = np.maximum(2 * boxes.start - 1, 0)
    last = np.minimum(2 * (boxes.start + boxes.length) - 1, np.array(size) - 1)
    return Boxes(first, last - first + 1, size)


def voxels(boxes: Boxes) -> float:
    return float(boxes.length.prod(axis=1).mean())


if __name__ == "__main__":
    main()
