"""Surgery is never silently wrong: kinds of networks, those that somebody reported and others of their kind.

Every network is exact after each verb, at other sizes, batches, modes and magnitudes, or is left alone and the report
says why, or one InputError says so. A class is a kind; long, as all kinds stand beside each other.
"""

# ruff: noqa: RUF012  (tables of networks stand in the class that is their kind)

from __future__ import annotations

import argparse
import collections
import contextvars
import copy
import dataclasses
import enum
import functools
import operator
import os
import pickle
import random
import secrets
import time
import types
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import senet
from senet.errors import InputError
from senet.surgery.gating.strip import strip
from tests.surgery.networks import (
    Case,
    Gate,
    Unit,
    gated,
    images,
    inputs,
    network,
    outcome,
    randomised,
    residual,
    same,
    wide,
)

EXAMPLE = (images((2, 12, 12), seed=2),)
TWO_SIZES = inputs([(2, 12, 12), (5, 7, 9)])


def tolerated(verb: Callable[[], Any]) -> str:
    """What a verb says where it refuses a network in words; any other error is one."""
    try:
        verb()
    except InputError as told:
        return str(told)
    return ""


class Mul(nn.Module):
    """A product of two inputs."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Add(nn.Module):
    """A sum of two inputs."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Cat(nn.Module):
    """Any number of inputs side by side."""

    def forward(self, *given: Tensor) -> Tensor:
        return torch.cat(given, 1)


class Parts(Unit):
    """Operators as modules, more gates, and layers for halves of a map."""

    def __init__(self, function: Any = None, **options: Any) -> None:
        super().__init__(function, **options)
        self.mul, self.add, self.cat = Mul(), Add(), Cat()
        self.gate2, self.gate3, self.gate4 = Gate(), Gate(), Gate()
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2)
        self.ff = torch.ao.nn.quantized.FloatFunctional()


