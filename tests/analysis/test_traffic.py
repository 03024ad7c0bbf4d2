from __future__ import annotations

import pytest
import torch
from timm.layers import SEModule
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.checkpoint import checkpoint

import senet.kernels.ops  # noqa: F401 - registers the operators
from senet.analysis.traffic import Moved, traffic
from senet.errors import InputError
from senet.surgery.fusing.fuse import fuse

SHAPE = (4, 16, 8, 8)
M = 4 * 16 * 8 * 8


class Tail(nn.Module):
    """relu(gate(u) * u + shortcut), u = bn(x): the end of a residual unit."""

    def __init__(self, gate, *, inplace=False):
        super().__init__()
        self.bn = nn.BatchNorm2d(16)
        self.se = SEModule(16) if gate else nn.Identity()
        self.inplace = inplace

    def forward(self, x, shortcut):
        u = self.se(self.bn(x))
        if self.inplace:
            u += shortcut
            return u.relu_()
        return torch.relu(u + shortcut)


def step(tail, device="cpu"):
    x, shortcut = (torch.randn(SHAPE, device=device, requires_grad=True) for _ in range(2))
    grad = torch.randn(SHAPE, device=device)
    return lambda: torch.autograd.grad(tail(x, shortcut), (x, shortcut, *tail.parameters()), grad)


def passes(call, **options):
    return traffic(call, wide=M, **options).passes()


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("gate", "forward", "backward"), [(True, 11, 18), (False, 8, 8)])
def test_the_residual_tail(gate, forward, backward, inplace):
    counted = traffic(step(Tail(gate, inplace=inplace)), wide=M)
    assert counted.passes(backward=False) == forward
    assert counted.passes(backward=True) == backward
    assert counted.passes() == forward + backward


def test_the_tail_in_evaluation():
    """Batch norm reads its input once then; its gradient does not need the map."""
    counted = traffic(step(Tail(gate=True).eval()), wide=M)
    assert (counted.passes(backward=False), counted.passes(backward=True)) == (10, 17)


def test_the_gate_is_what_the_two_tails_differ_in():
    tail = Tail(gate=True)
    counted = traffic(step(tail), tail, wide=M)
    assert counted.passes("se", backward=False) == 3
    assert counted.passes("se", backward=True) == 10
    assert counted.passes("bn", backward=False) == 3
    assert counted.passes("bn", backward=True) == 5
    assert counted.passes(operator="aten.threshold_backward") == 3
    assert counted.total("se.fc1", backward=True).launches == 1
    assert sum((row.moved for row in counted.rows), Moved()) == counted.total()


def test_a_part_of_a_name_is_no_module():
    model = nn.ModuleDict({"a": nn.ReLU(), "ab": nn.ReLU()})
    counted = traffic(lambda: model["ab"](model["a"](torch.ones(3))), model)
    assert counted.total("a").launches == counted.total("ab").launches == 1
    assert counted.total("b").launches == 0


@pytest.mark.parametrize("gate", [True, False])
def test_devices_agree(gate):
    tail = Tail(gate)
    counted = traffic(step(tail), tail, wide=M)
    assert traffic(step(tail.to("meta"), "meta"), tail, wide=M) == counted


@pytest.mark.parametrize("library", ["native", "cudnn", "miopen"])
def test_libraries_agree(library):
    forward, backward = (getattr(torch.ops.aten, f"{library}_batch_norm{end}") for end in ("", "_backward"))
    with FakeTensorMode():
        x, g, c = torch.empty(SHAPE), torch.empty(SHAPE), torch.empty(16)
        maps = (g, x) if library == "native" else (x, g)
        rest = {"native": (True, 1e-5, [True] * 3), "cudnn": (1e-5, c), "miopen": (1e-5,)}[library]
        assert passes(lambda: forward(x, c, c, c, c, True, 0.1, 1e-5)) == 3
        assert passes(lambda: backward(*maps, c, c, c, c, c, *rest)) == 5


