"""``fold``: inference at the price of the plain network, on a copy made of PyTorch's own operators."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from senet.errors import InputError
from senet.surgery.chains import tensors_in
from senet.surgery.folding.gates import Maker, refusal, rewrite
from senet.surgery.folding.hosts import Hosts
from senet.surgery.folding.norms import TOLERANCE, fold_norms, relative_difference
from senet.surgery.fuse import restore
from senet.surgery.hosts import path_of
from senet.surgery.report import Report, forget, has_report, keep, report
from senet.surgery.sites import ONE_PIXEL, Gated, find
from senet.surgery.swap import has_hooks
from senet.surgery.trace import Traced, ever_larger

__all__ = ["fold"]


def fold(model: nn.Module, *, example: Sequence[Any] | None = None) -> nn.Module:
    """A copy of a model for inference, in which squeeze-and-excitation and norms cost as little as can be.

    - Norms are folded into the convolutions and linear layers before them, gate or not.
    - Where the gated map is a 1x1 projection W h + b, the pool moves before it, W mean(h) + b: it reads a narrower
      map, and the gate is known before the projection runs, so that a compiler can scale and sum as it writes.
    - The projection and the gate's first layer become one smaller layer, W1 W and W1 b + b1.
    - Gate, shortcut and ReLU take two passes, and write in place where nobody can see it.

    Read from graphs, not from the names of classes, and believed only where the outputs agree to 1e-10 in float64
    with random norms; the rest stays as it was. :func:`~senet.surgery.report.report` says what was done, and why not.

    Args:
        model: any module, of any package, fused or not; it is not touched.
        example: what its forward takes, for runs without gradients; None: two images of 64 pixels, or of a size that
            the model takes and that leaves its gated maps more than one pixel.

    Returns:
        The copy, in evaluation mode: layers keep their classes and names, modules with gates become
        :class:`torch.fx.GraphModule`. It takes every batch and image size that the model took, and can be compiled,
        exported, copied and stored. Run it without gradients, as it writes in place.

    Raises:
        InputError: the model is compiled, scripted or folded already, or does not take the example.

    Differs from the paper: nowhere; the same numbers are computed in another order.
    """
    _check(model)
    with torch.random.fork_rng(devices=[]):  # nobody's random numbers are used up
        for given in ever_larger(model, example):
            folded = _folded(model, given)
            if not any(reason == ONE_PIXEL for _, reason in report(folded).left):
                break
    return folded


def _folded(model: nn.Module, example: Sequence[Any] | None) -> nn.Module:
    """A copy, folded as far as the example shows what is computed."""
    folded = copy.deepcopy(model)
    restore(folded)
    forget(folded)
    hosts = Hosts(folded.eval(), example)
    done, norms = Report("folded"), Report("folded")
    # Norms first, since behind a folded one lies the convolution itself.
    fold_norms(hosts, norms)
    for wanted in (_has_tail, _is_known):
        for module in hosts.modules():
            traced = hosts.traced(module)
            if traced is not None:
                sites = [s for s in find(traced) if isinstance(s, Gated) and not refusal(traced, s)]
                if any(map(wanted, sites)):
                    _take(hosts, traced, sites, done)
    done.left = list(dict.fromkeys([*done.left, *_left(hosts).items()]))
    done.taken += norms.taken
    done.left += norms.left
    keep(hosts.model, done)
    return hosts.model


def _check(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("the model is a ScriptModule, whose forward cannot be rewritten; fold before scripting")
    if hasattr(model, "_orig_mod"):
        raise InputError("the model is compiled; fold before torch.compile")
    if has_report(model, "folded"):
        raise InputError("the model is folded already; senet.report(model) says how")


def _has_tail(site: Gated) -> bool:
    """Whether what takes the product lies in the module too, which may be larger than the one that makes the map."""
    return site.tail.shortcut is not None or site.tail.relu


def _is_known(_site: Gated) -> bool:
    return True


def _take(hosts: Hosts, traced: Traced, sites: Sequence[Gated], done: Report) -> None:
    """Replaces a module by its rewritten graph if the two agree; notes what came of it."""
    prefix = hosts.paths[traced.module][0]
    names = [path_of(site, prefix) for site in sites]
    if any(has_hooks(m) for m in traced.module.modules()):
        done.left += [(name, "hooks on the module around it would be lost") for name in names]
        return
    made: dict[str, Maker] = {}
    words = []
    for site in sites:
        word, makers = rewrite(traced, site)
        words.append(word)
        made |= makers
    twin = _built(traced.double, traced.graph, made)
    with torch.no_grad():
        wanted, got = (
            list(tensors_in(module(*(a.clone() for a in traced.inputs)))) for module in (traced.double, twin)
        )
    difference = max(relative_difference(*pair) for pair in zip(got, wanted, strict=True))
    if difference <= TOLERANCE:
        hosts.replace(traced.module, _built(traced.module, traced.graph, made), twin)
        done.taken += zip(names, words, strict=True)
    else:
        hosts.forget(traced.module)  # its graph was rewritten
        done.left += [(name, f"rewritten it differs by {difference:.1e}") for name in names]


def _built(root: nn.Module, graph: fx.Graph, made: dict[str, Callable[[nn.Module], nn.Module]]) -> fx.GraphModule:
    """A graph as a module with the parts of the one it was traced from, or those made of them."""
    copied = fx.Graph()
    copied.output(copied.graph_copy(graph, {}))
    parts = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            parent, _, name = path.rpartition(".")
            parts[path] = made[path](root) if path in made else getattr(root.get_submodule(parent), name)
    return fx.GraphModule(parts, copied, type(root).__name__).eval()


def _left(hosts: Hosts) -> dict[str, str]:
    """Products that look like gated maps and were not taken, by path, and why, as the outermost graph sees it."""
    left = {}
    for module in hosts.modules():
        traced = hosts.traced(module)
        if traced is None:
            continue
        for found in find(traced):
            product, reason = (found.product, refusal(traced, found)) if isinstance(found, Gated) else found
            inner = next(reversed(product.meta.get("nn_module_stack") or {"": None}))
            path = ".".join(p for p in (hosts.paths[module][0], inner) if p) or product.name
            left[path] = reason or "no graph holds all of it"
    return left
