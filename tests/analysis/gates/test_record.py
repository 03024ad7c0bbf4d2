from __future__ import annotations

import copy
import functools
import gc

import pytest
import pytorchcv.model_provider
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.checkpoint import checkpoint

from senet.analysis.gates.record import record
from senet.blocks import BLOCKS, CBAM, GatherExcite, SqueezeExcite, create_block
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.gating.strip import strip


@pytest.fixture
def net():
    torch.manual_seed(0)
    return create_model("cifar_seresnet8", num_classes=10, in_chans=1).eval()


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_sites_in_depth_order_and_values(net):
    images = torch.randn(3, 1, 16, 16)
    inputs = {}
    blocks = {name: m for name, m in net.named_modules() if isinstance(m, SqueezeExcite)}
    handles = [
        m.register_forward_pre_hook(lambda m, args, name=n: inputs.setdefault(name, args[0])) for n, m in blocks.items()
    ]
    with torch.no_grad(), record(net) as recording:
        net(images)
    for handle in handles:
        handle.remove()
    assert list(recording.gates) == ["layer1.0.se", "layer2.0.se", "layer3.0.se"]
    for name, gates in recording.gates.items():
        u, se = inputs[name], blocks[name]
        z = u.mean((2, 3))
        expected = torch.sigmoid(
            torch.relu(z @ se.fc1.weight.flatten(1).T + se.fc1.bias) @ se.fc2.weight.flatten(1).T + se.fc2.bias
        )
        assert gates.dtype == torch.float32
        assert gates.device.type == "cpu"
        assert not gates.requires_grad
        torch.testing.assert_close(gates, expected)


def test_order_is_that_of_execution_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = SqueezeExcite(4, reduction=2), SqueezeExcite(4, reduction=2)

        def forward(self, x):
            return self.second(self.first(x))

    model = Backwards()
    with record(model) as recording:
        model(torch.randn(1, 4, 3, 3))
    assert list(recording.gates) == ["first", "second"]


def test_batches_are_joined_and_take_forgets(net):
    first, second = torch.randn(2, 1, 8, 8), torch.randn(3, 1, 8, 8)
    with record(net) as recording:
        net(first)
        net(second)
        joined = recording.gates
        assert {len(g) for g in joined.values()} == {5}
        taken = recording.take()
        assert all(torch.equal(taken[site], joined[site]) for site in joined)
        assert recording.gates == {}
        net(second)
    for site, gates in recording.gates.items():
        torch.testing.assert_close(gates, joined[site][2:])


def test_spatial_gates_are_averaged_over_the_map():
    torch.manual_seed(0)
    block, u = SqueezeExcite(4, reduction=2, squeeze="none"), torch.randn(2, 4, 5, 3)
    with record(block) as recording:
        block(u)
    torch.testing.assert_close(recording.gates["SqueezeExcite"], block.gates(u).mean((2, 3)).detach())


def test_blocks_of_several_stages():
    model, u = nn.Sequential(CBAM(8, reduction=2), GatherExcite(8, extent=2)), torch.randn(2, 8, 6, 6)
    with record(model) as recording:
        model(u)
    assert {site: tuple(g.shape) for site, g in recording.gates.items()} == {
        "0.channel": (2, 8),
        "0.spatial": (2, 1),
        "1": (2, 8),
    }


def test_outputs_unchanged_and_no_hook_left(net):
    images = torch.randn(2, 1, 8, 8)
    plain = net(images)
    with record(net):
        assert hooks(net) == 6  # of three gates, and where a pass of the network begins, is through, and ends
        assert torch.equal(net(images), plain)
    assert hooks(net) == 0


def test_no_hook_left_after_an_exception(net):
    with pytest.raises(ZeroDivisionError), record(net):
        raise ZeroDivisionError
    assert hooks(net) == 0


def test_nested_and_repeated(net):
    images = torch.randn(2, 1, 8, 8)
    with record(net) as outer:
        net(images)
        with record(net) as inner:
            net(images)
    with record(net) as again:
        net(images)
    for site, gates in again.gates.items():
        assert torch.equal(inner.gates[site], gates)
        assert torch.equal(outer.gates[site], torch.cat([gates, gates]))
    assert hooks(net) == 0


