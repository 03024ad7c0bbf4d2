from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import senet
from senet.errors import InputError
from senet.surgery.attaching.places import find_places


def paths(model: nn.Module, where, example=None) -> list[str]:
    return [place.path for place in find_places(model, where, example)[0]]


def conv_norm(inputs: int, outputs: int, *rest: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), *rest)


class Unit(nn.Module):
    """A residual unit whose parts can be exchanged."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.drop = nn.Dropout(0.5)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.branch(x)) + self.shortcut(x))


class Scaled(Unit):
    """With a scale of the branch, as in Inception-ResNet and ConvNeXt, and the sum written in place."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__(branch)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        u = self.branch(x) * self.gamma
        u = self.drop(u * 0.17)
        u += self.shortcut(x)
        return u


class SquareOf(nn.Module):
    """Its branch ends in no module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x).square()


class Gate(nn.Module):
    """Somebody's squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid().expand_as(x)


RESIDUAL = {
    "torchvision/resnet18": (["layer1.0.bn2", "layer4.1.bn2"], 8),
    "torchvision/mobilenet_v2": (["features.3.conv.3", "features.16.conv.3"], 10),
    "timm/efficientnet_b0": (["blocks.1.1.bn3", "blocks.5.3.bn3"], 9),
    "timm/regnetx_002": (["s1.b1.conv3.bn", "s4.b7.conv3.bn"], 13),
    "timm/poolformerv2_s12": (["stages.0.blocks.0.token_mixer", "stages.3.blocks.1.mlp.fc2"], 24),
}

STAGES = {
    "torchvision/resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "torchvision/mobilenet_v2": ["features.3", "features.6", "features.13", "features.18"],
    "torchvision/densenet121": [*(f"features.denseblock{i}" for i in (1, 2, 3)), "features.norm5"],
    "timm/efficientnet_b0": ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"],
    "timm/regnetx_002": ["s1", "s2", "s3", "s4"],
    "timm/convnext_atto": ["stages.0", "stages.1", "stages.2", "stages.3"],
}


def create(name: str) -> nn.Module:
    package, _, network = name.partition("/")
    if package == "timm":
        return timm.create_model(network, num_classes=4)
    if package == "senet":
        return senet.create_model(network, num_classes=4)
    return torchvision.models.get_model(network, num_classes=4)


@pytest.mark.parametrize("name", RESIDUAL)
def test_ends_of_residual_branches(name):
    (first, last), count = RESIDUAL[name]
    found = paths(create(name), "residual")
    assert (found[0], found[-1], len(found)) == (first, last, count)


@pytest.mark.parametrize("name", STAGES)
def test_ends_of_stages(name):
    assert paths(create(name), "stages") == STAGES[name]


def test_plain_chains_have_no_stem():
    chain = nn.Sequential(
        *(nn.Sequential(conv_norm(c, 8), nn.ReLU(), nn.MaxPool2d(2)) for c in (3, 8, 8)), nn.Flatten()
    )
    assert paths(chain, "stages") == ["0.1", "1.1", "2.1"]


def test_a_unit_that_begins_in_the_stage_before_ends_its_own():
    class Down(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 2, stride=2)
            self.same, self.small = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            u = self.first(x)
            v = self.down(u + self.same(u))
            return v + self.small(v)

    assert paths(nn.Sequential(Down()), "stages") == ["0"]


def test_a_map_added_to_itself_is_no_branch():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            u = self.conv(x)
            return u + u

    with pytest.raises(InputError, match="no place for a block by where='residual'; give"):
        find_places(Twice(), "residual", None)


@pytest.mark.parametrize(
    ("unit", "end"),
    [
        (Unit(conv_norm(8, 8)), "branch.1"),
        (Unit(conv_norm(8, 8, nn.Identity(), nn.Dropout(0.1))), "branch.1"),
        (Unit(conv_norm(8, 8, nn.Conv2d(8, 8, 1)), conv_norm(8, 8)), "branch.2"),
        (Unit(nn.Identity(), conv_norm(8, 8)), "shortcut.1"),
        (Scaled(conv_norm(8, 8)), "branch.1"),
    ],
    ids=["plain", "drops", "projection", "other side", "scaled"],
)
def test_the_branch_is_the_longer_way(unit, end):
    assert paths(nn.Sequential(nn.Conv2d(3, 8, 1), unit), "residual") == [f"1.{end}"]


