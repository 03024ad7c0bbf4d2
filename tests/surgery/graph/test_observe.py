"""One run of a model: how its modules are called, and which of them multiply a map by a gate of its own average."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.errors import InputError
from senet.surgery.graph.observe import observe
from senet.surgery.graph.run import float64_twin
from tests.surgery.networks import Unit, gated, network, randomised, residual, wide

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def seen(model, *example):
    twin = float64_twin(model)
    return twin, observe(twin, example or (X,))


def products(function, **options):
    """How many gated products were seen, by module."""
    twin, observed = seen(randomised(network(function, **options)))
    return {next(name for name, m in twin.named_modules() if m is module): n for module, n in observed.gated.items()}


class Passing(nn.Module):
    """Calls a part with whatever it is given."""

    def __init__(self, *calls):
        super().__init__()
        self.conv, self.part, self.calls = nn.Conv2d(3, 4, 1), Taking(), calls

    def forward(self, x):
        x = self.conv(x)
        for args, kwargs in self.calls:
            self.part(x, *args, **kwargs)
        return x


class Taking(nn.Module):
    def forward(self, x, *args, **kwargs):
        return x


def test_each_way_to_call_a_module_is_noted_once_and_all_calls_are_counted():
    twin, observed = seen(Passing(((), {}), ((), {}), ((1,), {}), ((1,), {}), ((), {"flag": True})))
    ways = observed.calls[twin.part]
    assert observed.counts[twin.part] == 5
    assert [(call.args[1:], dict(call.kwargs)) for call, _ in ways] == [((), {}), ((1,), {}), ((), {"flag": True})]
    assert all(t.is_meta and t.shape == (2, 4, 12, 12) for _, (t,) in ways)
    assert observed.counts[twin] == observed.counts[twin.conv] == 1
    assert not observed.opaque


def test_modules_that_are_called_with_objects_are_noted_as_such():
    twin, observed = seen(Passing(((), {}), ((object(),), {})))
    assert observed.opaque == {twin.part: "it is called with an object"}
    assert len(observed.calls[twin.part]) == 1


def test_a_part_that_is_not_called_is_not_there():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    model.spare = None
    model[0].spare = nn.ReLU()
    twin, observed = seen(model)
    assert twin[0].spare not in observed.calls
    assert observed.counts[twin[0].spare] == 0


def test_nothing_of_the_run_stays():
    twin = float64_twin(randomised(network()))
    twin.train()
    before = {name: t.clone() for name, t in twin.state_dict().items()}
    observe(twin, (X,))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())
    assert all(m.training for m in twin.modules())
    assert all(torch.equal(t, before[name]) for name, t in twin.state_dict().items())


def test_nothing_stays_of_a_run_that_failed():
    twin = float64_twin(randomised(network()))
    with pytest.raises(InputError):
        observe(twin, (X[:, :2],))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())


def test_the_example_is_made_wide_wherever_it_holds_tensors():
    wrapper = nn.Sequential(nn.Identity())
    observed = observe(float64_twin(wrapper), ({"images": [X, X.long()], "n": 3},))
    (batch,) = observed.example
    assert [t.dtype for t in batch["images"]] == [torch.float64, torch.int64]
    assert batch["n"] == 3


def test_without_an_example_images_of_a_size_that_it_takes():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            if x.shape[-1] != 32:
                raise ValueError("32 pixels, please")
            return self.conv(x)

    observed = observe(float64_twin(Picky()), None)
    assert observed.example[0].shape == (2, 3, 32, 32)


def test_an_example_that_is_not_taken_is_an_error_with_its_shape():
    with pytest.raises(InputError, match=r"Sequential does not take an example of shape \(2, 2, 12, 12\) .*give one"):
        seen(network(), X[:, :2])


def test_an_example_is_a_tuple():
    with pytest.raises(InputError, match="example is a Tensor; accepted: a tuple"):
        observe(float64_twin(network()), X)


def by(pool):
    """A unit that is gated by what a function takes of its map."""
    return lambda m, x: (lambda u: u * wide(m.gate(pool(u))) + x)(m.normed(x))


GATED = {
    "residual": residual,
    "mean": by(lambda u: u.mean((2, 3))),
    "adaptive pool": by(lambda u: F.adaptive_avg_pool2d(u, 1).flatten(1)),
    "pool by its size": by(lambda u: F.avg_pool2d(u, u.shape[2:]).flatten(1)),
    "a sum, divided": by(lambda u: u.sum((2, 3)) / u[0, 0].numel()),
    "in float32": by(lambda u: u.float().mean((2, 3))),
    "scaled": lambda m, x: 2 * gated(m, m.normed(x)),
    "gate first": lambda m, x: (lambda u: wide(m.gate(u.mean((2, 3)))) * u)(m.normed(x)),
    "expanded": lambda m, x: (lambda u: u * wide(m.gate(u.mean((2, 3)))).expand_as(u))(m.normed(x)),
    "in place": lambda m, x: (lambda u: u.mul_(wide(m.gate(u.mean((2, 3))))))(m.normed(x)),
    "addcmul": lambda m, x: (lambda u: torch.addcmul(x, u, wide(m.gate(u.mean((2, 3))))))(m.normed(x)),
    "einsum": lambda m, x: (lambda u: torch.einsum("nchw,nc->nchw", u, m.gate(u.mean((2, 3)))))(m.normed(x)),
    "under a loop over numbers": lambda m, x: residual(m, x) if float(x.sum()) < 1e9 else x,
    "average pool by its side": by(lambda u: F.avg_pool2d(u, 12).flatten(1)),
}


@pytest.mark.parametrize("kind", GATED)
def test_a_product_of_a_map_and_a_gate_of_its_average_is_seen(kind):
    assert products(GATED[kind]) == {"1": 1}


NOT_GATED = {
    "maximum": by(lambda u: u.amax((2, 3))),
    "another map's average": lambda m, x: m.normed(x) * wide(m.gate(x.mean((2, 3)))),
    "numbers of no map": lambda m, x: m.normed(x) * wide(m.gate(x.new_ones(x.shape[:2]))),
    "a gate of positions": lambda m, x: x * x.mean(1, keepdim=True).sigmoid(),
    "no product": lambda m, x: m.normed(x) + x.mean((2, 3), keepdim=True),
    "half of the map": by(lambda u: u[:, :, :6].mean((2, 3))),
}


@pytest.mark.parametrize("kind", NOT_GATED)
def test_other_products_are_none(kind):
    assert products(NOT_GATED[kind]) == {}


def test_products_are_counted_by_the_module_in_whose_forward_they_are():
    class Two(Unit):
        def forward(self, x):
            return gated(self, gated(self, self.normed(x)))

    twin, observed = seen(randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Two(), nn.Sequential(Unit(residual)))))
    assert dict(observed.gated) == {twin[1]: 2, twin[2][0]: 1}


def test_of_a_module_that_is_called_twice_the_products_of_one_call_count():
    unit = Unit(residual)
    twin, observed = seen(randomised(nn.Sequential(nn.Conv2d(3, 8, 1), unit, unit)))
    assert dict(observed.gated) == {twin[1]: 1}
    assert observed.counts[twin[1]] == 2


@pytest.mark.parametrize(("pooled", "count"), [(True, 1), (False, 0)])
def test_of_one_pixel_an_average_must_have_been_taken(pooled, count):
    function = by(lambda u: u.mean((2, 3)) if pooled else u.flatten(1))
    twin = float64_twin(randomised(network(function)))
    assert sum(observe(twin, (X[:, :, :1, :1],)).gated.values()) == count


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, 3, 20)), (3, (2, 3, 4, 5, 6))])
def test_signals_and_volumes_are_maps_too(axes, shape):
    def function(m, x):
        u = m.normed(x)
        return u * m.gate(u.flatten(2).mean(2)).view(*u.shape[:2], *[1] * axes)

    twin, observed = seen(randomised(network(function, axes=axes)), torch.randn(shape))
    assert dict(observed.gated) == {twin[1]: 1}
