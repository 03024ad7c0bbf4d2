"""``attach``: blocks put into any network, in place, and ``detach``, which undoes it exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
from torch import nn

from senet.errors import InputError
from senet.surgery.attaching.block import Start, new_block
from senet.surgery.attaching.optim import join, leave
from senet.surgery.attaching.places import Where, find_places
from senet.surgery.attaching.wrapper import Attached
from senet.surgery.graph.modules import refuse, replace
from senet.surgery.report import Report, forget, keep

__all__ = ["attach", "detach"]


def attach(
    model: nn.Module,
    block: str = "se",
    *,
    where: Where = "residual",
    start: Start = "identity",
    options: Mapping[str, Any] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    example: Sequence[Any] | None = None,
) -> nn.Module:
    """Puts blocks into a network, in place: one behind each module that ``where`` chooses.

    The module's place is taken by a module that holds both (:mod:`senet.surgery.attaching.wrapper`). The model's other
    objects stay, its state_dict keeps the keys it had, and the block's are ``layer1.0.bn3.se.fc1.weight``: weights
    stored before load with ``strict=False``, and the block's keys are all that is missing. (``named_parameters`` has
    ``layer1.0.bn3.module.weight``, as the modules really lie.) A module that lies in several places is one, and so is
    its block. Channels are read off the maps that the model gives on the example; device, dtype, mode and memory format
    are the neighbour's. :func:`detach` undoes it exactly, and :func:`~senet.surgery.report.report` says what was done.

    Args:
        model: any module, of any package, that gives maps (N, C, ...) somewhere: signals, images or volumes. Compile
            it, fuse it, fold it or wrap it for distributed training afterwards.
        block: a name from :data:`senet.blocks.BLOCKS`.
        where: by structure:

            - ``"residual"``: the end of each residual branch, before what is an identity in evaluation (stochastic
              depth) and what multiplies by constants (layer scale). The branch is the way to a sum of two maps that the
              other map lies on, or the one with more convolutions and linear layers, if the other has one at most.
              Branches that end in a gate already are left alone.
            - ``"stages"``: the end of each stage, the outermost module that gives the last map of a resolution; the
              stem, before the map goes more than one way, and maps of one pixel are none. The last stage's may be a
              norm of the head. Where some stages end with channels last, all are left alone.
            - ``"conv"``, ``"conv1x1"``, ``"conv3x3"``, ``"depthwise"``: behind each convolution of that kind, or
              behind the norm and the activation after it, if those are modules and alone take its map. Depthwise ones
              are no ``"conv3x3"``, and layers that compute a gate are left alone.

            By name: a pattern for names of modules with ``*`` and ``?``, as a shell has it (a ``*`` takes dots too),
            or a list of them. By a function of name and module that says yes or no. What is named must be able to take
            a block, each map one.
        start: ``"identity"``: the block gives its map back bit by bit, so that the network computes what it did, and
            learns from there. ``"paper"``: as the block's authors start it; for SE He's normal initialisation by
            fan-out, biases zero. The gate of the first is another function, such as 2 * sigmoid, which no state_dict
            says: weights stored with one start load without a word after the other, and mean something else.
        options: the block's options, for example ``{"reduction": 8}``.
        optimizer: gets the new parameters, each in the group of the nearest parameter of its kind
            (:func:`~senet.surgery.attaching.optim.join`).
        example: what the model's forward takes, for two runs of a copy on a CPU in float64; None: images of a size
            that it takes.

    Returns:
        ``model``.

    Raises:
        InputError: there is no place, a module that was named cannot take a block or has one, the block or its options
            are unknown, it cannot start as the identity, or the model is scripted, compiled, wrapped for distributed
            training, lazy, on the meta device, fused, folded or being recorded. The model is as it was.
    """
    refuse(model, "attach")
    if start not in get_args(Start):
        raise InputError(f"start is {start!r}; accepted: {', '.join(map(repr, get_args(Start)))}")
    with _undisturbed(), torch.random.fork_rng(devices=[]):  # nobody's random numbers are used up
        places, left = find_places(model, where, example)
    parts = {place: model.get_submodule(place.path) for place in places}
    wrappers: dict[nn.Module, Attached] = {}
    done = Report("attached", left=left)
    for place, part in parts.items():
        with _undisturbed():
            new = new_block(block, place.channels, start, options or {}, model, part)
        wrappers[part] = wrapper = Attached(part, new, block)
        count = sum(p.numel() for p in wrapper.block.parameters())
        done.taken.append((place.path, f"{wrapper.block_name}: {place.channels} channels, {count:,} parameters"))
    done.sort(model)
    replace(model, wrappers)
    try:
        if optimizer is not None:
            join(optimizer, model, [p for wrapper in wrappers.values() for p in wrapper.block.parameters()])
    except BaseException:
        replace(model, {wrapper: wrapper.module for wrapper in wrappers.values()})
        raise
    keep(model, done)
    return model


def detach(model: nn.Module, *, optimizer: torch.optim.Optimizer | None = None) -> nn.Module:
    """Undoes :func:`attach`: takes the blocks away, those in parts too, and puts the same modules back.

    Args:
        model: has attached blocks.
        optimizer: loses the blocks' parameters, and what it knows of them.

    Returns:
        ``model``. Its :func:`~senet.surgery.report.report` is gone, and that of a model around it is as it was.

    Raises:
        InputError: nothing is attached, or the model is compiled, scripted, fused, folded or wrapped.
    """
    refuse(model, "detach")
    wrappers = [m for m in model.modules() if isinstance(m, Attached)]
    if not wrappers or isinstance(model, Attached):
        raise InputError(f"no blocks are attached in {type(model).__name__}; senet.attach(model) attaches some")
    if optimizer is not None:
        leave(optimizer, [p for wrapper in wrappers for p in wrapper.block.parameters()])
    replace(model, {wrapper: wrapper.module for wrapper in wrappers})
    forget(model, "attached")
    return model


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Tensors are made on the CPU if nothing else is said, and can be trained, whatever is set around the call."""
    with torch.device("cpu"), torch.inference_mode(False):
        yield
