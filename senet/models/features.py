"""A network as a backbone: the maps of its stages instead of class scores."""

from __future__ import annotations

from torch import Tensor, nn

from senet.errors import InputError
from senet.models.resnet import ResNet

__all__ = ["Features"]


class Features(nn.Module):
    """The maps of a network, from fine to coarse, for detection, segmentation or probing; no head.

    Parameter names are the network's, so that its weights load with only the head's left over.

    Args:
        net: a network whose children run in order and whose ``feature_info`` names the ones that end a level.
        out_indices: which levels, in ascending order; level 0 is the stem. None means all.

    Attributes:
        feature_info: per returned map ``{"num_chs": channels, "reduction": stride, "module": name}``.

    Shapes: (N, in_chans, H, W) -> a list of (N, num_chs, H / reduction, W / reduction).

    Raises:
        InputError: an index that the network does not have, or indices that do not ascend.
    """

    def __init__(self, net: ResNet, out_indices: tuple[int, ...] | None = None) -> None:
        super().__init__()
        levels = len(net.feature_info)
        wanted = tuple(range(levels)) if out_indices is None else tuple(out_indices)
        if not wanted or any(i not in range(levels) for i in wanted) or list(wanted) != sorted(set(wanted)):
            raise InputError(
                f"out_indices is {list(wanted)}; accepted: one or more of {list(range(levels))}, each once, ascending"
            )
        self.config = net.config
        self.feature_info = [net.feature_info[i] for i in wanted]
        self._ends = [str(info["module"]) for info in self.feature_info]
        for name, child in net.named_children():
            self.add_module(name, child)
            if name == self._ends[-1]:
                break

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for name, child in self.named_children():
            x = child(x)
            if name in self._ends:
                maps.append(x)
        return maps
