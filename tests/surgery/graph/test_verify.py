"""Rewritten forwards against the module's own: each kind of mistake is caught by numbers, and named."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import senet
from senet.surgery.graph.calls import Call
from senet.surgery.graph.guards import Guards
from senet.surgery.graph.install import Rewritten
from senet.surgery.graph.trace import trace
from senet.surgery.graph.verify import TOLERANCE, disagreement, relative_difference
from senet.surgery.graph.walk import Walk
from senet.surgery.graph.written import Variant
from tests.surgery.networks import Unit, gated, network, randomised

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def right(m, x):
    return torch.relu(gated(m, m.normed(x)) + x)


def compare(wrong, own=right, example=X, modes=(True, False), **options):
    """How a forward differs from a unit's own, found by its graph alone."""
    model = randomised(network(own))
    walk = Walk(model, (example,), modes=modes)
    readings = walk.read(model[1])
    twin = readings[0].twin
    twin.function = wrong
    variants = [
        Variant(r.call, Guards(), trace(twin, r.call, training=training)[0]) for r in readings for training in r.modes
    ]
    twin.function = own
    state, kind = copy.deepcopy(twin.state_dict()), type(twin)
    modes = [m.training for m in twin.modules()]
    found = disagreement(readings, variants[:1], **options)
    assert type(twin) is kind
    assert not isinstance(twin, Rewritten)
    assert [m.training for m in twin.modules()] == modes
    assert all(torch.equal(t, state[name]) for name, t in twin.state_dict().items())
    return found


SAME = {
    "itself": right,
    "sums in another order": lambda m, x: torch.relu(x + gated(m, m.normed(x))),
    "a product first": lambda m, x: (
        lambda u: torch.relu(torch.addcmul(x, m.gate(u.mean((2, 3)))[:, :, None, None], u))
    )(m.normed(x)),
}


@pytest.mark.parametrize("kind", SAME)
def test_what_computes_the_same_agrees(kind):
    assert compare(SAME[kind]) is None


def of_gate(change):
    return lambda m, x: (lambda u: torch.relu(u * change(m, u)[:, :, None, None] + x))(m.normed(x))


WRONG = {
    "output": (lambda m, x: right(m, x) * (1 + 1e-6), r"^output 0 differs by 1\.0e-06 in training"),
    "shape": (lambda m, x: right(m, x)[:, :4], r"^output 0 is torch.float64 \(3, 4, 5, 7\), not"),
    "fewer outputs": (lambda m, x: None, "output 0 is missing"),
    "more outputs": (lambda m, x: (right(m, x), x), None),
    "gradient of a parameter": (of_gate(lambda m, u: m.gate(u.mean((2, 3))).detach()), "gradient of"),
    "gradient of the input": (lambda m, x: torch.relu(gated(m, m.normed(x)) + x.detach()), "gradient of input 0"),
    "does not run": (lambda m, x: right(m, x).view(7, 7, 7), r"rewritten it does not run \(RuntimeError"),
    "statistics": (
        lambda m, x: torch.relu(
            gated(m, F.batch_norm(m.conv(x), m.bn.running_mean, m.bn.running_var, m.bn.weight, m.bn.bias, m.training))
            + x
        ),
        None,
    ),
    "buffers in training": (lambda m, x: (m.bn(x), right(m, x))[1], "^buffer bn.* differs .* in training"),
}


@pytest.mark.parametrize("kind", [kind for kind, (_, reason) in WRONG.items() if reason])
def test_mistakes_are_named(kind):
    wrong, reason = WRONG[kind]
    found = compare(wrong)
    assert found is not None
    assert re.search(reason, found), found


def test_gradients_are_compared_where_it_is_to_be_trained():
    wrong = WRONG["gradient of a parameter"][0]
    assert compare(wrong, gradients=False) is None
    assert "gradient" in compare(wrong, gradients=True)


def test_tolerance_may_be_given():
    def slightly(m, x):
        return right(m, x) * (1 + 1e-8)

    assert TOLERANCE < 1e-8
    assert "1.0e-08" in compare(slightly)
    assert compare(slightly, tolerance=1e-6) is None


def test_mistakes_of_another_size_are_caught():
    found = compare(of_gate(lambda m, u: m.gate(F.avg_pool2d(u, (5, 7)).mean((2, 3)))), example=X[..., :5, :7])
    assert "output 0 differs" in found or "does not run" in found
    assert "for inputs of" in found


