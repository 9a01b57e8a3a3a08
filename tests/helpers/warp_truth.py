"""TorchIO's spatial transforms, which the one-step warp must equal."""

import numpy as np
import torch
import torchio

SPACING_MM = 2.0


def by_torchio(transform: torchio.Transform, volume: torch.Tensor) -> torch.Tensor:
    affine = np.diag([SPACING_MM] * 3 + [1])
    return transform(torchio.ScalarImage(tensor=volume, affine=affine)).data
