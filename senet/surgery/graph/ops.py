"""The operators that surgery reads: the one table of their spellings, and one normal form for them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.blocks.stages import AvgSqueeze

__all__ = [
    "casts",
    "holds_tensors",
    "is_map",
    "is_per_channel",
    "is_product",
    "is_query",
    "is_sum",
    "makes_map",
    "normalise",
    "operands",
    "reaching",
    "reduces",
    "settles_dtype",
    "tensor_inputs",
    "tensors_in",
    "users_of_tensor",
    "writes_into_input",
]

_PRODUCTS = {
    *(operator.mul, operator.imul, torch.mul, torch.multiply, torch.Tensor.mul, torch.Tensor.multiply),
    *("mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"),
}
_SUMS = {
    *(operator.add, operator.iadd, torch.add, torch.Tensor.add),
    *("add", "add_", "__add__", "__radd__", "__iadd__"),
}
_IN_PLACE = {operator.imul, operator.iadd, "mul_", "multiply_", "add_", "__imul__", "__iadd__"}
_MAKERS = {torch.cat, F.group_norm, F.layer_norm, F.conv1d, F.conv2d, F.conv3d}
_ADDCMUL = {torch.addcmul, torch.Tensor.addcmul, "addcmul"}
_QUERIES = {getattr, operator.getitem, len, "size", "dim", "ndimension", "numel", "stride"}
_POOLS = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AvgPoolNd, AvgSqueeze)
_REDUCTIONS = {
    *(torch.mean, torch.sum, torch.nanmean, "mean", "sum", "nanmean", torch.Tensor.mean),
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, torch.adaptive_avg_pool1d, torch.avg_pool1d),
}
_CASTING = {"to", "type", "type_as"}  # methods that may
_CASTS = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}


def is_product(node: fx.Node) -> bool:
    """Whether a node multiplies two values element by element, however it is spelt."""
    return node.op in ("call_function", "call_method") and node.target in _PRODUCTS and operands(node) is not None


def is_sum(node: fx.Node) -> bool:
    """Whether a node adds two values element by element, neither of them scaled."""
    return node.op in ("call_function", "call_method") and node.target in _SUMS and operands(node) is not None


def makes_map(node: fx.Node) -> bool:
    """Whether a function gives a map of its own, which is nobody else's memory."""
    if node.target in _IN_PLACE:
        return False
    return node.target in _MAKERS or is_product(node) or is_sum(node)


def writes_into_input(node: fx.Node) -> bool:
    """Whether a product or a sum in place writes over a tensor that the graph is given."""
    first = node.args[0] if node.args else None
    return node.target in _IN_PLACE and isinstance(first, fx.Node) and first.op == "placeholder"


def operands(node: fx.Node) -> tuple[object, object] | None:
    """The two operands of a product or a sum, by position or by keyword; None where there is anything else."""
    named = dict(node.kwargs)
    if node.target in _SUMS and named.get("alpha", 1) == 1:
        named.pop("alpha", None)
    given = list(node.args)
    for name in ("input", "other"):
        if name in named and len(given) < 2:
            given.append(cast(fx.Node, named.pop(name)))
    return (given[0], given[1]) if len(given) == 2 and not named else None


def normalise(graph: fx.Graph) -> None:
    """Brings products and sums of a graph into one form, so that all else is read once.

    - ``addcmul(a, u, s)`` becomes a product and a sum.
    - ``einsum`` of two tensors that sums over nothing becomes a product, its second operand reshaped.
    - ``0 + x``, as Python's ``sum`` begins, becomes ``x``.

    Args:
        graph: changed in place; it computes the same.
    """
    for node in list(graph.nodes):
        with graph.inserting_before(node):
            new = _split_addcmul(graph, node) or _einsum_as_product(graph, node) or _without_zero(node)
        if new is not None:
            new.meta.update({k: v for k, v in node.meta.items() if k not in new.meta or k == "output_of"})
            node.replace_all_uses_with(new)
            graph.erase_node(node)


