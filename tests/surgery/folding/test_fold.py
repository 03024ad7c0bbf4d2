import copy
import io
import pickle

import pytest
import torch
from torch import nn

from senet.blocks import ECA, EffectiveSE, SqueezeExcite
from senet.errors import InputError
from senet.surgery.folding.fold import fold
from senet.surgery.fusing.fuse import fuse
from senet.surgery.graph.install import Rewritten
from senet.surgery.graph.run import randomise_norms
from senet.surgery.report import report


class Gate(nn.Module):
    """The tutorials' block: pool, two Linear layers, ``expand_as``."""

    def __init__(self, channels, reduction=4):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1)
        return x * y.expand_as(x)


class Unit(nn.Module):
    """A residual unit that ends in a projection, a gate, a sum and a ReLU."""

    def __init__(self, gate, *, inside=8, channels=16, stride=1, groups=1, bias=False, kernel=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inside, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels)
        self.gate = gate
        self.shortcut = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.gate(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return torch.relu(y + self.shortcut(x))


class Mobile(nn.Module):
    """Norm, activation, gate, projection, as in MobileNetV3."""

    def __init__(self, gate, channels=16):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.SiLU(inplace=True)
        self.gate = gate
        self.project = nn.Conv2d(channels, 8, 1, bias=False)
        self.last = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.last(self.project(self.gate(self.act(self.bn(self.conv(x))))))


def prepared(module):
    module = module.double().eval()
    randomise_norms(module)
    return module


def assert_same(folded, module, *inputs):
    with torch.no_grad():
        wanted, got = module(*(x.clone() for x in inputs)), folded(*(x.clone() for x in inputs))
    assert wanted.abs().max() > 1e-3
    assert (got - wanted).abs().max() <= 1e-10 * wanted.abs().max()


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def scripted(module):
    with pytest.warns((FutureWarning, DeprecationWarning), match="deprecated"):
        return torch.jit.script(module)


def gates(folded):
    """What became of the gates, by the unit that each is in."""
    return {path.split(".")[0]: what for path, what in report(folded).taken if "norm folded" not in what}


def operators(module):
    """The text of all rewritten forwards."""
    return "".join(w.run.source for m in module.modules() if isinstance(m, Rewritten) for w in m.written)


GATES = {
    "linear": lambda: Gate(16),
    "ours": lambda: SqueezeExcite(16, reduction=4),
    "effective": lambda: EffectiveSE(16),
    "eca": lambda: ECA(16),
}


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 4, "bias": True}, {"inside": 16}])
def test_a_projection_is_folded(gate, options):
    model = prepared(nn.Sequential(Unit(GATES[gate](), **options), Unit(GATES[gate](), **options)))
    folded = fold(model, example=(image(2, 16, 9, 9),))
    for shape in ((2, 16, 9, 9), (1, 16, 5, 12), (3, 16, 1, 1)):
        assert_same(folded, model, image(*shape))
    assert not report(folded).left
    merged = "" if gate == "eca" else ", first layer merged with it"
    assert gates(folded)["0"] == f"pool before the projection{merged}, product and sum in one pass, ReLU in place"
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert "relu_" in operators(folded)
    assert "torch.addcmul" in operators(folded)


def test_a_merged_layer_has_the_inputs_of_the_projection():
    folded = fold(prepared(nn.Sequential(Unit(Gate(16)))), example=(image(2, 16, 6, 6),))
    first = folded[0].gate_fc_0_merged
    assert (first.in_features, first.out_features) == (8, 4)
    assert first.bias is not None


@pytest.mark.parametrize(("options", "words"), [({"kernel": 3}, "3x3"), ({"inside": 32}, "from wide to narrow")])
def test_the_pool_stays_where_it_reads_no_more(options, words):
    model = prepared(nn.Sequential(Unit(Gate(16), **options)))
    folded = fold(model, example=(image(2, 16, 6, 6),))
    assert_same(folded, model, image(2, 16, 7, 8))
    assert gates(folded)["0"] == "product and sum in one pass, ReLU in place", words


