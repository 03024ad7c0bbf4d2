from __future__ import annotations

import pytest

from senet.blocks.width import hidden_width
from senet.errors import InputError

RATIOS = [1, 2, 3, 4, 6, 8, 16, 24, 32]


@pytest.mark.parametrize(
    ("channels", "reduction", "paper", "timm", "torchvision"),
    [
        (64, None, 4, 8, 8),
        (64, 16, 4, 8, 8),
        (16, 16, 1, 8, 8),
        (8, 16, 1, 8, 8),
        (256, 16, 16, 16, 16),
        (1056, 16, 66, 64, 64),
        (304, 16, 19, 16, 24),
        (2048, 2, 1024, 1024, 1024),
        (7, 2, 3, 8, 8),
        (64, 0.5, 128, 128, 128),
    ],
)
def test_widths(channels, reduction, paper, timm, torchvision):
    for rounding, width in (("paper", paper), ("timm", timm), ("torchvision", torchvision)):
        assert hidden_width(channels, reduction=reduction, rounding=rounding) == width


@pytest.mark.parametrize("reduction", RATIOS)
def test_rounding_is_that_of_the_libraries(reduction):
    from timm.layers import make_divisible
    from torchvision.models._utils import _make_divisible

    for channels in range(1, 2100):
        width = channels / reduction
        assert hidden_width(channels, reduction=reduction, rounding="paper") == max(1, channels // reduction)
        assert hidden_width(channels, reduction=reduction, rounding="timm") == make_divisible(width, 8, round_limit=0.0)
        assert hidden_width(channels, reduction=reduction, rounding="torchvision") == _make_divisible(width, 8)


@pytest.mark.parametrize("rounding", ["paper", "timm", "torchvision"])
def test_a_given_width_is_kept(rounding):
    assert hidden_width(64, hidden_channels=7, rounding=rounding) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": 4, "hidden_channels": 8}, "reduction=4 and hidden_channels=8 both say"),
        ({"hidden_channels": 0}, "hidden_channels is 0; accepted: 1 or more"),
        ({"reduction": 0}, "reduction is 0; accepted: above 0"),
        ({"reduction": -16}, "reduction is -16; accepted: above 0"),
        ({"reduction": float("nan")}, "reduction is nan; accepted: above 0"),
        ({"rounding": "nearest"}, "rounding is 'nearest'; accepted: 'paper', 'timm', 'torchvision'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        hidden_width(64, **options)


@pytest.mark.parametrize("rounding", ["paper", "timm", "torchvision"])
def test_a_block_has_its_own_ratio_and_least_width(rounding):
    assert hidden_width(512, rounding=rounding, default=32, least=8) == 16
    assert hidden_width(512, rounding=rounding, default=32, least=32) == 32
    assert hidden_width(64, reduction=2, rounding=rounding, default=32, least=8) == 32
    assert hidden_width(64, hidden_channels=3, rounding=rounding, least=8) == 3