def _split_addcmul(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    if node.target not in _ADDCMUL or len(node.args) != 3 or (node.kwargs and node.kwargs != {"value": 1}):
        return None
    a, u, s = node.args
    product = graph.call_function(operator.mul, (u, s))
    product.meta = {k: v for k, v in node.meta.items() if k == "nn_module_stack"}
    return graph.call_function(operator.add, (a, product))


def _einsum_as_product(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """``einsum("nchw,nc->nchw", u, s)`` as ``u * s[:, :, None, None]``."""
    if node.target is not torch.einsum or node.kwargs or len(node.args) != 3:
        return None
    equation, *given = node.args
    if not isinstance(equation, str) or not all(isinstance(a, fx.Node) for a in given):
        return None
    terms, arrow, out = equation.replace(" ", "").partition("->")
    names = terms.split(",")
    if not arrow or len(names) != 2 or not out.isalpha() or len(set(out)) != len(out):
        return None
    wide = next((i for i, term in enumerate(names) if term == out), None)
    if wide is None:
        return None
    narrow = names[1 - wide]
    # Its axes stand in the order of the map's, so that a reshape by None puts each where it belongs.
    in_order = [name for name in out if name in narrow] == list(narrow)
    if not in_order:
        return None
    index = tuple(slice(None) if name in narrow else None for name in out)
    factor = given[1 - wide]
    if len(narrow) != len(out):
        factor = graph.call_function(operator.getitem, (factor, index))
        factor.meta = {k: v for k, v in node.meta.items() if k == "nn_module_stack"}
    return graph.call_function(operator.mul, (given[wide], factor))


def _without_zero(node: fx.Node) -> fx.Node | None:
    if not is_sum(node):
        return None
    first, second = operands(node) or (None, None)
    for number, other in ((first, second), (second, first)):
        if type(number) is int and number == 0 and isinstance(other, fx.Node):
            return other
    return None


def casts(node: fx.Node) -> torch.dtype | None:
    """The floating dtype that a node casts to by name, such as ``float()``, ``to(torch.float32)``, ``mean(dtype=)``."""
    if node.op == "call_method" and node.target in _CASTS:
        return _CASTS[str(node.target)]
    given = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, torch.dtype) and a.is_floating_point]
    return given[0] if given else None


def settles_dtype(node: fx.Node, values: Mapping[fx.Node, object]) -> bool:
    """Whether a node's dtype may be another than that of what it works on: a cast, or a tensor made of none."""
    if casts(node) is not None or node.target in _CASTING:
        return True
    return node.op == "call_function" and holds_tensors(values.get(node)) and not tensor_inputs(node, values)


def is_query(node: fx.Node) -> bool:
    """Whether a node asks a tensor for its sizes, dtype or the like, and does nothing else."""
    return node.target in _QUERIES


def is_map(value: object) -> bool:
    """Whether a value is a map (N, C, ...) of one to three axes of positions and a floating dtype."""
    return isinstance(value, Tensor) and 3 <= value.ndim <= 5 and value.is_floating_point()


def is_per_channel(s: object, u: Tensor) -> bool:
    """Whether a value has one number for each channel of each image of a map, also where it was expanded over it."""
    if not (isinstance(s, Tensor) and s.ndim == u.ndim and s.shape[:2] == u.shape[:2]):
        return False
    if s.shape[2:].numel() == 1:
        return True
    return s.shape == u.shape and bool((s == s.flatten(2)[..., :1].view(*s.shape[:2], *(1,) * (s.ndim - 2))).all())


def reduces(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node takes averages or sums, as a pool does."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], _POOLS)
    return node.target in _REDUCTIONS


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


def tensor_inputs(node: fx.Node, values: Mapping[fx.Node, object]) -> list[fx.Node]:
    """The nodes whose tensor a node works on."""
    return [n for n in node.all_input_nodes if isinstance(values[n], Tensor)]


def users_of_tensor(node: fx.Node, values: Mapping[fx.Node, object]) -> list[fx.Node]:
    """Nodes that compute something from a node's tensor or return it, rather than ask for its sizes."""
    return [n for n in node.users if n.op == "output" or holds_tensors(values.get(n))]


def reaching(start: fx.Node, *, forward: bool) -> set[fx.Node]:
    """All nodes after a node, or before it, itself included."""
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for other in node.users if forward else node.all_input_nodes:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen
