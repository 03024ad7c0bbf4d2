"""What surgery has found out about modules, for as long as there is room for it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from senet.surgery.trace import Traced

__all__ = ["Kept"]


class Kept(dict[nn.Module, Traced | None]):
    """What is known of modules, until it is forgotten: the oldest where values take more than 2 GiB together."""

    limit = 2 * 2**30

    def __setitem__(self, module: nn.Module, traced: Traced | None) -> None:
        super().__setitem__(module, traced)
        sizes = {other: _nbytes(its) for other, its in self.items() if its is not None}
        held = sum(sizes.values())
        for other, size in sizes.items():
            if held > self.limit and other is not module:
                del self[other]
                held -= size


def _nbytes(traced: Traced) -> int:
    return sum(value.nbytes for value in tree_leaves(list(traced.values.values())) if isinstance(value, Tensor))