@pytest.mark.parametrize(("of_input", "training", "count"), [(True, True, 5), (True, False, 4), (False, True, 2)])
def test_gradients_of_batch_norm(of_input, training, count):
    x = torch.randn(SHAPE, requires_grad=of_input)
    norm = nn.BatchNorm2d(16).train(training)
    out, grad = norm(x), torch.randn(SHAPE)
    wanted = [t for t in (x, *norm.parameters()) if t.requires_grad]
    assert passes(lambda: torch.autograd.grad(out, wanted, grad)) == count


@pytest.mark.parametrize(
    ("call", "count"),
    [
        (lambda x: x.view(-1), 0),
        (lambda x: x[1:].detach().transpose(0, 1), 0),
        (lambda x: torch.empty_like(x), 0),
        (lambda x: x.clone().squeeze_(), 2),
        (lambda x: torch.zeros_like(x), 1),
        (lambda x: x.new_ones(SHAPE), 1),
        (lambda x: x.fill_(1), 1),
        (lambda x: x.copy_(x.new_empty(SHAPE)), 2),
        (lambda x: x + 1, 2),
        (lambda x: x + x, 2),
        (lambda x: x.mul_(2), 2),
        (lambda x: torch.add(x, x[:, :1], out=torch.empty_like(x)), 2),
        (lambda x: x * torch.ones(1).expand(SHAPE), 2),
        (lambda x: torch.ones(1, 16, 1, 1).expand(SHAPE) / 4, 1),
        (lambda x: x.view(-1).unfold(0, M // 2, M // 4) + 1, 1 + 1.5),
        (lambda x: torch._foreach_add([x, x * 2], 1), 2 + 4),
        (lambda x: x.transpose(0, 1).contiguous(), 2),
        (lambda x: nn.functional.group_norm(x, 4), 3),
    ],
)
def test_what_an_operator_moves(call, count):
    assert passes(lambda: call(torch.empty(SHAPE))) == count


def test_gradients_of_pools_need_no_map():
    x = torch.randn(SHAPE, requires_grad=True)
    for pool in (nn.MaxPool2d(3, stride=1, padding=1), nn.AvgPool2d(3, stride=1, padding=1)):
        out, grad = pool(x), torch.randn(SHAPE)
        indices = int(isinstance(pool, nn.MaxPool2d))
        assert passes(lambda out=out, grad=grad: torch.autograd.grad(out, x, grad)) == 2 + indices


def test_bytes_and_launches():
    x, gate = torch.ones(SHAPE, dtype=torch.bfloat16), torch.ones(4, 16, 1, 1)
    counted = traffic(lambda: x.mul(gate).view(-1), wide=M)
    assert counted.total() == Moved(launches=1, read=2 * M + 4 * 64, written=4 * M, wide=2 * M)


@pytest.mark.parametrize(
    ("of_input", "of_weight", "of_bias", "count"),
    [(True, True, True, 5), (True, False, False, 2), (False, True, False, 2), (False, False, True, 1)],
)
def test_convolutions_pass_once_for_each_gradient(of_input, of_weight, of_bias, count):
    x = torch.randn(SHAPE, requires_grad=of_input)
    conv = nn.Conv2d(16, 16, 1)
    conv.weight.requires_grad_(of_weight)
    conv.bias.requires_grad_(of_bias)
    out, grad = conv(x), torch.randn(SHAPE)
    wanted = [t for t in (x, *conv.parameters()) if t.requires_grad]
    assert passes(lambda: torch.autograd.grad(out, wanted, grad)) == count


def test_operators_that_are_registered_count_by_the_general_rule():
    with torch.library._scoped_library("traffic_test", "FRAGMENT") as library:
        library.define("native_batch_norm(Tensor input, Tensor c, bool training, Tensor(a!) sums) -> Tensor")
        library.impl("native_batch_norm", lambda x, c, training, sums: (x * c).exp(), "CompositeExplicitAutograd")
        operator = torch.ops.traffic_test.native_batch_norm
        x = torch.ones(SHAPE)
        counted = traffic(lambda: operator(x, torch.empty(16, 1, 1), True, torch.empty(SHAPE)), wide=M)
    assert [row.operator for row in counted.rows] == ["traffic_test.native_batch_norm"]
    assert counted.passes() == 4
    assert counted.total().launches == 1


def test_inference_mode_counts_what_no_grad_does():
    model = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), SEModule(16), nn.Linear(8, 8)).eval()
    x = torch.randn(SHAPE)
    with torch.no_grad():
        plain = traffic(lambda: model(x), model)
    with torch.inference_mode():
        counted = traffic(lambda: model(x), model)
    assert counted == plain
    assert counted.total("0").launches == 1


