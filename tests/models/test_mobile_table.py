from __future__ import annotations

import pytest
import torch

from senet.analysis.complexity import count
from senet.models import create_model, model_entry
from senet.models.mobile_table import TABLE

NO_BIAS = {"bias": False}
OTHERS = {"conv_reduce": "fc1", "conv_expand": "fc2"}


def cost(name, **options):
    with torch.device("meta"):
        net = create_model(name, **options)
    return count(net, (3, model_entry(name).size, model_entry(name).size))


def timms(name):
    import timm

    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds", "of_se", "se_multiply_adds"),
    [
        ("mobilenetv1_100", 4_231_976, 568_740_352, 0, 0),
        ("semobilenetv1_100", 4_231_976 + 486_068, 568_740_352 + 479_744, 486_068, 479_744),
        ("mobilenetv2_100", 3_504_872, 300_774_272, 0, 0),
        ("semobilenetv2_100", 3_504_872 + 30_013, 300_774_272 + 28_416, 30_013, 28_416),
        ("mobilenetv3_large_100", 5_483_032, 216_589_760, 1_512_280, 1_507_200),
        ("mobilenetv3_small_100", 2_542_856, 56_510_400, 461_640, 458_752),
        ("efficientnet_b0", 5_288_548, 385_814_752, 636_540, 627_200),
        ("efficientnet_b1", 7_794_184, 686_802_832, 1_122_640, 1_108_480),
        ("efficientnet_b2", 9_109_994, 993_561_872, 1_329_138, 1_313_728),
        ("efficientnet_b3", 12_233_232, 1_827_141_392, 1_879_728, 1_859_648),
        ("efficientnet_b4", 19_341_616, 4_393_771_024, 3_146_448, 3_117_408),
        ("efficientnet_b5", 30_389_784, 10_266_384_752, 5_191_872, 5_151_552),
        ("efficientnet_b6", 43_040_704, 19_067_593_536, 7_533_784, 7_481_184),
        ("efficientnet_b7", 66_347_960, 37_745_884_192, 11_973_104, 11_899_904),
    ],
)
def test_cost(name, parameters, multiply_adds, of_se, se_multiply_adds):
    found = cost(name)
    assert (found.total.parameters, found.total.multiply_adds) == (parameters, multiply_adds)
    assert (found.attention.parameters, found.attention.multiply_adds) == (of_se, se_multiply_adds)


def test_cost_in_the_se_paper():
    """Table 3: 569 and 572 million multiply-adds, with the elements that are pooled; 4.2 and 4.7 million parameters."""
    plain, se = cost("mobilenetv1_100").total, cost("semobilenetv1_100", attn_options=NO_BIAS).total
    assert (plain.parameters, se.parameters) == (4_231_976, 4_711_720)
    assert round(plain.multiply_adds / 1e6) == 569
    assert round((se.multiply_adds + se.squeezed) / 1e6) == 572


def test_every_network_of_timms_has_its_names_and_shapes():
    """Also what timm tells of its maps."""
    for name in TABLE:
        if name.startswith("se"):
            continue
        with torch.device("meta"):
            ours = create_model(name)
        theirs = timms(name)
        wanted = {
            ".".join(OTHERS.get(part, part) for part in key.split(".")): value.shape
            for key, value in theirs.state_dict().items()
        }
        found = {key: value.shape for key, value in ours.state_dict().items()}
        assert found == wanted
        assert list(found) == list(wanted)
        told = [[(f["num_chs"], f["reduction"]) for f in net.feature_info] for net in (ours, theirs)]
        assert told[0] == told[1]
        assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)


def test_plain_twins():
    for name, se_weights in (("efficientnet_b0", 636_540), ("mobilenetv3_large_100", 1_512_280)):
        assert cost(name, attn=None).total.parameters == cost(name).total.parameters - se_weights
    for name in ("mobilenetv1_100", "mobilenetv2_100"):
        assert TABLE[name].config.attn is None
        assert TABLE[f"se{name}"].config.attn == "se"
        assert cost(name, attn="se").total == cost(f"se{name}").total


def test_sites():
    """13 units of MobileNet, 17 of MobileNetV2, those of MobileNetV3's tables, all of EfficientNet."""
    sites = {"semobilenetv1_100": 13, "semobilenetv2_100": 17, "mobilenetv3_large_100": 8, "mobilenetv3_small_100": 9}
    for name, wanted in {**sites, "efficientnet_b0": 16, "efficientnet_b7": 55}.items():
        assert len(cost(name).sites) == wanted


def test_sizes_are_the_papers():
    assert [TABLE[f"efficientnet_b{i}"].size for i in range(8)] == [224, 240, 260, 300, 380, 456, 528, 600]
    assert {entry.size for name, entry in TABLE.items() if "mobilenet" in name} == {224}


def test_another_place_costs_what_the_paper_does_not_have():
    """After the depthwise convolution SE-MobileNet would have 4.58 million parameters, not 4.7."""
    there = cost("semobilenetv1_100", placement="depthwise", attn_options=NO_BIAS).total.parameters
    assert there / 1e6 == pytest.approx(4.58, abs=5e-3)
