from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.analysis.gates.record import record
from senet.analysis.lab.images import _picture, choose, portrait
from senet.analysis.lab.sample import Sample
from senet.blocks import create_block
from senet.models import create_model

CPU = torch.device("cpu")


def test_choose_takes_the_classes_in_turn_then_others():
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    assert choose(labels, [2, 0], 4) == [4, 0, 5, 1]
    assert choose(labels, [1, 2], 5) == [3, 4, 5, 0, 1]
    assert choose(labels, [1], 0) == []
    assert len(choose(labels, [1], 99)) == 7


@pytest.mark.parametrize("attn", ["se", "cbam", "coord"])
def test_a_portrait(attn, randomise):
    net = randomise(create_model("cifar_resnet8", num_classes=3, in_chans=3, attn=attn)).eval()
    sample = Sample(3, seed=0)
    sample.offer(torch.randn(3, 3, 16, 16), torch.tensor([2, 0, 1]))
    with torch.no_grad(), record(net) as recording:
        logits = net(sample.image(1)[None])
    gates = {site: values.double() for site, values in recording.gates.items()}
    means = {site: torch.full_like(values[0], 0.25) for site, values in gates.items() if not site.startswith("layer3")}
    with torch.no_grad():
        found = portrait(net, sample, 1, means, ["a", "b", "c"], CPU)
    assert (found.truth, found.guess) == ("a", "abc"[int(logits.argmax())])
    assert found.picture.shape == (16, 16, 3)
    assert (int(found.picture.min()), int(found.picture.max())) == (0, 255)
    assert list(found.deviations) == list(means)
    for site, values in found.deviations.items():
        torch.testing.assert_close(values, gates[site][0] - 0.25)
    shapes = {site: tuple(plane.shape) for site, plane in found.maps.items()}
    suffix = {"se": None, "cbam": ".spatial", "coord": ""}[attn]
    assert shapes == ({} if suffix is None else {f"layer1.0.se{suffix}": (16, 16), f"layer2.0.se{suffix}": (8, 8)})
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


def test_maps_are_the_gates_at_every_position(randomise):
    net = randomise(
        create_model("cifar_resnet8", num_classes=3, in_chans=2, attn_options={"squeeze": "none"}, attn="se")
    )
    sample, seen = Sample(1, seed=0), {}
    sample.offer(torch.randn(1, 2, 8, 8), torch.tensor([0]))
    block = net.eval().layer1[0].se
    handle = block.gate.register_forward_hook(lambda m, args, gate: seen.setdefault("gate", gate))
    with torch.no_grad():
        found = portrait(net, sample, 0, {"layer1.0.se": torch.zeros(16, dtype=torch.float64)}, "abc", CPU)
    handle.remove()
    torch.testing.assert_close(found.maps["layer1.0.se"], seen["gate"][0].double().mean(0))
    assert found.picture is None  # of two channels


class Twice(nn.Module):
    def __init__(self, attn):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=2)
        self.se, self.fc = create_block(attn, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(self.se(self.second(self.se(self.first(x)))).mean((2, 3)))


def test_a_block_that_is_used_twice():
    net, sample = Twice("cbam").eval(), Sample(1, seed=0)
    sample.offer(torch.randn(1, 3, 8, 8), torch.tensor([0]))
    with torch.no_grad(), record(net) as recording:
        net(sample.image(0)[None])
    with torch.no_grad():
        found = portrait(net, sample, 0, {site: gates[0] * 0 for site, gates in recording.gates.items()}, "abc", CPU)
    assert {site for site in found.deviations if "#2" in site} == {"se.channel#2", "se.spatial#2"}
    for site, values in found.deviations.items():
        torch.testing.assert_close(values.float(), recording.gates[site][0])
    assert {site: tuple(plane.shape) for site, plane in found.maps.items()} == {
        "se.spatial": (8, 8),
        "se.spatial#2": (10, 10),
    }
    for site, plane in found.maps.items():
        assert float(plane.mean()) == pytest.approx(float(recording.gates[site].mean()), abs=1e-6)


@pytest.mark.parametrize("shape", [(3, 9), (3, 4, 5, 6), (), (9,)])
def test_what_is_no_image_has_no_picture(shape):
    assert _picture(torch.randn(shape)) is None


def test_a_picture_of_one_value_in_half_precision():
    assert _picture(torch.ones(1, 4, 4, dtype=torch.float16)).tolist() == [[0] * 4] * 4
