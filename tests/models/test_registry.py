from __future__ import annotations

import pytest
import torch

from senet.blocks import BLOCKS, Recalibrate
from senet.errors import InputError
from senet.models import Features, create_model, list_models, model_config
from senet.models.registry import MODELS

KINDS = (Recalibrate, *BLOCKS.values())


def test_list():
    assert list_models() == sorted(MODELS)
    assert list_models("se*net50") == ["seresnet50"]
    assert list_models("cifar_se*20") == ["cifar_seresnet20"]
    assert list_models("alex*") == []


def test_paper_defaults():
    assert (model_config("seresnet50").num_classes, model_config("seresnet50").in_chans) == (1000, 3)
    assert model_config("cifar_seresnet20").num_classes == 10
    assert model_config("seresnet50").attn_options == {"rounding": "paper"}
    assert model_config("seresnet18").attn_options == {"rounding": "timm"}


def test_options_are_added_to_the_networks_own():
    config = model_config("seresnet18", {"attn_options": {"reduction": 4}})
    assert config.attn_options == {"rounding": "timm", "reduction": 4}
    assert MODELS["seresnet18"].config.attn_options == {"rounding": "timm"}


@pytest.mark.parametrize("name", ["seresnet18", "cifar_seresnet20"])
def test_another_block_starts_from_its_own_defaults(name):
    assert model_config(name, {"attn": "eca"}).attn_options == {}
    assert model_config(name, {"attn": "cbam", "attn_options": {"reduction": 4}}).attn_options == {"reduction": 4}


def test_a_hidden_width_of_ones_own_replaces_the_networks_ratio():
    config = model_config("mobilenetv3_small_100", {"attn_options": {"hidden_channels": 8}})
    assert "reduction" not in config.attn_options
    assert config.attn_options["hidden_channels"] == 8
    assert model_config("seresnet18", {"attn_options": {"hidden_channels": 8}}).attn_options == {"hidden_channels": 8}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "cifar_resnet8", "cifar_preresnet110"])
def test_without_a_block_it_is_the_twin(name):
    prefix, _, rest = name.rpartition("_")
    twin = f"{prefix}_se{rest}" if prefix else f"se{name}"
    assert model_config(twin, {"attn": None}) == MODELS[name].config


@pytest.mark.parametrize("attn", sorted(BLOCKS))
@pytest.mark.parametrize("name", ["resnet18", "seresnet18", "cifar_resnet8", "cifar_preresnet164"])
def test_any_block_sits_in_any_network(name, attn):
    options = {"stages": (4,)} if name == "cifar_preresnet164" else {}
    with torch.device("meta"):
        net = create_model(name, attn=attn, num_classes=5, **options).eval()
        assert net(torch.empty(2, 3, 32, 32)).shape == (2, 5)
    sites = [
        type(unit.se) for stage in net.children() if hasattr(stage, "__len__") for unit in stage if hasattr(unit, "se")
    ]
    expected = {"resnet18": 8, "seresnet18": 8, "cifar_resnet8": 3, "cifar_preresnet164": 18}[name]
    assert sites.count(BLOCKS[attn]) == expected


def test_explicit_options_reach_the_network():
    net = create_model("seresnet18", num_classes=7, in_chans=1, attn_options={"hidden_channels": 3}, placement="pre")
    assert net.config == model_config(
        "seresnet18",
        {"num_classes": 7, "in_chans": 1, "attn_options": {"hidden_channels": 3}, "placement": "pre"},
    )
    assert net.layer3[0].se.fc1.out_channels == 3
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_features():
    net = create_model("resnet18", features_only=True, out_indices=(1, 3))
    assert isinstance(net, Features)
    assert [info["module"] for info in net.feature_info] == ["layer1", "layer3"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet5", {}, r"^no model is called 'resnet5'; did you mean '.*resnet50'"),
        ("SEResNet50", {}, r"^no model is called 'SEResNet50'"),
        ("seresnet50", {"num_class": 10}, r"^model 'seresnet50' has no option 'num_class'; did you mean 'num_classes'"),
        ("seresnet50", {"reduction": 4}, r"^model 'seresnet50' has no option 'reduction'"),
        ("seresnet50", {"num_classes": "10"}, r"option 'num_classes' is '10'; accepted: a whole number$"),
        ("seresnet50", {"num_classes": -1}, r"^num_classes is -1"),
        ("seresnet50", {"in_chans": 0}, r"^in_chans is 0"),
        ("seresnet50", {"placement": "after"}, r"option 'placement' is 'after'; accepted: 'standard', 'pre'"),
        ("seresnet18", {"placement": "3x3"}, r"^placement is '3x3', but BasicBlock units accept: 'standard', 'pre'"),
        ("seresnet50", {"stages": (1,)}, r"^stages is \[1\]; accepted: any of \[2, 3, 4, 5\] \(the stem is stage 1\)$"),
        ("cifar_seresnet20", {"stages": (5,)}, r"^stages is \[5\]; accepted: any of \[2, 3, 4\]"),
        ("seresnet50", {"stages": "2"}, r"option 'stages' is '2'; accepted: a list of a whole number or none$"),
        ("seresnet50", {"attn": "sse"}, r"^no block is called 'sse'; did you mean"),
        ("seresnet50", {"attn_options": {"ratio": 4}}, r"^block 'se' has no option 'ratio'"),
        ("seresnet50", {"attn": None, "placement": "pre"}, r"but attn is none; give attn='se'$"),
        ("resnet50", {"attn_options": {"reduction": 4}}, r"but attn is none; give attn='se'$"),
        ("resnet50", {"out_indices": (1,)}, r"^out_indices chooses the maps of a backbone; give features_only=True"),
    ],
)
def test_refusals(name, options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        create_model(name, **options)