def test_a_relu_that_ends_at_six_stays_one():
    class Capped(Unit):
        def forward(self, x):
            return nn.functional.relu6(self.gate(self.bn2(self.conv2(self.conv1(x)))))

    model = prepared(nn.Sequential(Capped(Gate(16)), nn.Conv2d(16, 4, 1)))
    folded = fold(model, example=(image(2, 16, 6, 6),))
    assert gates(folded)["0"].endswith("product in place")
    assert_same(folded, model, 50 * image(2, 16, 6, 6))


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_behind_an_activation_writes_in_place(gate):
    model = prepared(nn.Sequential(Mobile(GATES[gate]())))
    x = image(2, 16, 6, 6)
    folded, before = fold(model, example=(x,)), x.clone()
    assert_same(folded, model, image(3, 16, 4, 7))
    with torch.no_grad():
        folded(x)
    assert torch.equal(x, before)
    assert gates(folded)["0"] == "product in place"
    assert "mul_" in operators(folded)


def test_a_map_that_others_see_is_not_overwritten():
    class Seen(Unit):
        def forward(self, x):
            u = self.bn2(self.conv2(self.conv1(x)))
            return u + self.gate(u)

    model = prepared(nn.Sequential(Seen(Gate(16))))
    folded = fold(model, example=(image(2, 16, 6, 6),))
    assert_same(folded, model, image(2, 16, 6, 6))
    assert "mul_" not in operators(folded)
    assert any("also goes to" in reason for _, reason in report(folded).left)


def test_a_gate_on_the_input_does_not_write_into_it():
    model, x = prepared(nn.Sequential(Gate(16), nn.Conv2d(16, 4, 1))), image(2, 16, 6, 6)
    folded, before = fold(model, example=(x,)), x.clone()
    assert_same(folded, model, x)
    assert torch.equal(x, before)
    assert report(folded).left


class Shared(nn.Module):
    """Norms that must stay: shared, first, behind a convolution seen by others, behind weights made on the way."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(4)
        self.conv, self.twice = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.seen, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.made, self.after = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.twice(self.conv(self.first(x)))
        x = self.twice(self.conv(x))
        y = self.seen(x)
        return self.after(self.made(self.norm(y) + y))


def test_norms_that_cannot_be_folded_stay_and_are_reported():
    model = prepared(Shared())
    folded = fold(model, example=(image(2, 4, 5, 5),))
    assert_same(folded, model, image(2, 4, 5, 5))
    done = report(folded)
    assert not done.taken
    left = dict(done.left)
    assert set(left) == {"first", "twice", "norm", "after"}
    assert "no convolution" in left["first"]
    assert "more than once" in left["twice"]
    assert "also goes to" in left["norm"]
    assert "weight" in left["after"]


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Linear(4, 6), nn.BatchNorm1d(6)), (3, 4)),
        ((nn.Conv1d(4, 6, 3, bias=False), nn.BatchNorm1d(6)), (3, 4, 9)),
        ((nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.BatchNorm2d(6, affine=False)), (3, 4, 9, 9)),
        ((nn.Conv3d(4, 6, 2), nn.BatchNorm3d(6)), (3, 4, 4, 4, 4)),
    ],
)
def test_norms_fold_into_layers_of_all_kinds(layers, shape):
    model = prepared(nn.Sequential(*copy.deepcopy(layers)))
    folded = fold(model, example=(image(*shape),))
    assert_same(folded, model, image(*shape))
    assert isinstance(folded[1], nn.Identity)
    assert report(folded).taken == [("1", "norm folded into 0")]


def test_the_argument_is_untouched():
    model = nn.Sequential(Unit(Gate(16)), Mobile(SqueezeExcite(16, reduction=4))).train()
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    folded = fold(model, example=(torch.randn(2, 16, 6, 6),))
    assert list(model.modules()) == modules
    assert all(m.training for m in modules)
    assert not any(m._forward_pre_hooks for m in modules)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert not any(m.training for m in folded.modules())
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert not storages & {p.untyped_storage().data_ptr() for p in folded.parameters()}


def test_a_host_with_hooks_is_left_alone():
    model, seen = prepared(nn.Sequential(Unit(Gate(16)))), []
    model[0].gate.register_forward_hook(lambda *_: seen.append(1))
    folded = fold(model, example=(image(2, 16, 6, 6),))
    seen.clear()
    assert_same(folded, model, image(2, 16, 6, 6))
    assert len(seen) == 2
    assert sum("hooks" in reason for _, reason in report(folded).left) == 1


class Branching(nn.Module):
    """A forward that no graph holds, around units that are graphs."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.unit = Unit(Gate(16))

    def forward(self, x):
        x = self.bn(self.stem(x))
        return self.unit(x) if x.sum() < 1e9 else x


