from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import pytest

from senet.blocks import ECA, SqueezeExcite
from senet.errors import InputError
from senet.models import NetConfig


def test_is_plain_by_default():
    assert NetConfig() == NetConfig(num_classes=1000, in_chans=3, attn=None, drop_rate=0, drop_path_rate=0, stages=None)
    assert NetConfig().block_at(2, 64) is None


def test_is_frozen():
    with pytest.raises(FrozenInstanceError):
        NetConfig().num_classes = 10


def test_blocks_sit_in_the_stages_that_are_named():
    config = NetConfig(attn="se", attn_options={"reduction": 8}, stages=(3, 5))
    assert [config.block_at(stage, 64) is not None for stage in (2, 3, 4, 5)] == [False, True, False, True]
    block = config.block_at(3, 64)
    assert isinstance(block, SqueezeExcite)
    assert block.fc1.out_channels == 8


def test_blocks_sit_everywhere_by_default():
    config = NetConfig(attn="eca")
    assert all(isinstance(config.block_at(stage, 64), ECA) for stage in (2, 3, 4, 5))
    assert config.block_at(2, 64) is not config.block_at(2, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, r"^num_classes is -1; accepted: 0 \(no classifier\) or more$"),
        ({"in_chans": 0}, r"^in_chans is 0; accepted: 1 or more$"),
        ({"attn_options": {"reduction": 4}}, r"but attn is none; give attn='se'$"),
        ({"stages": (2,)}, r"but attn is none; give attn='se'$"),
        ({"drop_rate": 1.0}, r"^drop_rate is 1.0; accepted: from 0 to below 1$"),
        ({"drop_path_rate": -0.1}, r"^drop_path_rate is -0.1; accepted: from 0 to below 1$"),
        ({"attn": 3}, r"option 'attn' is 3; accepted: text or none$"),
        ({"num_classes": "10"}, r"option 'num_classes' is '10'; accepted: a whole number$"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        NetConfig(**options)


def test_the_networks_own_hidden_width_is_for_se_alone_and_the_users_goes_first():
    assert NetConfig(attn="se").block_at(2, 64, hidden=5).fc1.out_channels == 5
    for options in ({"hidden_channels": 7}, {"reduction": 64 / 7}):
        assert NetConfig(attn="se", attn_options=options).block_at(2, 64, hidden=5).fc1.out_channels == 7
    assert isinstance(NetConfig(attn="eca").block_at(2, 64, hidden=5), ECA)


def test_rounding_where_there_is_nothing_to_round():
    rounded = NetConfig(attn="se", attn_options={"rounding": "timm"})
    with pytest.raises(InputError, match=r"^rounding is 'timm', but the network itself gives SE its"):
        rounded.block_at(2, 64, hidden=5)
    assert rounded.block_at(2, 64).fc1.out_channels == 8
    both = NetConfig(attn="se", attn_options={"rounding": "timm", "reduction": 5})
    assert both.block_at(2, 64, hidden=5).fc1.out_channels == 16
    other = NetConfig(attn="cbam", attn_options={"rounding": "timm"})
    assert other.block_at(2, 64, hidden=5) is not None


def test_units_are_left_out_ever_more_often():
    assert NetConfig(drop_path_rate=0.3).drop_path_rates(4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert NetConfig(drop_path_rate=0.3).drop_path_rates(1) == [0]


def test_stages_that_are_not_there():
    with pytest.raises(InputError, match=r"^stages is \[7\]; accepted: any of \[2, 3\] \(the stem is stage 1\)$"):
        NetConfig(attn="se", stages=(7,)).check_stages([2, 3])
    with pytest.raises(InputError, match=r"^stages is \[7\]; accepted: any of \[1, 2\]$"):
        NetConfig(attn="se", stages=(7,)).check_stages([1, 2])


def test_stochastic_depth_that_would_do_nothing():
    NetConfig().refuse_drop_path("it has no shortcuts")
    with pytest.raises(InputError, match=r"^drop_path_rate is 0\.1, but it has no shortcuts; leave it out$"):
        NetConfig(drop_path_rate=0.1).refuse_drop_path("it has no shortcuts")


@dataclass(frozen=True, kw_only=True)
class Sized(NetConfig):
    widths: tuple[int, ...] = ()
    groups: int | None = None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (4, 0)}, r"^widths is \[4, 0\]; accepted: numbers of 1 or more$"),
        ({"groups": 0}, r"^groups is 0; accepted: 1 or more$"),
        ({"widths": (4,), "groups": -1}, r"^groups is -1; accepted: 1 or more$"),
    ],
)
def test_numbers_below_1(options, message):
    for accepted in (Sized(), Sized(widths=(1, 2), groups=1)):
        accepted.check_positive("widths", "groups")
    with pytest.raises(InputError, match=message):
        Sized(**options).check_positive("widths", "groups")