def test_half_precision_and_gradients():
    block, u = SqueezeExcite(4, reduction=2).bfloat16(), torch.randn(2, 4, 3, 3).bfloat16()
    with record(block) as recording:
        block(u).sum().backward()
    assert recording.gates["SqueezeExcite"].dtype == torch.float32
    assert block.fc1.weight.grad is not None


def test_a_model_without_gates():
    with pytest.raises(InputError, match="Linear has no map that is gated"), record(nn.Linear(2, 2)):
        pass


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.se = SqueezeExcite(4, reduction=2)

    def forward(self, x):
        return self.se(self.se(x) + 1)


class TestTwice:
    """A block that runs twice in a forward pass is two sites."""

    def test_each_call_is_recorded(self):
        model, x = Twice(), torch.randn(2, 4, 3, 3)
        with record(model) as recording:
            assert recording.sites == ("se",)
            model(x)
            model(x)
        first = model.se.gates(x)
        second = model.se.gates(x * first + 1)
        assert recording.sites == ("se", "se#2")
        for site, gate in (("se", first), ("se#2", second)):
            torch.testing.assert_close(recording.gates[site], gate.detach().flatten(1).repeat(2, 1))

    def test_one_call_is_edited(self):
        model, x = Twice(), torch.randn(2, 4, 3, 3)
        with record(model, edit={"se#2": 1}):
            torch.testing.assert_close(model(x), x * model.se.gates(x) + 1)
        with record(model, edit={"se": 1}):
            torch.testing.assert_close(model(x), x + 1)

    def test_statistics_of_each(self):
        model = Twice()
        with record(model, statistics=True, classes=("a", "b")) as recording:
            for _ in range(3):
                recording.labels = torch.tensor([0, 1])
                model(torch.randn(2, 4, 3, 3))
        assert {site: s.count.tolist() for site, s in recording.statistics.sites.items()} == {
            "se": [3, 3],
            "se#2": [3, 3],
        }

    def test_parts_called_by_themselves_are_one_site(self):
        """What is not called through the model has no forward pass to be the second call of."""
        model = Twice()
        with record(model) as recording:
            model.se(torch.randn(2, 4, 3, 3))
            model.se(torch.randn(2, 4, 3, 3))
        assert recording.sites == ("se",)
        assert len(recording.gates["se"]) == 4


class TestStatistics:
    def test_are_those_of_the_gates(self, net):
        images, labels = torch.randn(12, 1, 8, 8), torch.arange(12) % 3
        with record(net) as recording, torch.no_grad():
            net(images)
        with record(net, statistics=True, classes=("a", "b", "c")) as gathering, torch.inference_mode():
            for i, k in zip(images.split(5), labels.split(5), strict=True):
                gathering.labels = k
                net(i)
                assert gathering.statistics.sites["layer1.0.se"].count.sum() >= 5
        for site, gates in recording.gates.items():
            found = gathering.statistics.sites[site]
            torch.testing.assert_close(found.mean.float(), gates.mean(0))
            torch.testing.assert_close(found.std.float(), gates.std(0, unbiased=False), rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(found.class_means[1].float(), gates[labels == 1].mean(0))

    def test_labels_hold_for_one_pass(self, net):
        images = torch.randn(2, 1, 8, 8)
        with record(net, statistics=True, classes=("a", "b")) as recording:
            recording.labels = torch.tensor([0, 1])
            net(images)
            assert recording.labels is None
            with pytest.raises(InputError, match="no labels for 2 classes; give them before each batch"):
                net(images)
            recording.labels = torch.tensor([0, 1, 1])
            with pytest.raises(InputError, match="3 labels for the gates of 2 images"):
                net(images)
            recording.labels = torch.tensor([1, 1])
            net(images)
        assert [s.count.tolist() for s in recording.statistics.sites.values()] == [[1, 3]] * 3

    def test_without_classes(self, net):
        with record(net, statistics=True) as recording:
            net(torch.randn(3, 1, 8, 8))
        assert recording.statistics.classes == ("all",)
        assert recording.statistics.sites["layer3.0.se"].count.tolist() == [3]

    def test_what_was_not_asked_for(self, net):
        with record(net) as recording:
            with pytest.raises(InputError, match="record with statistics=True"):
                recording.statistics  # noqa: B018
            with pytest.raises(InputError, match="labels are for statistics"):
                recording.labels = torch.zeros(2, dtype=torch.long)
        with record(net, statistics=True) as recording, pytest.raises(InputError, match=r"read \.statistics"):
            recording.take()
        with pytest.raises(InputError, match="classes are for statistics"), record(net, classes=("a",)):
            pass

    def test_hold_the_same_memory_after_many_batches(self, net):
        def frozen():
            gc.collect()
            alive = [
                thing.untyped_storage() for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)
            ]
            return sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values())

        images = torch.randn(8, 1, 8, 8)
        with record(net, statistics=True) as recording, torch.inference_mode():
            net(images)
            after = frozen()
            for _ in range(20):
                net(images)
            assert frozen() == after
        assert recording.statistics.sites["layer1.0.se"].count.item() == 168


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"gc", "sk"}))  # one adds, one gates convolutions of the map
def test_every_block_whose_gate_is_1_is_the_identity(name):
    block, u = create_block(name, 16).eval(), torch.randn(2, 16, 8, 8)
    with record(block, edit={"*": 1}) as recording:
        assert torch.equal(block(u), u)
    assert {len(gates) for gates in recording.gates.values()} == {2}


