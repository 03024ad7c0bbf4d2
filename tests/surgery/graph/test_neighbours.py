"""The nodes around a gated map: norms that are proven, activations that are told apart, and what ends a unit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.surgery.graph.gates import find
from senet.surgery.graph.neighbours import ACTIVATIONS, tails, wide
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import gated, network, randomised

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def reading(function, change=lambda unit: None, **options):
    model = randomised(network(function, **options))
    change(model[1])
    return Walk(model, (X,), modes=(False,)).read(model[1])[0]


def site(function, change=lambda unit: None, **options):
    (found,) = find(reading(function, change, **options)).gated
    return found


def by(act):
    return lambda m, x: gated(m, act(m, m.normed(x)))


KNOWN = {
    "none": (lambda m, u: u, "none"),
    "relu": (lambda m, u: torch.relu(u), "relu"),
    "a relu in place": (lambda m, u: F.relu(u, inplace=True), "relu"),
    "clamp": (lambda m, u: u.clamp(min=0), "relu"),
    "relu6": (lambda m, u: F.relu6(u), "relu6"),
    "hardtanh": (lambda m, u: F.hardtanh(u, 0, 6), "relu6"),
    "silu": (lambda m, u: F.silu(u), "silu"),
    "hard swish": (lambda m, u: F.hardswish(u), "hard_swish"),
    "gelu": (lambda m, u: F.gelu(u), "gelu"),
}
UNKNOWN = {
    "a tanh": lambda m, u: torch.tanh(u),
    "gelu by tanh": lambda m, u: F.gelu(u, approximate="tanh"),
    "a relu that ends late": lambda m, u: u.clamp(0, 1e4),
    "a leaky relu": lambda m, u: F.leaky_relu(u, 1e-4),
    "a softplus": lambda m, u: F.softplus(u, 100),
    "twice": lambda m, u: 2 * u,
}


@pytest.mark.parametrize("kind", KNOWN)
def test_activations_are_known_by_what_they_compute(kind):
    act, name = KNOWN[kind]
    source = site(by(act)).source
    assert source.act == name
    assert source.norm.target == "bn"


@pytest.mark.parametrize(("module", "name"), [(nn.SiLU(), "silu"), (nn.Hardswish(), "hard_swish"), (nn.GELU(), "gelu")])
def test_activations_that_are_modules_are_known_too(module, name):
    assert site(lambda m, x: gated(m, m.act(m.normed(x))), lambda unit: unit.add_module("act", module)).source.act == (
        name
    )


@pytest.mark.parametrize("kind", UNKNOWN)
def test_other_activations_are_not_taken_for_known_ones(kind):
    assert site(by(UNKNOWN[kind])).source is None


def test_known_activations_differ_on_wide_maps():
    x = wide(torch.randn(2, 3, 5, 5, dtype=torch.float64))
    assert x.abs().max() > 1e5
    values = [act(x) for act in ACTIVATIONS.values()]
    assert not any(torch.allclose(a, b) for i, a in enumerate(values) for b in values[:i])


class Ghost(nn.BatchNorm2d):
    """Batch norm of eight images at a time."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return torch.cat([super(Ghost, self).forward(part) for part in x.split(8)])


class Virtual(nn.BatchNorm2d):
    """Batch norm of a thousand images at a time, which small batches do not show."""

    def forward(self, x):
        return torch.cat([super(Virtual, self).forward(part) for part in x.split(1000)])


class Clamped(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).clamp(-1e3, 1e3)


class Noisy(nn.BatchNorm2d):
    def forward(self, x):
        y = super().forward(x)
        return y + torch.randn_like(y) if self.training else y


class Named(nn.BatchNorm2d):
    """Batch norm by another name."""

    def forward(self, x):
        return super().forward(x) * 1


class Activated(nn.BatchNorm2d):
    def forward(self, x):
        return torch.relu(super().forward(x))


@pytest.mark.parametrize(("norm", "act"), [(nn.BatchNorm2d, "none"), (Named, "none"), (Activated, "relu")])
def test_norms_that_are_batch_norm_at_every_batch_are_proven(norm, act):
    assert site(lambda m, x: gated(m, m.normed(x)), norm=norm).source.act == act


@pytest.mark.parametrize("norm", [Ghost, Virtual, Clamped, Noisy])
def test_norms_that_are_batch_norm_of_some_batches_are_not(norm):
    assert site(lambda m, x: gated(m, m.normed(x)), norm=norm).source is None


