from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from senet.errors import InputError
from senet.models import create_model, list_models
from senet.models.weights.layouts import LAYOUTS, detect, from_ours, to_ours, training_only


def skeleton(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


def filled(net, randomise):
    """A network built on the meta device, with weights of a scale that lets signals through."""
    net = net.to_empty(device="cpu").double()
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            parameter.normal_(std=math.sqrt(2 / parameter[0].numel()) if parameter.ndim > 1 else 1.0)
            if key.endswith("bias"):
                parameter.uniform_(-0.5, 0.5)
        for key, buffer in net.named_buffers():
            if key.endswith("num_batches_tracked"):
                buffer.fill_(3)
    return randomise(net).eval()


class MoskomuleSE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 16, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def moskomule(block, norm, depths):
    """torchvision's ResNet with the block after the last norm of each unit."""
    net = torchvision.models.ResNet(block, depths, num_classes=5)
    for unit in (unit for unit in net.modules() if isinstance(unit, block)):
        last = getattr(unit, norm)
        unit.se = MoskomuleSE(last.num_features)
        last.register_forward_hook(lambda _, __, y, se=unit.se: se(y))
    return net


def on_meta(build, *args, **options):
    with torch.device("meta"):
        return build(*args, **options)


def from_torchvision(name, **options):
    build = torchvision.models.get_model_builder(name)
    if name.startswith("regnet"):  # computes its widths with tensors, which the meta device cannot
        return build(num_classes=5, **options)
    return on_meta(build, num_classes=5, **options)


EPS = {"norm_eps": 1e-3}

# layout, their network, its options, ours, its options, image size
PARITY = [
    ("timm", "resnet18", {}, "resnet18", {}, 64),
    ("timm", "seresnet18", {}, "seresnet18", {}, 64),
    ("timm", "inception_v3", {}, "inception_v3", {}, 107),
    ("timm", "inception_v3", {"aux_logits": True}, "inception_v3", {}, 107),
    ("timm", "inception_resnet_v2", {}, "inception_resnet_v2", {}, 107),
    ("timm", "mobilenetv1_100", {}, "mobilenetv1_100", {}, 64),
    ("timm", "mobilenetv2_100", {}, "mobilenetv2_100", {}, 64),
    ("timm", "mobilenetv3_small_100", {}, "mobilenetv3_small_100", {}, 64),
    ("timm", "efficientnet_b0", {}, "efficientnet_b0", {}, 64),
    ("timm", "regnety_002", {}, "regnety_002", {}, 64),
    ("timm-legacy", "legacy_seresnet50", {}, "seresnet50_caffe", {}, 64),
    ("timm-legacy", "legacy_seresnext50_32x4d", {}, "seresnext50_32x4d_caffe", {}, 64),
    ("timm-legacy", "legacy_senet154", {}, "senet154_caffe", {}, 64),
    ("torchvision", "resnet18", {}, "resnet18", {}, 64),
    ("torchvision", "resnext50_32x4d", {}, "resnext50_32x4d", {}, 64),
    ("torchvision", "vgg11_bn", {}, "vgg11_bn", {}, 64),
    ("torchvision", "inception_v3", {"init_weights": False}, "inception_v3", {}, 107),
    ("torchvision", "mobilenet_v2", {}, "mobilenetv2_100", {}, 64),
    ("torchvision", "mobilenet_v3_large", {}, "mobilenetv3_large_100", EPS, 64),
    ("torchvision", "mobilenet_v3_small", {}, "mobilenetv3_small_100", EPS, 64),
    ("torchvision", "efficientnet_b0", {}, "efficientnet_b0", {}, 64),
    ("torchvision", "efficientnet_b5", {}, "efficientnet_b5", EPS, 64),
    ("torchvision", "regnet_y_400mf", {}, "regnety_004", {}, 64),
    ("torchvision", "regnet_y_800mf", {}, "regnety_008_tv", {}, 64),
    ("moskomule", BasicBlock, ("bn2", [2, 2, 2, 2]), "seresnet18", {}, 64),
    ("moskomule", Bottleneck, ("bn3", [3, 4, 6, 3]), "seresnet50", {}, 64),
]


def build_theirs(layout, network, options):
    if layout == "moskomule":
        return on_meta(moskomule, network, *options)
    if layout == "torchvision":
        return from_torchvision(network, **options)
    net = on_meta(timm.create_model, network, num_classes=5, **options)
    if options == {"aux_logits": True}:
        net.aux_logits = False  # keeps its modules, which serve only training, and does not run them
    return net


@pytest.mark.parametrize(("layout", "network", "theirs", "name", "ours", "size"), PARITY)
def test_outputs_are_theirs(layout, network, theirs, name, ours, size, randomise):
    theirs = filled(build_theirs(layout, network, theirs), randomise)
    if layout == "moskomule":
        ours = {"attn_options": {"rounding": "paper", "bias": False}}
    net = skeleton(name, num_classes=5, **ours).eval()
    state = theirs.state_dict()
    net.load_state_dict(to_ours(state, layout, net), assign=True)
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        wanted, found = theirs(x), net(x)
    assert wanted.std() > 1e-3 * wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())

    back = from_ours(net.state_dict(), layout, net)
    assert back.keys() == state.keys() - set(training_only(state, layout, net))
    for key, tensor in back.items():
        assert torch.equal(tensor, state[key])
    told = detect(state, net)  # layouts that have the same names for this network are one
    assert {k: v.data_ptr() for k, v in to_ours(state, told, net).items()} == {
        k: v.data_ptr() for k, v in to_ours(state, layout, net).items()
    }


