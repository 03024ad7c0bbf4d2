"""Sites written anew for inference: the pool before the projection, layers merged, in place where nobody sees it."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from senet.surgery.folding.rewrite import refusal, rewrite
from senet.surgery.graph.gates import find
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import Unit, gated, images, network, randomised, wide

X = images((2, 9, 7))


class Projected(Unit):
    """A unit whose map is a 1x1 projection, its gate of linear layers or convolutions."""

    def __init__(self, function, conv=None, first=None):
        super().__init__(function)
        self.conv = conv or nn.Conv2d(8, 16, 1)
        self.first, self.second = first or nn.Linear(16, 4), nn.Linear(4, 16)

    def gate_of(self, u):
        z = u.mean((2, 3), keepdim=isinstance(self.first, nn.Conv2d))
        return wide(torch.sigmoid(self.second(torch.relu(self.first(z).flatten(1)))))


def rewritten(function, unit=Unit, **options):
    """The words for one site, the new parts, the graph's operators; the graph computes what the unit does."""
    model = randomised(network(function, unit=unit, **options)).eval()
    (reading,) = Walk(model, (X,), modes=(False,)).read(model[1])
    (site,) = find(reading).gated
    assert refusal(reading, site) is None
    x = torch.randn(3, 8, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = reading.twin(x.clone())
        words, made = rewrite(reading, site)
        reading.graph.lint()
        for name, make in made.items():
            assert not hasattr(reading.twin, name)
            reading.twin.add_module(name, make(reading.twin))
        given = x.clone()
        got = fx.Interpreter(reading.twin, graph=reading.graph).run(given)
        assert torch.equal(given, x)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    return words, made, [n.target for n in reading.graph.nodes]


def test_gate_sum_and_relu_take_two_passes():
    words, made, targets = rewritten(lambda m, x: torch.relu(gated(m, m.normed(x)) + x))
    assert words == "product and sum in one pass, ReLU in place"
    assert not made
    assert targets.count(torch.addcmul) == 1
    assert targets.count("relu_") == 1


def test_a_gate_alone_is_multiplied_in_place():
    words, _, targets = rewritten(lambda m, x: gated(m, m.normed(x)))
    assert words == "product in place"
    assert "mul_" in targets


def test_the_pool_goes_before_a_narrow_projection_and_the_first_layer_into_it():
    words, made, targets = rewritten(lambda m, x: (lambda u: u * m.gate_of(u))(m.conv(x)), Projected)
    assert words == "pool before the projection, first layer merged with it, product in place"
    assert list(made) == ["first_merged"]
    assert "first" not in targets
    assert targets.index("first_merged") < targets.index("conv")


@pytest.mark.parametrize(
    ("conv", "first"),
    [
        (nn.Conv2d(8, 16, 1, bias=False), None),
        (nn.Conv2d(8, 16, 1, groups=4), None),
        (nn.Conv2d(8, 16, 1, stride=2), None),
        (nn.Conv2d(8, 16, 1), nn.Linear(16, 4, bias=False)),
        (nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 1)),
        (nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 1, groups=4)),
    ],
)
def test_projections_and_first_layers_of_all_kinds_are_merged_or_left(conv, first):
    words, _, _ = rewritten(lambda m, x: (lambda u: u * m.gate_of(u))(m.conv(x)), Projected, conv=conv, first=first)
    assert words.startswith("pool before the projection")
    assert words.endswith("product in place")


@pytest.mark.parametrize("conv", [nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(8, 16, 1, padding=1)])
def test_wide_kernels_keep_their_pool(conv):
    words, made, _ = rewritten(lambda m, x: (lambda u: u * m.gate_of(u))(m.conv(x)), Projected, conv=conv)
    assert "pool before" not in words
    assert not made


def test_convolutions_of_one_pixel_become_products():
    _, _, targets = rewritten(
        lambda m, x: (lambda u: u * m.gate_of(u))(m.conv(x)),
        Projected,
        conv=nn.Conv2d(8, 16, 3, padding=1),
        first=nn.Conv2d(16, 4, 1),
    )
    assert "first" not in targets
    assert "first.weight" in targets


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: (lambda u: u * u.mean((2, 3), keepdim=True))(m.normed(x)), "its gate is its pool"),
        (lambda m, x: gated(m, x), "its map may be seen by others, and no sum follows"),
        (lambda m, x: gated(m, x.view_as(x)), "its map may be seen by others, and no sum follows"),
        (lambda m, x: gated(m, x) + m.conv(x), None),
        (lambda m, x: gated(m, torch.relu(m.conv(x))), None),
        (lambda m, x: gated(m, m.conv(x) + x), None),
    ],
)
def test_maps_that_others_may_see_are_not_overwritten(function, reason):
    model = randomised(network(function)).eval()
    (reading,) = Walk(model, (X,), modes=(False,)).read(model[1])
    found = find(reading)
    for site in found.gated:
        assert refusal(reading, site) == reason
    assert len(found.gated) == 1 or any("also goes" in refused.reason for refused in found.refused)