def shuffle(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def by(gate: str) -> Callable[[Any, Tensor], Tensor]:
    """A map times one of several gates."""
    return lambda m, u: u * wide(getattr(m, gate)(u.mean((2, 3))))


class TestSpellings:
    """Products, sums, expansions and what takes a gated map, in words that mean the same or nearly so."""

    PRODUCTS = {
        "torch.multiply": lambda u, s: torch.multiply(u, s),
        "u.multiply": lambda u, s: u.multiply(s),
        "s.multiply": lambda u, s: s.multiply(u),
        "by keyword": lambda u, s: torch.mul(input=u, other=s),
        "multiply by keyword, swapped": lambda u, s: torch.multiply(input=s, other=u),
        "operator.imul": lambda u, s: operator.imul(u, s),
        "multiply_": lambda u, s: u.multiply_(s),
        "out=None": lambda u, s: torch.mul(u, s, out=None),
        "of the class": lambda u, s: torch.Tensor.mul(u, s),
        "einsum": lambda u, s: torch.einsum("nchw,nc->nchw", u, s[:, :, 0, 0]),
        "einsum, swapped": lambda u, s: torch.einsum("nc, nchw -> nchw", s.flatten(1), u),
        "einsum, dots": lambda u, s: torch.einsum("nc...,nc->nc...", u, s.flatten(1)),
        "einsum, a list": lambda u, s: torch.einsum("nchw,nc->nchw", [u, s.flatten(1)]),
        "einsum, transposed": lambda u, s: torch.einsum("nchw,cn->nchw", u, s.flatten(1).t()),
        "einsum of three": lambda u, s: torch.einsum("nchw,nc,c->nchw", u, s.flatten(1), u.new_ones(8)),
        "expand": lambda u, s: u * s.expand(-1, -1, u.shape[2], u.shape[3]),
        "broadcast_to": lambda u, s: u * torch.broadcast_to(s, u.shape),
        "broadcast_tensors": lambda u, s: operator.mul(*torch.broadcast_tensors(u, s)),
        "repeat": lambda u, s: u * s.repeat(1, 1, u.shape[2], u.shape[3]),
        "repeat_interleave": lambda u, s: u * s.repeat_interleave(u.shape[2], 2).repeat_interleave(u.shape[3], 3),
        "tile": lambda u, s: u * s.tile(1, 1, u.shape[2], u.shape[3]),
        "interpolate": lambda u, s: u * F.interpolate(s, size=u.shape[2:]),
        "interpolate by a factor": lambda u, s: u * F.interpolate(s, scale_factor=(u.shape[2], u.shape[3])),
        "ones_like": lambda u, s: u * (torch.ones_like(u) * s),
        "addcmul": lambda u, s: torch.addcmul(torch.zeros_like(u), u, s),
        "addcmul, half": lambda u, s: torch.addcmul(torch.zeros_like(u), u, s, value=0.5),
        "addcmul by keyword": lambda u, s: torch.addcmul(input=torch.zeros_like(u), tensor1=u, tensor2=s),
        "flattened": lambda u, s: (u.flatten(2) * s.flatten(2)).view_as(u),
        "one more": lambda u, s: u * (1 + s),
        "and itself": lambda u, s: u + u * s,
        "in place twice": lambda u, s: u.mul_(s).add_(0),
        "where": lambda u, s: torch.where(s > 0.5, u * s, u),
        "vmap": lambda u, s: torch.func.vmap(lambda a, b: a * b)(u, s),
        "type_as": lambda u, s: u * s.type_as(u),
        "size of the gate asked": lambda u, s: (u * s.expand_as(u)) * (s.shape[1] / 8),
    }
    TAILS = {
        "add by keyword": lambda m, x, g: torch.add(input=g, other=x),
        "add, alpha 1": lambda m, x, g: torch.relu(torch.add(g, x, alpha=1)),
        "add, alpha 2": lambda m, x, g: torch.add(g, x, alpha=2),
        "add, alpha 0.5, swapped": lambda m, x, g: torch.add(x, g, alpha=0.5),
        "operator.iadd": lambda m, x, g: torch.relu(operator.iadd(g, x)),
        "Add()": lambda m, x, g: torch.relu(m.add(g, x)),
        "Add(), swapped": lambda m, x, g: torch.relu(m.add(x, g)),
        "Mul()": lambda m, x, g: m.mul(g, x),
        "Cat()": lambda m, x, g: m.cat(g, x),
        "FloatFunctional": lambda m, x, g: m.ff.add_relu(g, x),
        "sum of a list": lambda m, x, g: torch.relu(sum([g, x])),
        "sum of three": lambda m, x, g: sum([g, x, x * 2]),
        "sum from a start": lambda m, x, g: sum([x], g),
        "stack and sum": lambda m, x, g: torch.stack([g, x]).sum(0).relu(),
        "stack and mean": lambda m, x, g: torch.stack((g, x), dim=0).mean(dim=0),
        "split": lambda m, x, g: torch.cat([m.left(g.split([4, 4], 1)[0]), m.right(g.split([4, 4], 1)[1])], 1),
        "chunk in a loop": lambda m, x, g: torch.cat([torch.relu(p) for p in (g + x).chunk(2, dim=1)], 1),
        "tensor_split": lambda m, x, g: torch.cat(torch.tensor_split(g, 2, 1)[::-1], 1),
        "unbind": lambda m, x, g: torch.stack(g.unbind(1), 1),
        "shuffle": lambda m, x, g: torch.relu(shuffle(g) + x),
        "cat": lambda m, x, g: torch.concat((x, g), dim=1),
        "index": lambda m, x, g: g[:, ::2],
        "a dictionary": lambda m, x, g: {"a": g, "b": x},
        "difference": lambda m, x, g: x - g,
        "a sum that broadcasts": lambda m, x, g: torch.relu(g + x[:1]),
        "its own sum": lambda m, x, g: torch.relu(g + g),
        "relu6": lambda m, x, g: F.relu6(g + x),
        "clamp_": lambda m, x, g: (g + x).clamp_(min=0),
        "threshold": lambda m, x, g: F.threshold(g + x, 1e-3, 0.0),
        "used twice": lambda m, x, g: torch.relu(g + x) + g.mean(),
        "size asked": lambda m, x, g: torch.relu(g + x) * (g.shape[2] / 10) + g.size(0),
        "size of the sum asked": lambda m, x, g: (lambda y: torch.relu(y) / y.shape[-1])(g + x),
        "detached": lambda m, x, g: torch.relu(g.detach() + x),
    }
    SEVERAL: dict[str, tuple[int, Any]] = {
        "two gates of one map": (2, lambda m, x, u: torch.relu(by("gate")(m, u) + by("gate2")(m, u))),
        "two maps": (2, lambda m, x, u: torch.relu(by("gate")(m, u) + by("gate2")(m, x))),
        "three maps": (
            3,
            lambda m, x, u: torch.relu(by("gate")(m, u) + by("gate2")(m, x) + by("gate3")(m, u * 2)),
        ),
        "four maps, a list": (
            4,
            lambda m, x, u: sum([by("gate")(m, u), by("gate2")(m, x), by("gate3")(m, m.conv(x)), by("gate4")(m, -u)]),
        ),
        "stacked": (
            3,
            lambda m, x, u: torch.stack([by("gate")(m, u), by("gate2")(m, x), by("gate3")(m, m.conv(u))]).sum(0),
        ),
        "side by side": (2, lambda m, x, u: m.cat(by("gate")(m, u), by("gate2")(m, m.conv(u)))),
        "gated twice": (2, lambda m, x, u: torch.relu(by("gate2")(m, by("gate")(m, u)) + x)),
        "shared layers": (2, lambda m, x, u: torch.relu(by("gate")(m, u) + by("gate")(m, x))),
        "one gate, two maps": (
            1,
            lambda m, x, u: (lambda w: torch.relu(u * w + x) + u.tanh() * w)(wide(m.gate(u.mean((2, 3))))),
        ),
        "gates multiplied": (
            1,
            lambda m, x, u: torch.relu(u * (wide(m.gate(u.mean((2, 3)))) * wide(m.gate2(u.mean((2, 3))))) + x),
        ),
        "addcmul of a gated map": (
            2,
            lambda m, x, u: torch.addcmul(by("gate2")(m, x), u, wide(m.gate(u.mean((2, 3))))).relu(),
        ),
        "x.addcmul": (1, lambda m, x, u: x.addcmul(u, wide(m.gate(u.mean((2, 3)))), value=1).relu()),
        "addcmul, minus": (1, lambda m, x, u: x.addcmul(u, wide(m.gate(u.mean((2, 3)))), value=-1)),
        "FloatFunctional": (1, lambda m, x, u: m.ff.add(m.ff.mul(u, wide(m.gate(u.mean((2, 3))))), x)),
        "Mul() and Add()": (1, lambda m, x, u: m.add(x, m.mul(wide(m.gate(u.mean((2, 3)))), u)).relu()),
        "another map's gate": (0, lambda m, x, u: torch.relu(u * wide(m.gate(x.mean((2, 3)))) + x)),
    }

    # A map and its gate (N, C), multiplied by other operators than products, or in another layout: left, and said.
    OTHERWISE = {
        "divided": lambda m, u, s: u / (1 / wide(s)),
        "divided by a sum": lambda m, u, s: u / (1 + torch.exp(-wide(m.gate.fc2(u.mean((2, 3)).relu()[:, :4])))),
        "div_": lambda m, u, s: u.div_(wide(s).reciprocal()),
        "addcdiv": lambda m, u, s: torch.addcdiv(torch.zeros_like(u), u, 1 / wide(s)),
        "channels last": lambda m, u, s: (u.permute(0, 2, 3, 1) * wide(s).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        "tokens": lambda m, u, s: (u.flatten(2).transpose(1, 2) * s[:, None]).transpose(1, 2).reshape(u.shape),
        "einsum, channels last": lambda m, u, s: torch.einsum("nchw,nc->nhwc", u, s).permute(0, 3, 1, 2),
        "bmm": lambda m, u, s: torch.bmm(torch.diag_embed(s), u.flatten(2)).view(u.shape),
        "matmul": lambda m, u, s: (torch.diag_embed(s) @ u.flatten(2)).view(u.shape),
        "einsum of a matrix": lambda m, u, s: torch.einsum("nchw,ncd->ndhw", u, torch.diag_embed(s)),
        "torch.prod": lambda m, u, s: torch.stack([u, wide(s).expand_as(u)]).prod(0),
        "lerp": lambda m, u, s: torch.lerp(torch.zeros_like(u), u, wide(s)),
        "lerp_": lambda m, u, s: u.lerp_(torch.zeros_like(u), 1 - wide(s)),
        "a convolution": lambda m, u, s: F.conv2d(
            u.reshape(1, -1, *u.shape[2:]), s.reshape(-1, 1, 1, 1), groups=u.shape[0] * u.shape[1]
        ).view(u.shape),
        "a norm's weight": lambda m, u, s: F.batch_norm(
            u.reshape(1, -1, *u.shape[2:]), 0 * s.flatten(), 0 * s.flatten() + 1, s.flatten(), None, False, 0.0, 0.0
        ).view(u.shape),
        "glu": lambda m, u, s: F.glu(torch.cat([u, wide(s.logit()).expand_as(u)], 1), 1),
        "halves": lambda m, u, s: torch.cat([u[:, :4] * wide(s[:, :4]), u[:, 4:] * wide(s[:, 4:])], 1),
        "channel by channel": lambda m, u, s: torch.stack([u[:, i] * s[:, i, None, None] for i in range(8)], 1),
        "five axes": lambda m, u, s: (u.unflatten(1, (2, 4)) * s.view(-1, 2, 4, 1, 1)).flatten(1, 2),
        "rows": lambda m, u, s: (u.reshape(-1, u.shape[2] * u.shape[3]) * s.reshape(-1, 1)).view(u.shape),
        "twice negated": lambda m, u, s: -(-u * wide(s)),
        "out=": lambda m, u, s: torch.mul(u, wide(s), out=torch.empty_like(u)),
    }

    @pytest.mark.parametrize("name", OTHERWISE)
    def test_no_products(self, name):
        def forward(m: Any, x: Tensor) -> Tensor:
            u = m.normed(x)
            return torch.relu(self.OTHERWISE[name](m, u, m.gate(u.mean((2, 3)))) + x)

        case = Case(lambda: network(forward), others=TWO_SIZES)
        done = case.fuse()
        assert [path for path, _ in (*done.taken, *done.left)] == ["1"]
        case.fold()
        case.record()

    @pytest.mark.parametrize("name", PRODUCTS)
    def test_products(self, name):
        product = self.PRODUCTS[name]

        def forward(m: Any, x: Tensor) -> Tensor:
            u = m.normed(x)
            return torch.relu(product(u, wide(m.gate(u.mean((2, 3))))) + x)

        case = Case(lambda: network(forward))
        case.fuse()
        case.fold()
        case.record()

    @pytest.mark.parametrize("name", TAILS)
    def test_tails(self, name):
        tail = self.TAILS[name]
        case = Case(lambda: network(lambda m, x: tail(m, x, gated(m, m.normed(x))), unit=Parts))
        case.fuse()
        case.fold()

    @pytest.mark.parametrize("name", SEVERAL)
    def test_several(self, name):
        products, function = self.SEVERAL[name]
        case = Case(lambda: network(lambda m, x: function(m, x, m.normed(x)), unit=Parts), products, others=TWO_SIZES)
        case.fuse()
        case.fold()
        case.record()

    @pytest.mark.parametrize("name", ["Add()", "split"])
    def test_all_verbs(self, name):
        """As in add_module.py and gate_then_split.py: also record, prune, and attach."""
        tail = self.TAILS[name]
        case = Case(lambda: network(lambda m, x: tail(m, x, gated(m, m.normed(x))), unit=Parts), others=TWO_SIZES)
        assert case.record() == ["1"]
        case.freeze()
        case.attach("conv3x3")
        head = nn.Sequential(*case.make(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        data = [(images((4, 12, 12)).float(), torch.arange(4))]
        assert senet.report(senet.prune(head, data, max_drop=100)).taken is not None


def squeezed(pool: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A residual unit whose gate is computed from a pool."""

    def forward(m: Any, x: Tensor) -> Tensor:
        u = m.normed(x)
        return torch.relu(u * wide(m.gate(pool(m, u).flatten(1))) + x)

    return forward


@torch.no_grad()
def without_gradients(u: Tensor) -> Tensor:
    return u.mean((2, 3))


class TestPools:
    """Pools that are global at one size alone, or of small values, or not in training."""

    POOLS = {
        "the height": lambda m, u: F.avg_pool2d(u, u.size(2)),
        "the width": lambda m, u: F.avg_pool2d(u, u.shape[-1]).mean((2, 3)),
        "both sides": lambda m, u: F.avg_pool2d(u, [u.size(2), u.size(3)]),
        "twelve": lambda m, u: F.avg_pool2d(u, 12),
        "twelve, one cell": lambda m, u: F.avg_pool2d(u, (12, 12))[:, :, 0, 0],
        "six, averaged": lambda m, u: F.avg_pool2d(u, 6).mean((2, 3)),
        "ceil_mode": lambda m, u: F.avg_pool2d(u, 4, ceil_mode=True).mean((2, 3)),
        "padding not counted": lambda m, u: F.avg_pool2d(u, 12, padding=0, count_include_pad=False)[:, :, 0, 0],
        "a divisor": lambda m, u: F.avg_pool2d(u, u.shape[2:], divisor_override=144),
        "a sum over a number": lambda m, u: u.sum((2, 3)) / 144,
        "a sum over a square": lambda m, u: u.sum((2, 3)) / u.shape[2] ** 2,
        "a sum over sizes": lambda m, u: u.sum((2, 3)) / u.shape[2] / u.shape[3],
        "a flat map's size": lambda m, u: (lambda f: f.sum(-1) / f.shape[-1])(u.flatten(2)),
        "two cells": lambda m, u: F.adaptive_avg_pool2d(u, 2).mean((2, 3)),
        "three by four cells": lambda m, u: F.adaptive_avg_pool2d(u, (3, 4)).mean((2, 3)),
        "as many cells as positions": lambda m, u: F.adaptive_avg_pool2d(u, 12).mean((2, 3)),
        "cells, then one": lambda m, u: F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(u, 6), 1),
        "one axis, then the other": lambda m, u: F.adaptive_avg_pool2d(u, (1, None)).mean(3),
        "clamped": lambda m, u: u.clamp(-1e4, 1e4).mean((2, 3)),
        "clamped above": lambda m, u: u.clamp(max=6e4).mean((2, 3)),
        "detached": lambda m, u: u.detach().mean((2, 3)),
        "no gradients": lambda m, u: without_gradients(u),
        "data": lambda m, u: u.data.mean((2, 3)),
        "median": lambda m, u: u.flatten(2).median(-1).values,
        "a corner": lambda m, u: u[:, :, :12, :12].mean((2, 3)),
        "a larger corner": lambda m, u: u[:, :, :16, :16].mean((2, 3)),
        "resized": lambda m, u: F.interpolate(u, size=(4, 4), mode="area").mean((2, 3)),
        "half the size": lambda m, u: F.interpolate(u, scale_factor=0.5, mode="area").mean((2, 3)),
        "by the size": lambda m, u: u.mean((2, 3)) if u.shape[2] < 16 else u[:, :, 0, 0],
        "by the batch": lambda m, u: u.mean((2, 3)) if u.shape[0] <= 4 else u[:, :, 0, 0],
        "dropout": lambda m, u: F.dropout(u, 0.1, m.training).mean((2, 3)),
        "dropout after": lambda m, u: F.dropout(u.mean((2, 3)), 0.1, m.training),
        "a convolution": lambda m, u: F.conv2d(u.flatten(0, 1)[:, None], u.new_full((1, 1, 12, 12), 1 / 144)).view(
            u.shape[0], u.shape[1], -1
        )[:, :, 0],
        "the example's batch": lambda m, u: u.view(2, 8, -1).mean(2),
        "the example's size": lambda m, u: u.reshape(-1, 8, 144).mean(2),
    }
    LAYERS = {
        "AvgPool2d(12)": lambda: nn.AvgPool2d(12),
        "AvgPool2d(12, 1)": lambda: nn.AvgPool2d(12, 1),
        "AvgPool2d(6)": lambda: nn.AvgPool2d(6),
        "AvgPool2d(12, ceil_mode)": lambda: nn.AvgPool2d(12, ceil_mode=True),
        "AvgPool2d(3, 1, 1)": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        "AdaptiveAvgPool2d(2)": lambda: nn.AdaptiveAvgPool2d(2),
        "AdaptiveAvgPool2d((None, 1))": lambda: nn.AdaptiveAvgPool2d((None, 1)),
        "two in a row": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.AvgPool2d(4)),
        "Hardtanh": lambda: nn.Hardtanh(-1e4, 1e4),
        "Dropout(0)": lambda: nn.Dropout(0.0),
    }
    OTHERS = inputs([(2, 12, 12), (1, 16, 16), (3, 12, 18), (2, 23, 23), (2, 28, 40)], scales=(1e5,))

    @pytest.mark.parametrize("name", POOLS)
    def test_functions(self, name):
        case = Case(lambda: network(squeezed(self.POOLS[name])), None, others=self.OTHERS)
        case.fuse()
        case.fold()

    @pytest.mark.parametrize("name", LAYERS)
    def test_layers(self, name):
        class Pooled(Unit):
            def __init__(s, function: Any) -> None:
                super().__init__(function)
                s.pool = self.LAYERS[name]()

        case = Case(
            lambda: network(squeezed(lambda m, u: m.pool(u).mean((2, 3))), unit=Pooled), None, others=self.OTHERS
        )
        case.fuse()
        case.fold()

    @pytest.mark.parametrize("name", ["the height", "twelve", "two cells"])
    def test_networks_of_one_size(self, name):
        """There is nothing to be wrong about elsewhere, and nothing to be said of it."""

        class Fixed(nn.Module):
            def __init__(s) -> None:
                super().__init__()
                s.body, s.head = network(squeezed(self.POOLS[name])), nn.Linear(8 * 144, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.head(self.body(x).flatten(1))

        Case(Fixed, others=inputs([(2, 12, 12), (5, 12, 12)])).all()

    def test_square_pool_fuse(self):
        """Reported: kuangliu's SENet pools by the height alone."""
        plain = network(squeezed(self.POOLS["the height"])).double()
        fused, x = senet.fuse(copy.deepcopy(plain)), images((2, 32, 48))
        torch.testing.assert_close(fused(x), plain(x), rtol=0, atol=1e-9)


def ghost(size: int) -> type[nn.BatchNorm2d]:
    """Batch norm of so many images at a time, in training."""

    class Ghost(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training or len(x) <= size:
                return super().forward(x)
            return torch.cat([super(Ghost, self).forward(part) for part in x.split(size)])

    return Ghost


def normed_by(function: Callable[[nn.BatchNorm2d, Tensor], Tensor]) -> type[nn.BatchNorm2d]:
    """A batch norm with another forward."""

    class Norm(nn.BatchNorm2d):
        sigma = 0.0

        def forward(self, x: Tensor) -> Tensor:
            return function(self, x)

    return Norm


def plain_norm(m: Any, x: Tensor) -> Tensor:
    return nn.BatchNorm2d.forward(m, x)


class SplitNorm(nn.BatchNorm2d):
    """A second norm for the second half of the images, in training."""

    def __init__(self, channels: int, least: int = 2) -> None:
        super().__init__(channels)
        self.least, self.aux = least, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(x) < self.least:
            return super().forward(x)
        half = len(x) // 2
        return torch.cat([super().forward(x[:half]), self.aux(x[half:])])


class FrozenNorm(nn.Module):
    """Running statistics as buffers, always."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class AlwaysEvaluating(nn.BatchNorm2d):
    """A norm that cannot be set to training."""

    def train(self, mode: bool = True) -> nn.BatchNorm2d:
        return super().train(False)


def renormed(m: Any, x: Tensor) -> Tensor:
    """Batch renormalisation: plain batch norm at first, and less so with the count."""
    if not m.training:
        return plain_norm(m, x)
    with torch.no_grad():
        variance, mean = torch.var_mean(x, (0, 2, 3), unbiased=False)
        r = ((variance + m.eps) / (m.running_var + m.eps)).sqrt().clamp(1 / 3, 3)
        d = ((mean - m.running_mean) / (m.running_var + m.eps).sqrt()).clamp(-5, 5)
    y = F.batch_norm(x, m.running_mean, m.running_var, None, None, True, m.momentum, m.eps)
    return (y * r[:, None, None] + d[:, None, None]) * m.weight[:, None, None] + m.bias[:, None, None]


class TestNorms:
    """Norms whose forward is not PyTorch's own, and PyTorch's own with every setting."""

    NORMS = {
        **{f"ghost of {size}": ghost(size) for size in (2, 8, 64, 256, 1024)},
        "split": SplitNorm,
        "split from 32 on": lambda c: SplitNorm(c, 32),
        "noise": normed_by(lambda m, x: plain_norm(m, x) + (0.1 * torch.randn_like(x) if m.training else 0)),
        "clamped to 3": normed_by(lambda m, x: plain_norm(m, x).clamp(-3, 3)),
        "clamped to 1e5": normed_by(lambda m, x: plain_norm(m, x).clamp(-1e5, 1e5)),
        "clamped before": normed_by(lambda m, x: plain_norm(m, x.clamp(-100, 100))),
        "momentum of its own": normed_by(
            lambda m, x: F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, m.training, 0.5, m.eps)
        ),
        "statistics not kept": normed_by(
            lambda m, x: F.batch_norm(
                x,
                None if m.training else m.running_mean,
                None if m.training else m.running_var,
                m.weight,
                m.bias,
                m.training,
                0.0,
                m.eps,
            )
        ),
        "always the batch": normed_by(lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True, 0.0, m.eps)),
        "always running": normed_by(
            lambda m, x: F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, False, 0.0, m.eps)
        ),
        "weight and 1": normed_by(
            lambda m, x: F.batch_norm(
                x, m.running_mean, m.running_var, 1 + m.weight, m.bias, m.training, m.momentum, m.eps
            )
        ),
        "eps of its own": normed_by(
            lambda m, x: F.batch_norm(
                x, m.running_mean, m.running_var, m.weight, m.bias, m.training, m.momentum, max(m.eps, 1e-3)
            )
        ),
        "ReLU inside": normed_by(lambda m, x: F.relu(plain_norm(m, x))),
        "ReLU6 inside": normed_by(lambda m, x: F.relu6(plain_norm(m, x))),
        "Hardtanh inside": normed_by(lambda m, x: F.hardtanh(plain_norm(m, x), 0.0, 60.0)),
        "image by image": normed_by(lambda m, x: torch.cat([plain_norm(m, x[i : i + 1]) for i in range(len(x))])),
        "renormed": normed_by(renormed),
        "by the size": normed_by(lambda m, x: plain_norm(m, x) * (1.0 if x.shape[-1] <= 12 else 1.5)),
        "frozen": FrozenNorm,
        "always evaluating": AlwaysEvaluating,
        "momentum None": lambda c: nn.BatchNorm2d(c, momentum=None),
        "momentum 1": lambda c: nn.BatchNorm2d(c, momentum=1.0),
        "untracked": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
        "not affine": lambda c: nn.BatchNorm2d(c, affine=False),
        "neither": lambda c: nn.BatchNorm2d(c, affine=False, track_running_stats=False),
        "not trained": lambda c: nn.BatchNorm2d(c).requires_grad_(False),
        "group": lambda c: nn.GroupNorm(2, c),
        "instance": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
        "Hardtanh after": lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.Hardtanh(0, 100)),
        "two": lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.BatchNorm2d(c)),
    }
    OTHERS = inputs([(2, 12, 12), (70, 3, 4), (1100, 1, 2)], scales=(1e6,))

    @pytest.mark.parametrize("name", NORMS)
    def test_norms(self, name):
        case = Case(lambda: network(norm=self.NORMS[name]), others=self.OTHERS)
        case.fuse()
        case.fold()
        case.freeze()

    @pytest.mark.parametrize("name", ["ghost of 8", "noise", "momentum 1", "split"])
    def test_evaluating_inside_training(self, name):
        def make() -> nn.Module:
            model = network(norm=self.NORMS[name]).train()
            model[1].bn.eval()
            return model

        case = Case(make, modes=(None,), others=TWO_SIZES)
        case.fuse()
        case.freeze()

    @pytest.mark.parametrize(
        "cast", [lambda t: t.float(), lambda t: t.type(torch.float32), lambda t: t.to(torch.float32)]
    )
    def test_norms_that_cast(self, cast):
        model = network(norm=normed_by(lambda m, x: plain_norm(m, cast(x)).type_as(x)))
        x = images((3, 9, 9)).float()
        for made in (senet.fuse(copy.deepcopy(model)).eval(), senet.fold(model)):
            torch.testing.assert_close(made(x), model.eval()(x), rtol=1e-4, atol=1e-5)

    def test_noise_that_is_turned_on_later(self):
        noisy = normed_by(lambda m, x: plain_norm(m, x) + (m.sigma * torch.randn_like(x) if m.training else 0))
        case = Case(lambda: network(norm=noisy))
        case.fuse(lambda model: setattr(model[1].bn, "sigma", 0.5))
        case.fuse(lambda model: setattr(noisy, "sigma", 0.5))


class Ends(Unit):
    """Activations as modules."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.h, self.h0, self.t = nn.Hardtanh(-1e3, 1e3), nn.Hardtanh(0, 1e3), nn.Threshold(1e-9, 0.0)
        self.r6, self.far = nn.ReLU6(), nn.Hardtanh(-1e5, 1e5)


class TestLargeValues:
    """Functions that show at large or small values alone, anywhere in a unit."""

    PLACES = {
        "before the norm": lambda m, x, f: torch.relu(gated(m, m.bn(f(m.conv(x)))) + x),
        "after the norm": lambda m, x, f: torch.relu(gated(m, f(m.normed(x))) + x),
        "of the squeezed map": lambda m, x, f: squeezed(lambda m, u: f(u).mean((2, 3)))(m, x),
        "of the average": lambda m, x, f: squeezed(lambda m, u: f(u.mean((2, 3))))(m, x),
        "of the product": lambda m, x, f: torch.relu(f(gated(m, m.normed(x))) + x),
        "of the shortcut": lambda m, x, f: torch.relu(gated(m, m.normed(x)) + f(x)),
        "of the sum": lambda m, x, f: f(gated(m, m.normed(x)) + x),
        "for the activation": lambda m, x, f: gated(m, torch.relu(f(m.normed(x)))),
    }
    ENDS = {
        "clamp at 100": lambda t: t.clamp(-100, 100),
        "clamp at 65504": lambda t: t.clamp(max=65504),
        "hardtanh instead of relu6": lambda t: F.hardtanh(t, 0.0, 6.0),
        "hardtanh to 60": lambda t: F.hardtanh(t, 0.0, 60.0),
        "threshold": lambda t: F.threshold(t, 1e-7, 0.0),
        "hardshrink": lambda t: F.hardshrink(t, 1e-6),
        "nearly a ReLU": lambda t: F.leaky_relu(t, 1e-11),
    }
    OTHERS = {f"times {by:g}": (images((3, 7, 5), scale=by),) for by in (1, 50, 1e3, 1e6, 1e-3, 1e-6)}

    @pytest.mark.parametrize("end", ENDS)
    @pytest.mark.parametrize("place", PLACES)
    def test_functions(self, place, end):
        put = self.PLACES[place]
        case = Case(lambda: network(lambda m, x: put(m, x, self.ENDS[end])), None, others=self.OTHERS, modes=(False,))
        case.fuse()
        case.fold()

    @pytest.mark.parametrize("end", ["h", "h0", "t", "r6", "far"])
    def test_modules(self, end):
        for put in (self.PLACES["after the norm"], self.PLACES["of the sum"], self.PLACES["of the product"]):
            case = Case(lambda put=put: network(lambda m, x: put(m, x, getattr(m, end)), unit=Ends), others=self.OTHERS)
            case.fuse()
            case.fold()
            case.freeze()


def cast_outcomes(model: nn.Module, x: Tensor, *, training: bool, autocast: bool) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        return outcome(copy.deepcopy(model).train(training), (x,), gradients=False)


class TestCasts:
    """Casts by name, autocast around a network and switched off inside it, and narrow dtypes."""

    @staticmethod
    def off(m: Any, x: Tensor) -> Tensor:
        u = m.normed(x)
        with torch.autocast("cpu", enabled=False):
            z = u.float().mean((2, 3)).to(m.gate.fc1.weight.dtype)
        return torch.relu(u * wide(m.gate(z)) + x)

    @staticmethod
    def off_altogether(m: Any, x: Tensor) -> Tensor:
        with torch.amp.autocast("cpu", enabled=False):
            return residual(m, x.to(m.conv.weight.dtype))

    @staticmethod
    def off_on_its_device(m: Any, x: Tensor) -> Tensor:
        u = m.normed(x)
        with torch.autocast(u.device.type, enabled=False):
            s = m.gate(u.mean((2, 3)).to(m.gate.fc1.weight.dtype))
        return torch.relu(u * wide(s) + x)

    FORWARDS = {
        "float().mean()": squeezed(lambda m, u: u.float().mean((2, 3)).to(u.dtype)),
        "mean(dtype=)": squeezed(lambda m, u: u.mean((2, 3), dtype=torch.float32).to(u.dtype)),
        "type()": squeezed(lambda m, u: u.type(torch.float32).mean((2, 3)).type(u.dtype)),
        "to(dtype=)": squeezed(lambda m, u: u.to(dtype=torch.float32).mean((2, 3)).to(dtype=u.dtype)),
        "to(other)": squeezed(lambda m, u: u.float().mean((2, 3)).to(u)),
        "double()": squeezed(lambda m, u: u.double().mean((2, 3)).to(u.dtype)),
        "gate in float32": lambda m, x: torch.relu(
            (lambda u: u * wide(m.gate(u.mean((2, 3)))).float())(m.normed(x)) + x
        ),
        "gate in float32 and back": lambda m, x: (
            lambda u: torch.relu((u * wide(m.gate(u.mean((2, 3))).float())).to(x.dtype) + x)
        )(m.normed(x)),
        "output in float32": lambda m, x: residual(m, x).float(),
        "activation in float32": lambda m, x: gated(m, F.silu(m.normed(x).float()).to(x.dtype)),
        "autocast off": off,
        "autocast off altogether": off_altogether,
        "autocast off on its device": off_on_its_device,
    }
    FORWARDS = {name: getattr(f, "__func__", f) for name, f in FORWARDS.items()}

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
    @pytest.mark.parametrize("name", FORWARDS)
    def test_dtypes_and_numbers(self, name, dtype, request):
        torch.manual_seed(0)
        plain = randomised(network(self.FORWARDS[name])).to(dtype)
        x = images((3, 9, 7)).to(dtype)
        fused = senet.fuse(copy.deepcopy(plain), example=(x,))
        folded = senet.fold(plain.eval(), example=(x,))
        for autocast in (False, True):
            for training, made in ((True, fused), (False, fused), (False, folded)):
                wanted = cast_outcomes(plain, x, training=training, autocast=autocast)
                got = cast_outcomes(made, x, training=training, autocast=autocast)
                tolerance = 1e-5 if dtype == torch.float32 and not autocast else 4e-2
                outputs = [{n: v for n, v in each.items() if not n.startswith("buffer")} for each in (got, wanted)]
                same(outputs[0], outputs[1], f"training {training}, autocast {autocast}", tolerance)

    def test_float_cast_se(self):
        """Reported: the mean in float32, as NVIDIA NeMo has it."""
        case = Case(lambda: network(self.FORWARDS["float().mean()"]))
        assert not senet.report(senet.fuse(network(self.FORWARDS["float().mean()"]))).left
        model = nn.Sequential(*case.make(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        with senet.record(model) as recording:
            model(images((2, 32, 32)).float())
        assert recording.gates
        senet.prune(model, [(images((2, 32, 32)).float(), torch.zeros(2, dtype=torch.long))], max_drop=100)


@dataclasses.dataclass
class Config:
    """A setting, and another object with more."""

    scale: float = 1.0
    inner: Any = None


class Slotted:
    """A setting in a slot."""

    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0


class OfClass(Unit):
    """Settings of the class, by a property and by a method."""

    t = 1.0

    @property
    def doubled(self) -> float:
        return 2 * self.t

    def halved(self) -> float:
        return self.t / 2

    def given(self, t: float = 1.0) -> float:
        return t

    @classmethod
    def of_class(cls) -> float:
        return cls.t


class Mode(enum.Enum):
    ONE = 1
    TWO = 2


class Doubled(nn.Module):
    """Twice what a layer gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.layer(x)


def scaled_by(read: Callable[[Any], Any], unit: Any = Unit, **attributes: Any) -> Callable[[], nn.Module]:
    """Makes a network whose gate's logits are multiplied by a number that forward reads."""

    def forward(m: Any, x: Tensor) -> Tensor:
        u = m.normed(x)
        z = m.gate.fc2(torch.relu(m.gate.fc1(u.mean((2, 3)))))
        return torch.relu(u * wide(torch.sigmoid(z * read(m))) + x)

    def make() -> nn.Module:
        model = network(forward, unit=unit)
        for name, value in attributes.items():
            setattr(model[1], name, copy.deepcopy(value))
        return model

    return make


def to(value: Any, path: str = "t") -> Callable[[nn.Module], None]:
    """Sets an attribute of the unit, or of an object in it."""

    def change(model: nn.Module) -> None:
        owner: Any = model[1]
        *above, name = path.split(".")
        for each in above:
            owner = getattr(owner, each)
        setattr(owner, name, value)

    return change


def deep(levels: int) -> Config:
    return Config(inner=deep(levels - 1)) if levels else Config()


class TestPythonDecides:
    """Values of Python that forward reads, which change after surgery; coins, counters and what is kept."""

    READS: dict[str, tuple[Any, Any]] = {
        "a number": (scaled_by(lambda m: m.t, t=1.0), to(3.0)),
        "a whole number": (scaled_by(lambda m: 2.0 if m.t is True else 1.0, t=1), to(True)),
        "a flag": (scaled_by(lambda m: 2.0 if m.t else 1.0, t=True), to(False)),
        "a string": (scaled_by(lambda m: 2.0 if m.t == "a" else 1.0, t="a"), to("b")),
        "None": (scaled_by(lambda m: 2.0 if m.t is None else 1.0, t=None), to(3)),
        "nothing yet": (scaled_by(lambda m: getattr(m, "t", 1.0)), to(3.0)),
        "no longer": (scaled_by(lambda m: 2.0 if hasattr(m, "t") else 1.0, t=1), lambda n: delattr(n[1], "t")),
        "a namespace": (scaled_by(lambda m: m.c.t, c=types.SimpleNamespace(t=1.0)), to(3.0, "c.t")),
        "a dataclass": (scaled_by(lambda m: m.c.scale, c=Config()), to(3.0, "c.scale")),
        "three deep": (scaled_by(lambda m: m.c.inner.inner.scale, c=deep(2)), to(3.0, "c.inner.inner.scale")),
        "six deep": (
            scaled_by(lambda m: m.c.inner.inner.inner.inner.inner.scale, c=deep(5)),
            to(3.0, "c.inner.inner.inner.inner.inner.scale"),
        ),
        "a slot": (scaled_by(lambda m: m.c.scale, c=Slotted()), to(3.0, "c.scale")),
        "a dictionary": (scaled_by(lambda m: m.c["t"], c={"t": 1.0}), lambda n: n[1].c.update(t=3.0)),
        "a key that is not there": (scaled_by(lambda m: m.c.get("t", 1.0), c={}), lambda n: n[1].c.update(t=3.0)),
        "a list in a dictionary": (
            scaled_by(lambda m: m.c["a"]["b"][0], c={"a": {"b": [1.0]}}),
            lambda n: n[1].c["a"]["b"].__setitem__(0, 3.0),
        ),
        "a set": (scaled_by(lambda m: 2.0 if "x" in m.c else 1.0, c=set()), lambda n: n[1].c.add("x")),
        "a queue": (scaled_by(lambda m: m.c[0], c=collections.deque([1.0])), lambda n: n[1].c.appendleft(3.0)),
        "an array": (scaled_by(lambda m: float(m.c[0]), c=np.ones(2)), lambda n: n[1].c.__setitem__(0, 3.0)),
        "a tensor": (scaled_by(lambda m: m.t, t=torch.ones((), dtype=torch.float64)), lambda n: n[1].t.fill_(3.0)),
        "a tensor's number": (scaled_by(lambda m: m.t.item(), t=torch.ones(())), lambda n: n[1].t.fill_(3.0)),
        "a tensor's number in a list": (
            scaled_by(lambda m: m.c[0].item(), c=[torch.ones(())]),
            lambda n: n[1].c[0].fill_(3.0),
        ),
        "a class's": (scaled_by(lambda m: m.t, unit=OfClass), to(3.0)),
        "a property": (scaled_by(lambda m: m.doubled, unit=OfClass), to(3.0)),
        "a method": (scaled_by(lambda m: m.halved(), unit=OfClass), to(3.0)),
        "a part's": (scaled_by(lambda m: m.gate.fc1.out_features / 4), to(12, "gate.fc1.out_features")),
        "a part's mode": (
            scaled_by(lambda m: 2.0 if m.gate.training else 1.0),
            lambda n: n[1].gate.train(not n[1].gate.training),
        ),
        "a function": (scaled_by(lambda m: 1.0), to(lambda m, x: x, "function")),
        "a part's class": (
            scaled_by(lambda m: 1.0 if isinstance(m.gate.fc1, nn.Linear) else 2.0),
            lambda n: setattr(n[1].gate, "fc1", Doubled(n[1].gate.fc1)),
        ),
        "a number of parts": (
            scaled_by(lambda m: float(len(m.acts)), acts=nn.ModuleList([nn.ReLU()])),
            lambda n: n[1].acts.append(nn.ReLU()),
        ),
        "a partial": (
            scaled_by(lambda m: m.c(0.5), c=functools.partial(max, 1.0)),
            to(functools.partial(max, 3.0), "c"),
        ),
        "an enum": (scaled_by(lambda m: 1.0 if m.c is Mode.ONE else 3.0, c=Mode.ONE), to(Mode.TWO, "c")),
    }
    OF_CLASS: dict[str, Callable[[Any], float]] = {
        "type(self)": lambda m: type(m).t,
        "self.__class__": lambda m: m.__class__.t,
        "the class": lambda m: OfClass.t,
        "a method": lambda m: m.halved() * 2,
        "a class method": lambda m: m.of_class(),
        "a property": lambda m: m.doubled / 2,
        "a default of a method": lambda m: m.given() * m.t,
    }

    @pytest.mark.parametrize("name", OF_CLASS)
    def test_numbers_of_a_class(self, name, monkeypatch):
        def change(model: nn.Module) -> None:
            monkeypatch.setattr(OfClass, "t", 3.0)

        case = Case(scaled_by(self.OF_CLASS[name], unit=OfClass), others=TWO_SIZES)
        assert case.fuse(change).taken
        monkeypatch.undo()
        case.fold(change)

    def test_methods_that_are_replaced(self, monkeypatch):
        def change(model: nn.Module) -> None:
            monkeypatch.setattr(OfClass.given, "__defaults__", (3.0,))

        assert Case(scaled_by(self.OF_CLASS["a default of a method"], unit=OfClass), others=TWO_SIZES).fuse(change)
        replaced = Case(scaled_by(self.OF_CLASS["a method"], unit=OfClass), others=TWO_SIZES)
        assert replaced.fuse(lambda model: monkeypatch.setattr(OfClass, "halved", lambda self: 3.0)).taken

    def test_attributes_read_by_their_dictionary(self):
        case = Case(scaled_by(lambda m: vars(m)["t"], t=1.0), others=TWO_SIZES)
        assert "__dict__" in case.fuse(to(3.0)).left[0][1]
        case.fold(to(3.0))

    @pytest.mark.parametrize("name", READS)
    def test_what_forward_reads(self, name):
        make, change = self.READS[name]
        case = Case(make, others=TWO_SIZES)
        case.fuse(change)
        case.fold(change)

    def test_attribute_frozen(self):
        """Reported: a temperature that is annealed, a flag that turns the gate on."""

        class Block(Unit):
            temperature, gated = 4.0, True

            def forward(self, x: Tensor) -> Tensor:
                u = self.normed(x)
                if self.gated:
                    u = u * wide(torch.sigmoid(self.gate.fc2(self.gate.fc1(u.mean((2, 3)))) / self.temperature))
                return torch.relu(u)

        case = Case(lambda: network(None, unit=Block))
        for change in (to(0.1, "temperature"), to(False, "gated")):
            case.fuse(change)
            case.fold(change)

    COINS = {
        "random": lambda m: random.random(),
        "numpy": lambda m: np.random.rand(),
        "torch, a number": lambda m: torch.rand(1).item(),
        "torch, a tensor": lambda m: torch.rand(1),
        "torch.randint": lambda m: torch.randint(0, 2, (1,)).item(),
        "Random of its own": lambda m: m.rng.random(),
        "numpy's of its own": lambda m: m.numpy.random(),
        "torch's of its own": lambda m: torch.rand(1, generator=m.torch).item(),
        "in a namespace": lambda m: m.settings.rng.random(),
    }

    class Coins(Unit):
        """Random numbers of its own."""

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self.rng, self.numpy, self.torch = random.Random(0), np.random.default_rng(0), torch.Generator()
            self.settings = types.SimpleNamespace(rng=random.Random(0))

    @pytest.mark.parametrize("name", COINS)
    def test_coins(self, name):
        """Reported, for random() and torch.rand(): stochastic depth was frozen on one side of the coin."""

        def forward(m: Any, x: Tensor) -> Tensor:
            return x if m.training and self.COINS[name](m) < 0.3 else residual(m, x)

        for seed in range(4):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            x = torch.rand(2, 8, 5, 5)
            fused = senet.fuse(nn.Sequential(self.Coins(forward)), example=(x,)).train()
            done = senet.report(fused)
            assert len(done.taken) + len(done.left) == 1
            assert 3 < sum(torch.equal(fused(x), x) for _ in range(40)) < 30

    class State(Unit):
        """Things that forward changes."""

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self.step, self.kept, self.history, self.log = 0, None, [], {}
            self.queue, self.numbers = collections.deque(maxlen=3), types.SimpleNamespace(step=0)
            self.register_buffer("ema", torch.zeros(8))

        def counted(self, x: Tensor) -> Tensor:
            self.step += 1
            return residual(self, x) * self.step

        def counted_elsewhere(self, x: Tensor) -> Tensor:
            self.numbers.step += 1
            return residual(self, x) * self.numbers.step

        def listed(self, x: Tensor) -> Tensor:
            self.history.append(len(self.history))
            return residual(self, x) * len(self.history)

        def kept_in_list(self, x: Tensor) -> Tensor:
            self.history.append(residual(self, x))
            return self.history[-1]

        def queued(self, x: Tensor) -> Tensor:
            self.queue.append(1)
            return residual(self, x) * len(self.queue)

        def noted(self, x: Tensor) -> Tensor:
            self.log["y"] = residual(self, x)
            return self.log["y"]

        def kept_gate(self, x: Tensor) -> Tensor:
            u = self.normed(x)
            self.kept = self.gate(u.mean((2, 3)))
            return torch.relu(u * wide(self.kept) + x)

        def averaged(self, x: Tensor) -> Tensor:
            u = self.normed(x)
            z = u.mean((2, 3))
            if self.training:
                self.ema.mul_(0.9).add_(z.detach().mean(0), alpha=0.1)
            return torch.relu(u * wide(self.gate(z)) + x)

        def averaged_anew(self, x: Tensor) -> Tensor:
            u = self.normed(x)
            self.ema = u.detach().mean((0, 2, 3))
            return torch.relu(u * wide(self.gate(u.mean((2, 3)))) + x)

    @pytest.mark.parametrize(
        "name",
        [
            *("counted", "counted_elsewhere", "listed", "kept_in_list", "queued", "noted", "kept_gate", "averaged"),
            "averaged_anew",
        ],
    )
    def test_forwards_that_change_something(self, name):
        case = Case(lambda: network(getattr(self.State, name), unit=self.State), others=TWO_SIZES)
        case.fuse()
        case.fold()
        case.record()

    DROPS = {
        "len, compared": lambda y: y / 0.8 * (torch.rand(len(y), 1, 1, 1) < 0.8),
        "floor_": lambda y: y * torch.rand(y.shape[0], 1, 1, 1, dtype=y.dtype).add_(0.8).floor_() / 0.8,
        "bernoulli_": lambda y: y * y.new_empty((y.shape[0], 1, 1, 1)).bernoulli_(0.8),
        "one number": lambda y: y * torch.rand(1).to(y),
    }

    @pytest.mark.parametrize("name", DROPS)
    def test_drops_in_training(self, name):
        def forward(m: Any, x: Tensor) -> Tensor:
            y = gated(m, m.normed(x))
            return (self.DROPS[name](y) if m.training else y) + x

        case = Case(lambda: network(forward), others=TWO_SIZES)
        case.fuse()
        case.fold()
        case.record()

    def test_silent_miss(self):
        """Reported: gates under drop_connect were in no report."""
        made = [Unit(lambda m, x: self.DROPS["len, compared"](gated(m, m.normed(x))) + x) for _ in range(2)]
        done = senet.report(senet.fuse(nn.Sequential(nn.Conv2d(3, 8, 1), *made)))
        assert len(done.taken) + len(done.left) == 2


class Twice(nn.Module):
    """Doubles its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Replaceable(Unit):
    """A unit of containers and parts that may be replaced."""

    def __init__(self, function: Any = None) -> None:
        super().__init__(function)
        layers = [nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid()]
        self.se = nn.Sequential(nn.AdaptiveAvgPool2d(1), *layers)
        self.before, self.behind = nn.Sequential(), nn.Sequential(nn.Identity())
        self.acts, self.named = nn.ModuleList([nn.Identity()]), nn.ModuleDict({"a": nn.ReLU()})
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(()))])
        self.drop, self.flat = nn.Identity(), nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        u = self.before(self.normed(x))
        y = self.drop(self.behind(self.flat(u * self.se(u)))) + x
        for act in (*self.acts, *self.named.values()):
            y = act(y)
        for weight in self.weights:
            y = y * weight
        return y


class TestParts:
    """Parts that are replaced, added, given another forward, re-parameterised or hooked, after surgery and before."""

    LATER = {
        "append": lambda m: m.se.append(Twice()),
        "insert": lambda m: m.se.insert(2, Twice()),
        "another activation": lambda m: m.se.__setitem__(2, nn.Tanh()),
        "another pool": lambda m: m.se.__setitem__(0, nn.AdaptiveMaxPool2d(1)),
        "into an empty container": lambda m: m.before.append(Twice()),
        "behind": lambda m: m.behind.append(Twice()),
        "a longer list": lambda m: m.acts.append(Twice()),
        "a shorter list": lambda m: m.acts.__delitem__(0),
        "another key": lambda m: m.named.update({"b": Twice()}),
        "another parameter": lambda m: m.weights.append(nn.Parameter(torch.tensor(3.0))),
        "a part": lambda m: setattr(m, "drop", Twice()),
        "a setting": lambda m: setattr(m.flat, "p", 0.5),
        "the gate's forward": lambda m: setattr(m.se, "forward", lambda u: u.mean((2, 3), keepdim=True)),
        "the pool's forward": lambda m: setattr(m.se[0], "forward", lambda u: u.amax((2, 3), keepdim=True)),
        "the identity's forward": lambda m: setattr(m.drop, "forward", lambda u: u * 2),
        "the container's forward": lambda m: setattr(m.behind, "forward", lambda u: u * 2),
        "the unit's forward": lambda m: setattr(m, "forward", lambda u: u * 2),
        "weights shared": lambda m: setattr(m.se[1], "weight", nn.Parameter(m.se[3].weight.data.transpose(0, 1))),
        "parametrised": lambda m: nn.utils.parametrize.register_parametrization(m.se[1], "weight", nn.Tanh()),
        "weight norm": lambda m: parametrizations.weight_norm(m.se[1]),
        "masked": lambda m: prune.l1_unstructured(m.se[1], "weight", 0.5),
        "a hook": lambda m: m.se.register_forward_hook(lambda m, i, o: o * 2),
        "a hook on the pool": lambda m: m.se[0].register_forward_pre_hook(lambda m, i: (i[0] * 2,)),
        "a hook on a container": lambda m: m.behind.register_forward_hook(lambda m, i, o: o * 2),
        "a hook on the unit": lambda m: m.register_forward_hook(lambda m, i, o: o * 2),
        "a backward hook": lambda m: m.drop.register_full_backward_hook(lambda m, i, o: (i[0] * 2,)),
    }
    LATER_IN_NORM = {
        "eps": lambda m: setattr(m.bn, "eps", 0.3),
        "momentum": lambda m: setattr(m.bn, "momentum", None),
        "untracked": lambda m: setattr(m.bn, "track_running_stats", False),
        "weight": lambda m: m.bn.weight.data.mul_(-2),
        "not trained": lambda m: m.bn.weight.requires_grad_(False),
        "no weight": lambda m: setattr(m.bn, "weight", None),
        "another": lambda m: setattr(m, "bn", nn.BatchNorm2d(8, eps=0.1)),
        "of another kind": lambda m: setattr(m, "bn", nn.GroupNorm(2, 8)),
        "forward": lambda m: setattr(m.bn, "forward", lambda u: u * 2),
        "masked": lambda m: prune.l1_unstructured(m.bn, "weight", 0.5),
        "parametrised": lambda m: nn.utils.parametrize.register_parametrization(m.bn, "weight", nn.Softplus()),
        "hooked": lambda m: m.bn.register_forward_hook(lambda m, i, o: o * 2),
        "convolution": lambda m: setattr(m, "conv", nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
        "convolution hooked": lambda m: m.conv.register_forward_hook(lambda m, i, o: o * 2),
        "convolution's forward": lambda m: setattr(m.conv, "forward", lambda u: u * 2),
    }
    BEFORE = {
        "masked": lambda m: prune.l1_unstructured(m.conv, "weight", 0.3),
        "masked gate": lambda m: prune.random_unstructured(m.se[1], "weight", 0.3),
        "masked norm": lambda m: prune.l1_unstructured(m.bn, "weight", 0.3),
        "weight norm": lambda m: parametrizations.weight_norm(m.conv),
        "weight norm in the gate": lambda m: parametrizations.weight_norm(m.se[1]),
        "orthogonal": lambda m: parametrizations.orthogonal(m.se[3]),
        "parametrised norm": lambda m: nn.utils.parametrize.register_parametrization(m.bn, "weight", nn.Softplus()),
        "hooks": lambda m: m.se[0].register_forward_hook(lambda m, i, o: o * 2),
        "a hook on the norm": lambda m: m.bn.register_forward_hook(lambda m, i, o: o * 2),
        "a forward of its own": lambda m: setattr(m.se, "forward", lambda u: u.mean((2, 3), keepdim=True).sigmoid()),
        "shared layers": lambda m: setattr(m, "conv", m.conv),
    }

    @pytest.mark.parametrize("name", LATER)
    def test_after(self, name):
        case = Case(lambda: network(None, unit=Replaceable), others=TWO_SIZES)
        case.fuse(lambda model: self.LATER[name](model[1]))
        case.fold(lambda model: self.LATER[name](model[1]))

    @pytest.mark.parametrize("name", LATER_IN_NORM)
    def test_around_the_norm_after_fuse(self, name):
        """A folded copy has no norm left; a fused network has."""
        Case(lambda: network(None, unit=Replaceable), others=TWO_SIZES).fuse(
            lambda model: self.LATER_IN_NORM[name](model[1])
        )

    @pytest.mark.parametrize("name", BEFORE)
    def test_before(self, name):
        def make() -> nn.Module:
            model = network(None, unit=Replaceable)
            self.BEFORE[name](model[1])
            return model

        case = Case(make, None, others=TWO_SIZES)
        case.fuse()
        case.fold()
        case.record()

    def test_hooks_that_are_removed(self):
        case = Case(lambda: network(None, unit=Replaceable))
        seen = []

        def change(model: nn.Module) -> None:
            handle = model[1].drop.register_forward_hook(lambda *_: seen.append(1))
            model(EXAMPLE[0])
            handle.remove()

        case.fuse(change)
        assert len(seen) == 2

    def test_hooks_on_all_modules(self):
        plain, fused = (Case(lambda: network(None, unit=Replaceable)).plain() for _ in range(2))
        senet.fuse(fused, example=EXAMPLE)
        counts = []
        for model in (plain, fused):
            seen: list[str] = []
            handle = nn.modules.module.register_module_forward_hook(lambda m, *_, s=seen: s.append(type(m).__name__))
            try:
                model(EXAMPLE[0])
            finally:
                handle.remove()
            counts.append(seen)
        assert counts[0] == counts[1]

    def test_kept_tensor_or_mask(self):
        """Reported: networks that keep what they computed with gradients have no deepcopy of PyTorch's."""

        for old in (False, True):
            plain, x = network(None, unit=Replaceable).eval(), images((2, 9, 9)).float()
            for module in (plain[1].conv, plain[1].se[1], plain[1].se[3]):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of the older weight norm
                    nn.utils.weight_norm(module) if old else prune.l1_unstructured(module, "weight", 0.3)
            wanted = plain[1].last = plain(x)
            torch.testing.assert_close(senet.fold(plain)(x), wanted, rtol=1e-4, atol=1e-5)
            with senet.record(plain) as recording, torch.no_grad():
                plain(x)
            assert len(recording.gates) == 1
            torch.testing.assert_close(senet.fuse(plain)(x), wanted, rtol=1e-4, atol=1e-5)

    def test_part_set_to_none(self):
        """Reported: timm's blocks may lose their gate by se = None."""
        plain = timm.create_model("seresnet18", num_classes=5).eval()
        fused, x = senet.fuse(copy.deepcopy(plain)), torch.randn(2, 3, 64, 64)
        for model in (plain, fused):
            model.layer4[1].se = None
        with torch.no_grad():
            torch.testing.assert_close(fused(x), plain(x), rtol=1e-3, atol=1e-4)

    def test_fold_loses_attribute(self):
        """Reported: what is around a gated module may read its attributes."""

        class Encoder(Unit):
            output_stride = 1

            def forward(self, x: Tensor) -> Tensor:
                return residual(self, x)

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder = network(None, unit=Encoder)
                self.encoder[1].depth = 4

            def forward(self, x: Tensor) -> Tensor:
                if x.shape[-1] % self.encoder[1].output_stride or self.encoder[1].depth != 4:
                    raise ValueError("wrong size")
                return self.encoder(x)

        Case(Net).fold()


class Called(nn.Module):
    """A unit, and a forward that calls it in ways of its own."""

    def __init__(self, unit: Any, function: Callable[..., Any]) -> None:
        super().__init__()
        self.stem, self.unit, self.function = nn.Conv2d(3, 8, 1), unit(), function

    def forward(self, x: Tensor, *more: Any, **named: Any) -> Any:
        return self.function(self.unit, self.stem(x), *more, **named)


class AttributeDict(dict):
    """A dictionary whose keys are attributes, as many packages have one."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Pair(collections.namedtuple("Pair", "a b")):
    """Two tensors by name."""


@dataclasses.dataclass
class Output:
    """A tensor and a number."""

    last: Tensor
    number: int = 3


class WithSkip(Unit):
    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        y = gated(self, self.normed(x))
        return torch.relu(y if skip is None else y + skip)


class OfPair(Unit):
    def forward(self, given: Any) -> Tensor:
        x, skip = given.values() if isinstance(given, dict) else given
        return torch.relu(gated(self, self.normed(x)) + skip)


class WithFlag(Unit):
    def forward(self, x: Tensor, act: bool = True) -> Tensor:
        y = gated(self, self.normed(x)) + x
        return torch.relu(y) if act else y


class WithMask(Unit):
    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        u = self.normed(x)
        return torch.relu(gated(self, u if mask is None else u * mask) + x)


class OfAny(Unit):
    def forward(self, *given: Tensor, **named: Tensor) -> Tensor:
        return torch.relu(sum([*given, *named.values()], gated(self, self.normed(given[0]))))


def giving(kind: Callable[[Tensor, Tensor], Any]) -> Any:
    """A unit that gives an object."""

    class Giving(Unit):
        def forward(self, x: Tensor, return_dict: bool = True) -> Any:
            y = residual(self, x)
            return kind(y, x) if return_dict else (y, x)

    return Giving


class TestArguments:
    """Optional, named and nested arguments, flags, and outputs that are no tensors."""

    CALLS: dict[str, tuple[Any, Any]] = {
        "with and without": (WithSkip, lambda unit, x: unit(unit(x, x))),
        "by keyword": (WithSkip, lambda unit, x: unit(x=unit(x, skip=x), skip=x * 2)),
        "None by keyword": (WithSkip, lambda unit, x: unit(unit(x, None), skip=None)),
        "a list": (OfPair, lambda unit, x: unit([x, x * 2])),
        "a tuple": (OfPair, lambda unit, x: unit((x, x * 2))),
        "a named tuple": (OfPair, lambda unit, x: unit(Pair(x, x * 2))),
        "a dictionary": (OfPair, lambda unit, x: unit({"x": x, "skip": x * 2})),
        "flags": (WithFlag, lambda unit, x: unit(unit(x, True), False)),
        "a flag by keyword": (WithFlag, lambda unit, x: unit(unit(x, act=False))),
        "any number": (OfAny, lambda unit, x: unit(unit(x), unit(x, x, other=x))),
        "a mask": (WithMask, lambda unit, x: unit(unit(x), torch.ones_like(x[:, :1]))),
        "a number": (WithMask, lambda unit, x: unit(unit(x, 2.0), 3)),
        "gives a dictionary": (giving(lambda y, x: {"y": y, "x": x, "n": 3, "none": None}), lambda unit, x: unit(x)),
        "gives an AttributeDict": (giving(lambda y, x: AttributeDict(y=y, x=x)), lambda unit, x: unit(x)),
        "gives a named tuple": (giving(Pair), lambda unit, x: unit(x)),
        "gives a dataclass": (giving(lambda y, x: Output(y)), lambda unit, x: unit(x).last),
        "gives either": (giving(lambda y, x: {"y": y}), lambda unit, x: unit(unit(x)["y"], return_dict=False)),
    }

    @pytest.mark.parametrize("name", CALLS)
    def test_calls(self, name):
        unit, function = self.CALLS[name]
        Case(lambda: Called(unit, function), None, others=TWO_SIZES).all()

    @pytest.mark.parametrize("name", CALLS)
    def test_calls_of_the_network_itself(self, name, request):
        """The model's own forward is what is called in several ways, not as in the example."""
        unit, function = self.CALLS[name]
        model = unit().double()
        senet.fuse(model, example=(images((2, 12, 12)).repeat(1, 3, 1, 1)[:, :8],)) if unit is not OfPair else None
        plain, x = copy.deepcopy(model), images((3, 7, 9)).repeat(1, 3, 1, 1)[:, :8]
        if any(type(m).__mro__[1].__name__ == "Rewritten" for m in plain.modules()):
            senet.unfuse(plain)
        got, wanted = (outcome(Bound(each, function), (x,), gradients=True) for each in (model, plain))
        same(got, wanted, "called in another way")

    @pytest.mark.parametrize("given", [(), (True,), (False,), (1,), (None,)])
    def test_flags_of_the_network(self, given):
        function = lambda unit, x, flag=True: unit(unit(x, flag), flag)  # noqa: E731
        others = {"other": (images((3, 7, 9)), *given)}
        case = Case(lambda: Called(WithFlag, function), None, others=others)
        case.fuse()
        case.fold()
        case.record()

    @pytest.mark.parametrize("mask", [None, torch.ones(2, 1, 12, 12).double(), torch.ones(2, 1, 12, 12) > 0, 2.0])
    def test_masks_given_as_example(self, mask):
        """Taken with one kind of mask, called with all of them."""
        masks = (None, torch.rand(3, 1, 7, 9).double(), torch.rand(3, 1, 7, 9) > 0.5, 2.0, 0.5)
        others = {str(i): (images((3, 7, 9)), each) for i, each in enumerate(masks)}
        case = Case(
            lambda: Called(WithMask, lambda unit, x, mask=None: unit(x, mask)),
            None,
            example=(*EXAMPLE, mask),
            others=others,
        )
        case.fuse()
        case.fold()
        case.record()

    def test_fold_optional_argument(self):
        """Reported: a unit that is called with a shortcut once and without one later."""
        model = Case(lambda: Called(*self.CALLS["with and without"])).plain().eval()
        folded = senet.fold(model, example=EXAMPLE)
        same(*(outcome(m, EXAMPLE, gradients=False) for m in (folded, folded)), "itself")
        torch.testing.assert_close(folded(*EXAMPLE), model(*EXAMPLE), rtol=0, atol=1e-9)

    def test_detectors_take_lists(self):
        model = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=96
        ).eval()
        x = [torch.rand(3, 64, 64), torch.rand(3, 48, 80)]
        wanted = model(x)
        for made in (senet.fold(model, example=(x,)), senet.fuse(model, example=(x,))):
            assert len([what for _, what in senet.report(made).taken if "norm folded" not in what]) == 8
            for a, b in zip(made(x), wanted, strict=True):
                assert a.keys() == b.keys()


class Bound(nn.Module):
    """A function of a module and its input, as a module."""

    def __init__(self, unit: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.unit, self.function = unit, function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.unit, x)


def extracted() -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    return create_feature_extractor(network(), {"1": "out"})


def extracted_in_two_graphs() -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    forward = lambda m, x: residual(m, x) if m.training else torch.relu(gated(m, m.normed(x)))  # noqa: E731
    return create_feature_extractor(network(forward), {"1": "out"})


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of jit.trace
@pytest.mark.filterwarnings("ignore:NOTE. The nodes obtained by tracing:UserWarning")  # of torchvision
class TestStates:
    """GraphModules, scripted parts, and models that no verb can work on."""

    GRAPHS = {
        "traced": lambda: fx.symbolic_trace(network()),
        "extracted": extracted,
        "extracted in two graphs": extracted_in_two_graphs,
        "a traced part": lambda: nn.Sequential(nn.Conv2d(3, 8, 1), fx.symbolic_trace(Unit(residual)), Unit(residual)),
    }

    @pytest.mark.parametrize("name", GRAPHS)
    def test_graph_modules(self, name):
        case = Case(self.GRAPHS[name], None, others=TWO_SIZES)
        case.fold()
        case.record()
        plain, model = case.plain(), case.plain()
        senet.fuse(model, example=EXAMPLE)
        assert senet.report(model).taken or senet.report(model).left
        for training in (True, False):
            for x in TWO_SIZES.values():
                same(*(outcome(m.train(training), x, gradients=True) for m in (model, plain)), f"training {training}")

    @pytest.mark.parametrize("where", ["beside", "the gate", "the gate's layer"])
    def test_scripted_parts(self, where):
        def make() -> nn.Module:
            model = network()
            if where == "beside":
                return nn.Sequential(model, torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())))
            if where == "the gate":
                model[1].gate = torch.jit.script(model[1].gate)
            else:
                model[1].gate.fc1 = torch.jit.script(model[1].gate.fc1)
            return model

        model, x = make().double(), images((3, 7, 9))
        wanted = model.eval()(x)
        torch.testing.assert_close(senet.fold(model, example=EXAMPLE)(x), wanted, rtol=0, atol=1e-9)
        with senet.record(model, example=EXAMPLE) as recording:
            model(x)
        assert len(recording.gates) == 1
        senet.attach(model, where="conv3x3", example=EXAMPLE)
        senet.detach(model)
        torch.testing.assert_close(senet.fuse(model, example=EXAMPLE)(x), wanted, rtol=0, atol=1e-9)

    @staticmethod
    def compiled_part() -> nn.Module:
        model = network()
        model[1].compile(backend="eager")
        return model

    @staticmethod
    def meta_part() -> nn.Module:
        model = network()
        model[1].gate.to("meta")
        return model

    STATES = {
        "no module": (lambda: 3, "a int|an int|not"),
        "a function": (lambda: network, "function"),
        "a class": (lambda: Unit, "type"),
        "scripted": (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 8, 1))), "ScriptModule"),
        "traced by jit": (
            lambda: torch.jit.trace(network().eval(), images((2, 12, 12)).float(), check_trace=False),
            "ScriptModule",
        ),
        "compiled": (lambda: torch.compile(network(), backend="eager"), "compiled"),
        "compiled inside": (lambda: nn.Sequential(torch.compile(network(), backend="eager")), "compiled"),
        "a compiled part": (compiled_part.__func__, "compiled"),
        "meta": (lambda: network().to("meta"), "meta device"),
        "a part on meta": (meta_part.__func__, "meta device"),
        "lazy": (lambda: nn.Sequential(nn.LazyConv2d(8, 1), Unit(residual)), "lazy"),
        "a lazy norm": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.LazyBatchNorm2d(), Unit(residual)), "lazy"),
        "wrapped": (lambda: nn.DataParallel(network()), "wrapped"),
        "a wrapped part": (lambda: nn.Sequential(nn.DataParallel(network())), "wrapped"),
        "folded": (lambda: senet.fold(network()), "folded"),
        "a folded part": (lambda: nn.Sequential(senet.fold(network())), "folded"),
    }
    VERBS = {
        "fuse": senet.fuse,
        "fold": senet.fold,
        "record": lambda model: senet.record(model).__enter__(),
        "prune": lambda model: senet.prune(model, [(images((2, 12, 12)).float(), torch.zeros(2, dtype=torch.long))]),
        "attach": lambda model: senet.attach(model, where="conv"),
        "detach": senet.detach,
        "strip": strip,
    }

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("verb", VERBS)
    def test_refused_alike(self, verb, state):
        make, word = self.STATES[state]
        told = tolerated(lambda: self.VERBS[verb](make()))
        assert any(each in told for each in word.split("|")), told


