"""The gates of a network, recorded while it runs, or edited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from senet.analysis.gates.edits import Edit, Edits, by_channel
from senet.analysis.gates.statistics import GateStatistics
from senet.errors import InputError
from senet.surgery.gating.find import gates_and_left
from senet.surgery.gating.tap import listen

__all__ = ["Recording", "record"]


class Recording:
    """The record that :func:`record` keeps: the gates of every site, by the site's name.

    Attributes:
        left: products that look like gated maps and whose gates are not recorded: each by its path, and why.
    """

    def __init__(
        self, sites: Sequence[str], statistics: GateStatistics | None, left: Sequence[tuple[str, str]]
    ) -> None:
        self.left = tuple(left)
        self._sites = dict.fromkeys(sites)
        self._batches: dict[str, list[Tensor]] = {}
        self._statistics = statistics
        self._edits = Edits({}, ())
        self._labels: Tensor | None = None
        self._calls: Counter[str] | None = None  # of each site in the forward pass that runs now
        self._pending: list[tuple[str, Tensor]] = []  # gates of that pass, which count once it is through

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites, in the order of the model's modules, then further calls of some, as they were seen.

        The second call of a site in one forward pass of the model is a site of its own, ``"layer1.0.se#2"``.
        """
        return tuple(self._sites)

    @property
    def gates(self) -> dict[str, Tensor]:
        """Site -> gates (images, channels), float32 on the CPU, sites in the order in which they ran.

        A gate that differs over positions is averaged over its map.

        Raises:
            InputError: statistics are gathered, and no gates kept.
        """
        if self._statistics is not None:
            raise InputError("gates are gathered as statistics; read .statistics, or record with statistics=False")
        return {site: torch.cat(batches) for site, batches in self._batches.items()}

    def take(self) -> dict[str, Tensor]:
        """The gates since the last call, as :attr:`gates`, which are then forgotten: any number of images fits."""
        gates = self.gates
        self._batches.clear()
        return gates

    @property
    def statistics(self) -> GateStatistics:
        """Mean and spread of the gates so far, by class.

        Raises:
            InputError: the gates themselves are kept.
        """
        if self._statistics is None:
            raise InputError("gates are kept as they are; read .gates, or record with statistics=True")
        return self._statistics

    @property
    def labels(self) -> Tensor | None:
        """The classes of the images that come next, (images,) whole numbers; to be set before each forward pass.

        They hold for one pass of the model, so that no images are counted with the labels of others.

        Raises:
            InputError: no classes were given, or these are no labels of them.
        """
        return self._labels

    @labels.setter
    def labels(self, labels: Tensor) -> None:
        if self._statistics is None:
            raise InputError("labels are for statistics; record with statistics=True and classes=")
        self._labels = self._statistics.checked(labels)

    @property
    def edit(self) -> Mapping[str, Edit]:
        """The replacements of gates, as :func:`record` takes it; may be set between forward passes, ``{}`` for none.

        Raises:
            InputError: a name or glob that no site has, or a value of another kind.
        """
        return self._edits.given

    @edit.setter
    def edit(self, edits: Mapping[str, Edit]) -> None:
        self._edits = Edits(edits, self._sites)

    def begin(self) -> None:
        """A forward pass of the model begins."""
        self._calls, self._pending = Counter(), []

    def commit(self) -> None:
        """A forward pass of the model went well: its gates count."""
        for site, gates in self._pending:
            self._sites.setdefault(site)
            if self._statistics is not None:
                self._statistics.add(site, gates, self._labels)
            else:
                self._batches.setdefault(site, []).append(gates)
        self._pending = []

    def end(self) -> None:
        """A forward pass of the model is over, or was broken off."""
        self._calls = self._labels = None
        self._pending = []

    def hear(self, site: str, gate: Tensor) -> Tensor | None:
        """Takes in a gate, (N, C, ...); what it is replaced by, or None."""
        if self._calls is not None:
            self._calls[site] += 1
            if self._calls[site] > 1:
                site = f"{site}#{self._calls[site]}"
        if not _recomputed():
            self._keep(site, by_channel(gate.detach()))
        elif self._calls is None and self._edits.tells_calls_apart(site):
            raise InputError(
                f"an edit is of one call of {site!r}, whose activations are checkpointed: which call is computed again "
                "is not known; edit all calls, or do without checkpointing"
            )
        return self._edits.apply(site, gate)

    def _keep(self, site: str, gates: Tensor) -> None:
        """Takes in gates (N, C): now, or where a pass of the model runs, at its end."""
        if self._statistics is not None:
            self._statistics.check(site, gates, self._labels)
        # Normal tensors, also out of inference mode; copies, as networks may write into their gates.
        with torch.inference_mode(False), torch.no_grad():
            kept = gates.clone() if self._statistics is not None else gates.to("cpu", torch.float32, copy=True)
        self._pending.append((site, kept))
        if self._calls is None:
            self.commit()


