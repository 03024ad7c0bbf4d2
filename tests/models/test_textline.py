from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import senet
from senet.analysis.complexity import count
from senet.blocks import Recalibrate
from senet.errors import InputError
from senet.models import create_model, model_entry
from senet.models.textline import TextLineNet
from senet.surgery.gating.strip import strip

NAME = "paddle_textline_cls"
# Kernel, stride of the height, shortcut, SE, activation: PaddleOCR's rec_mobilenet_v3.py, "small"
UNITS = (
    (3, 2, False, True, F.relu),
    (3, 2, False, False, F.relu),
    (3, 1, True, False, F.relu),
    (5, 2, False, True, F.hardswish),
    *((5, 1, True, True, F.hardswish),) * 4,
    (5, 2, False, True, F.hardswish),
    *((5, 1, True, True, F.hardswish),) * 2,
)


def by_hand(state, x):
    """The network from its tensors and PyTorch's functions alone."""

    def norm(x, name):
        p = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *p, eps=1e-5)

    x = F.hardswish(norm(F.conv2d(x, state["conv_stem.weight"], stride=2, padding=1), "bn1"))
    for unit, (kernel, stride, shortcut, gated, act) in enumerate(UNITS):
        at = f"blocks.{unit}"
        y = act(norm(F.conv2d(x, state[f"{at}.conv_pw.weight"]), f"{at}.bn1"))
        w = state[f"{at}.conv_dw.weight"]
        y = F.conv2d(y, w, stride=(stride, 1), padding=kernel // 2, groups=len(w))
        y = act(norm(y, f"{at}.bn2"))
        if gated:
            p = [state[f"{at}.se.{part}"] for part in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")]
            z = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), p[0], p[1]))
            y = y * (F.conv2d(z, p[2], p[3]) / 5 + 0.5).clip(0, 1)
        y = norm(F.conv2d(y, state[f"{at}.conv_pwl.weight"]), f"{at}.bn3")
        x = y + x if shortcut else y
    x = F.hardswish(norm(F.conv2d(x, state["conv_head.weight"]), "bn2"))
    x = F.max_pool2d(x, 2).mean((2, 3))
    return F.linear(x, state["classifier.weight"], state["classifier.bias"])


@pytest.fixture
def net(randomise):
    return randomise(create_model(NAME)).double().eval()


@pytest.mark.parametrize("size", [(48, 192), (33, 5), (64, 100)])
def test_computes_what_its_table_says(net, size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    found = net(x)
    assert found.std() > 1e-3
    torch.testing.assert_close(found, by_hand(net.state_dict(), x), rtol=1e-11, atol=1e-12)


def test_is_as_large_as_paddles():
    assert count(create_model(NAME), (3, 48, 192)).total.parameters == 129_356
    assert model_entry(NAME).image == (48, 192)


def test_a_line_keeps_its_letters_apart(net):
    maps = net.forward_features(torch.randn(1, 3, 48, 192, dtype=torch.float64))
    assert maps.shape == (1, 200, 2, 96)
    features = create_model(NAME, features_only=True).eval()
    assert [tuple(m.shape[1:]) for m in features(torch.randn(1, 3, 48, 192))] == [
        (8, 24, 96), (8, 12, 96), (8, 6, 96), (16, 3, 96), (32, 2, 96)
    ]  # fmt: skip
    assert features.feature_info.reduction() == [2, 4, 8, 16, 32]


def test_blocks_are_where_paddle_has_them_and_can_be_chosen():
    sites = [name for name, module in create_model(NAME).named_modules() if isinstance(module, Recalibrate)]
    assert sites == [f"blocks.{unit}.se" for unit, row in enumerate(UNITS) if row[3]]
    assert isinstance(create_model(NAME, attn=None), TextLineNet)
    some = create_model(NAME, stages=(2, 5), attn="eca")
    assert [unit for unit, block in enumerate(some.blocks) if block.se is not None] == [0, 8, 9, 10]
    with pytest.raises(InputError, match=r"stages is \[3\]; accepted: any of \[2, 4, 5\]"):
        create_model(NAME, stages=(3,))


def test_drop_path_leaves_out_units_with_a_shortcut():
    net = create_model(NAME, drop_path_rate=0.5)
    rates = [unit.drop_path.rate if unit.has_shortcut else None for unit in net.blocks]
    assert [rate is not None for rate in rates] == [row[2] for row in UNITS]
    assert rates[-1] == 0.5


def test_folds(net):
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(senet.fold(net)(x), net(x), rtol=1e-10, atol=1e-10)


def test_gates_of_one_are_no_gates(net):
    for unit in net.blocks:
        if unit.se is not None:
            nn.init.zeros_(unit.se.fc2.weight)
            nn.init.constant_(unit.se.fc2.bias, 2.5)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(strip(net)(x), net(x))
