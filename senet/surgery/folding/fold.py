"""``fold``: inference at the price of the plain network, on a copy made of PyTorch's own operators."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import nn

from senet.surgery.folding.blocks import plain_graph
from senet.surgery.folding.norms import fold_norms
from senet.surgery.folding.rewrite import Maker, refusal, rewrite
from senet.surgery.graph.gates import ONE_PIXEL, Gated, Key, find
from senet.surgery.graph.install import Rewritten, put_in, put_same_in, restore
from senet.surgery.graph.ledger import Ledger, Outcome
from senet.surgery.graph.modules import refuse, tidy
from senet.surgery.graph.run import computes_weight, copied, growing_examples
from senet.surgery.graph.verify import FORWARD_TOLERANCE, disagreement
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import Variant, has_hooks
from senet.surgery.report import Report, forget, keep, report

__all__ = ["fold"]


def fold(model: nn.Module, *, example: Sequence[Any] | None = None) -> nn.Module:
    """Returns a copy of a model for inference, in which squeeze-and-excitation and norms cost as little as can be.

    - Norms are folded into the convolutions and linear layers before them, gate or not.
    - Where the gated map is a 1x1 projection W h + b, the pool moves before it, W mean(h) + b: it reads a narrower
      map, and the gate is known before the projection runs, so that a compiler can scale and sum as it writes.
    - The projection and the gate's first layer become one smaller layer, W1 W and W1 b + b1.
    - Gate, shortcut and ReLU take two passes, and write in place where nobody can see it.

    Read from graphs, not from the names of classes, and believed only where the outputs agree to 1e-10 in float64
    with random norms, at several sizes and batches; the rest stays as it was. :func:`~senet.surgery.report.report`
    says what was done, and why not.

    Args:
        model: any module, of any package, fused or not; it is not touched.
        example: what its forward takes, for runs without gradients: tensors, and lists, tuples and dictionaries of
            them; None: two images of 64 pixels, or of a size that the model takes and that leaves its gated maps more
            than one pixel.

    Returns:
        The copy, in evaluation mode: its modules keep their classes, names, attributes and methods, but for norms,
        which become identities or their activations; modules with gates run another forward. It takes every batch and
        image size that the model took, and can be compiled, exported, copied and stored. Run it without gradients, as
        it writes in place.

    Raises:
        InputError: the model is scripted, compiled, wrapped, lazy, on the meta device or folded already, or does not
            take the example.

    Differs from the paper: nowhere; the same numbers are computed in another order.
    """
    refuse(model, "fold", fused=True)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):  # nobody's random numbers are used up
        for given in growing_examples(model, example):
            folded = _Folding(model, given).run()
            if not any(reason == ONE_PIXEL for _, reason in report(folded).left):
                break
    return folded


class _Folding:
    """One copy being folded: norms first, since behind a folded one lies the convolution itself."""

    def __init__(self, model: nn.Module, example: Sequence[Any] | None) -> None:
        self.model = copied(model).eval()
        restore(self.model)
        forget(self.model)
        tidy(self.model)
        self.walk = Walk(self.model, example, modes=(False,), prepare=plain_graph)
        self.ledger = Ledger("folded", self.walk)

    def run(self) -> nn.Module:
        norms = Report("folded")
        fold_norms(self.walk, norms)
        for wanted in (_has_tail, _is_any):
            decided: dict[Hashable, Outcome | None] = {}
            for module in self.walk.hosts():
                kind = self.walk.kind(module)
                if kind not in decided:
                    decided[kind] = self._decide(module, wanted)
                self._apply(module, decided[kind])
        done = self.ledger.closed(refusal)
        done.taken += norms.taken
        done.left += norms.left
        keep(self.model, done)
        return self.model

    def _decide(self, module: nn.Module, wanted: Callable[[Gated], bool]) -> Outcome | None:
        """Rewrites a module if it holds a wanted site and the result agrees with it."""
        sites = [(r, [s for s in find(r).gated if not refusal(r, s)]) for r in self.walk.read(module)]
        if not any(wanted(site) for _, gated in sites for site in gated):
            return None
        taken: dict[Key, tuple[str, str]] = {}
        made: dict[str, Maker] = {}
        for reading, gated in sites:
            for site in gated:
                words, makers = rewrite(reading, site)
                taken.setdefault(site.key, (site.place, words))
                made |= makers
        readings = [reading for reading, gated in sites if gated]
        return self._finish(module, readings, taken, made)

    def _finish(
        self, module: nn.Module, readings: list[Reading], taken: dict[Key, tuple[str, str]], made: dict[str, Maker]
    ) -> Outcome:
        outcome, twin = Outcome.of(self.walk.paths[module], readings, taken), self.walk.twins[module]
        if any(has_hooks(m, computes_weight) for m in module.modules()):
            outcome.reason = "hooks on the module around it would be lost"
            return outcome
        variants = [Variant(r.call, guards, r.graph) for r in readings for guards in r.guards()]
        for name, make in made.items():
            twin.add_module(name, make(twin))
        if reason := disagreement(readings, variants, gradients=False, tolerance=FORWARD_TOLERANCE):
            for name in made:
                delattr(twin, name)
            self.walk.forget(module)  # its graphs were changed
            outcome.reason = f"rewritten, {reason}"
            return outcome
        for name, make in made.items():
            module.add_module(name, make(module))
        put_in(module, variants, plain=True)
        outcome.like, outcome.made = module, made
        return outcome

    def _apply(self, module: nn.Module, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        twin = self.walk.twins[module]
        self.ledger.enter(outcome, self.walk.paths[module])
        if outcome.like is not None and not isinstance(module, Rewritten):
            for name, make in outcome.made.items():
                twin.add_module(name, make(twin))
                module.add_module(name, make(module))
            put_same_in(module, outcome.like)
        self.walk.mark(module)


def _has_tail(site: Gated) -> bool:
    """Whether what takes the product lies in the module too, which may be larger than the one that makes the map."""
    return site.tail.shortcut is not None or site.tail.relu


def _is_any(_site: Gated) -> bool:
    return True