def test_edits_change_between_passes(net):
    images = torch.randn(2, 1, 8, 8)
    with record(net) as recording:
        plain = net(images)
        recording.edit = recording.take()
        assert torch.equal(net(images), plain)
        recording.edit = {"layer*": 1.0}
        assert dict(recording.edit) == {"layer*": 1.0}
        assert not torch.allclose(net(images), plain)
        recording.edit = {}
        assert torch.equal(net(images), plain)
        with pytest.raises(InputError, match=r"no site is called 'layer1.0'; did you mean 'layer1.0.se'"):
            recording.edit = {"layer1.0": 1}


def test_recorded_is_what_the_network_computed(net):
    images = torch.randn(2, 1, 8, 8)
    with record(net) as plain:
        net(images)
    with record(net, edit={"layer1.0.se": 0.0}) as edited:
        net(images)
    assert torch.equal(edited.gates["layer1.0.se"], plain.gates["layer1.0.se"])
    assert not torch.equal(edited.gates["layer2.0.se"], plain.gates["layer2.0.se"])


def test_gates_recorded_in_inference_mode_can_be_trained_with(net):
    images = torch.randn(2, 1, 8, 8)
    with torch.inference_mode(), record(net) as recording:
        net(images)
    with record(net, edit=recording.gates):
        net(images).sum().backward()
    assert net.conv1.weight.grad is not None


@pytest.mark.parametrize("gate", ["tanh", "relu", "hard_sigmoid"])
def test_gates_of_any_range(gate):
    block, u = SqueezeExcite(4, reduction=2, gate=gate), 9 * torch.randn(5, 4, 3, 3)
    with record(block, statistics=True) as recording:
        block(u)
    gates = block.gates(u).detach().flatten(1).double()
    torch.testing.assert_close(recording.statistics.sites["SqueezeExcite"].mean, gates.mean(0))


def test_gates_that_are_no_numbers_are_recorded_as_they_are(net):
    images = torch.randn(2, 1, 8, 8)
    images[1] = torch.nan
    with record(net) as recording:
        net(images)
    assert [gates.isnan().all(1).tolist() for gates in recording.gates.values()] == [[False, True]] * 3


def test_under_autocast_channels_last_and_other_sizes():
    model = timm.create_model("test_efficientnet").eval().to(memory_format=torch.channels_last)
    with record(model) as recording, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        for size in (32, 47):
            model(torch.randn(1, 3, size, size).to(memory_format=torch.channels_last))
    for gates in recording.gates.values():
        assert gates.dtype == torch.float32
        assert len(gates) == 2
        assert gates.min() > 0
        assert gates.max() < 1