class TestRanks:
    """Signals and volumes: (N, C, L) and (N, C, D, H, W)."""

    SIZES = {1: [(2, 40), (3, 17), (1, 64)], 3: [(2, 6, 6, 6), (3, 3, 4, 5), (1, 8, 5, 3)]}

    class Block(Unit):
        """A gate of pointwise convolutions."""

        def __init__(self, function: Any, axes: int) -> None:
            super().__init__(function, axes=axes)
            conv = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
            pool = {1: nn.AdaptiveAvgPool1d, 3: nn.AdaptiveAvgPool3d}[axes]
            self.se = nn.Sequential(pool(1), conv(8, 4, 1), nn.ReLU(), conv(4, 8, 1), nn.Sigmoid())

        def by_mean(self, u: Tensor) -> Tensor:
            return u * self.gate(u.flatten(2).mean(2)).view(*u.shape[:2], *[1] * (u.ndim - 2))

    FORWARDS = {
        "residual": lambda m, x: torch.relu(m.by_mean(m.normed(x)) + x),
        "mobile": lambda m, x: m.by_mean(F.silu(m.normed(x))),
        "layers": lambda m, x: (lambda u: torch.relu(u * m.se(u) + x))(m.normed(x)),
        "norm last": lambda m, x: (lambda u: u * m.se(u) + x)(m.bn(F.relu(m.conv(x)))),
        "last axes": lambda m, x: (
            lambda u: u * m.gate(u.mean(tuple(range(-u.ndim + 2, 0)))).view(*u.shape[:2], *[1] * (u.ndim - 2)) + x
        )(m.normed(x)),
    }

    @pytest.mark.parametrize("name", FORWARDS)
    @pytest.mark.parametrize("axes", [1, 3])
    def test_verbs(self, axes, name):
        sizes = self.SIZES[axes]
        example = (images(sizes[0], seed=2),)
        make = lambda: network(self.FORWARDS[name], unit=self.Block, axes=axes)  # noqa: E731
        case = Case(make, example=example, others=inputs(sizes))
        assert case.fuse().taken
        case.fold()
        assert case.record()
        assert case.freeze()
        case.attach("conv3x3")

    @pytest.mark.parametrize("axes", [1, 3])
    def test_prune(self, axes):
        model = nn.Sequential(*network(self.FORWARDS["residual"], unit=self.Block, axes=axes), nn.Flatten(2), Mean())
        data = [(images(self.SIZES[axes][0]).float(), torch.zeros(2, dtype=torch.long))]
        pruned = senet.prune(model.eval(), data, max_drop=100)
        assert senet.report(pruned).taken or senet.report(pruned).left
        assert pruned(data[0][0]).shape == (2, 8)


