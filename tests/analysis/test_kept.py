from __future__ import annotations

import timm
import torch
from timm.layers import SEModule
from torch import nn

from senet.analysis.kept import kept

SHAPE = (4, 16, 8, 8)
MAP = 4 * 4 * 16 * 8 * 8


def test_each_memory_counts_once():
    x = torch.randn(SHAPE, requires_grad=True)
    both = kept(lambda: torch.relu(x.exp()).square(), None, x)  # exp keeps its result, relu its own, and square that
    assert both.bytes == 2 * MAP
    assert [one.by for one in both.held] == [("ExpBackward0",), ("ReluBackward0", "PowBackward0")]
    assert both.held[0].shape == SHAPE
    assert both.held[0].dtype == torch.float32


def test_what_is_there_anyway_does_not_count():
    x, model = torch.randn(SHAPE), nn.Conv2d(16, 8, 1)
    assert kept(lambda: model(x), model, x).bytes == 0
    assert kept(lambda: model(x), model).bytes == MAP
    assert kept(lambda: model(x)).bytes == MAP + 4 * 8 * 16
    linear = nn.Linear(8, 8).requires_grad_(False)  # keeps a view of its weight
    assert kept(lambda: linear(x.requires_grad_()), linear).bytes == 0


def test_a_gate_keeps_the_map_that_it_scales():
    x, model = torch.randn(SHAPE), nn.Sequential(nn.BatchNorm2d(16), SEModule(16))
    with_gate, without = kept(lambda: model(x), model, x), kept(lambda: model[0](x), model, x)
    largest = with_gate.held[0]
    assert (largest.bytes, largest.module, largest.by) == (MAP, "1", ("MulBackward0",))
    small = with_gate.bytes - without.bytes - MAP
    assert 0 < small < MAP // 8
    assert [one.bytes for one in with_gate.held] == sorted((one.bytes for one in with_gate.held), reverse=True)


def test_a_view_keeps_the_whole():
    x = torch.randn(SHAPE, requires_grad=True)
    (held,) = kept(lambda: x.exp()[:1].square(), None, x).held
    assert held.bytes == MAP
    assert held.by == ("ExpBackward0", "PowBackward0")


def test_operators_that_keep_a_copy_are_named():
    model = nn.Sequential(nn.BatchNorm2d(16), nn.SiLU(inplace=True))
    x = torch.randn(SHAPE)
    held = kept(lambda: model(x), model, x).held[0]
    assert (held.module, held.by) == ("1", ("SiluBackward0",))


class _Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x * 2)
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def test_functions_of_ones_own_are_named():
    x = torch.randn(SHAPE, requires_grad=True)
    assert [one.by for one in kept(lambda: {"out": _Twice.apply(x) + 1}, None, x).held] == [("_TwiceBackward",)]


def test_a_result_that_leads_nowhere_names_no_operator():
    x = torch.randn(SHAPE, requires_grad=True)
    (held,) = kept(lambda: x.exp().sum().item(), None, x).held
    assert (held.bytes, held.by) == (MAP, ())


def test_published_sizes_of_an_image():
    """82.1 and 103.3 MiB with the image itself, fp32, 224 px."""
    for name, published in (("resnet50", 82.1), ("seresnet50", 103.3)):
        with torch.device("meta"):
            model, image = timm.create_model(name).train(), torch.randn(1, 3, 224, 224)
        with_image = kept(lambda model=model, image=image: model(image), model).bytes
        assert round(with_image / 2**20, 1) == published
        assert with_image - kept(lambda model=model, image=image: model(image), model, image).bytes == 4 * 3 * 224**2
