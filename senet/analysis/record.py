"""The gates of a network, recorded while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from senet.blocks.stages import Recalibrate
from senet.errors import InputError

__all__ = ["Recording", "record"]


class Recording:
    """What :func:`record` has seen so far: the gates of every block, by the block's name."""

    def __init__(self) -> None:
        self._batches: dict[str, list[Tensor]] = {}

    @property
    def gates(self) -> dict[str, Tensor]:
        """Block name -> gates (images, channels), float32 on the CPU, blocks in the order in which they ran.

        A gate that differs over positions is averaged over its map.
        """
        return {site: torch.cat(batches) for site, batches in self._batches.items()}

    def take(self) -> dict[str, Tensor]:
        """The gates since the last call, as :attr:`gates`, which are then forgotten: any number of images fits."""
        gates = self.gates
        self._batches.clear()
        return gates

    def hook(self, site: str) -> Callable[[nn.Module, tuple[object, ...], Tensor], None]:
        """A forward hook that keeps a module's output, (N, C, ...), as the gates of ``site``."""

        def keep(module: nn.Module, args: tuple[object, ...], gate: Tensor) -> None:  # noqa: ARG001
            self._batches.setdefault(site, []).append(gate.detach().flatten(2).mean(2).float().cpu())

        return keep


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Records the gates of every squeeze-and-excitation block while the model runs.

    The network computes what it computes without it, and no hook is left behind, not even after an exception.
    A block that runs twice in one forward pass is recorded twice.

    Example::

        with record(model) as recording:
            model(images)
        recording.gates["layer1.0.se"]  # (images, channels)

    Args:
        model: any module that holds blocks derived from :class:`senet.blocks.Recalibrate`. A compiled model
            does not call hooks that come later; give the model that was compiled, not the result.

    Raises:
        InputError: the model holds no such block.
    """
    blocks = {name: block for name, block in model.named_modules() if isinstance(block, Recalibrate)}
    if not blocks:
        raise InputError(
            f"{type(model).__name__} has no squeeze-and-excitation block, so no gates to record; give a network "
            "with blocks from senet.blocks"
        )
    recording = Recording()
    with ExitStack() as hooks:
        for name, block in blocks.items():
            hooks.callback(block.gate.register_forward_hook(recording.hook(name or type(block).__name__)).remove)
        yield recording
