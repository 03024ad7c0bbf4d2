"""What holds for every block, by its name."""

from __future__ import annotations

import copy
import inspect
import math
import re
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import senet
from senet.analysis.complexity import count
from senet.blocks import BLOCKS, Recalibrate, create_block, start_as_identity
from senet.blocks.global_context import ContextSum
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.report import report

OPTIONS = [
    ("se", {"reduction": 2}),
    ("se", {"reduction": 2, "squeeze": "max", "activation": "silu", "bias": False}),
    ("se", {"reduction": 2, "squeeze": "none", "gate": "tanh"}),
    ("se", {"reduction": 2, "squeeze": "conv"}),
    ("ese", {}),
    ("eca", {}),
    ("cbam", {"reduction": 2, "spatial_kernel": 3}),
    ("scse", {}),
    ("scse", {"combine": "add"}),
    ("ge", {}),
    ("ge", {"extent": 2, "mlp": True, "reduction": 2}),
    ("ge", {"extent": 4, "gather": "conv"}),
    ("ge", {"gather": "conv", "map_size": (5, 7), "mlp": True}),
    ("srm", {}),
    ("gct", {}),
    ("gct", {"norm": "l1"}),
    ("simam", {}),
    ("coord", {}),
    ("coord", {"hidden_channels": 3, "bias": False, "activation": "silu", "gate": "hard_sigmoid"}),
    ("gc", {"hidden_channels": 3}),
    ("gc", {"hidden_channels": 3, "fusion": "scale", "pool": "avg"}),
    ("fca", {"reduction": 2}),
    ("fca", {"reduction": 2, "top": 4, "grid": (14, 7)}),
    ("gsop", {"hidden_channels": 4}),
    ("gsop", {"hidden_channels": 3, "stride": 2}),
    ("sk", {"hidden_channels": 3}),
    ("sk", {"branches": 3, "groups": 1, "hidden_channels": 2}),
    ("bam", {"reduction": 2}),
    ("bam", {"reduction": 2, "dilation": 1, "combine": "add"}),
]
NETWORKS = {
    "resnet50": {"depths": (1, 1, 1, 1), "planes": (4, 8, 8, 8)},
    "mobilenetv3_small_100": {},
    "regnety_002": {"depths": (1, 1, 1, 1), "widths": (24, 40, 40, 40)},
    "vgg11_bn": {"depths": (1, 1, 1, 1, 1), "widths": (4, 8, 8, 8, 8)},
}
# Whose gate is a function of the map's global average alone.
OF_THE_AVERAGE = {"se", "ese", "eca", "ge"}
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "blocks.py"))
# Sizes of maps, and those that know no neighbours of a position: they take sequences and volumes too.
PLANE, SEQUENCE, VOLUME = (5, 7), (11,), (2, 3, 5)
TWO_AXES = {"cbam", "coord", "fca", "sk", "bam"}


def of_any_rank(name, options):
    neighbours = {"extent", "gather", "stride"} & set(options) or options.get("squeeze") == "conv"
    return name not in TWO_AXES and not neighbours


ALL = pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        (name, options, size)
        for name, options in OPTIONS
        for size in ([PLANE, SEQUENCE, VOLUME] if of_any_rank(name, options) else [PLANE])
    ],
    ids=str,
)
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def formats(u):
    """The memory formats that PyTorch has for a map."""
    return [torch.contiguous_format, *([CHANNELS_LAST[u.ndim]] if u.ndim in CHANNELS_LAST else [])]


def in_plane(u):
    """A map of any rank with two axes, as a block that knows no neighbours may see it."""
    return u.unsqueeze(2) if u.ndim == 3 else u.flatten(2, 3) if u.ndim == 5 else u


def pooled(u):
    return u.mean((2, 3), keepdim=True)


def plain_se(block, u):
    return block.gate(block.fc2(block.act(block.fc1(pooled(u))))) * u


def plain_cbam(block, u):
    mlp = nn.Sequential(block.channel.fc1, block.channel.act, block.channel.fc2)
    u = u * torch.sigmoid(mlp(pooled(u)) + mlp(u.amax((2, 3), keepdim=True)))
    return u * torch.sigmoid(block.spatial.bn(block.spatial.conv(torch.cat([u.amax(1, True), u.mean(1, True)], 1))))


