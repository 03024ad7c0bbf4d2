"""Other people's networks, a few of each family; ``benchmarks/architectures.py`` takes all (hours)."""

import pytest
import timm
import torch
from torch import nn

from senet.surgery.folding.fold import fold
from senet.surgery.report import report
from senet.surgery.trace import randomise_norms

torchvision_models = pytest.importorskip("torchvision.models")

GATES = {"SEModule", "SqueezeExcite", "SqueezeExcitation", "EffectiveSEModule", "EcaModule", "SqueezeExcitationLayer"}

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
