"""What a map comes from and what follows it, as far as one site can take it over: norm and activation, sum and ReLU."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.surgery.trace import Traced, is_norm

__all__ = [
    "ACTIVATIONS",
    "RTOL",
    "Normed",
    "Tail",
    "conv_after",
    "holds_tensors",
    "is_map",
    "normed",
    "tail_after",
    "tails",
    "tensors_in",
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

_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass(frozen=True)
class Normed:
    """u = act(norm(x)).

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
    """What follows a map at the end of a residual unit.

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


def is_map(value: object) -> bool:
    """Whether a value is (N, C, H, W) of a floating dtype."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors that a value is or holds, as chunks and several outputs hold them; sizes have none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(part)


def holds_tensors(value: object) -> bool:
    """Whether a value is a tensor or has one in it."""
    return next(tensors_in(value), None) is not None


def normed(traced: Traced, u: fx.Node, its_users: list[fx.Node]) -> Normed | None:
    """Where a map is a norm's output, or a known activation of one, that nobody else sees."""
    value, modules = traced.values, dict(traced.double.named_modules())
    nodes, node, users = [u], u, its_users
    while True:
        if any(holds_tensors(value[n]) and n not in users for n in node.users):
            return None
        inputs = [n for n in node.all_input_nodes if isinstance(value[n], Tensor)]
        if len(inputs) != 1 or not is_map(value[inputs[0]]):
            return None
        if node.op == "call_module" and is_norm(modules[node.target]):
            wide = _wide(value[inputs[0]])
            act = _activation(_normalised(modules[node.target], wide), _rerun(traced, nodes, wide))
            return None if act is None else Normed(node, act, inputs[0], tuple(nodes))
        act = _activation(value[inputs[0]], value[node])
        if len(nodes) > 3 or act is None:
            return None
        if act == "none" and node.op == "call_module" and not isinstance(modules[str(node.target)], nn.Identity):
            return None  # it does nothing now: dropout at a rate of 0
        users = [node]
        node = inputs[0]
        nodes.insert(0, node)


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)  # type: ignore[arg-type]


def _activation(u: Tensor, h: Tensor) -> str | None:
    """Which known activation of u gives h."""
    if u.shape != h.shape:
        return None
    return next((name for name, act in ACTIVATIONS.items() if torch.allclose(act(u), h, rtol=RTOL, atol=1e-12)), None)


def _is_relu(traced: Traced, node: fx.Node, user: fx.Node) -> bool:
    if _activation(traced.values[node], traced.values[user]) != "relu":
        return False
    wide = _wide(traced.values[node])
    return _activation(wide, _rerun(traced, [user], wide)) == "relu"


def _wide(x: Tensor) -> Tensor:
    """A map with values up to 50 and to a million: a ReLU, one that ends somewhere and a smooth one are told apart."""
    unit = x / x.abs().max().clamp(min=1e-12)
    return torch.cat((50 * unit, 1e6 * unit))


def _rerun(traced: Traced, nodes: list[fx.Node], x: Tensor) -> Tensor:
    """What nodes in a row, each with one tensor to work on, give for another map."""
    for node in nodes:
        before = next(n for n in node.all_input_nodes if isinstance(traced.values[n], Tensor))
        given = {n: x.clone() if n is before else traced.values[n] for n in node.all_input_nodes}
        args, kwargs = (fx.node.map_arg(a, given.__getitem__) for a in (node.args, node.kwargs))
        with torch.no_grad():
            x = getattr(fx.Interpreter(traced.double, graph=traced.graph), node.op)(node.target, args, kwargs)
    return x


def tail_after(traced: Traced, start: fx.Node) -> Tail:
    """What follows a map as far as one pass can take it: drops of whole images, the sum, the ReLU."""
    value, modules = traced.values, dict(traced.double.named_modules())
    nodes: list[fx.Node] = []
    drops: list[fx.Node] = []
    shortcut: fx.Node | None = None
    node = start
    while True:
        users = [n for n in node.users if holds_tensors(value[n])]
        if len(users) != 1 or users[0].op == "output":
            break
        user = users[0]
        if user.target in _ADD and shortcut is None and len(user.args) == 2 and not user.kwargs:
            other = user.args[1] if user.args[0] is node else user.args[0]
            if not (isinstance(other, fx.Node) and is_map(value[other]) and value[other].shape == value[node].shape):
                break
            if other is node:
                break
            shortcut = other
        elif _is_relu(traced, node, user):
            return Tail((*nodes, user), tuple(drops), shortcut, relu=True)
        elif user.op == "call_module" and isinstance(modules[user.target], nn.Identity):
            pass
        elif shortcut is None and user.op == "call_module" and _drops_images(modules[user.target], value[node]):
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
    x, mode = x.repeat(8, 1, 1, 1), module.training
    try:
        with torch.random.fork_rng(devices=[]):
            dropped, kept = module.train()(x.clone()), module.eval()(x.clone())
    finally:
        module.train(mode)
    if not torch.equal(kept, x) or dropped.shape != x.shape:
        return False
    factors = (dropped * x).sum((1, 2, 3), keepdim=True) / x.square().sum((1, 2, 3), keepdim=True)
    return torch.allclose(dropped, factors * x, rtol=RTOL, atol=1e-12)


def conv_after(traced: Traced, product: fx.Node) -> tuple[fx.Node, ...]:
    """The nodes up to the plain convolution that alone takes the gated map; none if there is no such convolution."""
    value, modules = traced.values, dict(traced.double.named_modules())
    nodes: list[fx.Node] = [product]
    while True:
        users = [n for n in nodes[-1].users if holds_tensors(value[n])]
        if len(users) != 1 or users[0].op != "call_module":
            return ()
        nodes.append(users[0])
        module = modules[users[0].target]
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            return tuple(nodes[1:])
        if not isinstance(module, nn.Identity):
            return ()


def tails(traced: Traced) -> Iterator[tuple[Normed, Tail]]:
    """Norm, sum and ReLU without a gate: the ends of plain residual units.

    Where both summands come from a norm, the first of them: the branch's, in networks that compute it first.
    """
    modules, taken = dict(traced.double.named_modules()), set()
    for node in traced.graph.nodes:
        if node.op == "call_module" and is_norm(modules[node.target]) and is_map(traced.values[node]):
            tail = tail_after(traced, node)
            source = normed(traced, node, list(tail.nodes[:1]))
            if (
                source is not None
                and source.act == "none"
                and tail.shortcut is not None
                and tail.nodes[-1] not in taken
            ):
                taken.add(tail.nodes[-1])
                yield source, tail
