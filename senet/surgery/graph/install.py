"""Gives a module another forward, and its own back: by its class, so that nothing in it changes.

The module stays the same object with the same parts, parameters, hooks and state_dict, and an instance of the class
it was of. The other forward runs only while everything is as it was when it was read: the arguments, the values of
Python that the forward asks for, and the parts it goes around. Else the original forward runs.
"""

from __future__ import annotations

import copy
import copyreg
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from senet.errors import InputError
from senet.surgery.graph.calls import Call
from senet.surgery.graph.written import Function, Variant, function_of, guard_of

__all__ = ["Rewritten", "class_of", "give_back", "put_in", "put_same_in", "restore"]

_everywhere = nn.modules.module


@dataclass(frozen=True)
class _Written:
    """A variant as functions: whether it holds for a module, and what it computes."""

    call: Call
    holds: Function
    run: Function


class Rewritten(nn.Module):
    """A module whose forward was rewritten; mixed into its class.

    Attributes:
        original: the class.
        written: the rewritten forwards, the first that holds runs.
        plain: whether they are of PyTorch's own operators alone. Then a pickle holds them too, and torch.func and
            tracers see through them; else a pickle holds a module of the original class, which computes the same.
        otherwise: the error where none holds; None: the original forward runs.
    """

    original: type[nn.Module]
    written: tuple[_Written, ...]
    plain: bool
    otherwise: str | None

    def rewritten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Callable[..., Any], list[Any]] | None:
        """The rewritten forward for a call, and its tensors; None where the original one is to run."""
        if not self.plain and not torch.compiler.is_compiling() and _is_transformed():
            return None
        for written in self.written:
            tensors = written.call.match(args, kwargs, proxies=self.plain)
            if tensors is not None and written.holds.call(self, *tensors):
                return written.run.call, tensors
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        kind = type(self)
        self.__class__ = self.original  # type: ignore[assignment]
        try:  # as its own class makes copies
            twin = copy.deepcopy(self, memo)
        finally:
            self.__class__ = kind
        twin.__class__ = (
            kind if type(twin) is kind.original else _make_class(type(twin), kind.written, kind.plain, kind.otherwise)
        )
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.plain:
            return _restored, (self.original, self.written, self.otherwise), self.__getstate__()
        # Not copyreg.__newobj__: pickle insists that it be given the object's own class.
        return copyreg._reconstructor, (self.original, object, None), self.__getstate__()  # type: ignore[attr-defined]


def _is_transformed() -> bool:
    """Whether functions of torch.func, forward-mode derivatives or hooks on all modules look at what is computed.

    Hooks that count what a fused module itself does say so by an attribute, ``counts_as_it_is``.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0:
        return True
    hooks = (*_everywhere._global_forward_hooks.values(), *_everywhere._global_forward_pre_hooks.values())
    return bool(hooks) and not all(getattr(hook, "counts_as_it_is", False) for hook in hooks)


def put_in(
    module: nn.Module, variants: Sequence[Variant], *, plain: bool = False, otherwise: str | None = None
) -> None:
    """Makes a module run rewritten forwards where they hold.

    Args:
        module: changed by its class alone.
        variants: forwards that were traced from it and rewritten.
        plain: whether they are of PyTorch's own operators alone.
        otherwise: the error where none holds; None: the original forward runs.
    """
    assert not isinstance(module, Rewritten)
    hooks, name = otherwise is None, type(module).__name__
    written = tuple(
        _Written(v.call, guard_of(module, v, hooks=hooks, class_of=class_of), function_of(v.graph, name))
        for v in variants
    )
    module.__class__ = _make_class(type(module), written, plain, otherwise)


def put_same_in(module: nn.Module, like: nn.Module) -> None:
    """Makes a module run the rewritten forwards of another of its kind."""
    assert isinstance(like, Rewritten)
    assert like.original is type(module)
    module.__class__ = type(like)


def give_back(module: nn.Module) -> None:
    """Gives a rewritten module its class back."""
    assert isinstance(module, Rewritten)
    module.__class__ = module.original  # type: ignore[assignment]


def restore(model: nn.Module) -> None:
    """Gives every rewritten module below a model, and the model, its class back."""
    for module in model.modules():
        if isinstance(module, Rewritten):
            give_back(module)


def _make_class(
    original: type[nn.Module], written: tuple[_Written, ...], plain: bool, otherwise: str | None
) -> type[Rewritten]:
    @functools.wraps(original.forward)  # for its signature, by which torch.export names inputs
    def forward(self: Rewritten, *args: Any, **kwargs: Any) -> Any:
        chosen = self.rewritten(args, kwargs)
        if chosen is None:
            if otherwise is not None:
                raise InputError(otherwise)
            return original.forward(self, *args, **kwargs)
        run, tensors = chosen
        return run(self, *tensors)

    namespace: dict[str, Any] = {
        "original": original,
        "written": written,
        "plain": plain,
        "otherwise": otherwise,
        "forward": forward,
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    if issubclass(original, fx.GraphModule):
        namespace["recompile"] = _recompile
    return type(original.__name__, (Rewritten, original), namespace)


def _recompile(self: Any) -> Any:
    """Lets a GraphModule write its code into its own class, not into the one mixed in."""
    kind = type(self)
    self.__class__ = kind.original
    try:
        return self.recompile()
    finally:
        self.__class__ = kind


def _restored(original: type[nn.Module], written: tuple[_Written, ...], otherwise: str | None) -> nn.Module:
    """An empty module of a class with rewritten forwards, from a pickle; its state follows."""
    kind = _make_class(original, written, True, otherwise)
    return kind.__new__(kind)


def class_of(module: nn.Module) -> type[nn.Module]:
    """The class of a module, or that of which it was before its forward was rewritten."""
    return module.original if isinstance(module, Rewritten) else type(module)