def test_half_weights_of_others():
    model = timm.create_model("test_efficientnet").eval().bfloat16()
    images = torch.randn(2, 3, 32, 32).bfloat16()
    with record(model) as recording, torch.no_grad():
        plain = model(images)
        recording.edit = recording.take()
        assert torch.equal(model(images), plain)


def test_checkpointed_activations_are_recorded_once():
    block, u = SqueezeExcite(4, reduction=2), torch.randn(2, 4, 3, 3, requires_grad=True)
    with record(block, edit={"*": lambda s: s**2}) as recording:
        checkpoint(block, u, use_reentrant=False).sum().backward()
    with torch.enable_grad():
        (wanted,) = torch.autograd.grad((u * block.gates(u) ** 2).sum(), u)
    assert len(recording.gates["SqueezeExcite"]) == 2
    torch.testing.assert_close(u.grad, wanted)


def test_copies_made_meanwhile_share_the_recording(net):
    with record(net) as recording:
        twin = copy.deepcopy(net)
        twin.layer1(torch.randn(2, 16, 8, 8))
    assert len(recording.gates["layer1.0.se"]) == 2


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: SqueezeExcite(3, reduction=1), lambda m, x: m(x)),
        (lambda: FunctionalUnit().eval(), lambda m, x: m(x)),
        (lambda: FunctionalUnit().eval(), lambda m, x: m(x=x)),
    ],
    ids=["ours", "written down", "by keyword"],
)
def test_copies_made_meanwhile_are_free_afterwards(make, call):
    """As of an average of weights, or of the best network so far."""
    model, images = make(), torch.randn(2, 3, 8, 8)
    plain = model(images)
    with record(model, edit={"*": 0.0}) as recording:
        best = copy.deepcopy(model)
        assert not best(images).any()
    assert torch.equal(call(best, images), plain)
    assert {len(gates) for gates in recording.gates.values()} == {2}


def test_a_copy_of_a_recorded_model_is_recorded_by_itself():
    model, images = FunctionalUnit().eval(), torch.randn(2, 3, 8, 8)
    plain = model(images)
    with record(model) as first:
        twin = copy.deepcopy(model)
        with record(twin, edit={"*": 0.0}) as second:
            assert torch.equal(model(images), plain)
            assert not twin(images).any()
        assert {len(gates) for gates in first.gates.values()} == {len(gates) for gates in second.gates.values()} == {2}
    assert type(model) is FunctionalUnit
    with record(twin) as again:
        assert torch.equal(twin(images), plain)
    assert {len(gates) for gates in again.gates.values()} == {2}
    assert type(model) is FunctionalUnit


