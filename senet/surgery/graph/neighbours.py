"""The nodes around a gated map that one site can take over: norm and activation before it, sum and ReLU after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.blocks.free import uses_batch_statistics
from senet.surgery.graph.modules import is_norm
from senet.surgery.graph.ops import is_map, is_sum, operands, tensor_inputs, users_of_tensor
from senet.surgery.graph.run import Wide
from senet.surgery.graph.walk import Reading
from senet.surgery.graph.written import has_hooks, settings

__all__ = [
    "ACTIVATIONS",
    "BATCHES",
    "RTOL",
    "Normed",
    "Tail",
    "conv_after",
    "normed",
    "rerun",
    "tail_after",
    "tails",
    "wide",
]

RTOL = 1e-9  # of values in float64 that are the same

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "none": lambda u: u,
        "relu": F.relu,
        "relu6": F.relu6,
        "silu": F.silu,
        "hard_swish": F.hardswish,
        "gelu": F.gelu,
    }
)

# More images than any norm that splits its batch is likely to take together.
BATCHES = (3, 67, 1031, 4099)

# How often a norm may have been called that decides by it.
_COUNTS = (10**4, 10**7)


@dataclass(frozen=True)
class Normed:
    """A map u = act(norm(x)).

    Attributes:
        norm: the node that calls the norm.
        act: the activation's name.
        x: what the norm is called on.
        nodes: all nodes from the norm to u, in order.
    """

    norm: fx.Node
    act: str
    x: fx.Node
    nodes: tuple[fx.Node, ...]


@dataclass(frozen=True)
class Tail:
    """The nodes that follow a map at the end of a residual unit.

    Attributes:
        nodes: all nodes after the map, in order; empty where nothing of it was found.
        drops: those of them that scale each image as a whole, in training.
        shortcut: the other summand, or None.
        relu: whether a ReLU ends it.
    """

    nodes: tuple[fx.Node, ...] = ()
    drops: tuple[fx.Node, ...] = ()
    shortcut: fx.Node | None = None
    relu: bool = False


def normed(reading: Reading, u: fx.Node, its_users: list[fx.Node]) -> Normed | None:
    """Returns the norm, and a known activation, that a map comes from and that nobody else sees; None if none does."""
    value = reading.values
    nodes, node, users = [u], u, its_users
    while True:
        if any(n not in users for n in users_of_tensor(node, value)):
            return None
        inputs = tensor_inputs(node, value)
        if len(inputs) != 1 or not is_map(value[inputs[0]]) or not is_map(value[node]):
            return None
        norm = reading.called(node)
        if norm is not None and is_norm(norm):
            x = wide(value[inputs[0]])
            act = _activation(_normalised(norm, x), rerun(reading, nodes, x))
            if act is None or not _is_proven(norm, value[inputs[0]]) or _is_hooked(reading, node):
                return None
            return Normed(node, act, inputs[0], tuple(nodes))
        act = _activation(value[inputs[0]], value[node])
        if len(nodes) > 3 or act is None:
            return None
        if act == "none" and norm is not None and not isinstance(norm, nn.Identity):
            return None  # it does nothing now: dropout at a rate of 0
        users = [node]
        node = inputs[0]
        nodes.insert(0, node)


def _normalised(norm: nn.Module, x: Tensor, *, training: bool = False) -> Tensor:
    """The definition of batch norm, in evaluation or, as the norm itself would, with the batch's statistics."""
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return F.batch_norm(x, norm.running_mean, norm.running_var, weight, bias, training, 0.0, norm.eps)  # type: ignore[arg-type]


_proven: WeakKeyDictionary[type, dict[str, bool]] = WeakKeyDictionary()


def _is_proven(norm: nn.Module, x: Tensor) -> bool:
    """Whether a norm is batch norm at every batch: by its forward, or by what it computes of large batches.

    Ghost and split batch norms, which norm parts of a batch, are batch norm at small ones.
    """
    if type(norm).forward is nn.modules.batchnorm._BatchNorm.forward:
        return True
    known = _proven.setdefault(type(norm), {})
    key = repr([(k, v) for k, v in settings(norm).items() if k != "num_features"]) + f"{norm.training}{x.ndim}"
    if key not in known:
        known[key] = all(_agrees(norm, x, training) for training in (True, False))
    return known[key]


def _agrees(norm: nn.Module, x: Tensor, training: bool) -> bool:
    kept = {name: b.clone() for name, b in norm.named_buffers()}
    mode, channels = norm.training, x.shape[1]
    norm.train(training)
    batch = uses_batch_statistics(cast(Any, norm))
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad(), Wide():
            counters = [b for b in norm.buffers() if b.ndim == 0 and not b.is_floating_point()]
            for images, count in [*((i, None) for i in BATCHES), *((BATCHES[0], c) for c in _COUNTS if counters)]:
                if images * channels > 2**22:  # 32 MiB
                    continue
                for counter in counters if count else ():
                    counter.fill_(count or 0)
                shape = (images, channels, *(1,) * (x.ndim - 3), 2)
                y = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") * 2 + 1
                wanted = _normalised(norm, y, training=batch)
                if _activation(wanted, norm(y.clone())) is None:
                    return False
                for name, b in norm.named_buffers():
                    b.copy_(kept[name])
    finally:
        norm.train(mode)
        with torch.no_grad():
            for name, b in norm.named_buffers():
                b.copy_(kept[name])
    return True


