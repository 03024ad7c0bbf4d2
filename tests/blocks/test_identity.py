"""Every block that can starts as the identity exactly, and learns from there; the others say why not."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.blocks import BLOCKS, create_block, start_as_identity
from senet.errors import InputError

STARTS = [
    ("se", {}),
    ("se", {"gate": "hard_sigmoid", "bias": False}),
    ("se", {"gate": "hard_sigmoid_0.2"}),
    ("se", {"gate": "tanh", "squeeze": "none"}),
    ("ese", {}),
    ("eca", {}),
    ("cbam", {}),
    ("cbam", {"gate": "tanh"}),
    ("scse", {}),
    ("scse", {"combine": "add"}),
    ("ge", {"mlp": True}),
    ("ge", {"gather": "conv", "extent": 4}),
    ("ge", {"gather": "conv", "map_size": (5, 7), "mlp": True}),
    ("srm", {}),
    ("srm", {"gate": "tanh"}),
    ("gct", {}),
    ("gct", {"norm": "l1"}),
    ("coord", {}),
    ("coord", {"gate": "tanh"}),
    ("gc", {}),
    ("gc", {"fusion": "scale"}),
    ("fca", {}),
    ("gsop", {"hidden_channels": 8}),
    ("bam", {}),
    ("bam", {"combine": "add"}),
]
REFUSALS = [
    ("se", {"gate": "relu"}, r"^SqueezeExcite cannot start as the identity with gate ReLU, which has no slope at 0; "),
    ("cbam", {"gate": "relu"}, r"^ChannelAttention cannot start as the identity with gate ReLU"),
    ("coord", {"gate": "relu"}, r"^CoordinateAttention cannot start as the identity with gate ReLU"),
    ("ge", {}, r"^GatherExcite cannot start as the identity: no layer of its own gives its gate$"),
    ("ge", {"extent": 2}, r"^GatherExcite cannot start as the identity: no layer of its own"),
    ("simam", {}, r"^SimAM cannot start as the identity: no layer of its own gives its gate$"),
    ("sk", {}, r"^SelectiveKernel cannot start as the identity: it gates convolutions of the map, not the map$"),
]
STARTING = pytest.mark.parametrize(("name", "options"), STARTS, ids=str)


def started(name, options, randomise):
    """A block that has been trained, so to speak, and then made the identity."""
    block = randomise(create_block(name, 32, options))
    with torch.no_grad():
        for p in block.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    start_as_identity(block)
    return block


def test_every_block_starts_or_refuses():
    assert {name for name, _ in STARTS} | {name for name, *_ in REFUSALS} == set(BLOCKS)


@STARTING
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cast", [True, False])
def test_gives_the_map_back_bit_by_bit(name, options, dtype, training, cast, randomise):
    block = started(name, options, randomise).train(training)
    block = block.to(dtype) if cast else block
    u = (torch.randn(4, 32, 5, 7) * 3).to(dtype)
    for v in (u, u.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(block(v), u)


@STARTING
def test_learns_from_its_first_step(name, options, randomise):
    block = started(name, options, randomise)
    u = torch.randn(8, 32, 5, 7) + torch.randn(8, 32, 1, 1)  # averages differ, so that each ReLU lets one through
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    (block(u) * torch.randn_like(u)).sum().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in block.parameters())
    assert not torch.equal(block(u), u)
    optimizer.zero_grad()
    (block(u) * torch.randn_like(u)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    # In the second step all is trained, but biases that a norm takes out again.
    untrained = [key for key, p in block.named_parameters() if not p.grad.any()]
    assert all(key.endswith("bias") for key in untrained), untrained


@STARTING
@pytest.mark.parametrize("trained", [True, False])
def test_a_step_moves_gates_as_far_as_it_is_long(name, options, trained, randomise):
    block = started(name, options, randomise) if trained else create_block(name, 32, options)
    start_as_identity(block.double())
    u = torch.randn(8, 32, 5, 7, dtype=torch.float64) + torch.randn(8, 32, 1, 1)
    towards = torch.randn_like(u)

    def moved(lr: float) -> float:
        stepped = copy.deepcopy(block)
        optimizer = torch.optim.SGD(stepped.parameters(), lr=lr)
        (stepped(u) * towards).mean().backward()
        optimizer.step()
        return (stepped(u) - u).norm().item()

    assert moved(1e-6) == pytest.approx(moved(1e-5) / 10, rel=0.1)


@STARTING
def test_starting_twice_is_starting_once(name, options, randomise):
    block = started(name, options, randomise)
    once = copy.deepcopy(block)
    start_as_identity(block)
    with torch.no_grad():
        for p, q in zip(block.parameters(), once.parameters(), strict=True):
            noise = torch.randn_like(p)
            p.add_(noise)
            q.add_(noise)
    u = torch.randn(4, 32, 5, 7)
    assert torch.equal(block(u), once(u))


@pytest.mark.parametrize(("name", "options", "message"), REFUSALS, ids=str)
def test_refusals_change_nothing(name, options, message):
    block = create_block(name, 32, options)
    before = {key: value.clone() for key, value in block.state_dict().items()}
    with pytest.raises(InputError, match=message):
        start_as_identity(block)
    assert all(torch.equal(value, before[key]) for key, value in block.state_dict().items())


def test_what_is_no_block_is_refused():
    with pytest.raises(InputError, match=r"^Linear is no block; accepted: what senet.create_block gives$"):
        start_as_identity(nn.Linear(2, 2))
