"""Input channels that are computed from the stored ones: isodose levels, and event MRI minus post-OP MRI.

They are computed inside the network, so that everything that runs a network gives it the stored channels, and after the
augmentation, so that they stay true. Every voxel depends on that voxel alone: a blanked cube changes nothing outside it
(ricenet.occlusion.incremental_stem relies on it).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ricenet.images.dose_limits import DOSE_SCALE_GY
from ricenet.networks.input_settings import InputSettings


class ComputedInputs(nn.Module):
    """Append computed channels: (B, C, X, Y, Z) stored -> (B, C + computed, X, Y, Z). It has no weights.

    An isodose channel is sigmoid((dose - level) / edge): a soft step, 1 well above the level and 0 well below. The
    stored dose is in units of DOSE_SCALE_GY. The difference is of the stored, z-scored MRIs.

    Args:
        channels: names of the stored channels, in order.
        settings: which channels to compute; those whose parts are not in `channels` are left out.

    Attributes:
        count: how many channels are appended.
    """

    levels: Tensor

    def __init__(self, channels: Sequence[str], settings: InputSettings) -> None:
        super().__init__()
        levels_gy = settings.levels_gy(channels)
        self.count = len(settings.computed(channels))
        self._dose = channels.index("rd") if levels_gy else None
        self._pair = None
        if settings.has_difference(channels):
            self._pair = (channels.index("event"), channels.index("post"))
        self._edge = settings.isodose_edge_gy / DOSE_SCALE_GY
        # Not a division of tensors: on torch's meta device that imports its compiler, which takes seconds.
        levels = torch.tensor([gy / DOSE_SCALE_GY for gy in levels_gy], dtype=torch.float32)
        self.register_buffer("levels", levels, persistent=False)  # a setting: not among the weights

    def forward(self, volume: Tensor) -> Tensor:
        if volume.is_contiguous(memory_format=torch.channels_last_3d):  # and so is the result, without a copy
            return self._appended(volume.permute(0, 2, 3, 4, 1), self.levels, axis=4).permute(0, 4, 1, 2, 3)
        return self._appended(volume, self.levels.view(-1, 1, 1, 1), axis=1)

    def _appended(self, volume: Tensor, levels: Tensor, axis: int) -> Tensor:
        """Compute the channels along `axis`; `levels` broadcast along it."""
        parts = [volume]
        if self._dose is not None:
            above = volume.narrow(axis, self._dose, 1) - levels
            parts.append(above.div_(self._edge).sigmoid_())  # in place: a step may spend a tenth of its time here
        if self._pair is not None:
            event, post = (volume.narrow(axis, channel, 1) for channel in self._pair)
            parts.append(event - post)
        return torch.cat(parts, dim=axis)


class InputNetwork(nn.Module):
    """A network behind computed inputs: stored channels (B, C, X, Y, Z) in, logits out.

    Attributes:
        inputs: the computed channels.
        network: takes the stored channels and those.
    """

    def __init__(self, inputs: ComputedInputs, network: nn.Module) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = network

    def forward(self, volume: Tensor) -> Tensor:
        return self.network(self.inputs(volume))


def behind_inputs(network: nn.Module) -> nn.Module:
    """The part of `network` that has weights: itself, or what stands behind its computed inputs."""
    return network.network if isinstance(network, InputNetwork) else network
