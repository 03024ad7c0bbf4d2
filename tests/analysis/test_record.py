from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.analysis.record import record
from senet.blocks import CBAM, GatherExcite, SqueezeExcite
from senet.errors import InputError
from senet.models import create_model


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
        assert hooks(net) == 3
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


def test_a_model_without_blocks():
    with pytest.raises(InputError, match="Linear has no squeeze-and-excitation block"), record(nn.Linear(2, 2)):
        pass
