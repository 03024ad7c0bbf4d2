"""Gives a module another forward, and its own back: by its class, so that nothing in it changes.

The module stays the same object with the same parts, parameters, hooks and state_dict, and an instance of the class
it was of. Copies keep the new forward; a pickle holds the original class, as the new one exists nowhere else.
"""

from __future__ import annotations

import copy
import copyreg
import functools
import linecache
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn

__all__ = ["Rewritten", "give_back", "has_hooks", "put_in"]


class Rewritten(nn.Module):
    """A module whose forward was rewritten; mixed into its class.

    Attributes:
        original: the class.
        written: the rewritten forward.
        inputs: how many tensors it takes.
        bypassed: parts that the rewritten forward does not call, with their classes.
    """

    original: type[nn.Module]
    written: Callable[..., Any]
    inputs: int
    bypassed: tuple[tuple[str, type[nn.Module]], ...]

    def runs_rewritten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call is of the kind that was rewritten, and no part that it goes around has changed or has hooks.

        Else the original forward runs: other arguments may lead elsewhere, hooks are to fire, a part put in later is to
        be called, and empty batches are left to PyTorch.
        """
        if kwargs or len(args) != self.inputs or not all(isinstance(a, Tensor) and a.numel() for a in args):
            return False
        for path, kind in self.bypassed:
            part = self.get_submodule(path)
            if type(part) is not kind or has_hooks(part):
                return False
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Not copyreg.__newobj__: pickle insists that it be given the object's own class.
        return copyreg._reconstructor, (self.original, object, None), self.__getstate__()  # type: ignore[attr-defined]


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is to be called when a module is, or its backward."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def put_in(module: nn.Module, graph: fx.Graph) -> None:
    """Makes a module run a graph that was traced from it and rewritten."""
    original = type(module)
    written = _function_of(graph, original.__name__)
    called = {str(n.target) for n in graph.nodes if n.op == "call_module"}
    bypassed = (
        (path, type(part))
        for path, part in module.named_modules()
        if path and not any(path == c or path.startswith(f"{c}.") for c in called)
    )

    @functools.wraps(original.forward)  # for its signature, by which torch.export names inputs
    def forward(self: Rewritten, *args: Any, **kwargs: Any) -> Any:
        if self.runs_rewritten(args, kwargs):
            return written(self, *args)
        return original.forward(self, *args, **kwargs)

    namespace = {
        "original": original,
        "written": staticmethod(written),
        "inputs": sum(n.op == "placeholder" for n in graph.nodes),
        "bypassed": tuple(bypassed),
        "forward": forward,
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    module.__class__ = type(original.__name__, (Rewritten, original), namespace)


def give_back(module: nn.Module) -> None:
    """Gives a rewritten module its class back."""
    assert isinstance(module, Rewritten)
    module.__class__ = module.original  # type: ignore[assignment]


def _function_of(graph: fx.Graph, name: str) -> Callable[..., Any]:
    """A graph as a function of the module that it was traced from, and its inputs."""
    code = graph.python_code("self")
    filename = f"<senet: {name} {id(graph):x}>"
    linecache.cache[filename] = (len(code.src), None, code.src.splitlines(keepends=True), filename)
    namespace = dict(code.globals)
    exec(compile(code.src, filename, "exec"), namespace)  # noqa: S102 - torch.fx's own text, as in its GraphModule
    return namespace["forward"]
