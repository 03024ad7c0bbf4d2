from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import Tensor, nn

import senet
from senet.errors import InputError
from senet.surgery.attaching.maps import Maps


class Tree(nn.Module):
    """Calls its part as it is told to."""

    def __init__(self, part: nn.Module, call) -> None:
        super().__init__()
        self.stem, self.part, self.call = nn.Conv2d(3, 8, 3, padding=1), part, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.part, self.stem(x))


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x if y is None else x + y


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x


class Norms(nn.Module):
    """One part for maps of any width, with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@pytest.mark.parametrize(
    ("part", "call", "says"),
    [
        (nn.Conv2d(8, 8, 1), lambda part, u: part(u), None),
        (nn.Conv2d(8, 8, 1), lambda part, u: u, "it is not called when the model runs"),
        (nn.Conv2d(8, 8, 1), lambda part, u: part(part(u)), None),
        (nn.ReLU(), lambda part, u: part(u) + part(-u), "it has no weights and is called 2 times"),
        (Norms(), lambda part, u: torch.cat([part(u[:, :3]), part(u)], 1), "its calls give maps of different channels"),
        (Two(), lambda part, u: part(u, u), "it is called with more than one tensor; name a module inside it"),
        (Two(), lambda part, u: part(x=u), "it is called with more than one tensor"),
        (Pair(), lambda part, u: part(u)[0], r"it gives no tensor, not a map"),
        (nn.Flatten(), lambda part, u: part(u), r"it gives \(2, 32768\), not a map \(N, C, \.\.\.\)"),
        (nn.AdaptiveAvgPool2d(1), lambda part, u: part(u), None),
        (senet.SqueezeExcite(8), lambda part, u: part(u), "it has a block already, part; senet.detach"),
        (nn.Sequential(senet.CBAM(8), nn.Identity()), lambda part, u: part(u), "it has a block already, part.0"),
    ],
)
def test_which_modules_can_take_a_block(part, call, says):
    refusal = Maps(Tree(part, call), None).refusal("part")
    if says is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert re.search(says, refusal)


def test_parts_of_blocks_are_none():
    maps = Maps(senet.create_model("cifar_seresnet20", num_classes=4), None)
    assert maps.refusal("layer1.0.se.fc1") == (
        "it has a block already, layer1.0.se; senet.detach(model) takes attached ones away"
    )
    assert maps.refusal("layer1.0.bn2") is None


def test_channels():
    maps = Maps(timm.create_model("resnet10t", num_classes=4), None)
    assert maps.channels("layer2.0.bn2") == 128
    assert maps.channels("layer1") == 64


class ChannelsLast(nn.Module):
    """As in Swin: maps (N, H, W, C) inside."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 4, stride=4)
        self.first = nn.Identity()
        self.norm = nn.LayerNorm(channels)
        self.act = nn.GELU()
        self.back = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        u = self.first(self.stem(x)).permute(0, 2, 3, 1)
        return self.back(self.act(self.norm(u)).permute(0, 3, 1, 2))


@pytest.mark.parametrize("channels", [24, 16])  # 64 pixels make 16 x 16 positions
@pytest.mark.parametrize("path", ["norm", "act"])
def test_channels_last_in_shape_are_refused(channels, path):
    refusal = Maps(ChannelsLast(channels), None).refusal(path)
    assert refusal == f"its map (2, 16, 16, {channels}) has channels last; blocks take (N, C, ...)"


@pytest.mark.parametrize("example", [None, (torch.randn(1, 3, 32, 64),)], ids=["square", "not square"])
def test_channels_second_are_taken(example):
    maps = Maps(ChannelsLast(24), example)
    assert maps.refusal("stem") is None
    assert maps.refusal("first") is None


def test_where_no_shape_and_no_module_tells_channels_it_says_so():
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.part = nn.Conv2d(3, 16, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.part(self.stem(x).reshape(2, 32, 32, -1)[..., :32])

    refusal = Maps(Folding(), (torch.randn(2, 3, 64, 64),)).refusal("part")
    assert (
        refusal == "which dimension of its map (2, 32, 32, 32) is channels cannot be told; give another, square example"
    )


def test_examples_of_no_use_are_refused():
    with pytest.raises(InputError, match="does not take an example of shape"):
        Maps(timm.create_model("resnet10t", num_classes=4), (torch.randn(2, 5, 64, 64),))


def test_sizes_that_were_refused_leave_no_trace():
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            u = self.conv(x)
            if x.shape[2] < 128:
                raise ValueError("too small")
            return u

    maps = Maps(Large(), None)
    assert [given.shape for given in maps.calls["conv"]] == [(2, 8, 128, 128)]
