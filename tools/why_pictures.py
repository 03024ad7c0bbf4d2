"""Draws the figures of docs/why.md from small networks whose weights are at hand, and from measurements.

Pictures need scikit-image's and rapidocr-onnxruntime's files, as benchmarks/textline.py does, and Fashion-MNIST.

python tools/why_pictures.py
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from senet.analysis.complexity import equation_5
from senet.analysis.svg import INK, SERIES, Plot, legend
from senet.blocks import Recalibrate, create_block
from senet.models import create_model
from senet.train.data.fashion_mnist import read_split

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"


def photograph() -> tuple[Image.Image, Tensor]:
    """A cat (scikit-image's chelsea, CC0): the picture, and as our CIFAR networks take it, (1, 3, 32, 32)."""
    picture = Image.open(_textline()["PAGE"].with_name("chelsea.png")).convert("RGB").crop((100, 0, 400, 300))
    how = _cat_network().loaded.preprocessing
    small = picture.resize((how.size, how.size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (how.mean, how.std))
    return picture, ((pixels - mean) / std)[None]


def _textline() -> dict[str, Any]:
    """The files that lie in packages."""
    data = runpy.run_path(str(ROOT / "benchmarks" / "textline_data.py"))
    if data["PAGE"] is None or data["WEIGHTS"] is None:
        raise SystemExit("pictures need: pip install --no-deps rapidocr-onnxruntime==1.4.4 scikit-image==0.26.0")
    return data


def _cat_network() -> Any:
    return create_model("cifar_seresnet20", pretrained="cifar10_jpeg").eval()


@contextmanager
def watched(net: nn.Module, name: str) -> Iterator[dict[str, Tensor]]:
    """What reaches a block while a network runs, ``u``, and what it makes of it: ``s`` and ``x``."""
    seen: dict[str, Tensor] = {}
    block: Any = net.get_submodule(name)

    def look(_: nn.Module, args: tuple[Tensor], x: Tensor) -> None:
        seen.update(u=args[0].detach(), s=block.gates(args[0]).detach(), x=x.detach())

    handle = block.register_forward_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def steps() -> Plot:
    """A block's work on a photograph."""
    picture, x = photograph()
    net = _cat_network()
    with torch.no_grad(), watched(net, "layer1.1.se") as seen:
        net(x)
    return _maps(seen, 8, picture.resize((150, 150)), "a block's work on a photograph", tile=(64, 64))


def mbconv() -> Plot:
    """A mobile unit's block on a line of text."""
    data = _textline()
    net = create_model("paddle_textline_cls", pretrained=data["WEIGHTS"]).eval()
    image = data["crops"](data["PAGE"])[0][:1]
    with torch.no_grad(), watched(net, "blocks.3.se") as seen:
        net(image)
    shades = ((image[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).byte().numpy()
    return _maps(seen, 4, Image.fromarray(shades), "a mobile unit's block on a line of text", tile=(150, 36))


def _maps(seen: Mapping[str, Tensor], columns: int, picture: Image.Image, title: str, tile: tuple[int, int]) -> Plot:
    """The picture, then a column a channel: map, average, gate, scaled map; one scale of colours.

    Of the half of the channels whose maps vary most, some that are evenly spread from the smallest gate to the largest.
    """
    u, s = seen["u"][0], seen["s"].flatten()
    lively = u.std((1, 2)).argsort(descending=True)[: max(columns, len(u) // 2)]
    by_gate = lively[s[lively].argsort()]
    chosen = by_gate[torch.linspace(0, len(by_gate) - 1, columns).round().long()]
    width, height = tile
    gap, text, left = 12, 44, 76
    tall = 110
    top = tall + 26
    rows = {"u": top, "z": top + height + 4, "s": top + height + 4 + text, "x": top + height + 4 + 2 * text}
    total = rows["x"] + height
    peak, most = float(u[chosen].abs().max()), float(u[chosen].mean((1, 2)).abs().max())

    def paint(axes: Any) -> None:
        right = left + tall * picture.width / picture.height
        axes.imshow(np.asarray(picture), extent=(left, right, tall, 0), aspect="auto")
        for name, words in (("u", "map u"), ("z", "average z"), ("s", "gate s"), ("x", "s times u")):
            middle = rows[name] + (height if name in "ux" else text) / 2
            axes.text(0, middle, words, va="center", fontsize=11)
        for column, channel in enumerate(chosen.tolist()):
            x = left + column * (width + gap)
            for name in "ux":
                tile_map = seen[name][0, channel].numpy()
                where = (x, x + width, rows[name] + height, rows[name])
                axes.imshow(
                    tile_map, extent=where, cmap="RdBu_r", vmin=-peak, vmax=peak, aspect="auto", interpolation="none"
                )
            for name, value, colour in (
                ("z", float(u[channel].mean()), SERIES[0]),
                ("s", float(s[channel]), SERIES[1]),
            ):
                base = rows[name] + text - 20
                bar = abs(value) * width if name == "s" else abs(value) / most * width / 2
                start = x if name == "s" else x + width / 2 - (bar if value < 0 else 0)
                axes.fill([start, start + bar, start + bar, start], [base, base, base + 8, base + 8], color=colour)
                axes.text(x + width / 2, base - 4, f"{value:.2f}", ha="center", va="bottom", fontsize=10)
        axes.set_xlim(0, left + len(chosen) * (width + gap))
        axes.set_ylim(total, 0)
        axes.axis("off")

    return Plot(paint, left + len(chosen) * (width + gap), total + 10, title)


def field() -> Plot:
    """Pixels that the centre of a map depends on, with gates held constant and as they are."""
    picture, x = photograph()
    reached = [reach(x, held=held).clamp(min=1e-12).log10() for held in (True, False)]

    def paint(*axes: Any) -> None:
        for each, title in zip(axes, ("the photograph", "gates held constant", "as it is"), strict=True):
            each.set_title(title, fontsize=12)
            each.set_xticks([])
            each.set_yticks([])
            each.spines[:].set_visible(False)
        axes[0].imshow(picture.resize((32, 32)))
        for each, values in zip(axes[1:], reached, strict=True):
            shown = each.imshow(values.numpy(), cmap="viridis", vmin=-6, vmax=float(max(v.max() for v in reached)))
        bar = axes[0].figure.colorbar(shown, ax=list(axes), shrink=0.8)
        bar.set_label("|gradient|, power of ten", fontsize=11)

    return Plot(paint, 620, 210, "pixels that the centre of a map depends on", columns=3)


def reach(x: Tensor, *, held: bool) -> Tensor:
    """How strongly the centre of the first stage's map depends on each pixel, (H, W), with gates held constant or not.

    That is the sum over colours of the gradient's absolute values, of the sum of the map's channels there.
    """
    net = _cat_network()
    for block in net.modules():
        if held and isinstance(block, Recalibrate):
            block.gate.register_forward_hook(lambda _, __, gate: gate.detach())
    pixels = x.clone().requires_grad_()
    stage = net.layer1(net.act1(net.bn1(net.conv1(pixels))))
    stage[0, :, stage.shape[2] // 2, stage.shape[3] // 2].sum().backward()
    assert pixels.grad is not None
    return pixels.grad[0].abs().sum(0)


def layers() -> Plot:
    """The average of a channel and its gate over many images, beside a sigmoid of the average."""
    net: Any = create_model("cifar_seresnet8", pretrained="fashion_mnist").eval()
    how = net.loaded.preprocessing
    images = read_split(None, "val").images
    assert images is not None
    batch = (images[:500].float() / 255 - how.mean[0]) / how.std[0]
    with torch.no_grad(), watched(net, "layer2.0.se") as seen:
        net(nn.functional.pad(batch, [(how.size - batch.shape[-1]) // 2] * 4, value=-how.mean[0] / how.std[0]))
    z, s = seen["u"].mean((2, 3)), seen["s"][..., 0, 0]
    channels = s.std(0).argsort(descending=True)[:3].tolist()
    bare = create_block("ge", 1)

    def paint(*axes: Any) -> None:
        for each, channel in zip(axes, channels, strict=True):
            dots = each.plot(
                z[:, channel], s[:, channel], ".", color=SERIES[1], alpha=0.35, markersize=4, rasterized=True
            )
            ends = torch.linspace(float(z[:, channel].min()), float(z[:, channel].max()), 50)
            gates = bare.gates(ends.view(-1, 1, 1, 1)).flatten()
            line = each.plot(ends, gates, color=SERIES[0], linewidth=2)
            each.set_xlabel("average of the channel")
            each.grid(axis="y")
        axes[0].set_ylabel("its gate")
        axes[0].set_ylim(0, 1)
        legend(axes[0], [dots[0], line[0]], ["SE: two layers", "no layers: sigmoid of the average"])

    return Plot(paint, 620, 270, "average of a channel and its gate", columns=3)


def sigmoid() -> Plot:
    """Gates of an image, sorted, and a softmax of the same numbers."""
    _, x = photograph()
    net = _cat_network()
    with torch.no_grad(), watched(net, "layer3.0.se") as seen:
        net(x)
    gates = seen["s"].flatten().sort().values
    shared = gates.logit().softmax(0)

    def paint(axes: Any) -> None:
        numbers = range(1, len(gates) + 1)
        curves = [axes.plot(numbers, values, color=colour, linewidth=2)[0]
                  for values, colour in ((gates, SERIES[1]), (shared, SERIES[0]))]  # fmt: skip
        axes.set_ylim(0, 1)
        axes.set_xlim(1, len(gates))
        axes.set_xlabel("channel, by its gate")
        axes.set_ylabel("gate")
        axes.grid(axis="y")
        legend(axes, curves, ["sigmoid of each", "softmax over all"])

    return Plot(paint, 420, 270, "gates by sigmoid and by softmax")


def cost() -> Plot:
    """What SE costs as it is and free, relative to ResNet-50."""
    lines = runpy.run_path(str(ROOT / "tools" / "free.py"))["newest"]()["kept"]
    counts = lines["counts"]
    rows = [
        ("training step", lines["train"]["se"][0], lines["train"]["fused"][0]),
        ("training step, compiled", lines["train-compiled"]["se"][0], lines["train-compiled"]["fused"][0]),
        ("inference, batch 8", lines["infer-compiled-8"]["se"][0], lines["infer-compiled-8"]["folded"][0]),
        ("inference, batch 1", lines["infer-compiled-1"]["se"][0], lines["infer-compiled-1"]["folded"][0]),
        ("bytes kept in training", counts["kept_seresnet50"], counts["kept_fused_seresnet50"]),
    ]

    def paint(axes: Any) -> None:
        axes.axvline(1, color=INK, linewidth=0.8, alpha=0.6)
        for number, (name, before, after) in enumerate(rows):
            axes.plot([before, after], [number, number], color=INK, alpha=0.3, linewidth=2, zorder=1)
            marks = [axes.plot(value, number, shape, color=colour, markersize=9)[0]
                     for value, shape, colour in ((before, "o", SERIES[1]), (after, "D", SERIES[2]))]  # fmt: skip
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axes.annotate(name, (0, number - 0.3), xycoords=("axes fraction", "data"), fontsize=12, bbox=box)
        axes.set_ylim(len(rows) - 0.6, -0.7)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("SE-ResNet-50 / ResNet-50")
        axes.grid(axis="x")
        legend(axes, marks, ["as it is", "fused or folded"])

    return Plot(paint, 460, 380, "what SE-ResNet-50 costs relative to ResNet-50")


def stages() -> Plot:
    """Weights that SE adds, by stage and by ratio."""
    ratios = (4, 8, 16, 32)
    with torch.device("meta"):
        networks = {r: create_model("seresnet50", attn_options={"reduction": r}) for r in ratios}
    found = {r: [stage.weights / 1e6 for stage in equation_5(network)] for r, network in networks.items()}

    def paint(axes: Any) -> None:
        for number, (values, colour) in enumerate(zip(found.values(), SERIES, strict=False)):
            places = [stage + 0.2 * number - 0.3 for stage in range(4)]
            axes.bar(places, values, 0.18, color=colour)
        axes.set_xticks(range(4), [f"stage {stage}" for stage in (2, 3, 4, 5)])
        axes.set_ylabel("weights, millions")
        axes.grid(axis="y")

    key = [(f"r = {r}", colour) for r, colour in zip(ratios, SERIES, strict=False)]
    return Plot(paint, 460, 240, "weights that SE adds to SE-ResNet-50, by stage and ratio", key=key)


PICTURES: Mapping[str, Callable[[], Plot]] = {
    "why-steps": steps,
    "why-field": field,
    "why-layers": layers,
    "why-sigmoid": sigmoid,
    "why-mbconv": mbconv,
    "why-cost": cost,
    "why-stages": stages,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FIGURES / f"{name}.svg").write_bytes(draw().file("svg"))
