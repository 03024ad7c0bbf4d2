from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from senet.blocks.stages import (
    Doubled,
    OnePlus,
    Recalibrate,
    activation_stage,
    gate_stage,
    one_at_zero,
    squeeze_stage,
)
from senet.errors import InputError

POINTS = torch.cat([torch.linspace(-8, 8, 101, dtype=torch.float64), torch.tensor([-40.0, 40.0], dtype=torch.float64)])


class Twice(Recalibrate):
    """The smallest block: the gate of twice the average."""

    def __init__(self, squeeze: str = "avg", gate: str = "sigmoid") -> None:
        super().__init__()
        self.squeeze = squeeze_stage(squeeze)
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.gate = gate_stage(gate)

    def excite(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.weight


@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid", "tanh", "relu"])
def test_gates(name, naive):
    np.testing.assert_allclose(gate_stage(name)(POINTS).numpy(), naive.gates[name](POINTS.numpy()), atol=1e-14)


@pytest.mark.parametrize("name", ["relu", "silu", "gelu", "hard_swish", "leaky_relu"])
def test_activations(name, naive):
    expected = naive.activations[name](POINTS.numpy())
    np.testing.assert_allclose(activation_stage(name)(POINTS).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_squeezes(dtype):
    u = torch.randn(2, 3, 5, 7).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    expected = {
        "avg": u.double().mean((2, 3), keepdim=True),
        "max": u.double().flatten(2).max(2).values[..., None, None],
        "none": u.double(),
    }
    for name, z in expected.items():
        result = squeeze_stage(name)(u)
        assert result.dtype == wide
        torch.testing.assert_close(result, z.to(wide))


@pytest.mark.parametrize(
    ("stage", "kind", "names"),
    [
        (squeeze_stage, "squeeze", "'avg', 'max', 'none'"),
        (gate_stage, "gate", "'sigmoid', 'hard_sigmoid', 'hard_sigmoid_0.2', 'double_sigmoid', 'tanh', 'relu'"),
        (activation_stage, "activation", "'relu', 'silu', 'gelu', 'hard_swish', 'leaky_relu'"),
    ],
)
def test_unknown_names_are_refused(stage, kind, names):
    with pytest.raises(InputError) as error:
        stage("softmax")
    assert str(error.value) == f"{kind} is 'softmax'; accepted: {names}"


def test_stages_run_in_order():
    block = Twice()
    u = torch.randn(2, 3, 5, 7)
    s = torch.sigmoid(2 * u.mean((2, 3), keepdim=True))
    torch.testing.assert_close(block.gates(u), s)
    torch.testing.assert_close(block(u), u * s)


def test_a_block_without_excitation_says_so():
    class Bare(Recalibrate):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze, self.gate = squeeze_stage("avg"), gate_stage("sigmoid")

    with pytest.raises(NotImplementedError, match=r"^Bare defines no excitation$"):
        Bare()(torch.ones(1, 1, 1, 1))


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gates_are_float32_whatever_map_and_weights_are(dtype, weights):
    block = Twice().to(weights)
    seen = []
    block.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    u = torch.randn(1, 2, 3, 3).to(dtype)
    assert block.gates(u).dtype == torch.float32
    assert block(u).dtype == dtype == seen[0]


def test_large_half_precision_maps_keep_their_average():
    block = Twice(gate="relu")
    with torch.no_grad():
        block.weight.fill_(0.5)
    u = torch.full((1, 1, 300, 300), 1e3, dtype=torch.float16)
    assert block.gates(u).item() == 500
    step = torch.finfo(torch.bfloat16).eps
    v = torch.tensor([1, 1 + step]).repeat(2048).reshape(1, 1, 64, 64).to(torch.bfloat16)
    assert block.gates(v).item() == (1 + step / 2) / 2


@pytest.mark.parametrize("enabled", [True, False])
def test_autocast_is_left_as_it_was(enabled):
    block = Twice()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        block(torch.randn(1, 2, 3, 3))
        assert torch.is_autocast_enabled("cpu") is enabled


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sigmoid", Doubled),
        ("hard_sigmoid", Doubled),
        ("hard_sigmoid_0.2", Doubled),
        ("double_sigmoid", Doubled),
        ("tanh", OnePlus),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_at_zero_is_exactly_one_with_a_slope(name, kind, dtype):
    gate = one_at_zero(gate_stage(name), "block")
    assert isinstance(gate, kind)
    x = torch.zeros(1, dtype=dtype, requires_grad=True)
    gate(x).backward()
    assert gate(x).item() == 1
    assert x.grad > 0
    again = one_at_zero(gate, "block")
    assert torch.equal(again(POINTS), gate(POINTS))


def test_one_plus_a_sigmoid_becomes_a_doubled_one():
    gate = one_at_zero(OnePlus(nn.Sigmoid()), "block")
    torch.testing.assert_close(gate(POINTS), 2 * torch.sigmoid(POINTS))
    torch.testing.assert_close(OnePlus(nn.Sigmoid())(POINTS), 1 + torch.sigmoid(POINTS))


def test_a_gate_without_a_slope_is_refused():
    with pytest.raises(
        InputError, match=r"^block cannot start as the identity with gate ReLU, which has no slope at 0"
    ):
        one_at_zero(nn.ReLU(), "block")
