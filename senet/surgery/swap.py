"""Gives a module another forward, and its own back: by its class, so that nothing in it changes.

The module stays the same object with the same parts, parameters, hooks and state_dict, and an instance of the class
it was of. Copies keep the new forward; a pickle holds the original class, as the new one exists nowhere else.
"""

from __future__ import annotations

import copy
import copyreg
import linecache
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx, nn

__all__ = ["Rewritten", "function_of", "give_back", "put_in"]


class Rewritten(nn.Module):
    """A module whose forward was rewritten; mixed into its class.

    Attributes:
        rewritten: what was done, one entry a site: path of the gate or norm, and what became of it.
        bypassed: parts that the rewritten forward does not call. While one of them has hooks, or the input is empty,
            the original forward runs, so that hooks fire and edge cases stay PyTorch's.
    """

    original: type[nn.Module]
    written: Callable[..., Any]
    rewritten: tuple[tuple[str, str], ...]
    bypassed: tuple[str, ...]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        empty = any(isinstance(a, Tensor) and a.numel() == 0 for a in args)
        if empty or any(_has_hooks(self.get_submodule(path)) for path in self.bypassed):
            return self.original.forward(self, *args, **kwargs)
        return type(self).written(self, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Not copyreg.__newobj__: pickle insists that it be given the object's own class.
        return copyreg._reconstructor, (self.original, object, None), self.__dict__  # type: ignore[attr-defined]


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def put_in(module: nn.Module, graph: fx.Graph, done: Sequence[tuple[str, str]]) -> None:
    """Makes a module run a graph that was traced from it and rewritten."""
    original = type(module)
    called = {str(n.target) for n in graph.nodes if n.op == "call_module"}
    bypassed = tuple(path for path, _ in module.named_modules() if path and path not in called)
    namespace = {
        "original": original,
        "written": function_of(graph, original.__name__),
        "rewritten": tuple(done),
        "bypassed": tuple(path for path in bypassed if not any(path.startswith(f"{c}.") for c in called)),
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    module.__class__ = type(original.__name__, (Rewritten, original), namespace)


def give_back(module: nn.Module) -> None:
    """Gives a rewritten module its class back."""
    assert isinstance(module, Rewritten)
    module.__class__ = module.original  # type: ignore[assignment]


def function_of(graph: fx.Graph, name: str) -> Callable[..., Any]:
    """A graph as a function of the module that it was traced from, and its inputs."""
    code = graph.python_code("self")
    filename = f"<senet: {name} {id(graph):x}>"
    linecache.cache[filename] = (len(code.src), None, code.src.splitlines(keepends=True), filename)
    namespace = dict(code.globals)
    exec(compile(code.src, filename, "exec"), namespace)  # noqa: S102 - torch.fx's own text, as in its GraphModule
    return namespace["forward"]
