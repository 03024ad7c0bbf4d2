"""One run of a model: how its modules are called, and which of them multiply a map by a gate of its own average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.surgery.graph.observe import observe
from senet.surgery.graph.run import float64_twin
from tests.surgery.networks import Unit, gated, network, randomised, residual

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
