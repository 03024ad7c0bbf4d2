"""The excitation lab: what the gates of a trained network do, and what it loses without them (paper sec. 7.2)."""

from __future__ import annotations

import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from senet.analysis.gates.record import record
from senet.analysis.gates.statistics import GateStatistics, Site
from senet.analysis.lab.images import choose, portrait
from senet.analysis.lab.leave_out import check_runs, leave_one_out, right
from senet.analysis.lab.result import Excitation
from senet.analysis.lab.sample import Sample
from senet.analysis.lab.statistics import similarity, spectrum
from senet.analysis.plots import sampled
from senet.errors import InputError, did_you_mean
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.tap import listen
from senet.surgery.graph.modules import evaluating

__all__ = ["PAPER_CLASSES", "excite"]

# The paper's four, by the WordNet ids of ImageNet's classes: its "plane" is taken to be the airliner, as the class that
# is called plane, n03954731, is the carpenter's tool.
PAPER_CLASSES = {"n01443537": "goldfish", "n02110958": "pug", "n02690373": "plane", "n09246464": "cliff"}
_FIGURE = 4  # classes drawn where none are chosen, as many as in the paper's Figure 6
_MOST = 6  # classes that the colours of a figure tell apart
_MATRIX = 20  # classes up to which all are compared with all


