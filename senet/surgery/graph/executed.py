"""Functions that run while a forward is traced: those of Python are noted, answers of the world outside refused."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from senet.surgery.graph.guards import Guards, Unguardable
from senet.surgery.graph.outside import Outside, is_library

__all__ = ["executed_noted", "numbers_watched"]

# Python modules whose functions answer otherwise the next time.
_VOLATILE = {
    **dict.fromkeys(("random", "_random", "secrets", "uuid"), "it draws random numbers in Python while it runs"),
    **dict.fromkeys(("time", "datetime", "_datetime"), "it reads the clock while it runs"),
    **dict.fromkeys(("os", "posix", "nt"), "it asks the operating system while it runs ({name})"),
    **dict.fromkeys(("contextvars", "_contextvars"), "it reads a variable of contexts while it runs"),
    **dict.fromkeys(("threading", "_thread", "multiprocessing"), "it asks for threads or processes ({name})"),
    **dict.fromkeys(("io", "_io", "socket", "_socket", "subprocess"), "it reads a file while it runs ({name})"),
}
_BY_NAME = {"globals", "eval", "exec"}
# Functions of PyTorch without arguments: those whose answer can be asked for again, and those whose answer surgery
# itself changes while it looks.
_ASKED = {
    *("is_grad_enabled", "is_inference_mode_enabled", "get_default_dtype", "are_deterministic_algorithms_enabled"),
    *("get_num_threads", "get_float32_matmul_precision"),
}
_REFUSED = {
    *("is_autocast_enabled", "is_autocast_cpu_enabled", "get_autocast_dtype", "get_autocast_cpu_dtype"),
    *("get_autocast_gpu_dtype", "get_rng_state", "initial_seed", "seed", "is_autocast_cache_enabled"),
}
_CHECKPOINT = inspect.unwrap(checkpoint).__code__


@contextmanager
def executed_noted(outside: Outside, guards: Guards, is_quiet: Callable[[], bool]) -> Iterator[None]:
    """Notes each function of Python that runs, unless it is quiet, and what PyTorch is asked for.

    Args:
        outside: is given what functions read.
        guards: are given answers of PyTorch.
        is_quiet: whether surgery itself runs.

    Raises:
        Unguardable: a function reads what nobody can compare, or asks the clock, say, or for random numbers.
    """
    refused: list[str] = []
    of_libraries: dict[types.CodeType, bool] = {}  # asked for at each call of PyTorch's tracer, of which there are many

    def is_of_library(frame: types.FrameType) -> bool:
        known = of_libraries.get(frame.f_code)
        if known is None:
            known = of_libraries[frame.f_code] = is_library(frame.f_globals.get("__name__"))
        return known

    def watch(frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call":
            asking, own = frame.f_back, not is_of_library(frame)
        elif event == "c_call":
            asking, own = frame, False
        else:
            return
        if event == "call" and frame.f_code is _CHECKPOINT and not is_quiet():  # which runs norms twice
            refused.append("it checkpoints a part of itself")
        if (not own and (asking is None or is_of_library(asking))) or refused or is_quiet():
            return
        source = _source(argument) if event == "c_call" else frame.f_globals.get("__name__") or ""
        name = argument.__name__ if event == "c_call" else frame.f_code.co_name
        if own:
            if source.startswith("namedtuple_"):  # as Python makes them
                return
            try:
                outside.note_running(frame)
            except Unguardable as reason:
                refused.append(str(reason))
            return
        root = source.partition(".")[0]
        owner = frame.f_locals.get("self") if event == "call" else None
        if type(owner).__module__ in _VOLATILE:  # such as os.environ, whose methods others wrote
            root = type(owner).__module__
        if root in _VOLATILE:
            refused.append(_VOLATILE[root].format(name=f"{root}.{name}"))
        elif root == "builtins" and name in _BY_NAME:
            refused.append(f"it looks up names by {name}() while it runs")
        elif (root == "torch" and name in _REFUSED) or source.startswith("torch.backends"):
            refused.append(f"it asks {root if name in _REFUSED else source} for its settings while it runs ({name})")
        elif root == "torch" and name in _ASKED:
            guards.asked[name] = getattr(torch, name)()

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    if refused:
        raise Unguardable(refused[0])


def _source(function: Any) -> str:
    """The Python module that a function written in C is of."""
    owner = getattr(function, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        found = str(getattr(function, "__module__", None) or getattr(owner, "__name__", ""))
        return "torch" if found.startswith("torch") else found
    return (owner if isinstance(owner, type) else type(owner)).__module__


_NUMBERS = {
    *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero", "__array__", "__contains__"),
    *("__bool__", "__float__", "__int__", "__index__", "__complex__"),
}


class numbers_watched(TorchFunctionMode):  # noqa: N801 - a context manager, as those beside it
    """Refuses a forward that asks a tensor for its numbers, if it neither made it nor are its numbers compared.

    Args:
        known: tensors whose numbers are compared.
        is_quiet: whether surgery itself runs.

    Raises:
        Unguardable: afterwards, where a tensor was asked.
    """

    def __init__(self, known: list[Tensor], is_quiet: Callable[[], bool]) -> None:
        super().__init__()
        self.known, self.is_quiet = known, is_quiet
        self.made: dict[int, Tensor] = {}
        self.refused = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.is_quiet():
            return output
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if all(id(each) in self.made or any(each is other for other in self.known) for each in given):
            self.made |= {id(each): each for each in tree_leaves(output) if isinstance(each, Tensor)}
        elif getattr(func, "__name__", "") in _NUMBERS and not isinstance(output, fx.Proxy):
            self.refused = True
        return output

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        super().__exit__(kind, value, trace)
        if self.refused and kind is None:
            raise Unguardable("it reads numbers of a tensor that is none of its parts")
