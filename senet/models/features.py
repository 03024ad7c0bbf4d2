"""A network as a backbone: the maps of its stages instead of class scores."""

from __future__ import annotations

from torch import Tensor, nn

from senet.errors import InputError
from senet.models.net import Net

__all__ = ["Features"]


class Features(nn.Module):
    """The maps of a network, from fine to coarse, for detection, segmentation or probing; no head.

    Parameter names are the network's, so that its weights load with only what comes after the last map left over.

    Args:
        net: the network; what comes after the last map wanted is cut off from it.
        out_indices: which levels, in ascending order; level 0 is the stem. None means all.

    Attributes:
        feature_info: per returned map ``{"num_chs": channels, "reduction": stride, "module": name}``.

    Shapes: (N, in_chans, H, W) -> a list of (N, num_chs, H / reduction, W / reduction).

    Raises:
        InputError: an index that the network does not have, or indices that do not ascend.
    """

    def __init__(self, net: Net, out_indices: tuple[int, ...] | None = None) -> None:
        super().__init__()
        levels = len(net.feature_info)
        wanted = tuple(range(levels)) if out_indices is None else tuple(out_indices)
        if not wanted or any(i not in range(levels) for i in wanted) or list(wanted) != sorted(set(wanted)):
            raise InputError(
                f"out_indices is {list(wanted)}; accepted: one or more of {list(range(levels))}, each once, ascending"
            )
        self.config, self.loaded = net.config, net.loaded
        self.feature_info = [net.feature_info[i] for i in wanted]
        self._ends = frozenset(info["module"] for info in self.feature_info)
        _cut_after(net, self.feature_info[-1]["module"])
        for name, child in net.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        self._run(self, "", x, maps)
        return maps

    def _run(self, module: nn.Module, prefix: str, x: Tensor, maps: list[Tensor]) -> Tensor:
        for name, child in module.named_children():
            path = prefix + name
            inside = any(end.startswith(f"{path}.") for end in self._ends)
            x = self._run(child, f"{path}.", x, maps) if inside else child(x)
            if path in self._ends:
                maps.append(x)
        return x


def _cut_after(module: nn.Module, end: str) -> None:
    """Takes away the children after the one called ``end``, at every level on the way there."""
    name, _, rest = end.partition(".")
    names = [child for child, _ in module.named_children()]
    for later in names[names.index(name) + 1 :]:
        delattr(module, later)
    if rest:
        _cut_after(module.get_submodule(name), rest)
