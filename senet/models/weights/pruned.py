"""Networks some of whose gates are constants: what stands in a gate's place, and how a file of weights says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["PRUNED", "ChannelScale", "as_pruned"]

PRUNED = "pruned"  # the entry in a file's information: paths of blocks that are gone


class ChannelScale(nn.Module):
    """A gate that is a constant: each channel of a map times its own number.

    Attributes:
        scale: buffer (C,), or (1,) for all channels.

    Shapes: (N, C, ...) -> (N, C, ...), with any axes of positions; dtype and memory format kept.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, u: Tensor) -> Tensor:
        return reference.scale(u, self.scale.view(-1, *(1,) * (u.ndim - 2)))

    def extra_repr(self) -> str:
        return f"channels={len(self.scale)}"


@contextmanager
def as_pruned(net: nn.Module, info: Mapping[str, Any], tensors: Mapping[str, Tensor], *, what: str) -> Iterator[None]:
    """Takes the blocks out of a network that a file's weights come without; puts them back if what follows fails.

    A block becomes an identity, or a :class:`ChannelScale` where the file has one for it.

    Args:
        net: changed in place.
        info: of the file.
        tensors: of the file.
        what: how an error calls the file.

    Raises:
        InputError: the file names no blocks of this network, or scales of another width.
    """
    paths = info.get(PRUNED, [])
    blocks = {path: module for path, module in net.named_modules() if isinstance(module, Recalibrate)}
    if not isinstance(paths, list) or not all(isinstance(path, str) and path in blocks for path in paths):
        raise InputError(f"{what} has weights without the blocks {str(paths)[:80]}, which are none of this network")
    before = {path: blocks[path] for path in paths}
    for path, block in before.items():
        _check_width(block, tensors.get(f"{path}.scale"), f"{what}: {path}.scale")
    try:
        for path, block in before.items():
            scale = tensors.get(f"{path}.scale")
            rest = nn.Identity() if scale is None else ChannelScale(scale.clone())
            net.set_submodule(path, rest.train(block.training))
        yield
    except BaseException:
        for path, block in before.items():
            net.set_submodule(path, block)
        raise


def _check_width(block: Recalibrate, scale: Tensor | None, what: str) -> None:
    """Refuses a scale that is not as wide as the gate was, where the layers that gave it say how wide that was."""
    wide = {len(p) for layer in block.last for p in block.get_submodule(layer).parameters()} - {1}
    if scale is not None and (scale.ndim != 1 or (wide and len(scale) not in wide | {1})):
        accepted = f"({', '.join(map(str, wide)) or 'channels'},)"
        raise InputError(f"{what} is {tuple(scale.shape)}; accepted: {accepted} or (1,); give the file of this network")
