from __future__ import annotations

import json

import pytest
import torch
from timm.layers import SEModule
from torch import nn

from senet.analysis.tax import arms
from senet.analysis.tax.arms import Setting
from senet.analysis.tax.tax import tax
from senet.errors import InputError
from senet.models import create_model
from senet.options import to_plain

SMALL = {"batch": 4, "size": 16, "rounds": 3}


@pytest.fixture(scope="module")
def trained():
    return tax(create_model("cifar_seresnet8"), **SMALL, ways=["eager", "fused"])


def test_networks_and_their_prices(trained):
    assert [(n.way, n.gated) for n in trained.networks] == [
        ("eager", True),
        ("eager", False),
        ("fused", True),
        ("fused", False),
    ]
    assert [(p.way, p.twin) for p in trained.prices] == [("eager", "eager"), ("fused", "eager")]
    assert [(p.way, p.twin) for p in trained.control] == [("fused", "fused")]
    for price in (*trained.prices, *trained.control):
        mine, twin = trained.network(price.way, gated=True), trained.network(price.twin, gated=False)
        ratios = sorted(a / b for a, b in zip(mine.seconds, twin.seconds, strict=True))
        assert price.ratio.median == pytest.approx(ratios[1])
        assert ratios[0] <= price.quartiles[0] <= price.quartiles[1] <= ratios[2]
    assert all(len(network.seconds) == 3 for network in trained.networks)


def test_counts_stand_beside_the_times(trained):
    eager, plain = trained.network("eager", gated=True), trained.network("eager", gated=False)
    fused, alike = trained.network("fused", gated=True), trained.network("fused", gated=False)
    assert [site.path for site in trained.sites] == ["layer1.0.se", "layer2.0.se", "layer3.0.se"]
    assert plain.passes() == (0, 0)
    assert eager.passes()[1] > 0 > fused.passes()[0]
    assert fused.passes() == alike.passes()
    assert eager.kept > fused.kept
    assert eager.moved > plain.moved
    assert eager.parameters == fused.parameters > plain.parameters == alike.parameters
    assert plain.parameters == sum(p.numel() for p in create_model("cifar_resnet8").parameters())
    assert {network.peak for network in trained.networks} == {None}


def test_all_of_it_is_json(trained):
    told = json.loads(json.dumps(to_plain(trained)))
    assert told["setting"]["train"] is True
    assert told["prices"][1]["ratio"]["median"] == trained.prices[1].ratio.median


def test_inference_folded():
    found = tax(create_model("cifar_seresnet8"), train=False, batch=2, size=16, rounds=1, ways=["folded"])
    assert [(n.way, n.gated) for n in found.networks] == [("folded", True), ("eager", False), ("folded", False)]
    assert [(p.way, p.twin) for p in found.control] == [("folded", "folded")]
    assert found.network("folded", gated=True).kept is None
    assert found.network("folded", gated=True).moved < found.network("eager", gated=False).moved * 1.5
    assert found.prices[0].quartiles[0] == found.prices[0].quartiles[1] == found.prices[0].ratio.median


def test_what_cannot_be_fused_is_left_out_unless_asked_for(monkeypatch):
    """A gate whose map is in a dtype or shape that fuse refuses would do; here fuse finds nothing."""
    monkeypatch.setattr(arms, "WAYS", {"eager": "eager", "fused": "eager"})
    monkeypatch.setattr(arms, "report", lambda _: type("Empty", (), {"taken": []}))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))
    found = tax(model, batch=2, size=8, rounds=1)
    assert [price.way for price in found.prices] == ["eager"]
    assert found.left_out == (("fused", "nothing in Sequential can be fused; give the other ways"),)
    with pytest.raises(InputError, match="nothing in Sequential can be fused"):
        tax(model, batch=2, size=8, rounds=1, ways=["fused"])


def test_compiled_networks_are_timed_and_say_what_they_keep():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), SEModule(8), nn.ReLU())
    found = tax(model, batch=2, size=8, rounds=1, ways=["compile"])
    compiled = found.network("compile", gated=True)
    assert (compiled.moved, compiled.launches, compiled.extra, compiled.passes()) == (None, None, (), None)
    assert compiled.kept > 0
    assert [(n.way, n.gated) for n in found.networks] == [("compile", True), ("compile", False)]


def test_progress_ends_where_it_said():
    told = []
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))
    tax(model, batch=2, size=8, rounds=3, ways=["eager"], progress=lambda *now: told.append(now))
    assert [now for now in told if now[0] == "timing"] == [("timing", 0, 3), ("timing", 2, 3)]
    assert all(done < total for _, done, total in told)


def test_bad_input():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))
    with pytest.raises(InputError, match="rounds is 0; accepted: 1 or more"):
        tax(model, rounds=0)
    with pytest.raises(InputError, match="give a network with squeeze-and-excitation"):
        tax(model[0], batch=1, size=8)
    with pytest.raises(InputError, match="'folded' cannot be had"):
        tax(model, ways=["folded"])
    assert Setting().train
    assert all(isinstance(m, nn.Conv2d | SEModule) for m in model)
    assert torch.is_grad_enabled()