def _activation(u: Tensor, h: Tensor) -> str | None:
    """Returns the name of the known activation of u that gives h, or None."""
    if u.shape != h.shape:
        return None
    return next((name for name, act in ACTIVATIONS.items() if torch.allclose(act(u), h, rtol=RTOL, atol=1e-12)), None)


def _is_relu(reading: Reading, node: fx.Node, user: fx.Node) -> bool:
    before, after = reading.values[node], reading.values[user]
    if not is_map(after) or len(tensor_inputs(user, reading.values)) != 1 or _activation(before, after) != "relu":
        return False
    x = wide(before)
    return _activation(x, rerun(reading, [user], x)) == "relu"


def wide(x: Tensor) -> Tensor:
    """A map with values up to 50 and to a million: a ReLU, one that ends somewhere and a smooth one are told apart."""
    unit = x / x.abs().max().clamp(min=1e-12)
    return torch.cat((50 * unit, 1e6 * unit))


def rerun(reading: Reading, nodes: list[fx.Node], x: Tensor) -> Tensor:
    """Runs nodes in a row, each with one tensor to work on, on another map."""
    interpreter = fx.Interpreter(reading.twin, graph=reading.graph)
    for node in nodes:
        before = tensor_inputs(node, reading.values)[0]
        given = {n: x.clone() if n is before else reading.values[n] for n in node.all_input_nodes}
        args, kwargs = (fx.node.map_arg(a, given.__getitem__) for a in (node.args, node.kwargs))
        with torch.no_grad(), Wide():
            x = getattr(interpreter, node.op)(node.target, args, kwargs)
    return x


def tail_after(reading: Reading, start: fx.Node) -> Tail:
    """Returns what follows a map as far as one pass can take it: drops of whole images, the sum, the ReLU."""
    value = reading.values
    nodes: list[fx.Node] = []
    drops: list[fx.Node] = []
    shortcut: fx.Node | None = None
    node = start
    while True:
        users = users_of_tensor(node, value)
        if len(users) != 1 or users[0].op == "output":
            break
        user = users[0]
        called = reading.called(user)
        if is_sum(user) and shortcut is None:
            first, second = operands(user) or (None, None)
            other = second if first is node else first
            if not (isinstance(other, fx.Node) and is_map(value[other]) and value[other].shape == value[node].shape):
                break
            if other is node:
                break
            shortcut = other
        elif isinstance(called, nn.Identity):
            pass
        elif _is_relu(reading, node, user):
            return Tail((*nodes, user), tuple(drops), shortcut, relu=True)
        elif shortcut is None and called is not None and _drops_images(called, value[node]):
            drops.append(user)
        else:
            break
        nodes.append(user)
        node = user
    return Tail(tuple(nodes), tuple(drops), shortcut, relu=False)


def _drops_images(module: nn.Module, x: Tensor) -> bool:
    """Whether a module multiplies whole images by numbers in training and does nothing in evaluation."""
    if next(module.parameters(), None) is not None or isinstance(module, nn.modules.dropout._DropoutNd):
        return False
    mode, positions = module.training, tuple(range(1, x.ndim))
    x = x.repeat(8, *(1,) * len(positions))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), Wide():
            dropped, kept = module.train()(x.clone()), module.eval()(x.clone())
    except Exception:  # it takes more than one map
        return False
    finally:
        module.train(mode)
    if not isinstance(kept, Tensor) or not torch.equal(kept, x) or dropped.shape != x.shape:
        return False
    factors = (dropped * x).sum(positions, keepdim=True) / x.square().sum(positions, keepdim=True)
    return torch.allclose(dropped, factors * x, rtol=RTOL, atol=1e-12)


def conv_after(reading: Reading, product: fx.Node) -> tuple[fx.Node, ...]:
    """Returns the nodes up to the plain convolution that alone takes the gated map; none if there is no such one."""
    nodes: list[fx.Node] = [product]
    while True:
        users = users_of_tensor(nodes[-1], reading.values)
        if len(users) != 1 or users[0].op != "call_module":
            return ()
        nodes.append(users[0])
        module = reading.called(users[0])
        if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
            plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)  # type: ignore[union-attr]
            return tuple(nodes[1:]) if plain and not _is_hooked(reading, users[0]) else ()
        if not isinstance(module, nn.Identity):
            return ()


def _is_hooked(reading: Reading, node: fx.Node) -> bool:
    """Whether the part itself that a node calls has hooks, which are to be called as they were."""
    return has_hooks(reading.module.get_submodule(str(node.target)))


def tails(reading: Reading) -> Iterator[tuple[Normed, Tail]]:
    """Yields norm, sum and ReLU without a gate: the ends of plain residual units.

    Where both summands come from a norm, the first of them: the branch's, in networks that compute it first.
    """
    taken = set()
    for node in reading.graph.nodes:
        norm = reading.called(node)
        if norm is not None and is_norm(norm) and is_map(reading.values[node]):
            tail = tail_after(reading, node)
            source = normed(reading, node, list(tail.nodes[:1]))
            if (
                source is not None
                and source.act == "none"
                and tail.shortcut is not None
                and tail.nodes[-1] not in taken
            ):
                taken.add(tail.nodes[-1])
                yield source, tail


def positions(x: Tensor) -> tuple[int, ...]:
    """The axes of a map that are positions: all after the first two."""
    return tuple(range(2, x.ndim))
