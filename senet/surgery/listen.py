"""Hears gates while a network runs, and may replace them: by hooks and forwards that are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, nn

from senet.errors import InputError
from senet.surgery.gates_of import GateSite, Tapped
from senet.surgery.swap import Rewritten, give_back, put_in

__all__ = ["Hear", "listen", "refuse_listened", "tidy"]

Hear = Callable[[str, Tensor], Tensor | None]

_HOST = "_senet_host"  # of a class whose forward is tapped


@contextmanager
def listen(sites: Iterable[GateSite], hear: Hear) -> Iterator[None]:
    """Calls ``hear`` with each gate that a network computes.

    A gate that is a module's output is had by a hook; one that is written down in a forward by another forward, which
    the module runs meanwhile. Several may listen at a time; each hears what those before it made of the gate. Copies
    of the model that are made meanwhile are heard too, until it is over.

    Args:
        sites: the gates, from :func:`~senet.surgery.gates_of.find_gates`.
        hear: takes a site's name and the gate, (N, C, ...); returns what the network goes on with, of the same shape,
            or None for the gate itself.

    Raises:
        InputError: while it runs, a module whose gate is written down in its forward is called in another way than
            the one that was looked at, so that its gate would be missed.
    """
    with ExitStack() as undo:
        for site in sites:
            listener = _Listener(site, hear)
            undo.callback(listener.stop)
            if site.tapped is None:
                undo.callback(site.module.register_forward_hook(listener.of_module).remove)
            else:
                undo.enter_context(_tap(site, site.tapped, listener))
        yield


def refuse_listened(model: nn.Module) -> None:
    """Raises an error where somebody listens to a model.

    Raises:
        InputError: somebody does.
    """
    if any(listener.live for module in model.modules() for listener in _listeners(module)):
        raise InputError(f"the gates of {type(model).__name__} are being recorded; end the recording first")


def tidy(model: nn.Module) -> None:
    """Rids a copy that was made while somebody listened to a model of what is left of it; nobody listens any more."""
    for module in model.modules():
        while host := getattr(type(module), _HOST, None):
            module.__class__ = host.before
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if hook is _check_call or isinstance(getattr(hook, "__self__", None), _Listener):
                    del hooks[key]


class _Listener:
    """Passes the gate of one site on, until it is stopped. Copies of a model share it."""

    def __init__(self, site: GateSite, hear: Hear) -> None:
        self.site, self.hear, self.live = site, hear, True

    def __call__(self, gate: Tensor) -> Tensor | None:
        return self.hear(self.site.name, gate) if self.live else None

    def of_module(self, module: nn.Module, args: Any, gate: Tensor) -> Tensor | None:  # noqa: ARG002
        """The forward hook of a module whose output is the gate."""
        if self.site.channels is None or not self.live:
            return self(gate)
        heard = self(gate.reshape(-1, self.site.channels))
        return None if heard is None else heard.reshape(gate.shape)

    def stop(self) -> None:
        self.live = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Listener:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise InputError(
            "the model's gates are recorded, or were when it was copied, which no pickle holds; copy it outside of that"
        )


def _listeners(module: nn.Module) -> Iterator[_Listener]:
    """Those that a module calls."""
    hooked = (getattr(hook, "__self__", None) for hook in module._forward_hooks.values())
    yield from (listener for listener in hooked if isinstance(listener, _Listener))
    host = getattr(type(module), _HOST, None)
    yield from chain.from_iterable(host.tapped.listeners if host else ())


@contextmanager
def _tap(site: GateSite, tapped: Tapped, listener: _Listener) -> Iterator[None]:
    """Lets a module run its tapped forward, or joins in where it does already."""
    host = getattr(type(site.module), _HOST, None)
    if host is None or host.module is not site.module:  # of which it is a copy
        host = _Host(site.module, tapped)
    listeners = host.tapped.listeners[site.index]
    listeners.append(listener)
    try:
        yield
    finally:
        listeners.remove(listener)
        if not any(host.tapped.listeners):
            host.give_back()


class _Host:
    """A module that runs its tapped forward."""

    def __init__(self, module: nn.Module, tapped: Tapped) -> None:
        self.module, self.tapped, self.before = module, tapped, type(module)
        if isinstance(module, Rewritten):  # it is fused
            give_back(module)
        put_in(module, tapped.graph)
        setattr(type(module), _HOST, self)
        self.check = module.register_forward_pre_hook(_check_call, with_kwargs=True)

    def give_back(self) -> None:
        """Gives the module the class that it had."""
        self.check.remove()
        self.module.__class__ = self.before


def _check_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    heard = any(listener.live for listener in _listeners(module))  # a copy may be left with this when it is over
    if heard and isinstance(module, Rewritten) and not module.runs_rewritten(args, kwargs):
        raise InputError(
            f"the gate of {type(module).__name__} is written down in its forward and would be missed in this call; "
            f"call it with its {module.inputs} input(s) by position, no empty batch, and no hooks on its parts"
        )
