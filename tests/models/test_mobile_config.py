from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models import model_config
from senet.models.mobile_config import MobileConfig, MobileStage, multiple_of_8
from senet.options import build, to_plain

STAGE = {"outputs": 8, "expansions": (1.0,), "site": "standard"}
PLAIN = {"outputs": 8, "expansions": (1.0,)}


def stage(**changes):
    return MobileStage(**{**STAGE, **changes})


def config(**changes):
    return MobileConfig(**{"trunk": (stage(),), **changes})


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (1, 8),
        (8, 8),
        (8.8, 8),
        (8.9, 16),
        (12, 16),
        (16, 16),
        (17.6, 16),
        (18, 24),
        (18.7, 24),
        (20, 24),
        (88.08, 88),
        (184, 184),
    ],
)
def test_multiple_of_8(channels, expected):
    from timm.layers import make_divisible

    assert multiple_of_8(channels) == expected
    assert multiple_of_8(channels) == make_divisible(channels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "dense"}, r"^a stage of trunk: option 'unit' is 'dense'; accepted: 'separable', 'inverted', 'conv'$"),
        ({"site": "post"}, r"option 'site' is 'post'; accepted: 'standard' or 'depthwise' or none$"),
        ({"act": "tanh"}, r"option 'act' is 'tanh'; accepted: 'relu' or 'relu6' or"),
        ({"outputs": 0}, r"^outputs of a stage is 0; accepted: 1 or more$"),
        ({"stride": 3}, r"^stride of a stage is 3; accepted: 1 or 2$"),
        ({"kernel": 4}, r"^kernel of a stage is 4; accepted: an odd number of 1 or more$"),
        ({"kernel": -1}, r"^kernel of a stage is -1"),
        ({"expansions": ()}, r"^expansions of a stage is \[\]; give each unit a number above 0$"),
        ({"expansions": (6.0, 0.0)}, r"^expansions of a stage is \[6.0, 0.0\]; give"),
        ({"unit": "separable", "expansions": (6.0,)}, r"is \[6.0\], but 'separable' units accept: 1$"),
        ({"unit": "conv"}, r"^site of a stage is 'standard', but 'conv' units have no place for a block$"),
    ],
)
def test_stages_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        stage(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trunk": ()}, r"^trunk is empty; give one stage or more$"),
        ({"stem_width": 0}, r"^stem_width is 0, head_width None; accepted: 1 or more, or no head_width$"),
        ({"head_width": 0}, r"head_width 0; accepted: 1 or more"),
        ({"input_reduction": 0.0}, r"^input_reduction is 0.0; accepted: above 0, or none$"),
        ({"norm_eps": 0.0}, r"^norm_eps is 0.0; accepted: above 0$"),
        ({"norm_momentum": 0.0}, r"^norm_momentum is 0.0; accepted: above 0, up to 1$"),
        ({"norm_momentum": 1.5}, r"^norm_momentum is 1.5"),
        ({"output_stride": 4}, r"option 'output_stride' is 4; accepted: 8, 16, 32$"),
        ({"placement": "depthwise"}, r"^placement says where blocks sit, but attn is none; give attn='se'$"),
        ({"placement": "post", "attn": "se"}, r"option 'placement' is 'post'; accepted: 'standard' or 'depthwise' or"),
        ({"attn": "se", "stages": (1,)}, r"^stages is \[1\]; accepted: any of \[2\] \(the stem is stage 1\)$"),
        ({"attn": "se", "trunk": (MobileStage(**PLAIN),)}, r"^attn is 'se', but no stage of trunk has a site"),
        ({"drop_path_rate": 0.1}, r"^drop_path_rate is 0.1, but no unit of trunk has a shortcut; leave it out$"),
    ],
)
def test_networks_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    "trunk", [(stage(expansions=(1.0, 1.0)),), (stage(outputs=32),), (stage(outputs=16), stage(outputs=16))]
)
def test_drop_path_where_there_is_a_shortcut(trunk):
    assert config(trunk=trunk, drop_path_rate=0.1).drop_path_rate == 0.1


@pytest.mark.parametrize("trunk", [(stage(outputs=32, stride=2),), (stage(unit="separable", expansions=(1.0, 1.0)),)])
def test_no_drop_path_where_there_is_none(trunk):
    with pytest.raises(InputError, match="no unit of trunk has a shortcut"):
        config(trunk=trunk, drop_path_rate=0.1)


def test_stages_without_a_site_cannot_be_named():
    message = r"^stages is \[2, 4\]; accepted: any of \[4, 6, 7\]"
    with pytest.raises(InputError, match=message):
        model_config("mobilenetv3_large_100", {"stages": (2, 4)})
    assert model_config("mobilenetv3_large_100", {"stages": (4,)}).stages == (4,)


def test_survives_json():
    for name in ("mobilenetv3_small_100", "efficientnet_b3"):
        whole = model_config(name)
        assert build(type(whole), to_plain(whole), what="config") == whole


def test_norm():
    norm = config(norm_eps=1e-3, norm_momentum=0.01).norm(12)
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.num_features, norm.eps, norm.momentum) == (12, 1e-3, 0.01)
    assert torch.equal(norm.weight, torch.ones(12))