def plain_srm(block, u):
    styles = torch.stack([pooled(u), (u.var((2, 3), keepdim=True) + 1e-5).sqrt()], 2)[..., 0, 0]
    return u * torch.sigmoid(block.bn(block.cfc(styles)[..., None]))


def plain_gct(block, u):
    e = block.alpha * ((u * u).sum((2, 3), keepdim=True) + 1e-5).sqrt()
    s = 1 + torch.tanh(block.gamma * e / ((e * e).mean(1, keepdim=True) + 1e-5).sqrt() + block.beta)
    return u * s.to(u.dtype)


def plain_simam(block, u):
    d = (u - pooled(u)) ** 2
    return u * torch.sigmoid(d / (4 * (u.var((2, 3), keepdim=True) + 1e-4)) + 0.5)


def plain_coord(block, u):
    rows, columns = u.mean(3, keepdim=True), u.mean(2, keepdim=True).mT
    f = F.hardswish(block.bn1(block.conv1(torch.cat([rows, columns], 2))))
    rows, columns = f.split([u.shape[2], u.shape[3]], 2)
    return u * torch.sigmoid(block.conv_w(columns.mT)) * torch.sigmoid(block.conv_h(rows))


def plain_gc(block, u):
    context = block.fusion.context
    weights = torch.softmax(context.conv_mask(u).flatten(2), 2)
    z = torch.einsum("ncp,nop->nc", u.flatten(2), weights)[..., None, None]
    return u + context.fc2(torch.relu(context.norm(context.fc1(z))))


