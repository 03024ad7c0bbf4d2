from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.analysis.complexity import count
from senet.errors import InputError
from senet.models import create_model
from senet.models.shake import TABLE, ShakeShake, ShakeShakeConfig
from senet.models.shake_units import ShiftedShortcut

NAMES = ["cifar_seshake26_2x96d", "cifar_seshake29_2x4x64d"]
EACH = pytest.mark.parametrize("name", NAMES)
PLACEMENTS = pytest.mark.parametrize("placement", ["standard", "branch"])
NO_BIAS = {"bias": False}


def small(name, **options):
    return create_model(name, **{"depths": (1, 2, 1), "planes": (16, 32, 64), "num_classes": 5, **options})


def cost(name, **options):
    with torch.device("meta"):
        return count(create_model(name, **options), (3, 32, 32))


def units(net):
    return [unit for stage in (net.layer1, net.layer2, net.layer3) for unit in stage]


def gradients(net, x, seed=1):
    """Logits, and all gradients of a loss in one vector."""
    net.zero_grad()
    torch.manual_seed(seed)
    y = net(x)
    F.cross_entropy(y, torch.arange(len(x)) % 5).backward()
    return y.detach(), torch.cat([p.grad.flatten() for p in net.parameters()])


class Reference:
    """The networks, written down from the author's Lua, with SE at either place; every mixture by ``share``."""

    def __init__(self, net, *, share):
        self.state, self.config = {key: value.detach() for key, value in net.state_dict().items()}, net.config
        self.train, self.share = net.training, share

    def norm(self, x, name):
        weight, bias, mean, var = (
            self.state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return F.batch_norm(x, mean.clone(), var.clone(), weight, bias, training=self.train)

    def conv(self, x, name, stride=1, groups=1):
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, groups=groups, padding=weight.shape[-1] // 2)

    def se(self, x, name):
        hidden = F.relu(
            self.conv(x.mean((2, 3), keepdim=True), f"{name}.fc1") + self.state[f"{name}.fc1.bias"][:, None, None]
        )
        return x * torch.sigmoid(self.conv(hidden, f"{name}.fc2") + self.state[f"{name}.fc2.bias"][:, None, None])

    def branch(self, x, name, stride):
        if self.config.unit == "basic":
            y = F.relu(self.norm(self.conv(F.relu(x), f"{name}.conv1", stride), f"{name}.bn1"))
            y = self.norm(self.conv(y, f"{name}.conv2"), f"{name}.bn2")
        else:
            y = F.relu(self.norm(self.conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = F.relu(self.norm(self.conv(y, f"{name}.conv2", stride, self.config.groups), f"{name}.bn2"))
            y = self.norm(self.conv(y, f"{name}.conv3"), f"{name}.bn3")
        return self.se(y, f"{name}.se") if self.config.placement == "branch" else y

    def shortcut(self, x, name, stride):
        if f"{name}.conv1.weight" in self.state:
            first = F.relu(x)
            second = torch.zeros_like(first)
            second[:, :, 1:, 1:] = first[:, :, :-1, :-1]
            halves = [
                self.conv(half[:, :, ::stride, ::stride], f"{name}.conv{i}") for i, half in ((1, first), (2, second))
            ]
            return self.norm(torch.cat(halves, dim=1), f"{name}.bn")
        if f"{name}.0.weight" in self.state:
            return self.norm(self.conv(x[:, :, ::stride, ::stride], f"{name}.0"), f"{name}.1")
        return x

    def __call__(self, x):
        basic = self.config.unit == "basic"
        x = self.norm(self.conv(x, "conv1"), "bn1")
        x = x if basic else F.relu(x)
        for stage, depth in enumerate(self.config.depths):
            for number in range(depth):
                name, stride = f"layer{stage + 1}.{number}", 2 if stage and not number else 1
                a, b = (self.branch(x, f"{name}.branch{i}", stride) for i in (1, 2))
                mixed = self.share * a + (1 - self.share) * b
                mixed = self.se(mixed, f"{name}.se") if self.config.placement == "standard" else mixed
                x = mixed + self.shortcut(x, f"{name}.downsample", stride)
                x = x if basic else F.relu(x)
        x = F.relu(x).mean((2, 3))
        return x @ self.state["fc.weight"].T + self.state["fc.bias"]


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds", "added"),
    [
        ("cifar_shake26_2x96d", 26_192_922, 3_776_892_672, 4 * sum(2 * c * (c // 16) for c in (96, 192, 384))),
        ("cifar_shake29_2x4x64d", 34_529_700, 5_387_358_208, 3 * sum(2 * c * (c // 16) for c in (256, 512, 1024))),
    ],
)
def test_cost(name, parameters, multiply_adds, added):
    twin = name.replace("_shake", "_seshake")
    plain = cost(name).total
    assert (plain.parameters, plain.multiply_adds) == (parameters, multiply_adds)
    one = cost(twin, attn_options=NO_BIAS)
    each = cost(twin, attn_options=NO_BIAS, placement="branch")
    assert one.attention.parameters == one.attention.multiply_adds == added
    assert each.attention.parameters == each.attention.multiply_adds == 2 * added
    assert one.total.parameters == parameters + added
    assert each.total.parameters == parameters + 2 * added
    assert len(each.sites) == 2 * len(one.sites)


def test_blocks_of_the_first_network_have_the_weights_that_are_known():
    assert cost(NAMES[0], attn_options=NO_BIAS).attention.parameters == 96_768
    assert cost(NAMES[0], attn_options=NO_BIAS, placement="branch").attention.parameters == 193_536


@pytest.mark.parametrize("name", TABLE)
def test_the_names_say_what_they_are(name):
    with torch.device("meta"):
        net = create_model(name)
    depth = sum(len(unit.branch1) for unit in units(net)) // len(units(net))  # layers of a branch: conv, norm, ReLU
    convolutions = [m for m in net.layer1[0].branch1 if isinstance(m, nn.Conv2d)]
    assert len(convolutions) * len(units(net)) + 2 == int(name.partition("shake")[2][:2])
    assert depth == 3 * len(convolutions) - 1
    wide = next(m for m in convolutions if m.kernel_size == (3, 3))
    width, groups = wide.out_channels // wide.groups, wide.groups
    assert name.endswith(f"2x{width}d" if groups == 1 else f"2x{groups}x{width}d")
    assert net.fc.out_features == (10 if groups == 1 else 100)


@PLACEMENTS
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (9, 13)])
@EACH
def test_is_what_the_authors_code_says(name, size, train, placement, randomise):
    net = randomise(small(name, placement=placement, forward_mix="even", backward_mix="even")).double().train(train)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    result, wanted = net(x), Reference(net, share=0.5)(x)
    torch.testing.assert_close(result, wanted)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (result, wanted)))


@PLACEMENTS
@EACH
def test_training_mixes_by_shares_of_its_own(name, placement, randomise, monkeypatch):
    """With every share drawn as 0.2, the network is the reference with that share; otherwise it is not."""
    net = randomise(small(name, placement=placement, backward_mix="keep")).double().train()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    free = net(x)
    wanted = Reference(net, share=0.2)(x)
    assert not torch.allclose(free, wanted)
    monkeypatch.setattr(torch, "rand", lambda shape, device: torch.full(shape, 0.2, device=device, dtype=torch.float64))
    torch.testing.assert_close(net(x), wanted)


@EACH
def test_a_stage_that_is_smaller_but_not_wider(name, randomise):
    net = randomise(small(name, planes=(16, 16, 16))).double().eval()
    x = torch.randn(2, 3, 17, 16, dtype=torch.float64)
    torch.testing.assert_close(net(x), Reference(net, share=0.5)(x))
    assert [unit.downsample is not None for unit in units(net)[1:]] == [True, False, True]


@EACH
def test_each_unit_draws_its_own_shares(name, monkeypatch):
    drawn = []
    rand = torch.rand

    def spy(*args, **options):
        drawn.append(rand(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "rand", spy)
    net = small(name).train()
    net(torch.randn(3, 3, 8, 8))
    draws = {"shake": 2, "even": 1}[net.config.backward_mix]
    assert len(drawn) == draws * len(units(net))
    assert all(share.shape == (3, 1, 1, 1) for share in drawn)
    assert len(torch.cat(drawn).flatten().unique()) == 3 * len(drawn)


def test_the_shifted_shortcut_sees_other_pixels():
    shortcut = ShiftedShortcut(1, 2, 2).eval()
    for conv in (shortcut.conv1, shortcut.conv2):
        nn.init.ones_(conv.weight)
    shortcut.bn.eps = 0.0
    x = torch.arange(1.0, 26).view(1, 1, 5, 5)
    first, second = shortcut(x)[0].detach()
    assert first.tolist() == [[1, 3, 5], [11, 13, 15], [21, 23, 25]]
    assert second.tolist() == [[0, 0, 0], [0, 7, 9], [0, 17, 19]]


@PLACEMENTS
@EACH
def test_gates_of_one_make_the_plain_twin(name, placement, randomise):
    net = randomise(small(name, placement=placement)).eval()
    twin = small(name, attn=None).eval()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 16, 16)
    assert not torch.allclose(net(x), twin(x))
    blocks = [module for key, module in net.named_modules() if key.endswith(".se")]
    assert len(blocks) == (4 if placement == "standard" else 8)
    for block in blocks:
        block.gate = nn.Identity()
        nn.init.zeros_(block.fc2.weight)
        nn.init.ones_(block.fc2.bias)
    torch.testing.assert_close(net(x), twin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stages", [None, (2,), (3, 4), ()])
@pytest.mark.parametrize("attn", ["se", "eca", "cbam"])
@PLACEMENTS
@EACH
def test_any_block_in_the_stages_that_are_named(name, placement, attn, stages):
    net = small(name, attn=attn, stages=stages, placement=placement).eval()
    for number in (2, 3, 4):
        for unit in net.get_submodule(f"layer{number - 1}"):
            wanted = stages is None or number in stages
            assert (unit.se is not None) == (wanted and placement == "standard")
            assert [hasattr(branch, "se") for branch in (unit.branch1, unit.branch2)] == [
                wanted and placement == "branch"
            ] * 2
    assert net(torch.randn(1, 3, 16, 16)).shape == (1, 5)


@EACH
def test_mixtures_may_be_left_out(name):
    net = small(name, drop_path_rate=0.6)
    assert [unit.drop_path.rate for unit in units(net)] == pytest.approx([0, 0.2, 0.4, 0.6])
    unit = net.layer2[1].train()
    unit.drop_path.rate = 1 - 1e-9
    x = torch.rand(4, 32 if net.config.unit == "basic" else 128, 8, 8)
    torch.testing.assert_close(unit(x), x)


@EACH
def test_maps_are_not_changed_by_what_comes_after(name, randomise):
    net = randomise(small(name)).eval()
    features = small(name, features_only=True).eval()
    features.load_state_dict({key: net.state_dict()[key] for key in features.state_dict()}, strict=True)
    seen = []
    for info in net.feature_info:
        net.get_submodule(info["module"]).register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    x = torch.randn(2, 3, 16, 16)
    net(x)
    assert [info["reduction"] for info in features.feature_info] == [1, 1, 2, 4]
    for info, result, wanted in zip(features.feature_info, features(x), seen, strict=True):
        assert torch.equal(result, wanted)
        assert result.shape == (2, info["num_chs"], 16 // info["reduction"], 16 // info["reduction"])


@EACH
def test_checkpoints_mix_by_the_same_shares(name):
    net = small(name).train()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    x = torch.randn(4, 3, 16, 16)
    (logits, grads), (other_logits, other_grads) = gradients(net, x), gradients(twin, x)
    assert torch.equal(logits, other_logits)
    assert torch.equal(grads, other_grads)
    assert grads.isfinite().all()
    assert not torch.equal(grads, gradients(net, x, seed=2)[1])


@EACH
def test_compiled_it_trains_by_the_same_shares(name):
    net = small(name, depths=(1, 1, 1)).train()
    x = torch.randn(2, 3, 16, 16)
    torch.compiler.reset()
    compiled = copy.deepcopy(net)
    wanted = gradients(net, x)
    compiled.compile(fullgraph=True, backend="aot_eager")
    for one, other in zip(gradients(compiled, x), wanted, strict=True):
        torch.testing.assert_close(one, other)


@EACH
def test_export_copy_memory_format_and_autocast(name, randomise):
    net = randomise(small(name)).eval()
    x = torch.randn(2, 3, 16, 16)
    y = net(x)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    torch.testing.assert_close(program.module()(x[:1].repeat(3, 1, 1, 1)), y[:1].repeat(3, 1), rtol=1e-4, atol=1e-5)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    features = last.forward_features(x.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.forward_head(features), y, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (net(x) - y).norm() < 0.05 * y.norm()
        _, grads = gradients(net.train(), x)
    assert grads.isfinite().all()


def test_convolutions_start_by_fan_out():
    net = create_model("cifar_seshake26_2x96d", depths=(1, 1, 1))
    for name, fan_out in (("layer3.0.branch2.conv2", 9 * 384), ("layer3.0.downsample.conv1", 192)):
        weight = net.get_submodule(name).weight
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


BASIC = {"unit": "basic", "depths": (1, 1), "planes": (8, 16), "stem_width": 16}
BOTTLENECK = {**BASIC, "unit": "bottleneck"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**BASIC, "unit": "dense"}, r"option 'unit' is 'dense'; accepted: 'basic', 'bottleneck'$"),
        ({**BASIC, "forward_mix": "keep"}, r"option 'forward_mix' is 'keep'; accepted: 'shake', 'even'$"),
        ({**BASIC, "backward_mix": "none"}, r"option 'backward_mix' is 'none'; accepted: 'shake', 'even', 'keep'$"),
        ({**BASIC, "mix_per": "pixel"}, r"option 'mix_per' is 'pixel'; accepted: 'image', 'batch'$"),
        ({**BASIC, "depths": (1,)}, r"^depths is \[1\], planes \[8, 16\]; give each one number a stage$"),
        ({**BASIC, "depths": (), "planes": ()}, r"^depths is \[\], planes \[\]"),
        ({**BASIC, "depths": (1, 0)}, r"^depths is \[1, 0\]; accepted: numbers of 1 or more$"),
        ({**BASIC, "stem_width": 0}, r"^stem_width is 0; accepted: 1 or more$"),
        ({**BOTTLENECK, "groups": 0}, r"^groups is 0; accepted: 1 or more$"),
        ({**BASIC, "groups": 2}, r"^groups is 2, but basic units have none; leave it out$"),
        ({**BASIC, "planes": (8, 15)}, r"^planes is \[8, 15\]; accepted: even numbers"),
        (
            {**BASIC, "forward_mix": "even", "backward_mix": "keep", "mix_per": "batch"},
            r"^mix_per says for what shares are drawn, but none is; give forward_mix='shake'$",
        ),
        ({**BASIC, "placement": "branch"}, r"^placement says where blocks sit, but attn is none; give attn='se'$"),
        ({**BASIC, "attn": "se", "placement": "pre"}, r"option 'placement' is 'pre'; accepted: 'standard', 'branch'$"),
        ({**BASIC, "attn": "se", "stages": (4,)}, r"^stages is \[4\]; accepted: any of \[2, 3\]"),
    ],
)
def test_refusals(options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        ShakeShake(ShakeShakeConfig(**options))