class Mean(nn.Module):
    """The mean over the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


def smooth(m: Any, x: Tensor) -> Tensor:
    u = m.normed(x)
    return F.silu(u * wide(torch.sigmoid(m.gate.fc2(F.silu(m.gate.fc1(u.mean((2, 3)))))))) + x


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")  # PyTorch's own, in its decompositions
class TestDerivatives:
    """Second derivatives, functions of torch.func, compilers, and copies."""

    X = images((2, 5, 4))

    @staticmethod
    def penalty(model: nn.Module) -> Tensor:
        x = TestDerivatives.X.clone().requires_grad_()
        (g,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), model[0].weight)[0]

    @staticmethod
    def functional(model: nn.Module) -> Tensor:
        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(model, parameters, (TestDerivatives.X,)).square().sum()

        return torch.func.grad(loss)(dict(model.named_parameters()))["1.conv.weight"]

    WAYS = {
        "gradient penalty": penalty.__func__,
        "torch.func.grad": lambda m: torch.func.grad(lambda z: m(z).square().sum())(TestDerivatives.X),
        "torch.func.jvp": lambda m: torch.func.jvp(m, (TestDerivatives.X,), (torch.ones_like(TestDerivatives.X),))[1],
        "torch.func.vjp": lambda m: torch.func.vjp(m, TestDerivatives.X)[1](torch.ones(2, 8, 5, 4).double())[0],
        "vmap": lambda m: torch.func.vmap(lambda z: m(z[None])[0])(TestDerivatives.X),
        "hessian": lambda m: torch.func.hessian(lambda z: m(z * TestDerivatives.X).square().sum())(
            torch.tensor(1.0).double()
        ),
        "jacrev": lambda m: torch.func.jacrev(lambda z: m(z * TestDerivatives.X).sum((1, 2, 3)))(
            torch.tensor(1.0).double()
        ),
        "functional_call": functional.__func__,
        "forward mode": lambda m: forward_mode(m, TestDerivatives.X),
        "grad and vmap": lambda m: torch.func.vmap(torch.func.grad(lambda z: m(z[None]).square().sum()))(
            TestDerivatives.X
        ),
    }

    @pytest.mark.parametrize("forward", [smooth, residual], ids=["smooth", "residual"])
    @pytest.mark.parametrize("name", WAYS)
    def test_derivatives(self, name, forward):
        """Reported, for the first of them: fused networks could not be differentiated twice."""
        case = Case(lambda: network(forward))
        plain = case.plain().eval()
        fused, wanted = senet.fuse(case.plain().eval(), example=EXAMPLE), self.WAYS[name](plain).detach()
        assert senet.report(fused).taken
        torch.testing.assert_close(self.WAYS[name](fused).detach(), wanted, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("name", ["torch.func.jvp", "vmap"])
    def test_folded(self, name):
        plain = Case(network).plain().eval()
        folded = senet.fold(plain, example=EXAMPLE)
        told = tolerated(lambda: torch.testing.assert_close(self.WAYS[name](folded), self.WAYS[name](plain)))
        assert not told

    @pytest.mark.parametrize("make", [network, lambda: network(None, unit=Replaceable)], ids=["function", "parts"])
    def test_compiled_exported_copied_and_stored(self, make):
        plain = Case(make).plain().eval()
        fused, folded = senet.fuse(copy.deepcopy(plain), example=EXAMPLE), senet.fold(plain, example=EXAMPLE)
        x = images((3, 7, 9))
        wanted = plain(x).detach()
        for made in (fused, folded):
            torch.compiler.reset()
            with torch.no_grad():
                results = [
                    torch.compile(made, fullgraph=True, backend="aot_eager")(x),
                    torch.export.export(made, (x,)).module()(x),
                    copy.deepcopy(made)(x),
                ]
            for got in results:
                torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)
        assert list(fused.state_dict()) == list(plain.state_dict())

    def test_pickles(self):
        plain = timm.create_model("seresnet18", num_classes=3).eval()
        x = torch.randn(2, 3, 64, 64)
        fused, folded = senet.fuse(copy.deepcopy(plain)), senet.fold(plain)
        loaded = pickle.loads(pickle.dumps(fused))
        assert [type(m) for m in loaded.modules()] == [type(m) for m in plain.modules()]
        again = pickle.loads(pickle.dumps(folded))
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), plain(x))
            assert torch.equal(again(x), folded(x))


def forward_mode(model: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        y = model(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
        return torch.autograd.forward_ad.unpack_dual(y).tangent


class ScSE(nn.Module):
    """Gates of channels and of positions, of which the second is none of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Sigmoid())
        self.s = nn.Sequential(nn.Conv2d(8, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.c(x) + x * self.s(x)


class TestReport:
    """Each gated map once, taken or left with a reason, however deep it lies and whatever is around it."""

    NETWORKS: dict[str, tuple[int, Any]] = {
        "scSE": (1, lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), ScSE())),
        "scSE, three deep": (
            1,
            lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.BatchNorm2d(8), nn.Sequential(ScSE()))),
        ),
        "scSE in two places": (2, lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(ScSE()), ScSE())),
        "one block called twice": (2, lambda: nn.Sequential(nn.Conv2d(3, 8, 3), *[ScSE()] * 2)),
        "under a loop over numbers": (
            1,
            lambda: network(lambda m, x: residual(m, x) if float(x.detach().sum()) < 1e9 else x),
        ),
        "in a unit that is no graph, in another": (
            2,
            lambda: nn.Sequential(
                *network(lambda m, x: residual(m, x) if float(x.detach().sum()) < 1e9 else x), Unit(residual)
            ),
        ),
        "one of two is left": (
            2,
            lambda: network(lambda m, x: (lambda u: gated(m, u) + gated(m, m.conv(u)))(m.normed(x))),
        ),
        "a list of units": (3, lambda: nn.Sequential(nn.Conv2d(3, 8, 1), *(Unit(residual) for _ in range(3)))),
    }

    @pytest.mark.parametrize("name", NETWORKS)
    def test_once(self, name):
        """Reported, for the first ones: one gate was counted for each module around it."""
        products, make = self.NETWORKS[name]
        case = Case(make, products, others=TWO_SIZES)
        case.fuse()
        case.fold()
        case.record()