def test_what_is_around_may_be_no_graph():
    model = prepared(Branching())
    folded = fold(model)
    assert_same(folded, model, image(2, 3, 8, 8))
    assert type(folded) is Branching
    assert isinstance(folded.unit, Rewritten)
    assert isinstance(folded.unit, Unit)
    assert dict(report(folded).left) == {"bn": "no graph shows what comes before it"}


def test_a_fused_model_folds():
    model, x = prepared(nn.Sequential(Unit(Gate(16)), Mobile(SqueezeExcite(16, reduction=4)))), image(2, 16, 6, 6)
    folded = fold(fuse(copy.deepcopy(model), example=(x,)), example=(x,))
    assert_same(folded, model, x)
    assert all(m.plain for m in folded.modules() if isinstance(m, Rewritten))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch 2.11, by itself
def test_it_is_an_ordinary_module():
    model = nn.Sequential(Unit(Gate(16)), Unit(SqueezeExcite(16, reduction=4), stride=2), Mobile(Gate(16)))
    model = prepared(model)
    x = image(2, 16, 8, 8)
    folded = fold(model, example=(x,))
    assert_same(copy.deepcopy(folded), model, x)
    assert_same(pickle.loads(pickle.dumps(folded)), model, x)
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=1, max=64)
        assert_same(torch.export.export(folded, (x,), dynamic_shapes=({0: batch},)).module(), model, image(5, 16, 8, 8))
    state = io.BytesIO()
    torch.save(folded.state_dict(), state)
    assert all(name.split(".")[0] in "012" for name in folded.state_dict())


def test_it_compiles_in_one_graph():
    model = prepared(nn.Sequential(Unit(SqueezeExcite(16, reduction=4)), Mobile(Gate(16))))
    x = image(2, 16, 8, 8)
    assert_same(torch.compile(fold(model, example=(x,)), fullgraph=True, backend="aot_eager"), model, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(Unit(SqueezeExcite(16, reduction=4)), Mobile(ECA(16))).eval()
    randomise_norms(model)
    exact, x = copy.deepcopy(model).double(), image(2, 16, 8, 8)
    model = model.to(dtype)
    folded = fold(model, example=(x.to(dtype),))
    with torch.no_grad():
        got, plain, wanted = folded(x.to(dtype)), model(x.to(dtype)), exact(x)
    assert got.dtype == dtype
    assert len(gates(folded)) == 2
    assert (got.double() - wanted).norm() <= 2 * (plain.double() - wanted).norm()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_stays(layout):
    model = prepared(nn.Sequential(Unit(Gate(16)))).to(memory_format=layout)
    x = image(2, 16, 8, 8).to(memory_format=layout)
    folded = fold(model, example=(x,))
    with torch.no_grad():
        assert folded(x).is_contiguous(memory_format=layout)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch 2.11, by itself
def test_bad_models_are_refused():
    model = prepared(nn.Sequential(Unit(Gate(16))))
    x = image(2, 16, 6, 6)
    with pytest.raises(InputError, match="folded already"):
        fold(fold(model, example=(x,)))
    with pytest.raises(InputError, match=r"before torch\.compile"):
        fold(torch.compile(model))
    with pytest.raises(InputError, match="before scripting"):
        fold(scripted(model))
    with pytest.raises(InputError, match="does not take"):
        fold(model, example=(image(2, 3, 6, 6),))
