from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from senet.blocks import ECA, SqueezeExcite
from senet.errors import InputError
from senet.models import NetConfig


def test_is_plain_by_default():
    assert NetConfig() == NetConfig(num_classes=1000, in_chans=3, attn=None, placement="standard", stages=None)
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
        ({"placement": "pre"}, r"but attn is none; give attn='se'$"),
        ({"stages": (2,)}, r"but attn is none; give attn='se'$"),
        ({"attn": "se", "placement": "before"}, r"option 'placement' is 'before'; accepted: 'standard', 'pre', 'post'"),
        ({"attn": 3}, r"option 'attn' is 3; accepted: text or none$"),
        ({"num_classes": "10"}, r"option 'num_classes' is '10'; accepted: a whole number$"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        NetConfig(**options)