class TestOtherRooms:
    """Reported beside these: what people have stored."""

    def test_entry_for_create_model(self, tmp_path):
        state = senet.create_model("cifar_resnet8").state_dict()
        torch.save({"epoch": 1, "state_dict": state, "state_dict_ema": state}, tmp_path / "last.pth.tar")
        told = tolerated(lambda: senet.create_model("cifar_resnet8", pretrained=str(tmp_path / "last.pth.tar")))
        assert (
            not told
            or "senet convert" in told
            or not tolerated(
                lambda: senet.create_model(
                    "cifar_resnet8", pretrained=str(tmp_path / "last.pth.tar"), entry="state_dict_ema"
                )
            )
        )

    def test_timm_args_checkpoint(self, tmp_path):
        state = senet.create_model("cifar_resnet8").state_dict()
        stored = {"epoch": 1, "arch": "x", "state_dict": state, "version": 2, "args": argparse.Namespace(lr=0.1)}
        torch.save(stored, tmp_path / "last.pth.tar")
        senet.create_model("cifar_resnet8", pretrained=str(tmp_path / "last.pth.tar"))


SCALE, LISTED, CONFIG = 1.0, [1.0], types.SimpleNamespace(t=1.0, listed=[1.0], inner=Config())
COUNTED, GENERATOR = [0], random.Random(1)
VARIABLE, NO_PART = contextvars.ContextVar("VARIABLE", default=1.0), torch.ones(3)