def excite(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    *,
    name: str = "",
    chosen: Sequence[str] | None = None,
    blocks: str = "*",
    limit: int = 2000,
    portraits: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Excitation:
    """Looks at the gates of a network, after the paper's section 7.2.

    The statistics are of all images, in memory that does not grow. At most ``limit`` of the images, drawn at random,
    are kept and run again and again: with the gates of one block at their mean, at 1, or exchanged between images.
    The model runs in evaluation mode and without gradients; afterwards every module is in the mode it was in.

    Source: paper sec. 7.2, Figures 6 and 7. Differs from the paper: all images given are used, not 50 of each class;
    and the paper's authors left out whole stages and trained again, where here a trained network stays as it is.

    Args:
        model: a classifier with squeeze-and-excitation.
        batches: (images, labels), images as the model takes them, on its device; labels (N,) whole numbers. Gone
            through once.
        classes: the names of the classes, in the order of the labels and of the model's outputs.
        name: how the results call the network; its class's name by default.
        chosen: the classes that figures show, at most 6; None: the paper's four where all are there, else four, evenly
            spread over the list, of which those with images; where none has any, four evenly spread over those that
            do. ImageNet's are also known by the paper's words: goldfish, pug, plane, cliff.
        blocks: a glob of the names of blocks to look at.
        limit: how many images are kept, at least 2.
        portraits: how many single images to look at.
        seed: of the draw, and of the exchange.
        progress: is told how many of how many runs over the kept images are done.

    Raises:
        InputError: no gate, fewer than 2 images, a class or block that is not there, two classes of one name, a chosen
            class without images, labels that are none, gates or outputs that are not finite or do not fit, or a block
            that does not run for all images.
    """
    classes = tuple(classes)
    indices = _chosen(chosen, classes)
    if limit < 2:
        raise InputError(f"limit is {limit}; accepted: 2 images or more")
    sample = Sample(limit, seed=seed)
    with evaluating(model), torch.inference_mode():
        seen = _look(model, batches, classes, blocks, sample)
        found = seen.sites
        count = next(iter(found.values())).count
        if empty := [classes[k] for k in indices if not count[k]]:
            if chosen is not None:
                raise InputError(f"class {empty[0]!r} has no image in the data; choose classes that have some")
            indices = [k for k in indices if count[k]] or _spread(count.nonzero().flatten().tolist())
        means = {site: statistics.mean for site, statistics in found.items()}
        left_out, gates = leave_one_out(
            model,
            sample,
            means,
            device=seen.device,
            classes=len(classes),
            seed=seed,
            progress=progress or (lambda *_: None),
        )
        places = choose(sample.labels, indices, portraits)
        pictures = tuple(portrait(model, sample, place, means, classes, seen.device) for place in places)
    compared = tuple(range(len(classes)) if len(classes) <= _MATRIX else indices)
    return Excitation(
        name=name or type(model).__name__,
        classes=classes,
        chosen=tuple(indices),
        images=sample.seen,
        top1=100 * seen.right / sample.seen,
        sites=found,
        spectra={site: spectrum(values) for site, values in gates.items()},
        compared=compared,
        similarity={site: similarity(s.class_means[list(compared)]) for site, s in found.items()},
        leave_out=left_out,
        portraits=pictures,
        blocks=seen.blocks,
        planes=tuple(site for site in found if site in seen.planes),
    )


def _chosen(names: Sequence[str] | None, classes: tuple[str, ...]) -> list[int]:
    if len(classes) < 2:
        raise InputError(f"there {'is one class' if classes else 'are no classes'}; give the names of at least two")
    if twice := [name for name, times in Counter(classes).items() if times > 1]:
        raise InputError(f"two classes are called {twice[0]!r}; give each a name of its own")
    ids = {name.partition(" ")[0]: k for k, name in enumerate(classes)}  # "n01443537" or "n01443537 goldfish"
    paper = {word: ids[wordnet] for wordnet, word in PAPER_CLASSES.items() if wordnet in ids}
    if names is None:
        if len(paper) == len(PAPER_CLASSES):
            return list(paper.values())
        return _spread(range(len(classes)))
    if not 1 <= len(names) <= _MOST or len(set(names)) < len(names):
        raise InputError(f"classes to show are {', '.join(names) or 'none'}; accepted: 1 to {_MOST}, each once")
    known = {**paper, **{name: k for k, name in enumerate(classes)}}
    for name in names:
        if name not in known:
            raise InputError(f"no class is called {name!r}{did_you_mean(name, known)}")
    return list(dict.fromkeys(known[name] for name in names))


def _spread(classes: Sequence[int]) -> list[int]:
    return [classes[i] for i in sampled(len(classes), _FIGURE)]


@dataclass(frozen=True)
class _Seen:
    """Results over all images: statistics of the blocks looked at, and names of all that differ over positions."""

    sites: Mapping[str, Site]
    blocks: int
    planes: frozenset[str]
    right: int
    device: torch.device


def _look(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    blocks: str,
    sample: Sample,
) -> _Seen:
    """Goes through all images once."""
    statistics, correct, device = GateStatistics(classes), 0, torch.device("cpu")
    pairs = (_checked(batch, number) for number, batch in enumerate(batches, 1))
    first = next(pairs, None)
    if first is None:
        raise InputError("there are no images; give at least two to compare")
    example, calls, planes = (first[0][:1],), Counter[str](), set[str]()

    def hear(site: str, gate: Tensor) -> None:
        calls[site] += 1
        if gate.shape[2:].numel() > 1:
            planes.add(site if calls[site] == 1 else f"{site}#{calls[site]}")  # as record numbers them

    everywhere = find_gates(model, example)  # not while recording, which hears the copy that this runs
    with record(model, example=example) as recording, listen(everywhere, hear):
        for number, (images, labels) in enumerate(itertools.chain([first], pairs), 1):
            calls.clear()
            logits = model(images)
            if not isinstance(logits, Tensor) or logits.shape != (len(images), len(classes)):
                given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise InputError(f"the model gives {given} for {len(images)} images of {len(classes)} classes")
            for site, gates in recording.take().items():
                _finite(gates, f"block {site!r}: gates", number)
                if fnmatch.fnmatchcase(site, blocks):
                    statistics.update(site, gates, labels.cpu())
            _finite(logits, "outputs", number)
            correct += int(right(logits, labels, len(classes))[0].sum())
            sample.offer(images, labels)
            device = images.device
        known = recording.sites
    if sample.seen < 2:
        raise InputError("there is one image; give at least two to compare")
    sites = statistics.sites
    if not sites:
        raise InputError(f"no block is called {blocks!r}{did_you_mean(blocks, known)}")
    check_runs({name: int(site.count.sum()) for name, site in sites.items()}, sample.seen)
    return _Seen(sites, len(known), frozenset(planes), correct, device)


def _finite(values: Tensor, what: str, number: int) -> None:
    if not values.isfinite().all():
        raise InputError(
            f"{what} that are not finite in batch {number}; look for NaN in the network's weights and in these images"
        )


def _checked(batch: object, number: int) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, labels = batch
        if isinstance(images, Tensor) and isinstance(labels, Tensor) and labels.shape == images.shape[:1]:
            return images, labels
    raise InputError(f"batch {number} is no pair (images, labels); the lab needs a label for each image")
