"""Hears gates while a network runs, and may replace them: by hooks and forwards that are gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from senet.errors import InputError
from senet.surgery.gates_of import GateSite, Tapped
from senet.surgery.swap import Rewritten, give_back, put_in

__all__ = ["Hear", "listen"]

Hear = Callable[[str, Tensor], Tensor | None]

_HOST = "_senet_host"  # of a class whose forward is tapped


@contextmanager
def listen(sites: Iterable[GateSite], hear: Hear) -> Iterator[None]:
    """Calls ``hear`` with each gate that a network computes.

    A gate that is a module's output is had by a hook; one that is written down in a forward by another forward, which
    the module runs meanwhile. Several may listen at a time; each hears what those before it made of the gate.

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
            if site.tapped is None:
                undo.callback(_hook(site, hear).remove)
            else:
                undo.enter_context(_tap(site, site.tapped, hear))
        yield


# What is registered are functions, which copies of a model share; a method's owner would be copied with it.


def _hook(site: GateSite, hear: Hear) -> RemovableHandle:
    def ours(module: nn.Module, args: Any, gate: Tensor) -> Tensor | None:  # noqa: ARG001
        return hear(site.name, gate)

    def others(module: nn.Module, args: Any, gate: Tensor) -> Tensor | None:  # noqa: ARG001
        heard = hear(site.name, gate.reshape(-1, site.channels))  # type: ignore[arg-type]
        return None if heard is None else heard.reshape(gate.shape)

    return site.module.register_forward_hook(ours if site.channels is None else others)


@contextmanager
def _tap(site: GateSite, tapped: Tapped, hear: Hear) -> Iterator[None]:
    """Lets a module run its tapped forward, or joins in where it does already."""

    def listener(gate: Tensor) -> Tensor | None:
        return hear(site.name, gate)

    host = getattr(type(site.module), _HOST, None) or _Host(site.module, tapped)
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
    assert isinstance(module, Rewritten)
    if not module.runs_rewritten(args, kwargs):
        raise InputError(
            f"the gate of {type(module).__name__} is written down in its forward and would be missed in this call; "
            f"call it with its {module.inputs} input(s) by position, no empty batch, and no hooks on its parts"
        )