TABLE, NUMBERS = {"scale": lambda: 1.0}, np.ones(2)
OPTIONS = argparse.Namespace(t=1.0)


def with_default(t: float = 1.0) -> float:
    return t


def with_keyword(*, t: float = 1.0) -> float:
    return t


def with_list(t: list[float] = [1.0]) -> float:  # noqa: B006
    return t[0]


class Sized:
    """Has a length, and compares."""

    def __init__(self) -> None:
        self.size = 1

    def __len__(self) -> int:
        return self.size


SIZED = Sized()


class Settings:
    """Numbers of a class."""

    t = 1.0

    @staticmethod
    def read() -> float:
        return SCALE

    @classmethod
    def own(cls) -> float:
        return cls.t


def scale() -> float:
    return SCALE


def scale_of_scale() -> float:
    return scale()


def counted() -> int:
    COUNTED[0] += 1
    return COUNTED[0]


def closed_over() -> tuple[Callable[[], float], Callable[[float], None]]:
    """A function that reads a variable around it, and one that sets it."""
    t = 1.0

    def write(value: float) -> None:
        nonlocal t
        t = value

    return lambda: t, write


read_cell, write_cell = closed_over()


def by_outside(read: Callable[[], float]) -> nn.Module:
    return network(lambda m, x: residual(m, x) * read())