def left_alone(unit: nn.Module) -> list[tuple[str, str]]:
    """Beside one unit that is taken."""
    places, left = find_places(nn.Sequential(nn.Conv2d(3, 8, 1), Unit(conv_norm(8, 8)), unit), "residual", None)
    assert [place.path for place in places] == ["1.branch.1"]
    return left


@pytest.mark.parametrize(
    ("unit", "path", "reason"),
    [
        (
            Unit(conv_norm(8, 8), conv_norm(8, 8)),
            "2",
            "the summands of .* have 1 and 1 layers, so neither is a shortcut",
        ),
        (SquareOf(), "2", "the branch ends in square.*, no module's output"),
        (Unit(nn.Sequential(conv_norm(8, 8), Gate())), "2.branch.1", "the branch ends in a gate already"),
        (
            Unit(nn.Sequential(conv_norm(8, 8), senet.CBAM(8))),
            "2.branch.1.spatial",
            "the branch ends in a gate already",
        ),
    ],
    ids=["equal", "no module", "gated", "ours"],
)
def test_other_sums_are_left_alone(unit, path, reason):
    ((where, why),) = left_alone(unit)
    assert where == path
    assert re.search(reason, why)


def test_parts_that_are_graphs_are_found_in_models_that_are_none():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unit = nn.Sequential(nn.Conv2d(3, 8, 1), Unit(conv_norm(8, 8)))

        def forward(self, x: Tensor) -> Tensor:
            return self.unit(x) if x.sum() > 1e9 else self.unit(x) + 1

    assert paths(Branching(), "residual") == ["unit.1.branch.1"]
    assert paths(Branching(), "stages") == ["unit"]


def test_what_is_no_graph_is_one_node_of_the_graph_around_it():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if x.sum() < 1e9 else x

    model = nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), Unit(Branching()), nn.Sequential(Unit(Branching())))
    assert paths(model, "residual") == ["1.branch", "2.0.branch"]
    assert paths(model, "conv1x1") == ["1.branch.conv", "2.0.branch.conv"]
    assert paths(model, "stages") == ["2"]


def test_convolutions_are_followed_by_their_norm_and_activation():
    model = nn.Sequential(
        conv_norm(3, 8, nn.ReLU()),  # all three
        nn.Conv2d(8, 8, 1),  # alone
        nn.Sequential(nn.Conv2d(8, 8, 5, groups=8), nn.Identity(), nn.GroupNorm(2, 8), nn.Hardswish()),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.SiLU(), nn.BatchNorm2d(8)),  # the norm comes too late
    )
    assert paths(model, "conv") == ["0.2", "1", "2.3", "3.1"]
    assert paths(model, "conv1x1") == ["1"]
    assert paths(model, "conv3x3") == ["0.2", "3.1"]
    assert paths(model, "depthwise") == ["2.3"]


def test_an_activation_used_twice_belongs_to_no_convolution():
    assert paths(torchvision.models.resnet18(num_classes=4), "conv3x3")[:2] == ["layer1.0.bn1", "layer1.0.bn2"]


def test_a_map_that_goes_on_is_taken_as_it_is():
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            u = self.conv(x)
            return torch.cat([u, self.norm(u)], 1)

    assert paths(Dense(), "conv") == ["conv"]


def test_layers_of_gates_are_left_alone():
    model = nn.Sequential(conv_norm(3, 8), Gate(), nn.Conv2d(8, 8, 1))
    places, left = find_places(model, "conv1x1", None)
    assert [place.path for place in places] == ["2"]
    assert left == [("1.fc", "it computes a gate")]