def plain_fca(block, u):
    height, width = (max(7, n // 7 * 7) for n in u.shape[2:])
    z = []
    for c, v in enumerate(F.adaptive_avg_pool2d(u, (height, width)).unbind(1)):
        f, g = block.squeeze.frequencies[:, c].double() / 7
        rows = torch.cos(math.pi * f * (torch.arange(height) + 0.5)) * (2 - (f == 0).double()).sqrt()
        columns = torch.cos(math.pi * g * (torch.arange(width) + 0.5)) * (2 - (g == 0).double()).sqrt()
        z.append((v * torch.outer(rows, columns).to(u.dtype)).sum((1, 2)) / math.sqrt(height * width))
    z = torch.stack(z, 1)[..., None, None]
    return u * torch.sigmoid(block.fc2(torch.relu(block.fc1(z))))


def plain_gsop(block, u):
    v = torch.relu(block.bn(block.reduce(torch.relu(u)))).flatten(2)
    second = v @ v.mT / v.shape[2] - v.mean(2, keepdim=True) @ v.mean(2, keepdim=True).mT
    return u * torch.sigmoid(block.fc(block.row_conv(block.row_bn(second[..., None]))))


def plain_sk(block, u):
    maps = [branch(u) for branch in block.branches]
    gate = block.select
    logits = gate.fc2(torch.relu(gate.bn(gate.fc1(pooled(sum(maps))))))
    shares = torch.softmax(torch.stack(logits.chunk(len(maps), 1)), 0)
    return sum(share * branch for share, branch in zip(shares, maps, strict=True))


def plain_bam(block, u):
    by_channel = block.fc2(torch.relu(block.bn(block.fc1(pooled(u)))))
    return u * (1 + torch.sigmoid(by_channel * block.spatial(u)))


PLAIN = {
    "se": plain_se,
    "ese": lambda block, u: u * F.hardsigmoid(block.fc(pooled(u))),
    "eca": lambda block, u: u * torch.sigmoid(block.conv(pooled(u)[:, :, :, 0].mT)).mT[..., None],
    "cbam": plain_cbam,
    "scse": lambda block, u: torch.maximum(plain_se(block.cse, u), u * torch.sigmoid(block.sse.conv(u))),
    "ge": lambda block, u: u * torch.sigmoid(pooled(u)),
    "srm": plain_srm,
    "gct": plain_gct,
    "simam": plain_simam,
    "coord": plain_coord,
    "gc": plain_gc,
    "fca": plain_fca,
    "gsop": plain_gsop,
    "sk": plain_sk,
    "bam": plain_bam,
}


def built(name, options, randomise, channels=5):
    """A block whose parameters hide nothing: those that start at zero or one are random."""
    block = randomise(create_block(name, channels, options))
    with torch.no_grad():
        for p in block.parameters():
            if p.unique().numel() == 1 and p.numel() > 1:
                p.uniform_(-1, 1)
    return block


def test_every_block_is_covered():
    assert {name for name, _ in OPTIONS} == set(PLAIN) == set(BLOCKS)


@ALL
def test_gradients(name, options, size, randomise):
    block = built(name, options, randomise, channels=3).double()
    names = [key for key, _ in block.named_parameters()]
    u = torch.randn(2, 3, *size, dtype=torch.float64)

    def function(u, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (u,))

    for memory_format in formats(u):
        v = u.clone(memory_format=memory_format).requires_grad_()
        assert torch.autograd.gradcheck(function, (v, *block.parameters()))


SMALL = [(1, 1, 1, 1), (1, 5, 1, 1), (1, 1, 3, 11), (2, 5, 13, 1)]
SMALLER = [(1, 1, 1), (2, 5, 13), (1, 5, 1, 1, 1), (2, 1, 1, 3, 2)]


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [(*block, size) for block in OPTIONS for size in SMALL + (SMALLER if of_any_rank(*block) else [])],
    ids=str,
)
def test_gradients_of_small_maps(name, options, size, randomise):
    options = {**options, "map_size": size[2:]} if "map_size" in options else options
    block = built(name, options, randomise, channels=size[1]).double().eval()
    u = torch.randn(size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (u,))


@ALL
def test_channels_last_gives_the_same(name, options, size, randomise):
    results = []
    block = built(name, options, randomise).double()  # what norms of few averages give back is ill-conditioned
    u = torch.randn(2, 5, *size, dtype=torch.float64)
    upstream = torch.randn_like(u)
    for memory_format in formats(u):
        twin = copy.deepcopy(block)
        v = u.clone(memory_format=memory_format).requires_grad_()
        x = twin(v)
        assert x.is_contiguous(memory_format=memory_format)
        x.backward(upstream)
        results.append([x, v.grad, *(p.grad for p in twin.parameters()), *twin.buffers()])
    for one, other in zip(results[0], results[-1], strict=True):
        torch.testing.assert_close(one, other)


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", ["float32 under autocast", "half"])
def test_gates_are_computed_in_float32(name, options, size, dtype, weights, randomise):
    block = built(name, options, randomise)
    block = block if weights == "float32 under autocast" else block.to(dtype)
    seen = []
    for module in block.modules():
        if isinstance(module, (Recalibrate, ContextSum)):
            excitation = [child for child in module.modules() if isinstance(child, (nn.Conv1d, nn.Conv2d))]
            for stage in (module.squeeze, module.gate, *(excitation if weights != "half" else ())):
                stage.register_forward_hook(lambda stage, args, output: seen.append(output.dtype))
    u = torch.randn(2, 5, *size).to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=weights != "half"):
        assert block(u).dtype == dtype
        assert block(u.float()).dtype == torch.float32
    assert len(seen) >= 4
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (name, size)
        for name in sorted(BLOCKS)
        for size in ([(13, 17), (211,), (5, 7, 11)] if of_any_rank(name, {}) else [(13, 17)])
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_errs_at_most_twice_what_plain_pytorch_errs(name, size, dtype, autocast, randomise, assert_agrees):
    block = built(name, {}, randomise, channels=32).eval()
    half = block if autocast else copy.deepcopy(block).to(dtype)
    u = (torch.randn(2, 32, *size) + 1).to(dtype)
    exact = copy.deepcopy(half).double()(u.double())
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=autocast and dtype != torch.float32):
        assert_agrees(half(u), PLAIN[name](half, in_plane(u)).view_as(u), exact)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [SEQUENCE, VOLUME], ids=str)