def conv_norm(conv, norm, shape):
    keys = {f"{conv}.weight": shape, f"{norm}.num_batches_tracked": ()}
    return keys | {f"{norm}.{leaf}": shape[:1] for leaf in ("weight", "bias", "running_mean", "running_var")}


def layer(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def residual(unit, stem, head, *, depths, hidden=None):
    """The tensors of a bottleneck ResNet of groups 1, by a function that gives a unit's names."""
    keys, inputs = {**conv_norm(*stem, (64, 3, 7, 7)), **layer(head, 1000, 2048)}, 64
    for stage, depth in enumerate(depths, start=1):
        width = 32 * 2**stage
        for number in range(depth):
            names = unit(stage, number)
            keys |= conv_norm(*names["conv1"], (width, inputs, 1, 1))
            keys |= conv_norm(*names["conv2"], (width, width, 3, 3))
            keys |= conv_norm(*names["conv3"], (4 * width, width, 1, 1))
            if number == 0:
                keys |= conv_norm(*names["shortcut"], (4 * width, inputs, 1, 1))
            if hidden is not None:
                narrow, after = hidden(4 * width)
                keys |= layer(names["se1"], narrow, 4 * width, *after) | layer(names["se2"], 4 * width, narrow, *after)
            inputs = 4 * width
    return keys


def pytorchcv_unit(stage, number):
    unit = f"features.stage{stage}.unit{number + 1}"
    names = {f"conv{k}": (f"{unit}.body.conv{k}.conv", f"{unit}.body.conv{k}.bn") for k in (1, 2, 3)}
    names["shortcut"] = f"{unit}.identity_conv.conv", f"{unit}.identity_conv.bn"
    return {**names, "se1": f"{unit}.se.conv1", "se2": f"{unit}.se.conv2"}


def plain_unit(stage, number, prefix, se1, se2):
    unit = prefix.format(stage, stage - 1) + f".{number}"
    names = {f"conv{k}": (f"{unit}.conv{k}", f"{unit}.bn{k}") for k in (1, 2, 3)}
    names["shortcut"] = f"{unit}.downsample.0", f"{unit}.downsample.1"
    return {**names, "se1": f"{unit}.{se1}", "se2": f"{unit}.{se2}"}


def mmpretrain_unit(stage, number):
    return plain_unit(stage, number, "backbone.layer{}", "se_layer.conv1.conv", "se_layer.conv2.conv")


def nvidia_unit(stage, number):
    return plain_unit(stage, number, "layers.{1}", "squeeze.squeeze", "squeeze.expand")


def nvidia_2006_unit(stage, number):
    return plain_unit(stage, number, "layer{}", "squeeze.squeeze", "squeeze.expand")


SIXTEEN = {"attn_options": {"hidden_channels": 16}}
STEM = ("features.init_block.conv.conv", "features.init_block.conv.bn")
NAMES = {
    "pytorchcv": (pytorchcv_unit, STEM, "output", lambda c: (c // 16, (1, 1)), {}),
    "mmpretrain": (
        mmpretrain_unit,
        ("backbone.conv1", "backbone.bn1"),
        "head.fc",
        lambda c: (c // 16, (1, 1)),
        {},
    ),
    "nvidia": (nvidia_unit, ("conv1", "bn1"), "fc", lambda _: (16, ()), SIXTEEN),
    "nvidia-20.06": (nvidia_2006_unit, ("conv1", "bn1"), "fc", lambda _: (16, ()), SIXTEEN),
}


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize("se", [False, True])
def test_names_are_theirs(layout, se):
    """Of libraries that are not here to run: the names and shapes that their sources give, written out."""
    unit, stem, head, hidden, options = NAMES[layout]
    net = skeleton("seresnet101" if se else "resnet101", **(options if se else {}))
    wanted = residual(unit, stem, head, depths=(3, 4, 23, 3), hidden=hidden if se else None)
    found = from_ours(net.state_dict(), layout, net)
    assert {key: tuple(tensor.shape) for key, tensor in found.items()} == wanted


def test_names_of_pytorchcv_in_other_families():
    deep = skeleton("senet154")
    names = from_ours(deep.state_dict(), "pytorchcv", deep).keys()
    stem = {key.rpartition(".")[0] for key in names if "init_block" in key}
    assert stem == {f"features.init_block.conv{k}.{part}" for k in (1, 2, 3) for part in ("conv", "bn")}
    assert {key for key in names if key.startswith("output")} == {"output.fc.weight", "output.fc.bias"}

    cifar = skeleton("cifar_resnet20", shortcut="projection")
    names = from_ours(cifar.state_dict(), "pytorchcv", cifar).keys()
    assert {"features.init_block.conv.weight", "features.init_block.bn.weight"} < names
    assert sum("identity_conv.conv" in key for key in names) == 2

    preact = skeleton("cifar_preresnet164")
    found = from_ours(preact.state_dict(), "pytorchcv", preact)
    assert found["features.init_block.weight"].shape == (16, 3, 3, 3)
    assert found["features.stage1.unit1.identity_conv.weight"].shape == (64, 16, 1, 1)
    assert found["features.stage1.unit1.body.conv2.bn.weight"].shape == (16,)
    assert found["features.stage3.unit18.body.conv3.conv.weight"].shape == (256, 64, 1, 1)
    assert found["features.post_activ.bn.weight"].shape == (256,)

    regnet = skeleton("regnety_002")
    found = from_ours(regnet.state_dict(), "pytorchcv", regnet)
    assert found["features.init_block.conv.weight"].shape == (32, 3, 3, 3)
    assert found["features.stage1.unit1.body.se.conv1.weight"].shape == (8, 24, 1, 1)
    assert found["features.stage4.unit7.body.conv3.bn.weight"].shape == (368,)
    assert found["features.stage4.unit1.identity_conv.conv.weight"].shape == (368, 152, 1, 1)


def test_every_network_goes_there_and_back():
    """Every tensor of every network has one name in each layout that has the network, and every line names some."""
    projection = {"shortcut": "projection"}
    nets = [skeleton(name) for name in list_models()]
    nets += [skeleton("cifar_resnet20", **projection), skeleton("cifar_seresnet20", **projection)]
    nets += [skeleton(f"mobilenetv3_{size}_100", **EPS) for size in ("small", "large")]
    nets += [skeleton("efficientnet_b6", **EPS), skeleton("efficientnet_b7", **EPS)]
    used = set()
    for net in nets:
        own = {key: tensor.shape for key, tensor in net.state_dict().items()}
        for name, layout in LAYOUTS.items():
            table = layout.table(net)
            if table is None or table.unmet(net) or table.places(own)[1]:
                with pytest.raises(InputError, match=r"have|has no"):
                    from_ours(net.state_dict(), name, net)
                continue
            theirs = from_ours(net.state_dict(), name, net)
            assert len(theirs) == len(own)
            assert {key: tensor.shape for key, tensor in to_ours(theirs, name, net).items()} == own
            modules = {key.rpartition(".")[0] for key in own}
            for module in modules:
                used.add(next(line for line in table.lines if line.pattern.fullmatch(module)))
    lines = {line for layout in LAYOUTS.values() for table in layout.tables for line in table.lines}
    assert lines - used == set()


# --- what is refused ---


@pytest.fixture
def state():
    return skeleton("seresnet50_caffe").state_dict()


def test_a_layout_that_is_not_known(state):
    with pytest.raises(InputError, match="no layout is called 'pytorch-cv'; did you mean 'pytorchcv'"):
        to_ours(state, "pytorch-cv", skeleton("resnet18"))


def test_a_family_that_the_layout_has_not():
    net = skeleton("shufflenet_g3")
    with pytest.raises(InputError, match=r"layout 'timm' has no ShuffleNet; known here: senet$"):
        from_ours(net.state_dict(), "timm", net)


@pytest.mark.parametrize(
    ("layout", "name", "options", "told"),
    [
        (
            "timm-legacy",
            "seresnet50",
            {},
            r"have stem_pool=ceil, stride_in=1x1; this one has stem_pool=padded, .*_caffe",
        ),
        ("timm-legacy", "seresnet18", {}, "have unit=bottleneck; this one has unit=basic"),
        ("timm", "seresnet50_caffe", {}, "have stem_pool=padded, stride_in=3x3; this one has stem_pool=ceil"),
        ("timm", "seresnet50", {"placement": "post"}, "have placement=standard"),
        ("torchvision", "mobilenetv3_small_100", {}, "have norm_eps=0.001; this one has norm_eps=1e-05"),
        ("torchvision", "efficientnet_b5", {}, "have norm_eps=0.001"),
        ("torchvision", "efficientnet_b4", EPS, "have norm_eps=1e-05"),
        ("timm", "efficientnet_b4", EPS, "have norm_eps=1e-05"),
        ("pytorchcv", "cifar_resnet20", {}, "have shortcut=projection; this one has shortcut=pad"),
        ("pytorchcv", "cifar_sepreresnet110", {}, "have attn=None; this one has attn=se"),
    ],
)
def test_a_network_that_computes_something_else(layout, name, options, told):
    net = skeleton(name, **options)
    for change in (from_ours, to_ours):
        with pytest.raises(InputError, match=told):
            change(net.state_dict(), layout, net)


@pytest.mark.parametrize(
    ("layout", "name", "attn"),
    [("timm", "resnet18", "eca"), ("torchvision", "seresnet18", "se"), ("timm", "vgg11_bn", "se")],
)
def test_a_block_that_the_layout_has_not(layout, name, attn):
    net = skeleton(name, attn=attn)
    with pytest.raises(InputError, match=r"has no place for (layer1\.0|features\.10)\.se\.\S+, .* of this network"):
        from_ours(net.state_dict(), layout, net)


def test_missing_and_unknown_tensors_are_named():
    net = skeleton("cifar_seresnet8")
    state = dict(net.state_dict())
    state["layer1.0.se.fc3.weight"] = state.pop("layer1.0.se.fc1.weight")
    for change in (from_ours, to_ours):
        with pytest.raises(InputError) as refused:
            change(state, "senet", net)
        assert str(refused.value) == (
            "the tensors do not fit the network in layout 'senet': 1 missing (layer1.0.se.fc1.weight); "
            "1 unknown (layer1.0.se.fc3.weight; did you mean 'layer1.0.se.fc1.weight'?)"
        )


def test_tensors_of_another_shape_are_named_with_what_the_layout_is_known_for():
    net = skeleton("seresnet50")
    state = from_ours(skeleton("seresnet50", **SIXTEEN).state_dict(), "nvidia", skeleton("seresnet50", **SIXTEEN))
    with pytest.raises(InputError) as refused:
        to_ours(state, "nvidia", net)
    assert "26 of another shape" not in str(refused.value)
    assert "layer2.0.se.fc1.weight [16, 512, 1, 1] instead of [32, 512, 1, 1]" in str(refused.value)
    assert str(refused.value).endswith("; of this layout: its blocks have hidden_channels=16")


def test_another_networks_tensors(state):
    with pytest.raises(InputError, match="have the names of no layout of this network; known here: senet, timm,"):
        detect(state, skeleton("efficientnet_b0"))
    bigger = skeleton("seresnet101_caffe")
    assert detect(state, bigger) == "senet"
    with pytest.raises(InputError, match="323 missing"):
        to_ours(state, "senet", bigger)


def test_files_without_counts_of_batches():
    net = skeleton("resnet18")
    state = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert detect(state, net) == "senet"
    found = to_ours(state, "torchvision", net)
    assert found.keys() == net.state_dict().keys()
    assert found["bn1.num_batches_tracked"].device.type == "cpu"
    assert found["bn1.num_batches_tracked"] == 0


def test_classifier_and_channels_are_free_where_asked():
    state = skeleton("resnet18", num_classes=7, in_chans=1).state_dict()
    with pytest.raises(InputError, match=r"3 of another shape \(conv1.weight"):
        to_ours(state, "senet", skeleton("resnet18"))
    for wanted in (skeleton("resnet18"), skeleton("resnet18", num_classes=0)):
        found = to_ours(state, "senet", wanted, strict=False)
        assert found["fc.weight"].shape == (7, 512)
        assert found["conv1.weight"].shape == (64, 1, 7, 7)
    headless = skeleton("resnet18", num_classes=0)
    assert to_ours(headless.state_dict(), "senet", headless).keys() == headless.state_dict().keys()
    assert "fc.weight" not in to_ours(headless.state_dict(), "senet", skeleton("resnet18"), strict=False)
    with pytest.raises(InputError, match="2 missing"):
        to_ours(headless.state_dict(), "senet", skeleton("resnet18"))