def _recomputed() -> bool:
    """Whether a backward pass runs: it computes gates again where activations are checkpointed."""
    return torch._C._current_graph_task_id() != -1


@contextmanager
def record(
    model: nn.Module,
    *,
    edit: Mapping[str, Edit] | None = None,
    statistics: bool = False,
    classes: Sequence[str] | None = None,
    example: Sequence[Any] | None = None,
) -> Iterator[Recording]:
    """Records the gates of every gated map while the model runs, and edits them.

    The network computes what it computes without it, but for edits, and nothing of it is left behind, not even after
    an exception. Modules that are fused may run as they were before meanwhile, whose results differ by rounding.
    Gates of a pass that an exception broke off do not count. Copies of the model made meanwhile are recorded and
    edited until the recording ends. What ``torch.compile`` made of the model before is not heard; run the model itself.

    Example::

        with senet.record(model) as recording:
            model(images)
        recording.gates["layer1.0.se"]  # (images, channels)

        with senet.record(model, edit={"layer4.*": 1.0}):  # as if the last stage had no gates
            model(images)

        with senet.record(model, statistics=True, classes=names) as recording:
            for images, labels in batches:
                recording.labels = labels
                model(images)
        recording.statistics.sites["layer1.0.se"].class_means  # (classes, channels)

    Args:
        model: any module with squeeze-and-excitation.
        edit: site name or glob -> what its gate is replaced by: a number; values (C,) or (N, C); ``"mean"``, its mean
            over the images of the batch; ``"shuffle"``, the gate of another image of the batch, by PyTorch's random
            numbers on the CPU (of one image: its own); or a function (N, C) -> (N, C). Gradients flow through; where
            activations are checkpointed, run the backward pass before the recording ends too. A gate that differs over
            positions becomes the same number everywhere, but keeps its map where it is averaged over images or
            shuffled; of a block whose gate is a product, as coordinate attention's, each factor becomes that number.
            Recorded is the gate that the network computed, not what it became.
        statistics: whether means and spreads are gathered, in memory that does not grow, and no gates kept.
        classes: with statistics, the names of the classes that they are gathered by; ``recording.labels`` is then to
            be set before each forward pass.
        example: what the model's forward takes, for one run without gradients; None: images of a size that it takes.

    Raises:
        InputError: the model has no gated map, is compiled, scripted, folded or on several devices, or does not take
            the example; an edit of no site or of a wrong kind; classes without statistics.
    """
    if classes is not None and not statistics:
        raise InputError("classes are for statistics; record with statistics=True, or leave them out")
    sites, left = gates_and_left(model, example)
    gathered = GateStatistics(("all",) if classes is None else classes) if statistics else None
    recording = Recording([site.name for site in sites], gathered, left)
    recording.edit = edit or {}
    before = model.register_forward_pre_hook(_of_recording(lambda *_: recording.begin()))
    through = model.register_forward_hook(_of_recording(lambda *_: recording.commit()))
    after = model.register_forward_hook(_of_recording(lambda *_: recording.end()), always_call=True)
    try:
        with listen(sites, recording.hear):
            yield recording
    finally:
        before.remove()
        through.remove()
        after.remove()


def _of_recording(hook: Callable[..., None]) -> Callable[..., None]:
    """Marks a hook as one that a copy of the model, made meanwhile, is to be rid of."""
    hook._senet_recording = True  # type: ignore[attr-defined]
    return hook
