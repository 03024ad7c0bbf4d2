from __future__ import annotations

import copy
import pickle
import warnings
from collections import Counter

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import senet
from senet.errors import InputError
from senet.surgery.fusing.fuse import fuse, unfuse
from senet.surgery.graph import walk
from senet.surgery.graph.install import Rewritten
from senet.surgery.graph.run import randomise_norms
from senet.surgery.report import report

TAIL = "norm + gate + shortcut + relu"
OURS = "norm + gate + drop + shortcut + relu"

# A spread of families: how many sites, and what becomes of them. All gradients are compared; test_architectures.py
# takes many more networks, and the gradient of the input alone.
FOREIGN = {
    "timm/seresnet18": {TAIL: 8},
    "timm/legacy_seresnet18": {"norm + relu + gate": 8},  # it has a ReLU before the gate
    "timm/ecaresnet26t": {TAIL: 8},
    "timm/seresnext26ts": {"norm + silu + gate + convolution": 8},
    "timm/regnety_002": {"norm + relu + gate + convolution": 13},
    "timm/tf_mobilenetv3_small_minimal_100": {},
    "timm/mobilenetv3_small_050": {"norm + relu + gate + convolution": 1, "norm + hard_swish + gate + convolution": 8},
    "timm/ese_vovnet19b_dw": {"norm + relu + gate": 4},
    "timm/nf_seresnet26": {"gate": 8},
    "timm/repvit_m0_9": {"norm + gate": 10},
    "timm/mobileone_s4": {"gate + relu": 11, "norm + gate + relu": 1},
    "torchvision/mobilenet_v3_small": {
        "norm + relu + gate + convolution": 1,
        "norm + hard_swish + gate + convolution": 8,
    },
    "torchvision/regnet_y_400mf": {"norm + relu + gate + convolution": 16},
    "torchvision/resnet18": {},
    "pytorchcv/sepreresnet20_cifar10": {"gate + shortcut": 9},
    "pytorchcv/seresnet20_cifar10": {TAIL: 9},
    "senet/cifar_seresnet20": {OURS: 9},
    "senet/seresnet18": {OURS: 8},
    "senet/seshufflenet_g3": {OURS: 13, "norm + gate": 3},
    "senet/sebn_inception": {"gate": 10},
    "senet/mobilenetv3_small_100": {
        "norm + relu + gate + convolution": 1,
        "norm + hard_swish + gate + convolution": 8,
    },
}