@pytest.mark.parametrize("statistics", [False, True])
def test_a_pass_that_fails_does_not_count(statistics):
    """As one that runs out of memory and is tried again in halves."""

    class Limited(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = SqueezeExcite(4, reduction=2), SqueezeExcite(4, reduction=2)

        def forward(self, x):
            x = self.first(self.first(x))
            if len(x) > 2:
                raise MemoryError
            return self.second(x)

    model, images = Limited(), torch.randn(4, 4, 3, 3)
    with record(model, statistics=statistics, example=(images[:2],)) as recording:
        with pytest.raises(MemoryError):
            model(images)
        assert recording.sites == ("first", "second")
        for half in images.split(2):
            model(half)
    if statistics:
        counts = {site: int(found.count) for site, found in recording.statistics.sites.items()}
    else:
        counts = {site: len(gates) for site, gates in recording.gates.items()}
    assert counts == {"first": 4, "second": 4, "first#2": 4}


@pytest.mark.parametrize("wanted", [{"se#2": 2.0}, {"se": 2.0}])
def test_edits_of_single_calls_and_checkpointed_activations(wanted):
    class Checkpointed(Twice):
        def forward(self, x):
            return checkpoint(self.se, checkpoint(self.se, x, use_reentrant=False) + 1, use_reentrant=False)

    model, x = Checkpointed(), torch.randn(2, 4, 3, 3, requires_grad=True)
    with record(model, edit=wanted):
        out = model(x)
        if "se#2" in wanted:
            with pytest.raises(InputError, match="'se', whose activations are checkpointed"):
                out.sum().backward()
        else:
            out.sum().backward()
            torch.testing.assert_close(x.grad, torch.full_like(x, 4.0))


class FunctionalUnit(nn.Module):
    """A unit as in CIFAR tutorials: the gate is written down in its forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc1, self.fc2 = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(2, 8, 1),
        )

    def forward(self, x):
        out = self.bn(self.conv(x))
        w = F.avg_pool2d(out, out.size(2))
        w = self.fc2(F.relu(self.fc1(w))).sigmoid()
        return F.relu(out * w)


class TutorialSE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        n, c, _, _ = x.size()
        return x * self.fc(self.avg_pool(x).view(n, c)).view(n, c, 1, 1).expand_as(x)


def attached():
    """A network of torchvision's with a block of ours."""
    net = torchvision.models.shufflenet_v2_x0_5()
    net.stage2[0] = nn.Sequential(net.stage2[0], SqueezeExcite(48, reduction=4))
    return net


NETS = {
    "ours": (lambda: create_model("cifar_seresnet8"), 32),
    "ours in others": (attached, 64),
    "timm seresnet18": (lambda: timm.create_model("seresnet18"), 32),
    "timm efficientnet": (lambda: timm.create_model("test_efficientnet"), 32),
    "timm ecaresnet26t": (lambda: timm.create_model("ecaresnet26t"), 32),
    "timm ese_vovnet19b_slim": (lambda: timm.create_model("ese_vovnet19b_slim"), 64),
    "timm mobilenetv3_small_050": (lambda: timm.create_model("mobilenetv3_small_050"), 64),
    "timm regnety_002": (lambda: timm.create_model("regnety_002"), 64),
    "timm test_nfnet": (lambda: timm.create_model("test_nfnet"), 64),
    "torchvision mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, 64),
    "torchvision regnet_y_400mf": (torchvision.models.regnet_y_400mf, 64),
    "pytorchcv seresnet20_cifar10": (lambda: pytorchcv.model_provider.get_model("seresnet20_cifar10"), 32),
    "functional": (lambda: nn.Sequential(FunctionalUnit(), nn.Conv2d(8, 3, 1), FunctionalUnit()), 32),
    "tutorial": (lambda: nn.Sequential(nn.Conv2d(3, 16, 3), TutorialSE(16)), 32),
}


def watched(net, sites):
    """Hooks that compute each site's gates from what its module was given and gave, float64: (u . out) / (u . u)."""
    found = {}

    def gate(module, args, out, site):
        u = args[0]
        if isinstance(module, FunctionalUnit):
            u = module.bn(module.conv(u))
            z = torch.relu(u.mean((2, 3)) @ module.fc1.weight.flatten(1).T + module.fc1.bias)
            found[site] = torch.sigmoid(z @ module.fc2.weight.flatten(1).T + module.fc2.bias)
        else:
            found[site] = (u * out).sum((2, 3)) / (u * u).sum((2, 3))

    hooks = [net.get_submodule(s).register_forward_hook(functools.partial(gate, site=s)) for s in sites]
    return found, hooks


@pytest.mark.parametrize("name", NETS)
def test_any_network(name, randomise):
    make, size = NETS[name]
    net = randomise(make()).double().eval()
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    classes = [type(m) for m in net.modules()]
    with torch.no_grad(), record(net) as recording:
        assert recording.left == ()
        found, handles = watched(net, recording.sites)
        plain = net(images)
        for handle in handles:
            handle.remove()
        gates = recording.take()
        assert tuple(gates) == recording.sites
        for site in gates:
            seen = found[site].isfinite()  # a ReLU may let nothing of a channel pass
            assert seen.double().mean() > 0.4
            torch.testing.assert_close(gates[site][seen], found[site][seen].float(), rtol=1e-5, atol=1e-6)
            assert gates[site].std() > 0
        recording.edit = {"*": 1}
        assert torch.equal(net(images), strip(net)(images))
        assert not torch.allclose(net(images), plain)
        net.float()
        recording.edit = {}
        recording.take()
        plain = net(images.float())
        recording.edit = recording.take()
        assert torch.equal(net(images.float()), plain)
    assert [type(m) for m in net.modules()] == classes
    assert hooks(net) == 0