class TestOutside:
    """Globals, closures and attributes of classes that functions read which forward calls."""

    READS: dict[str, tuple[Callable[[], float], Callable[[Any, float], None]]] = {
        "a helper's global": (lambda: scale(), lambda p, v: p.setitem(globals(), "SCALE", v)),
        "a helper's helper": (lambda: scale_of_scale(), lambda p, v: p.setitem(globals(), "SCALE", v)),
        "a list": (lambda: LISTED[0], lambda p, v: operator.setitem(LISTED, 0, v)),
        "a namespace": (lambda: CONFIG.t, lambda p, v: p.setattr(CONFIG, "t", v)),
        "a list of it": (lambda: CONFIG.listed[0], lambda p, v: operator.setitem(CONFIG.listed, 0, v)),
        "deeper": (lambda: CONFIG.inner.scale, lambda p, v: p.setattr(CONFIG.inner, "scale", v)),
        "a class": (lambda: Settings.t, lambda p, v: p.setattr(Settings, "t", v)),
        "a static method": (lambda: Settings.read(), lambda p, v: p.setitem(globals(), "SCALE", v)),
        "a class method": (lambda: Settings.own(), lambda p, v: p.setattr(Settings, "t", v)),
        "a closure": (lambda: read_cell(), lambda p, v: write_cell(v)),
        "a function": (lambda: scale(), lambda p, v: p.setitem(globals(), "scale", lambda: v)),
        "a default": (lambda: with_default(), lambda p, v: p.setattr(with_default, "__defaults__", (v,))),
        "a keyword's default": (
            lambda: with_keyword(),
            lambda p, v: p.setattr(with_keyword, "__kwdefaults__", {"t": v}),
        ),
        "a default's list": (lambda: with_list(), lambda p, v: operator.setitem(with_list.__defaults__[0], 0, v)),
        "a function's code": (
            lambda: with_default(),
            lambda p, v: p.setattr(with_default, "__code__", ((lambda t: 3.0) if v == 3 else (lambda t: t)).__code__),
        ),
        "a table's function": (lambda: TABLE["scale"](), lambda p, v: p.setitem(TABLE, "scale", lambda: v)),
        "an array": (lambda: float(NUMBERS[0]), lambda p, v: operator.setitem(NUMBERS, 0, v)),
        "a parser's options": (lambda: OPTIONS.t, lambda p, v: p.setattr(OPTIONS, "t", v)),
        "an attribute by its name": (lambda: getattr(CONFIG, "".join("t")), lambda p, v: p.setattr(CONFIG, "t", v)),
        "an object's dictionary": (lambda: vars(CONFIG)["t"], lambda p, v: p.setattr(CONFIG, "t", v)),
        "an object's length": (lambda: float(len(SIZED)), lambda p, v: p.setattr(SIZED, "size", int(v))),
        "a setting of PyTorch": (
            lambda: 3.0 if torch.are_deterministic_algorithms_enabled() else 1.0,
            lambda p, v: torch.use_deterministic_algorithms(v == 3),
        ),
        "the default dtype": (
            lambda: 1.0 if torch.get_default_dtype() == torch.float32 else 3.0,
            lambda p, v: torch.set_default_dtype(torch.float32 if v == 1 else torch.float64),
        ),
    }

    @pytest.mark.parametrize("name", READS)
    def test_read(self, name, monkeypatch):
        read, write = self.READS[name]
        plain, fused = (randomised(by_outside(read)) for _ in range(2))
        fused.load_state_dict(plain.state_dict())
        senet.fuse(fused, example=EXAMPLE)
        for value in (1.0, 3.0, 1.0):
            write(monkeypatch, value)
            same(outcome(fused, EXAMPLE, gradients=True), outcome(plain, EXAMPLE, gradients=True), f"{name} is {value}")
            plain.load_state_dict(fused.state_dict())

    VOLATILE: dict[str, Callable[[], float]] = {
        "a clock": lambda: time.time() % 1,
        "the system's random numbers": lambda: os.urandom(1)[0] / 256,
        "a generator of the system's": lambda: random.SystemRandom().random(),
        "secrets": lambda: secrets.randbelow(256) / 256,
        "uuid": lambda: uuid.uuid4().int % 256 / 256,
        "the environment": lambda: float(os.environ.get("SENET_NO_SUCH_NAME", "1")),
        "a variable of contexts": lambda: VARIABLE.get(),
        "a tensor's numbers": lambda: NO_PART.tolist()[0],
        "a name that is looked up": lambda: globals()["SCALE"],
        "autocast": lambda: 1.0 if torch.is_autocast_enabled("cpu") else 2.0,
    }

    @pytest.mark.parametrize("name", VOLATILE)
    def test_nobody_can_compare(self, name):
        done = senet.report(senet.fuse(randomised(by_outside(self.VOLATILE[name])), example=EXAMPLE))
        assert done.taken == []
        assert len(done.left) == 1

    @pytest.mark.parametrize(
        "read", [counted, GENERATOR.random, lambda: GENERATOR.random()], ids=["counter", "coin", "function"]
    )
    def test_changed_by_itself(self, read):
        model = senet.fuse(randomised(network(lambda m, x: residual(m, x) * read())), example=EXAMPLE)
        x, _ = EXAMPLE[0], model.eval()
        assert not torch.allclose(model(x), model(x))

    def test_compiled(self):
        model = senet.fuse(randomised(by_outside(read_cell)), example=EXAMPLE).eval()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        with torch.no_grad():
            assert torch.allclose(compiled(*EXAMPLE), model(*EXAMPLE))


