"""The maps that the modules of a model give when it runs, and which of them a block can take."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from senet.blocks import BLOCKS
from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.surgery.attaching.wrapper import Attached
from senet.surgery.graph.modules import evaluating, is_norm, replace
from senet.surgery.graph.ops import is_map
from senet.surgery.graph.run import Wide
from senet.surgery.graph.walk import Walk

__all__ = ["Given", "Maps"]

_BLOCKS: tuple[type[nn.Module], ...] = (Recalibrate, *BLOCKS.values())
_CHANNELS_SECOND = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.PixelShuffle,
)


@dataclass(frozen=True)
class Given:
    """Record of a call of a module and its output.

    Attributes:
        by: the module's path.
        plain: whether it was called with one tensor and nothing else.
        shape: of a tensor; None for anything else.
        value: equal for two calls that gave the same tensor with the same content.
    """

    by: str
    plain: bool
    shape: tuple[int, ...] | None
    value: tuple[int, int]


class Maps:
    """Outputs of a copy of a model in one run in float64, on a CPU, in evaluation; the model is not touched.

    Args:
        model: any module.
        example: what its forward takes; None: images of a size that it takes.

    Attributes:
        double: the copy.
        walk: over the model.
        calls: by path, in order.

    Raises:
        InputError: the model does not take the example, or cannot be copied.
    """

    def __init__(self, model: nn.Module, example: Sequence[Any] | None) -> None:
        self.walk = Walk(model, example, modes=(False,))
        self.double = self.walk.twin
        self._paths = {module: path for path, module in self.double.named_modules()}
        self._order: list[Given] = []
        self._seen: list[Any] = []
        heard = [m for m in self.double.modules() if not isinstance(m, torch.jit.ScriptModule)]
        hooks = [m.register_forward_hook(self._note, with_kwargs=True) for m in heard]
        try:
            self._run()
        finally:
            for hook in hooks:
                hook.remove()
        self.calls: defaultdict[str, list[Given]] = defaultdict(list)
        for given in self._order:
            self.calls[given.by].append(given)
        images = [a for a in self.walk.observed.example if is_map(a)]
        self._square = bool(images) and all(len(set(a.shape[2:])) == 1 for a in images)
        self._blocks = [path for path, m in self.double.named_modules() if isinstance(m, _BLOCKS)]
        self._gated = {given.value: path for path in self._blocks for given in self.calls[path]}

    def _run(self) -> None:
        example = tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, self.walk.observed.example)
        with evaluating(self.double), torch.no_grad(), Wide():
            self.double(*example)

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        plain = len(args) == 1 and isinstance(args[0], Tensor) and not kwargs
        # As long as it is kept, there is one weak reference to an object, and none to a later one is it.
        self._seen.append(weakref.ref(output) if isinstance(output, Tensor) else object())
        value = (id(self._seen[-1]), output._version if isinstance(output, Tensor) else 0)
        shape = tuple(output.shape) if isinstance(output, Tensor) else None
        self._order.append(Given(self._paths[module], plain, shape, value))

    def channels(self, path: str) -> int:
        """The channels of the map that a module gives."""
        shape = self.calls[path][0].shape
        assert shape is not None
        return shape[1]

    def refusal(self, path: str) -> str | None:
        """Returns the reason why a block cannot be put behind a module, or None."""
        calls, module = self.calls[path], self.double.get_submodule(path)
        if not path:
            return "it is the model itself; attach to torch.nn.Sequential(model)"
        if block := self._block_of(path, calls):
            return f"it has a block already, {block}; senet.detach(model) takes attached ones away"
        if not calls:
            return "it is not called when the model runs"
        if not all(given.plain for given in calls):
            return "it is called with more than one tensor; name a module inside it"
        shapes = {given.shape for given in calls}
        if wrong := [shape for shape in shapes if shape is None or not 3 <= len(shape) <= 5]:
            return f"it gives {wrong[0] or 'no tensor'}, not a map (N, C, ...) of one to three axes"
        if len({shape[1] for shape in shapes if shape is not None}) > 1:
            return "its calls give maps of different channels"
        if len(calls) > 1 and next(module.parameters(), None) is None:
            return f"it has no weights and is called {len(calls)} times, on maps that have nothing in common"
        return next(filter(None, map(self._channels_last, calls)), None)

    def _block_of(self, path: str, calls: Iterable[Given]) -> str | None:
        """The block that gave a module's map, follows it, or contains it."""
        parent, _, name = path.rpartition(".")
        wrapper = self.double.get_submodule(parent)
        if isinstance(wrapper, Attached) and name == "module":
            return f"{parent}.{wrapper.block_name}"
        around = [block for block in self._blocks if f"{path}.".startswith(f"{block}.")]
        gives = [self._gated[given.value] for given in calls if given.value in self._gated]
        return next(iter(around + gives), None)

    def is_channels_last(self, path: str) -> bool:
        """Whether a module that gives maps gives some with channels last."""
        return any(self._is_channels_second(given) is False for given in self.calls[path])

    def _channels_last(self, given: Given) -> str | None:
        """Returns the reason why a map's second dimension cannot be taken as its channels, or None."""
        known = self._is_channels_second(given)
        if known is None:
            return f"which dimension of its map {given.shape} is channels cannot be told; give another, square example"
        return None if known else f"its map {given.shape} has channels last; blocks take (N, C, ...)"

    def _is_channels_second(self, given: Given) -> bool | None:
        """Whether a map's second dimension is its channels; None where that cannot be told."""
        assert given.shape is not None
        _, first, *between, last = given.shape
        known = self._channels_second(given.by)
        # Of a square example, positions have sides alike.
        if known is None and self._square and between and (len({first, *between}) == 1) != (len({*between, last}) == 1):
            known = len({*between, last}) == 1
        if known is None:  # the last module before it that gave such a shape, and whose kind says which is which
            before = reversed(self._order[: self._order.index(given)])
            kinds = (self._channels_second(g.by) for g in before if g.shape == given.shape)
            known = next((kind for kind in kinds if kind is not None), None)
        return known

    def _channels_second(self, path: str) -> bool | None:
        """Whether channels come second in what a module gives, if its kind says so."""
        module = self.double.get_submodule(path)
        if isinstance(module, _CHANNELS_SECOND) or is_norm(module):
            return True
        return False if type(module) in (nn.Linear, nn.LayerNorm) else None

    def rehearse(self, paths: Iterable[str]) -> None:
        """Puts wrappers into the copy and runs it.

        Raises:
            InputError: the model does not run with them, or goes around some of them.
        """
        parts = {path: self.double.get_submodule(path) for path in paths}
        wrappers = {path: Attached(part, nn.Identity(), "identity") for path, part in parts.items()}
        reached: set[nn.Module] = set()
        for wrapper in wrappers.values():
            wrapper.register_forward_hook(lambda module, *_: reached.add(module))
        replace(self.double, {part: wrappers[path] for path, part in parts.items()})
        try:
            self._run()
        except Exception as error:  # whatever a forward does with a part of another class
            first = (str(error).strip().splitlines() or [""])[0]
            raise InputError(
                f"the model does not run with blocks at {', '.join(paths)} ({type(error).__name__}: {first}); "
                "choose other places"
            ) from error
        if missed := [path for path, wrapper in wrappers.items() if wrapper not in reached]:
            raise InputError(f"the model calls {missed[0]} by a way of its own, around a block; choose another place")
