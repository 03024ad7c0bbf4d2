"""Writes docs/blocks.md: a card for each block, from its docstring and our counters. A test compares it with the page.

python tools/blocks.py
"""

from __future__ import annotations

import copy
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import senet
from senet.analysis.complexity import Cost, count
from senet.analysis.traffic import traffic
from senet.blocks import BLOCKS, create_block, start_as_identity
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.report import report

PAGE = Path(__file__).parents[1] / "docs" / "blocks.md"
CHANNELS, SIDE, BATCH = 256, 14, 32
LABELS = ("Cost", "Differs from the paper", "Not for")
HEAD = f"""# The blocks

Written by `tools/blocks.py` from the docstrings and by counting; not by hand. Every block is a module (N, C, H, W) ->
(N, C, H, W) with its default options, sits at any site of any network (`senet.create_model("resnet50", attn="eca")`),
and computes its gate in float32 or wider.

Counted at one site of {CHANNELS} channels of {SIDE} x {SIDE}, and as what a ResNet-50 with the block at all 16 sites
has more than one without, at 224 pixels. *Passes* are how often eager PyTorch reads or writes a tensor as large as the
map, forward, in float32; *moved* are all bytes read and written, of a batch of {BATCH}. *Identity*: whether
`senet.blocks.start_as_identity` can make it give the map back unchanged. *Free*: whether `senet.fuse` takes it, so that
the passes go.

| block | parameters | multiply-adds | passes | ResNet-50: parameters | multiply-adds | moved | identity | free |
|---|--:|--:|--:|--:|--:|--:|---|---|
"""


@dataclass(frozen=True)
class Card:
    """A block in numbers and words.

    Attributes:
        name: in :data:`senet.blocks.BLOCKS`.
        text: paragraphs of its docstring: title and formula, source, then those with a label.
        site: what it costs at one site.
        passes: there, forward.
        more: what ResNet-50 has more with it: parameters, multiply-adds, bytes moved, each as a ratio.
        refusal: why it cannot start as the identity; None where it can.
        free: whether fuse takes it.
    """

    name: str
    text: dict[str, str]
    site: Cost
    passes: float
    more: tuple[float, float, float]
    refusal: str | None
    free: bool


def cards(names: Iterable[str] = BLOCKS) -> list[Card]:
    """The cards of blocks by name."""
    plain = _network(None)
    return [_card(name, plain) for name in names]


def page(found: Iterable[Card]) -> str:
    """The page as Markdown."""
    found = list(found)
    rows = [f"| {' | '.join(_cells(card))} |\n" for card in found]
    return HEAD + "".join(rows) + "".join(_written(card) for card in found)


def _card(name: str, plain: tuple[int, int, int]) -> Card:
    with torch.device("meta"):
        block = create_block(name, CHANNELS).eval()
        u = torch.empty(BATCH, CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        passes = traffic(lambda: block(u), wide=u.numel()).passes()
    more = tuple(its / of - 1 for its, of in zip(_network(name), plain, strict=True))
    site = count(block, (CHANNELS, SIDE, SIDE)).total
    return Card(name, paragraphs(BLOCKS[name]), site, passes, more, _refusal(name), _is_free(name))


def _network(block: str | None) -> tuple[int, int, int]:
    """Parameters, multiply-adds and bytes moved of a ResNet-50."""
    with torch.device("meta"):
        net = create_model("resnet50", attn=block).eval()
        images = torch.empty(BATCH, 3, 224, 224)
    with torch.no_grad():
        moved = traffic(lambda: net(images)).total()
    cost = count(net, (3, 224, 224)).total
    return cost.parameters, cost.multiply_adds, moved.read + moved.written


def _refusal(name: str) -> str | None:
    try:
        start_as_identity(create_block(name, CHANNELS))
    except InputError as error:
        return str(error)
    return None


def _is_free(name: str) -> bool:
    net = create_model("cifar_resnet8", attn=name).eval()
    return bool(report(senet.fuse(copy.deepcopy(net))).taken)


def paragraphs(block: type[nn.Module]) -> dict[str, str]:
    """A docstring's first line as title and formula, its second paragraph as the source, and those with a label.

    Raises:
        ValueError: one of them is missing.
    """
    first, source, *rest = (" ".join(part.split()) for part in (inspect.getdoc(block) or "").split("\n\n"))
    title, colon, formula = first.partition(": ")
    labelled = {label: part.removeprefix(f"{label}: ") for label in LABELS for part in rest if part.startswith(label)}
    if not colon or labelled.keys() != set(LABELS):
        raise ValueError(f"the docstring of {block.__name__} lacks a title or one of {', '.join(LABELS)}")
    return {"title": title, "formula": formula, "source": source, **labelled}


def _cells(card: Card) -> tuple[str, ...]:
    return (
        f"[`{card.name}`](#{card.name})",
        f"{card.site.parameters:,}",
        f"{card.site.multiply_adds:,}",
        f"{card.passes:g}",
        *(f"{ratio:+.2%}" for ratio in card.more),
        "no" if card.refusal else "yes",
        "yes" if card.free else "no",
    )


def _written(card: Card) -> str:
    items = {label: card.text[label] for label in LABELS}
    if card.refusal:
        items["No identity"] = f"{card.refusal}."
    formula = card.text["formula"].removesuffix(".")
    head = f"\n## {card.name}\n\n**{card.text['title']}**: `{formula}`\n\n{_wrapped(card.text['source'])}\n\n"
    return head + "".join(
        f"{_wrapped(f'- **{label}.** {text[0].upper()}{text[1:]}')}\n" for label, text in items.items()
    )


def _wrapped(text: str) -> str:
    plain = text.replace("``", "`").replace(":class:", "").replace(":mod:", "")
    indent = "  " if text.startswith("- ") else ""
    return textwrap.fill(plain, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(cards()))