@pytest.mark.parametrize("name", sorted(set(BLOCKS) - TWO_AXES))
def test_sequences_and_volumes_agree_with_the_equations(name, size, training, randomise):
    block = built(name, {}, randomise, channels=6).double().train(training)
    twin = copy.deepcopy(block)
    u = torch.randn(3, 6, *size, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(u)
    x, plain = block(u), PLAIN[name](twin, in_plane(u)).view_as(u)
    torch.testing.assert_close(x, plain)
    found = torch.autograd.grad(x, [u, *block.parameters()], upstream)
    wanted = torch.autograd.grad(plain, [u, *twin.parameters()], upstream)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(block.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        (name, options, size)
        for name, options in OPTIONS
        for size in (PLANE, SEQUENCE, VOLUME)
        if issubclass(BLOCKS[name], Recalibrate) and (size == PLANE or of_any_rank(name, options))
    ],
    ids=str,
)
def test_gates_are_of_the_rank_of_the_map(name, options, size, randomise):
    block = built(name, options, randomise).eval()
    u = torch.randn(2, 5, *size)
    s = block.gates(u)
    assert s.ndim == u.ndim
    assert s.dtype == torch.float32
    assert torch.equal(s * u, block(u))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(), (7,), (2, 5, 7), (2, 3, 5, 7)], ids=str)
def test_maps_of_other_ranks_are_refused(name, options, size):
    block, u = create_block(name, 5, options).eval(), torch.randn(2, 5, *size)
    taken = ["(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)"] if of_any_rank(name, options) else ["(N, C, H, W)"]
    if len(taken) > 1 and u.ndim in (3, 5):
        assert block(u).shape == u.shape
    else:
        wanted = re.escape(f"got a map of shape {tuple(u.shape)}, rank {u.ndim}; accepted: {', '.join(taken)}")
        with pytest.raises(InputError, match=rf"{wanted}$"):
            block(u)


@pytest.mark.parametrize("size", [SEQUENCE, VOLUME], ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [(n, o) for n, o in OPTIONS if of_any_rank(n, o) and (n, o) not in [("simam", {}), ("ge", {})]],  # what has weights
    ids=str,
)
def test_sequences_and_volumes_start_as_they_are(name, options, size, randomise):
    block = built(name, options, randomise)
    start_as_identity(block)
    u = torch.randn(2, 5, *size)
    assert torch.equal(block(u), u)


@ALL
@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_into_one_graph(name, options, size, autocast, randomise):
    block = built(name, options, randomise).eval()
    torch.compiler.reset()  # all blocks share one forward, and eight compiled forms of one function are the limit
    compiled = torch.compile(copy.deepcopy(block), fullgraph=True, backend="aot_eager")
    for dtype in (torch.bfloat16, torch.float32) if autocast else (torch.float32,):
        u = torch.randn(2, 5, *size).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            torch.testing.assert_close(compiled(u), block(u))


@ALL
def test_is_exported(name, options, size, randomise):
    block = built(name, options, randomise).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(block, (torch.randn(2, 5, *size),), dynamic_shapes=({0: batch},))
    u = torch.randn(3, 5, *size)
    torch.testing.assert_close(program.module()(u), block(u))


@ALL
def test_copies_are_independent(name, options, size, randomise):
    block = built(name, options, randomise).eval()
    u = torch.randn(2, 5, *size)
    before = block(u)
    twin = copy.deepcopy(block)
    assert torch.equal(twin(u), before)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    assert torch.equal(block(u), before)
    assert torch.equal(twin(u), before) == (not list(block.parameters()))


@ALL
def test_runs_on_the_meta_device(name, options, size):
    with torch.device("meta"):
        block = create_block(name, 5, options)
        x = block(torch.empty(2, 5, *size))
    assert x.is_meta
    assert x.shape == (2, 5, *size)


@ALL
def test_does_not_touch_its_input(name, options, size, randomise):
    block = built(name, options, randomise)
    u = torch.randn(2, 5, *size)
    before = u.clone()
    block(u)
    assert torch.equal(u, before)


