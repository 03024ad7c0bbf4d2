"""Norms in the layers before them: where they go, where they stay, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from senet.surgery.folding.norms import fold_norms
from senet.surgery.graph.walk import Walk
from senet.surgery.report import Report
from tests.surgery.networks import images, randomised

X = images((2, 6, 7))


class Clamped(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).clamp(-1e3, 1e3)


class Activated(nn.BatchNorm2d):
    """A norm with an activation of its own."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class Pair(nn.Module):
    def __init__(self, function, layer=None, norm=None):
        super().__init__()
        self.layer, self.norm = layer or nn.Conv2d(3, 8, 3), norm or nn.BatchNorm2d(8)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def plain(m, x):
    return m.norm(m.layer(x))


def folded(model, x=X):
    """The report, and how far the model is from what it was."""
    model = randomised(model).eval()
    with torch.no_grad():
        wanted = [model(x * size) for size in (1, 1e6)]
        done = Report("folded")
        walk = Walk(model, (x,), modes=(False,))
        fold_norms(walk, done)
        for y, size in zip(wanted, (1, 1e6), strict=True):
            torch.testing.assert_close(model(x * size), y, rtol=1e-9, atol=1e-9)
    assert [type(m) for m in model.modules()] == [type(m) for m in walk.twin.modules()]
    return model, done


LAYERS = {
    "a convolution": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), X),
    "without a bias": (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), X),
    "with groups": (nn.Conv2d(3, 9, 3, groups=3), nn.BatchNorm2d(9), X),
    "strided and dilated": (nn.Conv2d(3, 8, 2, stride=2, dilation=2), nn.BatchNorm2d(8), X),
    "a norm without weights": (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), X),
    "of signals": (nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), images((2, 9))),
    "of volumes": (nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), images((2, 4, 5, 6))),
    "a linear layer": (nn.Linear(3, 8), nn.BatchNorm1d(8), X[:, :, 0, 0]),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_norm_right_behind_a_layer_goes(kind):
    layer, norm, x = LAYERS[kind]
    model, done = folded(Pair(plain, layer, norm), x)
    assert done.taken == [("norm", "norm folded into layer")]
    assert done.left == []
    assert type(model.norm) is nn.Identity
    assert model.layer is layer
    assert layer.bias is not None


def test_the_activation_of_a_norm_stays():
    model, done = folded(Pair(plain, norm=Activated(8)))
    assert len(done.taken) == 1
    assert type(model.norm) is nn.ReLU


def shared_norm(m, x):
    return m.norm(m.norm(m.layer(x)))


STAY = {
    "another user of the layer": (Pair(lambda m, x: (lambda y: m.norm(y) + y)(m.layer(x))), "also goes to"),
    "a function between": (Pair(lambda m, x: m.norm(torch.relu(m.layer(x)))), "is no convolution or linear layer but"),
    "a transposed convolution": (Pair(plain, nn.ConvTranspose2d(3, 8, 3)), "is no convolution or linear layer but"),
    "called twice": (Pair(shared_norm), "used more than once|is no convolution"),
    "no graph": (Pair(lambda m, x: plain(m, x) if float(x.sum()) < 1e30 else x), "no graph shows"),
    "a computed weight": (Pair(plain, parametrizations.weight_norm(nn.Conv2d(3, 8, 3))), "is computed"),
    "a clamp": (Pair(plain, norm=Clamped(8)), "differs by"),
    "shared parameters": (
        (lambda m: (setattr(m, "other", nn.Conv2d(3, 8, 3)), setattr(m.other, "weight", m.layer.weight), m)[2])(
            Pair(lambda m, x: m.norm(m.layer(x)) + m.other(x))
        ),
        "shares its parameters",
    ),
}


@pytest.mark.parametrize("kind", STAY)
def test_norms_that_cannot_go_stay_with_a_reason(kind):
    model, reason = STAY[kind]
    norm = model.norm
    model, done = folded(model)
    assert done.taken == []
    assert model.norm is norm
    ((path, told),) = done.left
    assert path == "norm"
    assert any(part in told for part in reason.split("|")), told


@pytest.mark.parametrize("which", ["layer", "norm"])
def test_norms_stay_where_hooks_would_see_another_value(which):
    model = Pair(plain)
    getattr(model, which).register_forward_hook(lambda *_: None)
    _, done = folded(model)
    assert done.left == [("norm", f"{which} has hooks")]


def test_a_norm_that_is_not_called_is_not_there():
    _, done = folded(Pair(lambda m, x: m.layer(x)))
    assert (done.taken, done.left) == ([], [])
