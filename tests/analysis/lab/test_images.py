from __future__ import annotations

import pytest
import torch

from senet.analysis.gates.record import record
from senet.analysis.lab.images import choose, portrait
from senet.analysis.lab.sample import Sample
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
