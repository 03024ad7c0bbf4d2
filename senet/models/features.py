"""A network as a backbone: the maps of its stages instead of class scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.models.net import FeatureInfo, Net, run_checkpointed

__all__ = ["Features"]


class Levels(list[FeatureInfo]):
    """Description of a backbone's maps, level by level."""

    def channels(self) -> list[int]:
        """The channels of each map."""
        return [info["num_chs"] for info in self]

    def reduction(self) -> list[int]:
        """By how much each map is smaller than the image."""
        return [info["reduction"] for info in self]

    def module_name(self) -> list[str]:
        """The module that ends each level."""
        return [info["module"] for info in self]


class Features(nn.Module):
    """The maps of a network, from fine to coarse, for detection, segmentation or probing; no head.

    Parameter names are the network's, so that its weights load with only what comes after the last map left over.

    Args:
        net: the network; what comes after the last map wanted is cut off from it.
        out_indices: which levels, in ascending order; level 0 is the stem, -1 the last. None means all.

    Attributes:
        feature_info: per returned map ``{"num_chs": channels, "reduction": stride, "module": name}``; ``channels()``,
            ``reduction()`` and ``module_name()`` give one of these for all, as in timm.

    Shapes: (N, in_chans, H, W) -> a list of (N, num_chs, H / reduction, W / reduction).

    Raises:
        InputError: an index that the network does not have, or indices that do not ascend.
    """

    def __init__(self, net: Net, out_indices: tuple[int, ...] | None = None) -> None:
        super().__init__()
        levels = len(net.feature_info)
        given = tuple(range(levels)) if out_indices is None else tuple(out_indices)
        wanted = tuple(i + levels if -levels <= i < 0 else i for i in given)
        if not wanted or any(i not in range(levels) for i in wanted) or list(wanted) != sorted(set(wanted)):
            raise InputError(
                f"out_indices is {list(given)}; accepted: one or more of {list(range(levels))}, each once, ascending"
            )
        self.config, self.loaded, self.grad_checkpointing = net.config, net.loaded, net.grad_checkpointing
        self.feature_info = Levels(net.feature_info[i] for i in wanted)
        self._ends = frozenset(info["module"] for info in self.feature_info)
        _cut_after(net, self.feature_info[-1]["module"])
        for name, child in net.named_children():
            self.add_module(name, child)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As :meth:`senet.models.net.Net.set_grad_checkpointing`."""
        self.grad_checkpointing = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        again = self.grad_checkpointing and torch.is_grad_enabled()
        for level in self._levels(self, ""):
            if again:
                x = run_checkpointed(level, x)
            else:
                for module in level:
                    x = module(x)
            maps.append(x)
        return maps

    def _levels(self, module: nn.Module, prefix: str) -> list[list[nn.Module]]:
        """The modules that lead from each map to the next."""
        levels: list[list[nn.Module]] = [[]]
        for name, child in module.named_children():
            path = prefix + name
            if any(end.startswith(f"{path}.") for end in self._ends):
                first, *rest = self._levels(child, f"{path}.")
                levels[-1] += first
                levels += rest
            else:
                levels[-1].append(child)
            if path in self._ends:
                levels.append([])
        return levels if prefix else levels[:-1]


def _cut_after(module: nn.Module, end: str) -> None:
    """Takes away the children after the one called ``end``, at every level on the way there."""
    name, _, rest = end.partition(".")
    names = [child for child, _ in module.named_children()]
    for later in names[names.index(name) + 1 :]:
        delattr(module, later)
    if rest:
        _cut_after(module.get_submodule(name), rest)