def test_what_is_computed_again_counts_again():
    tail = Tail(gate=True)
    x, shortcut = (torch.randn(SHAPE, requires_grad=True) for _ in range(2))
    grad = torch.randn(SHAPE)

    def call():
        out = checkpoint(tail, x, shortcut, use_reentrant=False)
        torch.autograd.grad(out, (x, shortcut, *tail.parameters()), grad)

    counted = traffic(call, tail, wide=M)
    assert counted.passes("bn", backward=False) == 3
    assert counted.passes("bn", operator="aten._native_batch_norm_legit", backward=True) == 3
    assert (counted.passes(backward=False), counted.passes(backward=True)) == (11, 11 + 18)


def test_no_hook_stays_even_after_an_error():
    tail = Tail(gate=True)
    with pytest.raises(RuntimeError):
        traffic(lambda: tail(torch.ones(1, 3, 2, 2), torch.ones(1)), tail)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tail.modules())


def test_wide_is_a_number_of_elements():
    with pytest.raises(InputError, match="wide is 0; accepted: a number of elements, 1 or more"):
        traffic(lambda: None, wide=0)


@pytest.mark.parametrize("bias", [False, True])
def test_the_gated_map_inside_an_operator_counts(bias):
    """A mobile unit's gate and convolution in one operator: the gated map hs is made, read and forgotten inside."""
    n, c, h, w = SHAPE
    with FakeTensorMode():
        x, g = torch.empty(SHAPE), torch.empty(n, 24, h, w)
        handle, terms = torch.empty(()).expand(SHAPE), torch.empty(()).expand(4, n, c)
        opened = (x, *torch.empty(4, n, c).unbind(), "silu", torch.empty(24, c, 1, 1))
        geometry = ((1, 1), (0, 0), (1, 1), 1)
        offset = torch.empty(24) if bias else None
        forward = traffic(lambda: torch.ops.senet.project(handle, terms, *opened, offset, *geometry), wide=M)
        backward = traffic(lambda: torch.ops.senet.project_backward(g, *opened, bias, *geometry), wide=M)
    assert forward.passes() == 3 + 24 / 16  # x read, hs written and read, y written
    assert backward.passes() == 4 + (2 + bias) * 24 / 16  # x read, hs written and read, its gradient written; g
    assert forward.total().launches == backward.total().launches == 1


def test_what_is_fused_is_counted_fused():
    """A fused module runs unfused while a part that it bypasses has hooks; counting must not be what adds them."""

    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.se = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), SEModule(16)

        def forward(self, x):
            return torch.relu(self.se(self.bn(self.conv(x))) + x)

    model, x = fuse(nn.Sequential(Unit())), torch.ones(SHAPE)
    counted = traffic(lambda: model(x).sum().backward(), model, wide=M)
    forward = {row.operator: row.moved.wide / M for row in counted.rows if row.moved.wide and not row.backward}
    assert forward == {"aten.convolution": 2, "senet.moments": 1, "senet.tail": 3, "aten.sum": 1}
    assert {row.module for row in counted.rows if row.operator.startswith("senet.")} == {"0"}
