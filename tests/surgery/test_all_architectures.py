"""Other people's networks: a few of each family always, all of them with ``SENET_ALL_ARCHITECTURES=1`` (hours)."""

import os

import pytest
import timm
import torch
from torch import nn

from senet.surgery.fold import fold
from senet.surgery.fuse import fuse, unfuse
from senet.surgery.report import report
from senet.surgery.trace import randomise_norms

torchvision_models = pytest.importorskip("torchvision.models")

ALL = bool(os.environ.get("SENET_ALL_ARCHITECTURES"))
GATES = {"SEModule", "SqueezeExcite", "SqueezeExcitation", "EffectiveSEModule", "EcaModule", "SqueezeExcitationLayer"}
LARGEST = 150_000_000  # parameters; above, float64 twice over takes more memory than a test should

PROJECTED = "pool before the projection, first layer merged with it, product and sum in one pass, ReLU in place"
SUMMED = "product and sum in one pass, ReLU in place"
IN_PLACE = "product in place"

# name: what becomes of its gates, and how many are left
SPREAD = {
    "seresnet18": ({SUMMED}, 0),
    "seresnet50": ({PROJECTED}, 0),
    "ecaresnet26t": ({PROJECTED.replace(", first layer merged with it", "")}, 0),
    "seresnext26ts": ({IN_PLACE}, 0),
    "ese_vovnet19b_slim_dw": ({IN_PLACE}, 0),
    "efficientnet_b0": ({IN_PLACE}, 0),
    "tf_mobilenetv3_small_075": ({IN_PLACE}, 0),
    "rexnet_100": ({IN_PLACE}, 0),
    "regnety_002": ({IN_PLACE}, 0),
    "lcnet_050": ({IN_PLACE}, 0),
    "test_nfnet": ({IN_PLACE}, 0),
    "test_byobnet": ({IN_PLACE, SUMMED}, 0),
    "torchvision:mobilenet_v3_small": ({IN_PLACE}, 0),
    "torchvision:regnet_y_400mf": ({IN_PLACE}, 0),
}


def made(name):
    torch.manual_seed(0)
    source, _, rest = name.rpartition(":")
    model = torchvision_models.get_model(rest, weights=None) if source else timm.create_model(rest)
    model = model.double().eval()
    randomise_norms(model)
    return model


def images(model):
    stated = getattr(model, "pretrained_cfg", None) or {}
    for size in [stated["input_size"][-1]] if stated.get("fixed_input_size") else [64, 128, 224, 256, 299]:
        x = torch.randn(1, 3, size, size, dtype=torch.float64)
        try:
            with torch.no_grad():
                return x, model(x)
        except (RuntimeError, AssertionError):  # too small for it
            continue
    raise AssertionError("no size fits")


def checked(name):
    """Folds a network, compares it with itself, and returns what was done to it."""
    model = made(name)
    folded = fold(model)
    x, wanted = images(model)
    with torch.no_grad():
        difference = (folded(x) - wanted).abs().max() / wanted.abs().max()
    assert difference <= 1e-10, f"{name} differs by {difference:.1e}"
    return folded, report(folded)


@pytest.mark.parametrize("name", SPREAD)
def test_a_spread_of_families(name):
    folded, done = checked(name)
    gates = [what for _, what in done.taken if not what.startswith("norm folded")]
    kinds, left = SPREAD[name]
    assert set(gates) == kinds
    assert len(done.left) == left
    assert len(gates) == sum(type(m).__name__ in GATES for m in made(name).modules())
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())


def with_gates():
    """All architectures with a gate, of the size that a test can take; built without memory to look at them."""
    for source, names in (
        ("", timm.list_models()),
        ("torchvision:", torchvision_models.list_models(torchvision_models)),
    ):
        for name in names:
            try:
                with torch.device("meta"):
                    model = torchvision_models.get_model(name, weights=None) if source else timm.create_model(name)
            except NotImplementedError:  # it computes with its weights while it is built
                model = made(source + name)
            gated = any(type(m).__name__ in GATES for m in model.modules())
            if gated and sum(p.numel() for p in model.parameters()) <= LARGEST:
                yield source + name


needs_an_hour = pytest.mark.skipif(not ALL, reason="SENET_ALL_ARCHITECTURES=1: all of timm's and torchvision's, hours")


@needs_an_hour
@pytest.mark.timeout(8 * 3600)
@pytest.mark.filterwarnings("default")
def test_all_architectures_fused(capsys):
    """Every module that `fuse` takes over is compared in float64 by itself; here that some are, and the way back."""
    rows, wrong = [], []
    for name in with_gates():
        model = made(name)
        before = [(id(module), type(module)) for module in model.modules()]
        done = report(fuse(model))
        rows.append(f"{name:<40} {len(done.taken):3} taken, {len(done.left):3} left")
        rows += [f"    {path}: {reason}" for path, reason in done.left]
        unfuse(model)
        if not done.taken or [(id(module), type(module)) for module in model.modules()] != before:
            wrong.append(name)
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert not wrong
    assert rows


@needs_an_hour
@pytest.mark.timeout(4 * 3600)
@pytest.mark.filterwarnings("default")
def test_all_architectures_folded(capsys):
    rows, wrong = [], []
    for name in with_gates():
        try:
            _, done = checked(name)
        except AssertionError as error:
            wrong.append(str(error))
            continue
        gates = sum(not what.startswith("norm folded") for _, what in done.taken)
        rows.append(f"{name:<40} {gates:3} gates, {len(done.taken) - gates:3} norms, {len(done.left):3} left")
        rows += [f"    {path}: {reason}" for path, reason in done.left]
    with capsys.disabled():
        print("\n" + "\n".join(rows))
    assert not wrong
    assert rows