class Warming(nn.BatchNorm2d):
    """Batch norm that does something else after many steps."""

    def forward(self, x: Tensor) -> Tensor:
        u = super().forward(x)
        return torch.where(self.num_batches_tracked > 5000, u * 2, u)


class Scaled(Unit):
    """A unit that a function of this file scales."""

    def forward(self, x: Tensor) -> Tensor:
        return residual(self, x) * with_default()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")  # PyTorch's own, in its decompositions
class TestAfterwards:
    """What people do with a network after surgery: load, cast, move, store, compile, wrap, and change of mind."""

    @staticmethod
    def loaded(model: nn.Module) -> None:
        torch.manual_seed(9)
        model.load_state_dict({k: v * 1.25 if v.is_floating_point() else v for k, v in model.state_dict().items()})

    @staticmethod
    def assigned(model: nn.Module) -> None:
        state = {k: v.clone() * 1.25 if v.is_floating_point() else v for k, v in model.state_dict().items()}
        model.load_state_dict(state, assign=True)

    CHANGES: dict[str, Callable[[nn.Module], object]] = {
        "weights loaded": loaded.__func__,
        "weights assigned": assigned.__func__,
        "channels last": lambda model: model.to(memory_format=torch.channels_last),
        "frozen": lambda model: model.requires_grad_(False)[0].requires_grad_(),
        "norms frozen": lambda model: model[1].bn.eval().requires_grad_(False),
        "a global": lambda model: operator.setitem(with_default.__globals__, "SCALE", 3.0),
        "wrapped": lambda model: nn.DataParallel(model),
    }

    @pytest.mark.parametrize("name", CHANGES)
    def test_changes(self, name, monkeypatch):
        monkeypatch.setitem(globals(), "SCALE", 1.0)
        assert Case(lambda: network(lambda m, x: residual(m, x) * scale()), others=TWO_SIZES).fuse(self.CHANGES[name])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
    def test_casts(self, dtype):
        plain = Case(network).plain().eval()
        for made in (senet.fuse(copy.deepcopy(plain), example=EXAMPLE), senet.fold(plain, example=EXAMPLE)):
            for (x,) in TWO_SIZES.values():
                got, wanted = made.to(dtype)(x.to(dtype)), copy.deepcopy(plain).to(dtype)(x.to(dtype))
                torch.testing.assert_close(got, wanted, rtol=0, atol=0.05)

    def test_stored_with_guards(self, monkeypatch):
        plain = Case(lambda: network(None, unit=Scaled)).plain().eval()
        loaded = pickle.loads(pickle.dumps(senet.fold(plain, example=EXAMPLE)))
        for value in (1.0, 3.0):
            monkeypatch.setattr(with_default, "__defaults__", (value,))
            torch.testing.assert_close(loaded(*EXAMPLE), plain(*EXAMPLE), rtol=0, atol=1e-9)

    def test_compiled_and_a_default_changed(self, monkeypatch):
        plain = Case(lambda: network(None, unit=Scaled)).plain().eval()
        fused = torch.compile(senet.fuse(copy.deepcopy(plain), example=EXAMPLE), backend="aot_eager")
        for value in (1.0, 3.0):
            monkeypatch.setattr(with_default, "__defaults__", (value,))
            torch.testing.assert_close(fused(*EXAMPLE), plain(*EXAMPLE), rtol=0, atol=1e-9)

    def test_a_class_given_another_forward(self, monkeypatch):
        def change(model: nn.Module) -> None:
            monkeypatch.setattr(Scaled, "forward", lambda self, x: residual(self, x) * 2)

        assert Case(lambda: network(None, unit=Scaled), others=TWO_SIZES).fuse(change).taken

    def test_checkpointed_where_gradients_are_asked_for(self):
        class Saving(Unit):
            def forward(self, x: Tensor) -> Tensor:
                if torch.is_grad_enabled() and self.training:
                    return checkpoint(residual, self, x, use_reentrant=False)
                return residual(self, x)

        case = Case(lambda: network(None, unit=Saving), others=TWO_SIZES)
        assert "checkpoints" in case.fuse().left[0][1]
        case.fold()

    def test_empty_batches_and_single_images(self):
        plain = Case(network).plain()
        fused = senet.fuse(copy.deepcopy(plain), example=EXAMPLE)
        folded = senet.fold(plain, example=EXAMPLE)
        assert fused(EXAMPLE[0][:0]).shape == folded(EXAMPLE[0][:0]).shape == (0, 8, 12, 12)
        case = Case(network, others=inputs([(1, 7, 9), (1, 1, 2), (1, 1, 1)]))
        case.fuse()
        case.fold()

    def test_a_global_module(self, monkeypatch):
        monkeypatch.setitem(globals(), "ANOTHER", nn.Identity())
        ANOTHER.t = 1.0
        case = Case(lambda: network(lambda m, x: residual(m, x) * ANOTHER.t), others=TWO_SIZES)
        assert case.fuse(lambda model: setattr(ANOTHER, "t", 3.0)).taken


ANOTHER = nn.Identity()


class TestFar:
    """What holds of the example and for as long, or as large, as anyone tries, and no further."""

    def test_counting_norm(self):
        def late(model: nn.Module) -> None:
            model[1].bn.num_batches_tracked.fill_(6000)

        Case(lambda: network(norm=Warming), others=TWO_SIZES).fuse(late)

    def test_pool_of_a_corner(self):
        model = network(lambda m, x: (lambda u: u * wide(m.gate(u[:, :, :64, :64].mean((2, 3)))))(m.normed(x)))
        Case(lambda: copy.deepcopy(model), others=inputs([(2, 12, 12), (1, 70, 66)])).fuse()

    def test_pool_of_a_corner_in_a_module(self):
        class Corner(nn.Module):
            def forward(self, u: Tensor) -> Tensor:
                return u[:, :, :64, :64].mean((2, 3))

        class Pooled(Unit):
            def __init__(self, function: Any) -> None:
                super().__init__(function)
                self.pool = Corner()

        make = lambda: network(squeezed(lambda m, u: m.pool(u)), unit=Pooled)  # noqa: E731
        case = Case(make, others=inputs([(2, 12, 12), (1, 70, 66)]))
        assert "by numbers" in case.fuse().left[0][1]
        case.fold()

    def test_sum_into_the_input(self):
        def forward(m: Any, x: Tensor) -> Tensor:
            return x.add_(gated(m, m.normed(x.detach() * 2))).relu()

        maps = {name: (x.repeat(1, 3, 1, 1)[:, :8],) for name, (x,) in TWO_SIZES.items()}
        case = Case(lambda: nn.Sequential(Unit(forward)), example=next(iter(maps.values())), others=maps)
        assert "in place" in case.fuse().left[0][1]
        case.fold()

    def test_autocast_on(self):
        def forward(m: Any, x: Tensor) -> Tensor:
            u = m.normed(x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                s = m.gate(u.float().mean((2, 3)))
            return u * wide(s.to(u.dtype))

        torch.manual_seed(0)
        plain, x = network(forward).eval(), EXAMPLE[0].float()
        fused = senet.fuse(copy.deepcopy(plain), example=(x,))
        assert torch.equal(fused(x), plain(x))