def create(name: str) -> nn.Module:
    package, _, network = name.partition("/")
    torch.manual_seed(0)
    if package == "timm":
        return timm.create_model(network, num_classes=10)
    if package == "torchvision":
        return torchvision.models.get_model(network, num_classes=10)
    if package == "senet":
        return senet.create_model(network, num_classes=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names in the package itself
        from pytorchcv.model_provider import get_model
    return get_model(network)


def outputs_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)  # drops and stochastic depth
    y = model(x)
    y.square().mean().backward()
    return [y.detach(), *(torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("name", FOREIGN)
def test_finds_the_sites_agrees_and_gives_back(name):
    model = create(name).double()
    randomise_norms(model)
    plain = copy.deepcopy(model)
    before = {path: (module, type(module)) for path, module in model.named_modules()}
    keys, parameters = list(model.state_dict()), list(model.parameters())
    assert fuse(model) is model
    done = report(model)
    assert Counter(what for _, what in done.taken) == FOREIGN[name]
    assert not done.left
    assert list(model.state_dict()) == keys
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    size = 32 if "cifar" in name else 64
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    for training in (True, False):
        wanted, found = (outputs_and_gradients(m.train(training), x) for m in (plain, model))
        largest = max(float(t.abs().max()) for t in wanted[1:])
        torch.testing.assert_close(found[0], wanted[0], rtol=1e-8, atol=1e-10)
        for a, b in zip(found[1:], wanted[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9 * largest)
    for a, b in zip(model.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    unfuse(model)
    assert {path: (module, type(module)) for path, module in model.named_modules()} == before


class Tutorial(nn.Module):
    """SE as tutorials write it: pool, view, two Linear layers without bias, view, expand_as."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class ByView(Tutorial):
    """The pool as a mean over a view, the gate on the left."""

    def forward(self, x: Tensor) -> Tensor:
        z = x.view(x.shape[0], x.shape[1], -1).mean(-1)
        return self.fc(z)[:, :, None, None] * x


class ByFunctions(Tutorial):
    """Everything as functions; the product in place."""

    def forward(self, x: Tensor) -> Tensor:
        z = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        s = torch.sigmoid(self.fc[2](F.relu(self.fc[0](z))))
        return torch.mul(x, s.unsqueeze(2).unsqueeze(3))


class SumOfSizes(Tutorial):
    """The average as a sum divided by the number of pixels."""

    def forward(self, x: Tensor) -> Tensor:
        z = x.sum(dim=(2, 3)) / (x.shape[2] * x.shape[3])
        return x.mul(self.fc(z).reshape(-1, x.shape[1], 1, 1))


class MaxPooled(Tutorial):
    """Not an average."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.amax((2, 3)))[:, :, None, None]


class SeesMore(Tutorial):
    """An average, and a maximum beside it."""

    def forward(self, x: Tensor) -> Tensor:
        s = self.fc(x.mean((2, 3))) * torch.sigmoid(x.amax((2, 3)))
        return x * s[:, :, None, None]


class Unit(nn.Module):
    """A hand-written residual unit."""

    def __init__(self, block: type[nn.Module], channels: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.att = block(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.att(self.bn(self.conv(x)))
        out += x
        return F.relu(out)


def hand_written(block: type[nn.Module], unit: type[nn.Module] = Unit) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), unit(block), unit(block))


@pytest.mark.parametrize("block", [Tutorial, ByView, ByFunctions, SumOfSizes])
def test_blocks_written_by_hand(block):
    model = hand_written(block).double()
    randomise_norms(model)
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    wanted = outputs_and_gradients(copy.deepcopy(model), x)
    fuse(model)
    assert [what for _, what in report(model).taken] == [TAIL, TAIL]
    for a, b in zip(outputs_and_gradients(model, x), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_other_blocks_are_left_alone_and_it_says_why():
    model = fuse(hand_written(MaxPooled))
    assert not report(model).taken
    model = fuse(hand_written(SeesMore))
    assert not report(model).taken
    assert {why for _, why in report(model).left} == {"the gate sees more of the map than its global average"}
    assert "left alone: the gate sees more" in str(report(model))


class UsedTwice(Unit):
    """The norm's output goes somewhere else, too."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.bn(self.conv(x))
        return F.relu(self.att(u) + u.tanh())


def test_a_norm_whose_output_goes_elsewhere_keeps_it():
    model = hand_written(Tutorial, UsedTwice)
    fuse(model)
    assert not any("norm" in what for _, what in report(model).taken)


class DropsValues(Unit):
    """Dropout between norm and gate: nothing in evaluation, which is where values are looked at."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.att(self.drop(self.bn(self.conv(x)))) + x)

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__(block)
        self.drop = nn.Dropout(0.5)


def test_a_reading_that_is_wrong_in_training_is_not_believed():
    model = hand_written(Tutorial, DropsValues).double()
    wanted = copy.deepcopy(model)
    fuse(model)
    assert all("norm" not in what for _, what in report(model).taken)
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    for a, b in zip(outputs_and_gradients(model, x), outputs_and_gradients(wanted, x), strict=True):
        torch.testing.assert_close(a, b)


def test_forwards_that_branch_on_values_are_left_alone():
    class Branches(Unit):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > 0 else x

    model = fuse(hand_written(Tutorial, Branches))
    assert {what for _, what in report(model).taken} == {"gate"}  # the block itself can still be read


def test_an_example_of_which_one_pixel_is_left_is_replaced_by_a_larger():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=64, padding=1), Unit(Tutorial))
    fuse(model)
    assert [what for _, what in report(model).taken] == [TAIL]
    assert not report(model).left


def test_what_holds_no_product_is_not_run(monkeypatch):
    """All values of a network of large images are many gigabytes."""
    run: list[str] = []

    values = walk.node_values

    def noting(twin: nn.Module, *args: object) -> object:
        run.append(type(twin).__name__)
        return values(twin, *args)

    monkeypatch.setattr(walk, "node_values", noting)
    fuse(timm.create_model("test_maxvit"))
    assert set(run) == {"SEModule", "MbConvBlock"}  # and neither attention nor the whole
    run.clear()
    fuse(senet.create_model("cifar_resnet8"))
    assert run == []


def test_plain_tails():
    model = timm.create_model("resnet18", num_classes=10).double()
    randomise_norms(model)
    plain = copy.deepcopy(model)
    fuse(model, plain_tails=True)
    assert Counter(what for _, what in report(model).taken) == {"norm + shortcut + relu": 8}
    x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    for a, b in zip(outputs_and_gradients(model, x), outputs_and_gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-10)


def test_stochastic_depth_drops_the_same_images():
    model = timm.create_model("seresnet18", num_classes=10, drop_path_rate=0.5).double()
    randomise_norms(model)
    plain = copy.deepcopy(model)
    fuse(model)
    assert "norm + gate + drop + shortcut + relu" in {what for _, what in report(model).taken}
    x = torch.randn(8, 3, 64, 64, dtype=torch.float64)
    for a, b in zip(outputs_and_gradients(model, x), outputs_and_gradients(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-10)


@pytest.fixture
def small() -> nn.Module:
    return hand_written(Tutorial)


def test_hooks_that_users_set_fire(small):
    seen = []
    small[1].att.register_forward_hook(lambda *_: seen.append("before"))
    fuse(small)
    small[1].bn.register_forward_hook(lambda *_: seen.append("after"))
    small[2].register_forward_hook(lambda *_: seen.append("unit"))
    small(torch.randn(2, 3, 8, 8))
    assert seen == ["after", "before", "unit"]


def test_copies_stay_fused_and_pickles_do_not(small):
    fuse(small)
    x = torch.randn(2, 3, 8, 8)
    small.eval()
    twin = copy.deepcopy(small)
    assert isinstance(twin[1], Rewritten)
    assert twin[1].bn is not small[1].bn
    torch.testing.assert_close(twin(x), small(x))
    with torch.no_grad():
        twin[1].bn.weight.zero_()
    assert not torch.equal(twin(x), small(x))
    loaded = pickle.loads(pickle.dumps(small))
    assert type(loaded[1]) is Unit
    torch.testing.assert_close(loaded(x), small(x))
    unfuse(twin)
    assert type(twin[1]) is Unit


def test_the_optimizer_goes_on(small):
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
    twin = copy.deepcopy(small)
    theirs = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    fuse(small)
    for seed in range(3):
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for model, o in ((small, optimizer), (twin, theirs)):
            o.zero_grad()
            model(x).square().mean().backward()
            o.step()
    for a, b in zip(small.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_an_empty_batch_is_what_pytorch_makes_of_it(small):
    fuse(small).eval()
    assert small(torch.randn(0, 3, 8, 8)).shape == (0, 8, 6, 6)


def test_compiles_in_one_graph_exports_and_checkpoints(small):
    fuse(small)
    x = torch.randn(2, 3, 8, 8)
    wanted = outputs_and_gradients(small, x)
    compiled = torch.compile(copy.deepcopy(small), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x).detach(), wanted[0])
    exported = torch.export.export(small.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), small(x))
    small.train()
    again = copy.deepcopy(small)
    y = torch.utils.checkpoint.checkpoint(again, x, use_reentrant=False)
    y.square().mean().backward()
    for a, b in zip((p.grad for p in again.parameters()), outputs_and_gradients(small, x)[1:], strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("unit", ["plain", "gated", "inverted"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # Inductor's own, in torch 2.11
def test_inductor_computes_the_same(unit, training):
    """It chooses the strides of what is passed on and kept, and passes on one row for many."""
    inverted, gate = timm.models._efficientnet_blocks.InvertedResidual, timm.models._efficientnet_blocks.SqueezeExcite
    made = {
        "plain": lambda: timm.models.resnet.BasicBlock(8, 8),
        "gated": lambda: timm.models.resnet.BasicBlock(8, 8, attn_layer="se"),
        "inverted": lambda: inverted(8, 8, act_layer=nn.SiLU, se_layer=gate),
    }
    model = nn.Sequential(nn.Conv2d(3, 8, 3), made[unit]()).double().train(training)
    randomise_norms(model)
    x = torch.randn(3, 3, 9, 9, dtype=torch.float64)
    fused = fuse(copy.deepcopy(model), plain_tails=True)
    assert len(report(fused).taken) == 1
    torch.compiler.reset()
    compiled = outputs_and_gradients(torch.compile(fused), x)
    for got, wanted in zip(compiled, outputs_and_gradients(model, x), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(fused.named_buffers()), dict(model.named_buffers()))


def test_eighty_steps_are_the_same_training():
    """The same seed, fused and not: losses stay as near to float64's as PyTorch's own, which rounding parts too."""
    torch.manual_seed(0)
    plain = senet.create_model("cifar_seresnet20", num_classes=4)
    models = {"exact": copy.deepcopy(plain).double(), "fused": fuse(copy.deepcopy(plain)), "plain": plain}
    models |= {name: copy.deepcopy(plain) for name in ("up", "down")}
    # One rounding more, at the input: which of two ways a ReLU takes may hang on it.
    changed = {"up": lambda x: torch.nextafter(x, x + 1), "down": lambda x: torch.nextafter(x, x - 1)}
    changed["exact"] = lambda x: x.double()
    centres = torch.randn(4, 3, 8, 8)
    losses: dict[str, list[float]] = {name: [] for name in models}
    optimizers = {n: torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.9) for n, m in models.items()}
    for step in range(80):
        generator = torch.Generator().manual_seed(step)
        y = torch.randint(0, 4, (8,), generator=generator)
        x = centres[y] + torch.randn(8, 3, 8, 8, generator=generator)
        for name, model in models.items():
            loss = F.cross_entropy(model(changed.get(name, lambda x: x)(x)), y)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            losses[name].append(loss.item())
    curves = {name: torch.tensor(values) for name, values in losses.items()}
    assert curves["plain"][-20:].mean() < 0.5 * curves["plain"][:5].mean()
    torch.testing.assert_close(curves["fused"][:8], curves["exact"][:8], rtol=1e-4, atol=1e-5)
    apart = {name: float((curve - curves["exact"]).abs().mean()) for name, curve in curves.items()}
    assert apart["fused"] <= 2 * max(apart[name] for name in ("plain", "up", "down")), apart


class TestBadInput:
    def test_fused_twice(self, small):
        fuse(small)
        with pytest.raises(InputError, match="is fused already"):
            fuse(small)

    def test_not_fused(self, small):
        with pytest.raises(InputError, match="Sequential is not fused"):
            unfuse(small)
        with pytest.raises(InputError, match="neither fused nor folded"):
            report(small)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch 2.11, by itself
    def test_compiled(self, small):
        with pytest.raises(InputError, match="is compiled; fuse before"):
            fuse(torch.compile(small))

    def test_an_example_that_does_not_fit(self, small):
        with pytest.raises(InputError, match=r"Sequential does not take an example of shape \(2, 5, 8, 8\)"):
            fuse(small, example=(torch.randn(2, 5, 8, 8),))
        assert type(small[1]) is Unit

    def test_no_convolution_to_guess_from(self):
        with pytest.raises(InputError, match="no Conv2d to tell an image's channels by; give example="):
            fuse(nn.Linear(3, 3))


class TakesMore(Unit):
    """A unit that may be given its shortcut."""

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        return F.relu(self.att(self.bn(self.conv(x))) + (x if shortcut is None else shortcut))


class CalledTwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.unit = nn.Conv2d(3, 8, 3), TakesMore(Tutorial)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.unit(self.unit(x, x * 0.5))


class TestCallsThatWereNotTraced:
    def test_other_arguments(self):
        model = CalledTwoWays().eval()
        x = torch.randn(2, 3, 8, 8)
        wanted = model(x)
        fuse(model)
        torch.testing.assert_close(model(x), wanted)

    def test_defaults_are_not_taken_for_tensors(self):
        model = hand_written(Tutorial, TakesMore)
        x = torch.randn(2, 3, 8, 8)
        wanted = copy.deepcopy(model)(x)
        fuse(model)
        torch.testing.assert_close(model(x), wanted)

    def test_parts_put_in_later_are_called(self, small):
        fuse(small)
        small[1].bn = nn.GroupNorm(2, 8)
        twin = unfuse(copy.deepcopy(small))
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(small(x), twin(x))

    def test_dropout_at_a_rate_of_zero_stays(self):
        model = hand_written(Tutorial, DropsValues)
        model[1].drop.p = model[2].drop.p = 0.0
        fuse(model)
        model[1].drop.p = 0.9
        assert model.train()(torch.randn(2, 3, 9, 9)).eq(model(torch.randn(2, 3, 9, 9))).float().mean() < 1
        assert all("norm" not in what for _, what in report(model).taken)

    def test_a_copy_of_a_compiled_part_is_a_copy(self, small):
        fuse(small)
        small[1].compile(backend="eager")
        twin = copy.deepcopy(small)
        twin(torch.randn(2, 3, 8, 8)).sum().backward()
        assert small[1].conv.weight.grad is None
        assert twin[1].conv.weight.grad is not None


class TestSideEffects:
    def test_random_numbers_are_not_used_up(self, small):
        torch.manual_seed(3)
        wanted = torch.rand(1)
        torch.manual_seed(3)
        fuse(small)
        assert torch.equal(torch.rand(1), wanted)

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
    def test_without_gradients_around(self, small, context):
        with context():
            fuse(small)
        assert len(report(small).taken) == 2

    def test_an_error_leaves_the_model_as_it_was(self, small, monkeypatch):
        monkeypatch.setattr("senet.surgery.graph.ledger.Ledger.closed", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fuse(small)
        assert type(small[1]) is Unit
        with pytest.raises(InputError, match="is not fused"):
            unfuse(small)

    def test_fused_with_no_site_and_then_folded(self):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        assert report(fuse(model)).verb == "fused"
        assert report(senet.fold(model)).verb == "folded"
        with pytest.raises(InputError, match="is not fused"):
            unfuse(senet.fold(model))

    def test_a_fused_part_can_be_undone_from_the_whole(self, small):
        fuse(small[1], example=(torch.randn(2, 8, 6, 6),))
        unfuse(small)
        assert type(small[1]) is Unit

    def test_export_knows_the_names_of_inputs(self):
        unit = Unit(Tutorial).eval()
        x = torch.randn(2, 8, 6, 6)
        fuse(unit, example=(x,))
        batch = torch.export.Dim("batch", min=2, max=8)
        exported = torch.export.export(unit, (x,), dynamic_shapes={"x": {0: batch}})
        torch.testing.assert_close(exported.module()(x[:1].repeat(3, 1, 1, 1)), unit(x[:1].repeat(3, 1, 1, 1)))