@pytest.mark.parametrize(
    ("name", "channels", "options", "message"),
    [
        ("sse", 8, {}, r"^no block is called 'sse'; did you mean '.*scse'"),
        ("attention", 8, {}, r"^no block is called 'attention'; 15 are known, for example bam, cbam, coord$"),
        ("se", 0, {}, r"^block 'se': channels is 0; accepted: 1 or more$"),
        ("se", 8, {"reductoin": 4}, r"^block 'se' has no option 'reductoin'; did you mean 'reduction'"),
        ("se", 8, {"channels": 4}, r"^block 'se': channels follow from where the block sits"),
        ("se", 8, {"bias": 1}, r"^block 'se': option 'bias' is 1; accepted: true or false$"),
        (
            "se",
            8,
            {"squeeze": "mean"},
            r"^block 'se': option 'squeeze' is 'mean'; accepted: 'avg', 'max', 'none', 'conv'$",
        ),
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


def network(name, block, **options):
    return create_model(name, attn=block, attn_options={}, num_classes=5, **options)


@pytest.mark.parametrize("block", sorted(BLOCKS))
@pytest.mark.parametrize("name", NETWORKS)
def test_builds_and_takes_a_step(name, block):
    net = network(name, block, **NETWORKS[name])
    blocks = nn.ModuleList(module for module in net.modules() if isinstance(module, BLOCKS[block]))
    assert blocks
    before = [p.detach().clone() for p in blocks.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = F.cross_entropy(net(torch.randn(4, 3, 40, 48)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in blocks.parameters())
    assert not before or not all(torch.equal(p, q) for p, q in zip(blocks.parameters(), before, strict=True))


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_costs_of_a_network_are_those_of_its_blocks(block):
    sites = ((256, 16), (512, 8), (1024, 4), (2048, 2))
    with torch.device("meta"):
        net, plain = (network("resnet50", name, depths=(1, 1, 1, 1)) for name in (block, None))
        alone = [count(BLOCKS[block](channels), (channels, side, side)).total for channels, side in sites]
    whole, without = count(net, (3, 64, 64)), count(plain, (3, 64, 64))
    for kind in ("parameters", "multiply_adds", "squeezed", "scaled", "gates", "statistics"):
        expected = sum(getattr(cost, kind) for cost in alone)
        assert getattr(whole.attention, kind) == expected, kind
        assert getattr(whole.total, kind) - getattr(without.total, kind) == expected, kind


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_fuse_and_fold_take_it_or_leave_it_and_outputs_stay(block, randomise):
    net = randomise(network("cifar_resnet8", block)).eval()
    u = torch.randn(2, 3, 32, 32)
    before = net(u)
    folded = senet.fold(net)
    torch.testing.assert_close(folded(u), before, rtol=1e-4, atol=1e-5)
    fused = senet.fuse(copy.deepcopy(net))
    taken = {path for path, _ in report(fused).taken}
    assert taken == ({f"layer{stage}.0.se" for stage in (1, 2, 3)} if block in OF_THE_AVERAGE else set())
    torch.testing.assert_close(fused(u), before)
    torch.testing.assert_close(fused.train()(u), net.train()(u), rtol=1e-3, atol=1e-4)


def test_the_page_is_what_the_tool_writes():
    assert TOOL["PAGE"].read_text() == TOOL["page"](TOOL["cards"]()), "run python tools/blocks.py"


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_every_option_is_documented(name):
    text = inspect.getdoc(BLOCKS[name])
    for option in inspect.signature(BLOCKS[name]).parameters:
        assert f"\n    {option}: " in text, option


def test_a_docstring_without_its_parts_is_refused():
    class Bare(nn.Module):
        """Bare: x = u.

        Nobody, nowhere.

        Cost: nothing.
        """

    with pytest.raises(ValueError, match=r"^the docstring of Bare lacks a title or one of Cost, Differs"):
        TOOL["paragraphs"](Bare)


@pytest.mark.parametrize("name", BLOCKS)
def test_ordinary_maps_do_not_overflow_in_half_precision(name):
    torch.manual_seed(0)
    block = create_block(name, 64).half().eval()
    u = (torch.randn(1, 64, 56, 56) * 15).half()
    assert block(u).isfinite().all()
