"""``fuse``: training at the price of the plain network, in place and undone exactly."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import fx, nn

from senet.errors import InputError
from senet.surgery.fusing.rewrite import Rewriting
from senet.surgery.graph.gates import ONE_PIXEL, Gated, Key, find
from senet.surgery.graph.install import Rewritten, put_in, put_same_in, restore
from senet.surgery.graph.ledger import Ledger, Outcome
from senet.surgery.graph.modules import is_norm, refuse, refuse_recorded, refuse_what_is_no_module, tidy
from senet.surgery.graph.neighbours import tails
from senet.surgery.graph.ops import is_sum
from senet.surgery.graph.run import growing_examples
from senet.surgery.graph.verify import disagreement
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import Variant, has_hooks
from senet.surgery.report import Report, forget, has_report, keep

__all__ = ["fuse", "unfuse"]


def fuse(model: nn.Module, *, example: Sequence[Any] | None = None, plain_tails: bool = False) -> nn.Module:
    """Makes squeeze-and-excitation in a model cost no passes over the map of its own, in training and evaluation.

    Gated maps are found in the model's own forward by what they compute (:mod:`senet.surgery.graph.gates`), wherever
    they come from: norm, gate, shortcut and ReLU of a residual unit become one site; norm, activation, gate and 1x1
    convolution of a mobile unit another; a gate alone a third. A module is taken over only after its outputs,
    gradients and running statistics agreed with its own in float64, at several sizes and batches. The model stays the
    same object with the same parts, parameters, state_dict and hooks; :func:`unfuse` undoes it,
    :func:`~senet.surgery.report.report` says what was done, and names every gated map.

    A module runs its own forward whenever it is called in another way than was seen, one of its parts was replaced or
    has got a hook, a number or flag that its forward reads has changed, or functions of ``torch.func`` or forward-mode
    derivatives look on.

    Args:
        model: any module, of any package. Compile it, or wrap it for distributed training, afterwards; for formats
            such as ONNX, which know PyTorch's own operators alone, :func:`unfuse` or fold it first.
        example: what its forward takes, for one run without gradients: tensors, and lists, tuples and dictionaries of
            them; None: two images of 64 pixels, or of a size that the model takes and that leaves its gated maps more
            than one pixel.
        plain_tails: whether norm, shortcut and ReLU of residual units without a gate are taken as well.

    Returns:
        ``model``.

    Raises:
        InputError: the model is scripted, compiled, wrapped, lazy, on the meta device, fused or folded already or
            being recorded, or does not take the example.

    Differs from the paper: nowhere; the same numbers are computed in another order.
    """
    refuse(model, "fuse")
    tidy(model)
    # Gradients are looked at, and nobody's random numbers are used up.
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        try:
            for given in growing_examples(model, example):
                restore(model)
                done = _Fusing(model, given).run(plain_tails=plain_tails)
                if not any(reason == ONE_PIXEL for _, reason in done.left):
                    break
        except BaseException:
            restore(model)
            raise
    done.sort(model)
    keep(model, done)
    return model


def unfuse(model: nn.Module) -> nn.Module:
    """Undoes :func:`fuse`: every module gets its own class back; the objects were never others.

    Raises:
        InputError: neither the model nor a part of it is fused, or it is being recorded.
    """
    refuse_what_is_no_module(model)
    refuse_recorded(model)
    if not has_report(model, "fused") and not any(isinstance(m, Rewritten) for m in model.modules()):
        raise InputError(f"{type(model).__name__} is not fused; senet.fuse(model) does it")
    restore(model)
    forget(model)
    return model


class _Fusing:
    """One model being fused: whole sites first, then what is left in parts."""

    def __init__(self, model: nn.Module, example: Sequence[Any] | None) -> None:
        self.walk = Walk(model, example, modes=(True, False))
        self.ledger = Ledger("fused", self.walk)

    def run(self, *, plain_tails: bool) -> Report:
        for wanted in (_is_whole, _is_normed, _is_taken_on, _is_any):
            decided: dict[Hashable, Outcome | None] = {}
            for module in self.walk.hosts():
                # Modules of one kind are looked at once.
                kind = self.walk.kind(module)
                if kind not in decided:
                    decided[kind] = self._decide(module, wanted)
                self._apply(module, decided[kind])
        if plain_tails:
            for module in self.walk.hosts(all_of_them=True):
                self._take_tails(module)
        return self.ledger.closed()

    def _decide(self, module: nn.Module, wanted: Callable[[Gated], bool]) -> Outcome | None:
        """Rewrites a module if it holds a wanted site and the result agrees with it."""
        readings = self.walk.read(module)
        # All of them, as nobody looks into a module that was rewritten again.
        sites = [(reading, find(reading).gated) for reading in readings]
        if not any(wanted(site) for _, gated in sites for site in gated):
            return None
        taken: dict[Key, tuple[str, str]] = {}
        variants, rewritten = [], []
        for reading, gated in sites:
            if not gated:
                continue
            rewriting = Rewriting(reading)
            for site in gated:
                what = rewriting.gated(site)
                taken.setdefault(site.key, (site.place, what))
            rewritten.append(reading)
            variants += [Variant(reading.call, guards, reading.graph) for guards in reading.guards()]
        return self._finish(module, rewritten, variants, taken)

    def _take_tails(self, module: nn.Module) -> None:
        if next(module.children(), None) is None:
            return
        twin = self.walk.twins[module]

        def may_end(graph: fx.Graph) -> bool:
            calls = [twin.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
            return any(map(is_sum, graph.nodes)) and any(map(is_norm, calls))

        taken: dict[Key, tuple[str, str]] = {}
        variants, rewritten = [], []
        for reading in self.walk.read(module, may_end):
            found = list(tails(reading))
            rewriting = Rewriting(reading)
            for source, tail in found:
                place = ".".join(p for p in (reading.path, str(source.norm.target)) if p)
                taken.setdefault((place, -1), (place, rewriting.tail(source, tail)))
            if found:
                rewritten.append(reading)
                variants += [Variant(reading.call, guards, reading.graph) for guards in reading.guards()]
        if taken:
            self._apply(module, self._finish(module, rewritten, variants, taken))

    def _finish(
        self,
        module: nn.Module,
        readings: list[Reading],
        variants: list[Variant],
        taken: dict[Key, tuple[str, str]],
    ) -> Outcome:
        outcome = Outcome.of(self.walk.paths[module], readings, taken)
        outcome.reason = _hooked(module, variants) or disagreement(readings, variants)
        if outcome.reason is None:
            put_in(module, variants)
            outcome.like = module
        else:
            self.walk.forget(module)  # its graphs were changed
        return outcome

    def _apply(self, module: nn.Module, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        self.ledger.enter(outcome, self.walk.paths[module])
        if outcome.like is not None and not isinstance(module, Rewritten):
            put_same_in(module, outcome.like)
        self.walk.mark(module)


def _hooked(module: nn.Module, variants: Sequence[Variant]) -> str | None:
    """Returns the reason why a module cannot be rewritten (hooks on a part would not be called), or None."""
    for variant in variants:
        called = {str(n.target) for n in variant.graph.nodes if n.op == "call_module"}
        for path, part in module.named_modules():
            if path and has_hooks(part) and not any(path == c or path.startswith(f"{c}.") for c in called):
                return f"{path} has hooks, which are to be called"
    return None


def _is_whole(site: Gated) -> bool:
    """Norm, gate and what takes the product all lie in the module."""
    return site.source is not None and _is_taken_on(site)


def _is_normed(site: Gated) -> bool:
    return site.source is not None


def _is_taken_on(site: Gated) -> bool:
    return all(user.op != "output" for user in site.product.users)


def _is_any(_site: Gated) -> bool:
    return True