def test_a_norm_that_was_asked_is_as_it_was():
    model = randomised(network(lambda m, x: gated(m, m.normed(x)), norm=Named))
    walk = Walk(model, (X,), modes=(False,))
    twin = walk.twins[model[1].bn]
    before = {name: t.clone() for name, t in twin.state_dict().items()}
    find(walk.read(model[1])[0])
    assert all(torch.equal(t, before[name]) for name, t in twin.state_dict().items())
    assert not twin.training


def test_a_norm_that_others_see_is_none():
    assert site(lambda m, x: (lambda v: gated(m, torch.relu(v)) + v.mean())(m.normed(x))).source is None


def test_a_norm_with_hooks_is_none():
    assert (
        site(lambda m, x: gated(m, m.normed(x)), lambda u: u.bn.register_forward_hook(lambda *_: None)).source is None
    )


class Drop(nn.Module):
    """Drops whole images in training."""

    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype) > 0.5)


class DropPixels(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class Twice(nn.Module):
    def forward(self, x):
        return x * 2


def tail(end, part=None):
    return site(
        lambda m, x: end(m, gated(m, m.normed(x)), x), lambda u: u.add_module("part", part or nn.Identity())
    ).tail


@pytest.mark.parametrize(
    ("end", "shortcut", "relu"),
    [
        (lambda m, g, x: g, False, False),
        (lambda m, g, x: g + x, True, False),
        (lambda m, g, x: x + g, True, False),
        (lambda m, g, x: torch.add(x, other=g), True, False),
        (lambda m, g, x: torch.relu(g + x), True, True),
        (lambda m, g, x: F.relu(m.part(g) + x, inplace=True), True, True),
        (lambda m, g, x: torch.relu(g), False, True),
        (lambda m, g, x: F.relu6(g + x), True, False),
        (lambda m, g, x: (g + x).clamp(0, 1e4), True, False),
        (lambda m, g, x: torch.relu(g - x), False, False),
        (lambda m, g, x: torch.relu(g + g), False, False),
        (lambda m, g, x: torch.relu(g + x.mean()), False, False),
        (lambda m, g, x: torch.relu(torch.add(x, g, alpha=2)), False, False),
        (lambda m, g, x: (g + x, g), False, False),
    ],
)
def test_tails_end_with_a_sum_and_a_relu(end, shortcut, relu):
    found = tail(end)
    assert (found.shortcut is not None, found.relu) == (shortcut, relu)
    assert not found.drops


@pytest.mark.parametrize(("part", "count"), [(Drop, 1), (DropPixels, 0), (Twice, 0), (nn.Identity, 0)])
def test_drops_of_whole_images_are_part_of_a_tail(part, count):
    found = tail(lambda m, g, x: m.part(g) + x, part())
    assert [n.target for n in found.drops] == ["part"] * count
    assert (found.shortcut is not None) == (part in (Drop, nn.Identity))


def test_looking_at_a_drop_uses_up_no_random_numbers():
    model = randomised(network(lambda m, x: m.part(gated(m, m.normed(x))) + x))
    model[1].add_module("part", Drop())
    walk = Walk(model, (X,), modes=(False,))
    before = torch.get_rng_state()
    assert find(walk.read(model[1])[0]).gated[0].tail.drops
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("conv", "taken"),
    [
        (nn.Conv2d(8, 4, 1), True),
        (nn.Conv2d(8, 4, 3, padding=1), True),
        (nn.Conv2d(8, 4, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(8, 4, 3, padding="same"), False),
        (nn.ConvTranspose2d(8, 4, 1), False),
        (nn.Sequential(nn.Identity(), nn.Conv2d(8, 4, 1)), True),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(8, 4, 1)), False),
    ],
)
def test_a_plain_convolution_that_alone_takes_the_map_is_known(conv, taken):
    found = site(lambda m, x: m.part(gated(m, m.normed(x))), lambda u: u.add_module("part", conv.double()))
    assert bool(found.to_conv) == taken
    assert not taken or found.to_conv[-1].op == "call_module"


def test_tails_without_a_gate_are_norm_sum_and_relu():
    ((source, end),) = tails(reading(lambda m, x: torch.relu(m.normed(x) + x)))
    assert source.norm.target == "bn"
    assert end.relu
    assert end.shortcut.op == "placeholder"
    assert not list(tails(reading(lambda m, x: torch.relu(m.normed(x)))))
    assert not list(tails(reading(lambda m, x: torch.relu(m.normed(x)) + x)))


def test_a_sum_of_two_norms_is_one_tail():
    found = list(tails(reading(lambda m, x: torch.relu(m.bn(m.conv(x)) + m.bn(x)))))
    assert len(found) == 1
