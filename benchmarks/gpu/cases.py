"""The sites of networks and the sweeps over their maps, read off the networks themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import timm
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.setting import LAYOUTS, Network
from senet.kernels.dispatch import use
from senet.surgery.fusing.fuse import fuse

__all__ = ["Site", "Sweep", "randn", "sites_of", "sweeps_of"]


class Site(NamedTuple):
    """A gated map.

    Attributes:
        kind: ``"tail"`` of a residual unit, or ``"mobile"``: between an activation and a convolution.
        channels, height, width: of the map.
        act: the activation before the gate.
        outputs: channels of the convolution that follows; 0 in a tail.
        model: the first network that has such a site.
    """

    kind: str
    channels: int
    height: int
    width: int
    act: str
    outputs: int
    model: str


class Sweep(NamedTuple):
    """A sweep over a site's maps.

    Attributes:
        name: the function's.
        kind, reads: as :func:`senet.kernels.triton_plan.plan_sweep` takes them.
        maps: how many are read and written.
        call: runs it, of an implementation, perhaps with a plan.
        before: the sweep that ran before it over the same maps, if one did.
    """

    name: str
    kind: Literal["map", "sums"]
    reads: int
    maps: int
    call: Callable[..., Any]
    before: str | None = None


@cache
def sites_of(networks: Sequence[Network], size: int, most: int) -> list[Site]:
    """The different sites of fused networks, of each kind so many: tails first, then by network and depth."""
    found: dict[tuple[Any, ...], Site] = {}
    for network in networks:
        with use("plain"):  # only which sites there are matters, not who computes them
            model = fuse(timm.create_model(network.name, **dict(network.options))).to("meta").train()
        with _Sites() as seen:
            model(torch.empty(2, 3, size, size, device="meta"))
        for kind, shape, act, outputs in seen.sites:
            found.setdefault((kind, shape, act), Site(kind, *shape, act, outputs, network.name))
    return [site for kind in ("tail", "mobile") for site in [s for s in found.values() if s.kind == kind][:most]]


class _Sites(TorchDispatchMode):
    """Sees the operators that close sites."""

    def __init__(self) -> None:
        super().__init__()
        self.sites: list[tuple[str, tuple[int, ...], str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
        if func.namespace == "senet" and "act" in given and "weight" in given:
            outputs = given["weight"].shape[0]
            self.sites.append(("mobile", tuple(given["x"].shape[1:]), given["act"], outputs))
        elif func is torch.ops.senet.tail.default and given["relu"] and given["shortcut"] is not None:
            self.sites.append(("tail", tuple(given["x"].shape[1:]), "relu", 0))
        return func(*args, **(kwargs or {}))


def randn(site: Site, batch: int, dtype: torch.dtype, layout: str, device: torch.device) -> Tensor:
    """A random map of a site."""
    shape = (batch, site.channels, site.height, site.width)
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=LAYOUTS[layout])


def sweeps_of(site: Site, batch: int, dtype: torch.dtype, layout: str, device: torch.device) -> list[Sweep]:
    """The sweeps of a site in the order of a training step, on random maps."""
    return list((_tail if site.kind == "tail" else _mobile)(site, batch, dtype, layout, device))


def _coefficients(site: Site, batch: int, device: torch.device) -> Iterator[Tensor]:
    while True:
        yield torch.rand(batch, site.channels, device=device) + 0.5


def _tail(site: Site, batch: int, dtype: torch.dtype, layout: str, device: torch.device) -> Iterator[Sweep]:
    x, g, shortcut, out = (randn(site, batch, dtype, layout, device) for _ in range(4))
    c, a, b, p, q, r = (t for t, _ in zip(_coefficients(site, batch, device), range(6), strict=False))
    yield Sweep("moments", "sums", 1, 1, lambda s, **plan: s.moments(x, **plan))
    yield Sweep("affine", "map", 2, 3, lambda s, **plan: s.affine(x, c, a, b, shortcut, True, **plan), "moments")
    yield Sweep("affine_backward", "sums", 3, 4, lambda s, **plan: s.affine_backward(g, out, x, c, **plan))
    yield Sweep("spread", "map", 2, 3, lambda s, **plan: s.spread(g, x, c, p, q, r, **plan), "affine_backward")


def _mobile(site: Site, batch: int, dtype: torch.dtype, layout: str, device: torch.device) -> Iterator[Sweep]:
    x, g = (randn(site, batch, dtype, layout, device) for _ in range(2))
    c, a, b, p, e, q, r = (t for t, _ in zip(_coefficients(site, batch, device), range(7), strict=False))
    u, act = (x, c, a, b), site.act
    yield Sweep("moments", "sums", 1, 1, lambda s, **plan: s.moments(x, **plan))
    yield Sweep("squeeze_act", "sums", 1, 1, lambda s, **plan: s.squeeze_act(*u, act, **plan), "moments")
    yield Sweep("gate_act", "map", 1, 2, lambda s, **plan: s.gate_act(*u, p, act, **plan), "squeeze_act")
    yield Sweep("gate_act_backward", "sums", 2, 2, lambda s, **plan: s.gate_act_backward(g, *u, act, **plan))
    yield Sweep(
        "spread_act", "map", 2, 3, lambda s, **plan: s.spread_act(g, *u, p, e, q, r, act, **plan), "gate_act_backward"
    )