def test_mistakes_of_another_batch_are_caught():
    def by_two(m, x):
        u = m.normed(x)
        return torch.relu(u * m.gate(u.mean((2, 3)))[:2].repeat(x.shape[0] // 2, 1)[:, :, None, None] + x)

    assert compare(by_two, example=X[..., :5, :7], modes=(False,)) is not None


@pytest.mark.parametrize(
    ("wrong", "size"),
    [
        (lambda m, x: right(m, x.clamp(-1e3, 1e3)), "1e[+]06"),
        (lambda m, x: right(m, x) * (x.abs().amax() > 1e-3), "1e-06"),
    ],
)
def test_mistakes_of_large_and_small_values_are_caught(wrong, size):
    found = compare(wrong, modes=(False,))
    assert found is not None
    assert re.search(f"for values of {size}", found), found


def test_mistakes_in_evaluation_alone_are_caught():
    own = network()[1].train()
    assert own.training
    found = compare(lambda m, x: m.bn(m.conv(x)) * 1.0 if m.training else x, own=lambda m, x: m.bn(m.conv(x)))
    assert found is None  # the graph of training computes the same in evaluation
    found = compare(
        lambda m, x: F.batch_norm(m.conv(x), None, None, m.bn.weight, m.bn.bias, True),
        own=lambda m, x: m.bn(m.conv(x)),
        modes=(False,),
    )
    assert "in evaluation" in found


def test_another_dtype_is_caught_without_a_device():
    found = compare(of_gate(lambda m, u: m.gate(u.mean((2, 3)).float().to(u.dtype)).double()), modes=(False,))
    assert "in torch.bfloat16 its output would be of [torch.float64], not [torch.bfloat16]" in found


def test_a_forward_that_works_in_place_on_what_it_is_given_is_told_from_one_that_does_not():
    def own(m, x):
        return x.mul_(m.gate(x.mean((2, 3)))[:, :, None, None])

    def wrong(m, x):
        return x * m.gate(x.mean((2, 3)))[:, :, None, None]

    assert "input 0 afterwards differs" in compare(wrong, own)
    assert "input 0 afterwards differs" in compare(own, wrong)
    assert compare(own, own) is None


class InPlace(nn.Module):
    """A gate that works in place, where the map is asked for again, in a forward that is no graph."""

    def __init__(self):
        super().__init__()
        self.conv, self.unit = (
            nn.Conv2d(3, 8, 1),
            Unit(lambda m, x: x.mul_(torch.sigmoid(x.mean((2, 3), keepdim=True)))),
        )

    def forward(self, x):
        u = self.conv(x)
        if float(u.sum()) > 1e9:
            return u
        return self.unit(u) + u * u


def test_what_works_in_place_on_its_input_is_left_alone():
    model = randomised(InPlace()).eval()
    with torch.no_grad():
        wanted = model(X.double())
        senet.fuse(model, example=(X.double(),))
        assert torch.equal(model(X.double()), wanted)
    assert "input 0 afterwards" in senet.report(model).left[0][1]


def test_a_module_that_itself_does_not_run_is_reported():
    def own(m, x):
        u = m.normed(x)
        return gated(m, u)

    model = randomised(network(own))
    (reading,) = Walk(model, (X,), modes=(False,)).read(model[1])
    variant = Variant(reading.call, Guards(), reading.graph)

    def refuses(m, x):
        raise ValueError("not today")

    reading.twin.function = refuses
    assert disagreement([reading], [variant]) == "it does not run (ValueError: not today) in evaluation" + (
        ", for inputs of 3 x 8 x 5 x 7"
    )


def test_sizes_that_the_module_does_not_take_are_passed_over():
    def picky(m, x):
        if x.shape[-1] != 7:
            raise ValueError("7, please")
        return right(m, x)

    model = randomised(network(right))
    (reading,) = Walk(model, (X[..., :5, :7],), modes=(False,)).read(model[1])
    reading.twin.function = picky
    assert disagreement([reading], [Variant(reading.call, Guards(), reading.graph)]) is None


def test_differences_are_relative_to_the_largest_value():
    wanted = torch.tensor([10.0, 0.0])
    assert relative_difference(wanted + 1, wanted) == pytest.approx(0.1)
    assert relative_difference(torch.zeros(0), torch.zeros(0)) == 0


def test_calls_other_than_the_readings_run_the_modules_own_forward():
    model = randomised(network(right))
    (reading,) = Walk(model, (X,), modes=(False,)).read(model[1])
    other = Variant(Call.of((X[0],), {})[0], Guards(), reading.graph)
    assert disagreement([reading], [other]) is None
