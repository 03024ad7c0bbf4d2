"""What holds for every block, by its name."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.blocks import BLOCKS, Recalibrate, create_block
from senet.errors import InputError

OPTIONS = [
    ("se", {"reduction": 2}),
    ("se", {"reduction": 2, "squeeze": "max", "activation": "silu", "bias": False}),
    ("se", {"reduction": 2, "squeeze": "none", "gate": "tanh"}),
    ("ese", {}),
    ("eca", {}),
    ("cbam", {"reduction": 2, "spatial_kernel": 3}),
    ("scse", {}),
    ("scse", {"combine": "add"}),
    ("ge", {}),
    ("ge", {"extent": 2, "mlp": True, "reduction": 2}),
    ("ge", {"extent": 4, "gather": "conv"}),
    ("ge", {"gather": "conv", "map_size": (5, 7), "mlp": True}),
]
ALL = pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
FORMATS = pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])


def pooled(u):
    return u.mean((2, 3), keepdim=True)


def plain_se(block, u):
    return block.gate(block.fc2(block.act(block.fc1(pooled(u))))) * u


def plain_cbam(block, u):
    mlp = nn.Sequential(block.channel.fc1, block.channel.act, block.channel.fc2)
    u = u * torch.sigmoid(mlp(pooled(u)) + mlp(u.amax((2, 3), keepdim=True)))
    return u * torch.sigmoid(block.spatial.bn(block.spatial.conv(torch.cat([u.amax(1, True), u.mean(1, True)], 1))))


PLAIN = {
    "se": plain_se,
    "ese": lambda block, u: u * F.hardsigmoid(block.fc(pooled(u))),
    "eca": lambda block, u: u * torch.sigmoid(block.conv(pooled(u)[:, :, :, 0].mT)).mT[..., None],
    "cbam": plain_cbam,
    "scse": lambda block, u: torch.maximum(plain_se(block.cse, u), u * torch.sigmoid(block.sse.conv(u))),
    "ge": lambda block, u: u * torch.sigmoid(pooled(u)),
}


def built(name, options, randomise, channels=5):
    return randomise(create_block(name, channels, options))


def test_every_block_is_covered():
    assert {name for name, _ in OPTIONS} == set(PLAIN) == set(BLOCKS)


@ALL
@FORMATS
def test_gradients(name, options, memory_format, randomise):
    block = built(name, options, randomise, channels=3).double()
    names = [key for key, _ in block.named_parameters()]
    u = torch.randn(2, 3, 5, 7, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()

    def function(u, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u,))

    assert torch.autograd.gradcheck(function, (u, *block.parameters()))


@ALL
@pytest.mark.parametrize("size", [(1, 1, 1, 1), (1, 5, 1, 1), (1, 1, 3, 11), (2, 5, 13, 1)], ids=str)
def test_gradients_of_small_maps(name, options, size, randomise):
    options = {**options, "map_size": size[2:]} if "map_size" in options else options
    block = built(name, options, randomise, channels=size[1]).double().eval()
    u = torch.randn(size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (u,))


@ALL
def test_channels_last_gives_the_same(name, options, randomise):
    results = []
    block = built(name, options, randomise)
    u = torch.randn(2, 5, 5, 7)
    upstream = torch.randn_like(u)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        twin = copy.deepcopy(block)
        v = u.clone(memory_format=memory_format).requires_grad_()
        x = twin(v)
        assert x.is_contiguous(memory_format=memory_format)
        x.backward(upstream)
        results.append([x, v.grad, *(p.grad for p in twin.parameters()), *twin.buffers()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", ["float32 under autocast", "half"])
def test_gates_are_computed_in_float32(name, options, dtype, weights, randomise):
    block = built(name, options, randomise)
    block = block if weights == "float32 under autocast" else block.to(dtype)
    seen = []
    for module in block.modules():
        if isinstance(module, Recalibrate):
            excitation = [child for child in module.modules() if isinstance(child, (nn.Conv1d, nn.Conv2d))]
            for stage in (module.squeeze, module.gate, *(excitation if weights != "half" else ())):
                stage.register_forward_hook(lambda stage, args, output: seen.append(output.dtype))
    u = torch.randn(2, 5, 5, 7).to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=weights != "half"):
        assert block(u).dtype == dtype
        assert block(u.float()).dtype == torch.float32
    assert len(seen) >= 4
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("name", sorted(BLOCKS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_errs_at_most_twice_what_plain_pytorch_errs(name, dtype, autocast, randomise, assert_agrees):
    block = built(name, {}, randomise, channels=32).eval()
    half = block if autocast else copy.deepcopy(block).to(dtype)
    u = (torch.randn(2, 32, 13, 17) + 1).to(dtype)
    exact = copy.deepcopy(half).double()(u.double())
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=autocast and dtype != torch.float32):
        assert_agrees(half(u), PLAIN[name](half, u), exact)


@ALL
@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_into_one_graph(name, options, autocast, randomise):
    block = built(name, options, randomise).eval()
    torch.compiler.reset()  # all blocks share one forward, and eight compiled forms of one function are the limit
    compiled = torch.compile(copy.deepcopy(block), fullgraph=True, backend="aot_eager")
    for dtype in (torch.bfloat16, torch.float32) if autocast else (torch.float32,):
        u = torch.randn(2, 5, 5, 7).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            torch.testing.assert_close(compiled(u), block(u))


@ALL
def test_is_exported(name, options, randomise):
    block = built(name, options, randomise).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(block, (torch.randn(2, 5, 5, 7),), dynamic_shapes=({0: batch},))
    u = torch.randn(3, 5, 5, 7)
    torch.testing.assert_close(program.module()(u), block(u))


@ALL
def test_copies_are_independent(name, options, randomise):
    block = built(name, options, randomise).eval()
    u = torch.randn(2, 5, 5, 7)
    before = block(u)
    twin = copy.deepcopy(block)
    assert torch.equal(twin(u), before)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    assert torch.equal(block(u), before)
    assert torch.equal(twin(u), before) == (not list(block.parameters()))


@ALL
def test_runs_on_the_meta_device(name, options):
    with torch.device("meta"):
        block = create_block(name, 5, options)
        x = block(torch.empty(2, 5, 5, 7))
    assert x.is_meta
    assert x.shape == (2, 5, 5, 7)


@ALL
def test_does_not_touch_its_input(name, options, randomise):
    block = built(name, options, randomise)
    u = torch.randn(2, 5, 5, 7)
    before = u.clone()
    block(u)
    assert torch.equal(u, before)


@pytest.mark.parametrize(
    ("name", "channels", "options", "message"),
    [
        ("sse", 8, {}, r"^no block is called 'sse'; did you mean '.*scse'"),
        ("attention", 8, {}, r"^no block is called 'attention'; known: cbam, eca, ese, ge, scse, se$"),
        ("se", 0, {}, r"^block 'se': channels is 0; accepted: 1 or more$"),
        ("se", 8, {"reductoin": 4}, r"^block 'se' has no option 'reductoin'; did you mean 'reduction'"),
        ("se", 8, {"channels": 4}, r"^block 'se': channels follow from where the block sits"),
        ("se", 8, {"bias": 1}, r"^block 'se': option 'bias' is 1; accepted: true or false$"),
        ("se", 8, {"squeeze": "mean"}, r"^block 'se': option 'squeeze' is 'mean'; accepted: 'avg', 'max', 'none'$"),
        ("se", 8, {"reduction": "4"}, r"^block 'se': option 'reduction' is '4'; accepted: a number or none$"),
        (
            "eca",
            8,
            {"kernel_size": 3.0},
            r"^block 'eca': option 'kernel_size' is 3.0; accepted: a whole number or none$",
        ),
        ("eca", 8, {"reduction": 4}, r"^block 'eca' has no option 'reduction'"),
    ],
)
def test_refusals(name, channels, options, message):
    with pytest.raises(InputError, match=message):
        create_block(name, channels, options)


def test_options_reach_the_block():
    assert create_block("se", 64, {"reduction": 8}).fc1.out_channels == 8
    assert create_block("ge", 8, {"gather": "conv", "map_size": [7, 5]}).gather[0].kernel_size == (7, 5)
