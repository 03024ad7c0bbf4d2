"""The smallest of other people's networks with gates; ``benchmarks/architectures.py`` takes all (hours)."""

import copy
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

import senet

torchvision_models = pytest.importorskip("torchvision.models")

ORACLE = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "dispatched.py")))
# A network a line, the 130 smallest and three more, and the verbs that are tried on it. All verbs on all of them take
# most of an hour; so a few have all of them, and the others one each in turn, the slowest the one that takes least.
LINES = [line.split() for line in Path(__file__).with_name("architectures.txt").read_text().splitlines()]

PROJECTED = "pool before the projection, first layer merged with it, product and sum in one pass, ReLU in place"
SUMMED = "product and sum in one pass, ReLU in place"
IN_PLACE = "product in place"

# What becomes of a network's gates when it is folded
SPREAD = {
    "seresnet18": {SUMMED},
    "seresnet50": {PROJECTED},
    "ecaresnet26t": {PROJECTED.replace(", first layer merged with it", "")},
    "seresnext26ts": {IN_PLACE},
    "ese_vovnet19b_slim_dw": {IN_PLACE},
    "efficientnet_b0": {IN_PLACE},
    "tf_mobilenetv3_small_075": {IN_PLACE},
    "rexnet_100": {IN_PLACE},
    "regnety_002": {IN_PLACE},
    "lcnet_050": {IN_PLACE},
    "test_nfnet": {IN_PLACE},
    "test_byobnet": {IN_PLACE, SUMMED},
    "torchvision:mobilenet_v3_small": {IN_PLACE},
    "torchvision:regnet_y_400mf": {IN_PLACE},
}


def with_verb(verb):
    return pytest.mark.parametrize("name", [name for name, *verbs in LINES if verb in verbs])


def made(name):
    """A network in float64 whose norms hide nothing, two images, and its gated products."""
    torch.manual_seed(0)
    source, _, rest = name.rpartition(":")
    model = torchvision_models.get_model(rest, weights=None) if source else timm.create_model(rest)
    x = torch.randn(images(model), dtype=torch.float64)
    products = ORACLE.gated_products(ORACLE.prepared(model, x), x)
    assert products
    assert {product.kind for product in products} == {"average"}
    return model, x, products


def images(model):
    stated = getattr(model, "pretrained_cfg", None) or {}
    if stated.get("fixed_input_size"):
        return 2, *stated["input_size"]
    return 2, 3, 64, 96


def each_once(model, products, taken, left):
    """Each gated product is taken or left with a reason, once, and nothing else but norms is."""
    norms = {path for path, module in model.named_modules() if "running_mean" in module._buffers}
    rows = [(path, what) for path, what in [*taken, *left] if path not in norms]
    assert all(what for _, what in rows)
    told = ORACLE.account(products, rows)
    assert [product.path for product in told.silent] == []
    assert told.others == []


def difference(one, other):
    return float((one - other).abs().max() / other.abs().max())


def trained(model, x):
    """A step's output, the gradient of its input, and the running statistics after it."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    y = model.train()(x)
    (y * torch.randn_like(y)).sum().backward()
    return [y.detach(), x.grad, *(b for b in model.buffers() if b.is_floating_point() and b.numel())]


@with_verb("fuse")
def test_fused(name):
    model, x, products = made(name)
    twin, classes = copy.deepcopy(model), [type(m) for m in model.modules()]
    done = senet.report(senet.fuse(model, example=(x,)))
    each_once(model, products, done.taken, done.left)
    with torch.no_grad():
        assert difference(model(x), twin(x)) <= 1e-10
    assert max(map(difference, trained(model, x), trained(twin, x))) <= 1e-10
    senet.unfuse(model)
    assert [type(m) for m in model.modules()] == classes


@with_verb("fold")
def test_folded(name):
    model, x, products = made(name)
    folded = senet.fold(model, example=(x,))
    done = senet.report(folded)
    each_once(model, products, done.taken, done.left)
    with torch.no_grad():
        assert difference(folded(x), model(x)) <= 1e-10
    if name in SPREAD:
        gates = [what for _, what in done.taken if not what.startswith("norm folded")]
        assert set(gates) == SPREAD[name]
        assert len(gates) == len(products)
        assert done.left == []
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())


def test_those_that_are_looked_at_closely_are_folded():
    assert SPREAD.keys() <= {name for name, *verbs in LINES if "fold" in verbs}


@with_verb("record")
def test_recorded(name):
    model, x, products = made(name)
    with torch.no_grad():
        y = model(x)
        with senet.record(model, example=(x,)) as recording:
            assert torch.equal(model(x), y)
    sites = [site for site in recording.gates if "#" not in site]
    each_once(model, products, [(site, "recorded") for site in sites], recording.left)
    assert sum(product.calls for product in products) == len(recording.gates) + len(recording.left)
    shapes = sorted(product.shape[:2] for product in products)
    assert len(recording.left) or sorted(tuple(recording.gates[site].shape) for site in sites) == shapes