def test_names_and_patterns():
    model = torchvision.models.resnet18(num_classes=4)
    assert paths(model, "layer3") == ["layer3"]
    assert paths(model, "layer[34].*.bn?") == [f"layer{i}.{j}.bn{k}" for i in (3, 4) for j in (0, 1) for k in (1, 2)]
    assert paths(model, ["layer4", "layer1*bn2"]) == ["layer1.0.bn2", "layer1.1.bn2", "layer4"]
    assert paths(model, lambda name, m: isinstance(m, nn.BatchNorm2d) and m.num_features == 512)[-1] == "layer4.1.bn2"


def test_a_module_in_two_places_is_one():
    shared = conv_norm(8, 8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared)
    assert paths(model, ["1", "3"]) == ["1"]
    assert paths(model, "conv3x3") == ["1.1"]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("layer5", r"no module of ResNet is called 'layer5'; did you mean 'layer"),
        ("residuals", r"did you mean 'residual'"),
        (["layer1", "nothing*"], r"no module of ResNet is called 'nothing\*'"),
        (lambda name, m: False, r"where= chose none of the \d+ modules of ResNet"),
        (7, r"where is 7; accepted: 'residual', 'stages', 'conv'"),
        ([], r"where is \[\]; accepted"),
        ("fc", r"fc cannot take a block: it gives \(2, 4\), not a map"),
        ("layer1.0.relu", r"it has no weights and is called 2 times"),
        (["layer1", "layer1.1"], r"layer1 and layer1\.1 give the same map, which takes one block; name one of them"),
        (lambda name, m: name == "", r"the model cannot take a block: it is the model itself"),
        ("depthwise", r"ResNet has no place for a block by where='depthwise'; give where="),
    ],
)
def test_what_names_nothing_or_too_much_is_refused(where, says):
    with pytest.raises(InputError, match=says):
        find_places(torchvision.models.resnet18(num_classes=4), where, None)


def test_networks_whose_branches_are_all_gated_say_so():
    with pytest.raises(InputError, match=r"layer1\.0\.se: the branch ends in a gate already.*and \d+ more"):
        find_places(timm.create_model("seresnet18", num_classes=4), "residual", None)


def test_calls_around_a_module_are_seen():
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)
            self.chain = [self.conv]

        def forward(self, x: Tensor) -> Tensor:
            return self.chain[0](x)

    with pytest.raises(InputError, match="the model calls conv by a way of its own, around a block"):
        find_places(Around(), "conv", None)


def test_models_that_need_a_part_of_a_class_are_refused():
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(self.conv, nn.Conv2d):
                raise TypeError("this is no convolution")
            return self.conv(x)

    with pytest.raises(InputError, match=r"does not run with blocks at conv \(TypeError: this is no convolution\)"):
        find_places(Picky(), "conv", None)


def test_the_model_is_not_touched():
    model = torchvision.models.resnet18(num_classes=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = list(model.modules())
    find_places(model, "residual", None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert list(map(id, model.modules())) == list(map(id, modules))
    assert not any(m._forward_hooks for m in model.modules())
    assert model.training


def test_a_shortcut_of_a_module_that_does_nothing_hides_no_branch():
    branch = nn.Sequential(nn.BatchNorm2d(8), nn.AvgPool2d(3, 1, 1))  # without layers, as PoolFormer's
    assert paths(nn.Sequential(nn.Conv2d(3, 8, 1), Unit(branch, nn.Identity())), "residual") == ["1.branch.1"]


def test_a_prelu_of_each_channel_is_an_activation():
    model = nn.Sequential(*conv_norm(3, 8, nn.PReLU(8)), *conv_norm(8, 8, nn.PReLU()))
    assert paths(model, "conv") == ["2", "5"]


class ChannelsLast(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1))


def test_stages_with_channels_last_leave_no_others():
    def stage(width: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), Unit(conv_norm(width, width)))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.pool = stage(8), nn.AvgPool2d(2)
            self.second = nn.Conv2d(8, 16, 1)
            self.last = ChannelsLast(nn.Linear(16, 24))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.second(self.pool(self.first(x))))

    with pytest.raises(InputError, match=r"first: the stage's end cannot be told, as last, another's, has channels"):
        find_places(Net(), "stages", None)
