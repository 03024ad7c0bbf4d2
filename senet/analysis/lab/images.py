"""Gates of a network on single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from senet.analysis.gates.record import record
from senet.analysis.lab.sample import Sample
from senet.blocks.stages import Recalibrate

__all__ = ["Portrait", "choose", "portrait"]


@dataclass(frozen=True)
class Portrait:
    """One image, and how its gates differ from those of the mean image.

    Attributes:
        picture: uint8, (H, W) or (H, W, 3), its contrast stretched; None for other than (1 or 3, H, W).
        truth: its class.
        guess: what the network takes it for.
        deviations: block -> gates of this image minus their mean over all images, (C,) float64.
        maps: block -> gates at every position, their mean over channels, (h, w); only of blocks of ours whose gates
            differ over positions.
    """

    picture: Tensor | None
    truth: str
    guess: str
    deviations: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]


def choose(labels: Tensor, chosen: Sequence[int], count: int) -> list[int]:
    """The places of ``count`` images, of the chosen classes in turn while they last, then of any."""
    left = {k: (labels == k).nonzero().flatten().tolist() for k in chosen}
    found: list[int] = []
    while len(found) < count and any(left.values()):
        found += [places.pop(0) for places in left.values() if places]
    others = [place for place in range(len(labels)) if int(labels[place]) not in chosen]
    return (found + others)[:count]


def portrait(
    model: nn.Module,
    sample: Sample,
    index: int,
    means: Mapping[str, Tensor],
    classes: Sequence[str],
    device: torch.device,
) -> Portrait:
    """Runs a network, in evaluation mode and without gradients, on one image of a sample."""
    image = sample.image(index)
    given = image.to(device)[None]
    with record(model, example=(given,)) as recording:
        logits = model(given)
    gates = recording.gates
    return Portrait(
        picture=_picture(image),
        truth=classes[int(sample.labels[index])],
        guess=classes[int(logits.argmax())],
        deviations={site: gates[site][0].double() - mean for site, mean in means.items()},
        maps={site: plane for site, plane in _maps(model, given).items() if site in means},
    )


def _maps(model: nn.Module, given: Tensor) -> dict[str, Tensor]:
    """Gates that differ over positions, their mean over channels: in a run of its own, as it computes them twice."""
    maps: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def look(name: str, block: Recalibrate, args: tuple[Tensor], kwargs: Mapping[str, Tensor]) -> None:
        calls[name] += 1
        gate = block.gates(kwargs.get("source", args[0]))
        if gate[0, 0].numel() > 1:
            site = name if calls[name] == 1 else f"{name}#{calls[name]}"  # as record numbers them
            maps[site] = gate[0].mean(0).double().cpu()

    with ExitStack() as hooks:
        for name, block in model.named_modules():
            if isinstance(block, Recalibrate):
                look_here = partial(look, name or type(block).__name__)
                hooks.callback(block.register_forward_pre_hook(look_here, with_kwargs=True).remove)
        model(given)
    return maps


def _picture(image: Tensor) -> Tensor | None:
    """An image as the network sees it, from its darkest value to its brightest."""
    if image.ndim != 3 or len(image) not in (1, 3):
        return None
    image = image.float()
    low, high = image.min(), image.max()
    pixels = ((image - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)
    return pixels[0] if len(image) == 1 else pixels.permute(1, 2, 0)
