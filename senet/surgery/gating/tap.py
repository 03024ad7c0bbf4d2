"""Listens to gates while a network runs, and may replace them: by hooks and forwards that are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from torch import Tensor, nn

from senet.errors import InputError
from senet.surgery.gating.find import GateSite, Tapped
from senet.surgery.graph.install import Rewritten, give_back, put_in

__all__ = ["Hear", "listen"]

Hear = Callable[[str, Tensor], Tensor | None]


@contextmanager
def listen(sites: Iterable[GateSite], hear: Hear) -> Iterator[None]:
    """Calls ``hear`` with each gate that a network computes.

    A gate that is a module's output is had by a hook; one that is written down in a forward by another forward, which
    the module runs meanwhile. Several may listen at a time; each hears what those before it made of the gate. Copies
    of the model that are made meanwhile are heard too, until it is over.

    Args:
        sites: the gates, from :func:`~senet.surgery.gating.find.find_gates`.
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


class _Listener:
    """Passes the gate of one site on, until it is stopped. Copies of a model share it."""

    def __init__(self, site: GateSite, hear: Hear) -> None:
        self.site, self.hear, self.live = site, hear, True

    @property
    def _senet_recording(self) -> bool:
        """Tells that somebody listens; copies of a model, which share it, are not to be changed meanwhile either."""
        return self.live

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


@contextmanager
def _tap(site: GateSite, tapped: Tapped, listener: _Listener) -> Iterator[None]:
    """Lets a module run its tapped forwards, or joins in where it does already."""
    host = getattr(type(site.module), "_senet_tapped", None)
    if host is None or host.module is not site.module:  # of which it is a copy
        host = _Host(site.module, tapped)
    listeners = host.tapped.listeners[site.key]
    listeners.append(listener)
    try:
        yield
    finally:
        listeners.remove(listener)
        if not any(host.tapped.listeners.values()):
            host.give_back()


class _Host:
    """A module that runs its tapped forwards."""

    def __init__(self, module: nn.Module, tapped: Tapped) -> None:
        self.module, self.tapped, self.before = module, tapped, type(module)
        if isinstance(module, Rewritten):  # it is fused
            give_back(module)
        put_in(module, tapped.variants)
        type(module)._senet_tapped = self  # type: ignore[attr-defined]
        self.check = module.register_forward_pre_hook(_check_call, with_kwargs=True)

    @property
    def _senet_recording(self) -> bool:
        return any(getattr(each, "live", False) for each in chain.from_iterable(self.tapped.listeners.values()))

    def give_back(self) -> None:
        """Gives the module the class that it had."""
        self.check.remove()
        self.module.__class__ = self.before


def _check_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    host = getattr(type(module), "_senet_tapped", None)
    heard = getattr(host, "_senet_recording", False)  # a copy may be left with this when it is over
    if heard and isinstance(module, Rewritten) and module.rewritten(args, kwargs) is None:
        raise InputError(
            f"the gate of {type(module).__name__} is written down in its forward and would be missed in this call; "
            "call it as in the example, with no empty batch, its numbers and flags as they were, and no hooks on its "
            "parts, or give example="
        )


_check_call._senet_recording = True  # type: ignore[attr-defined]
