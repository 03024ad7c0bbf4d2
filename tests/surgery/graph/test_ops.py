"""The operators that surgery reads: each spelling of a product and a sum, and the one form they are brought into."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from senet.surgery.graph import ops

U = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
S = torch.randn(2, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
GATE = S.flatten(1)

PRODUCTS = {
    "operator": lambda u, s: u * s,
    "torch.mul": torch.mul,
    "torch.multiply": torch.multiply,
    "method": lambda u, s: u.mul(s),
    "method in place": lambda u, s: u.mul_(s),
    "multiply": lambda u, s: u.multiply(s),
    "multiply in place": lambda u, s: u.multiply_(s),
    "dunder": lambda u, s: u.__mul__(s),
    "dunder from the right": lambda u, s: u.__rmul__(s),
    "dunder in place": lambda u, s: u.__imul__(s),
    "by keyword": lambda u, s: torch.mul(u, other=s),
    "both by keyword": lambda u, s: torch.mul(input=u, other=s),
}
SUMS = {
    "operator": lambda u, s: u + s,
    "torch.add": torch.add,
    "method": lambda u, s: u.add(s),
    "method in place": lambda u, s: u.add_(s),
    "dunder": lambda u, s: u.__add__(s),
    "dunder from the right": lambda u, s: u.__radd__(s),
    "dunder in place": lambda u, s: u.__iadd__(s),
    "by keyword": lambda u, s: torch.add(u, other=s),
    "both by keyword": lambda u, s: torch.add(input=u, other=s),
    "alpha of one": lambda u, s: torch.add(u, s, alpha=1),
}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.pool, self.relu = function, nn.AdaptiveAvgPool2d(1), nn.ReLU()

    def forward(self, u, s):
        return self.function(u, s)


def traced(function):
    return fx.symbolic_trace(Function(function))


def last(model):
    """The node whose value is returned."""
    return next(n for n in model.graph.nodes if n.op == "output").args[0]


def inputs(model):
    return tuple(n for n in model.graph.nodes if n.op == "placeholder")


def normalised(function, u, s):
    """The graph in its normal form, which computes what the function does."""
    model = traced(function)
    ops.normalise(model.graph)
    model.graph.lint()
    model.recompile()
    assert torch.allclose(model(u.clone(), s), function(u.clone(), s), rtol=1e-12)
    return model


@pytest.mark.parametrize("spelling", PRODUCTS)
def test_each_spelling_of_a_product_is_one(spelling):
    model = traced(PRODUCTS[spelling])
    node = last(model)
    assert ops.is_product(node)
    assert not ops.is_sum(node)
    assert set(ops.operands(node)) == set(inputs(model))


@pytest.mark.parametrize("spelling", SUMS)
def test_each_spelling_of_a_sum_is_one(spelling):
    model = traced(SUMS[spelling])
    node = last(model)
    assert ops.is_sum(node)
    assert not ops.is_product(node)
    assert set(ops.operands(node)) == set(inputs(model))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        *((target, ops.is_product) for target in (torch.Tensor.mul, torch.Tensor.multiply, operator.imul)),
        *((target, ops.is_sum) for target in (torch.Tensor.add, operator.iadd)),
    ],
)
def test_spellings_that_graphs_of_others_have_are_known_too(target, told):
    graph = fx.Graph()
    given = graph.placeholder("u"), graph.placeholder("s")
    node = graph.call_function(target, given)
    assert told(node)
    assert ops.operands(node) == given
    assert ops.makes_map(node) == (target not in (operator.imul, operator.iadd))


@pytest.mark.parametrize("function", [torch.sub, torch.div, torch.maximum, torch.matmul, lambda u, s: u - s])
def test_other_operators_are_neither(function):
    node = last(traced(function))
    assert not ops.is_product(node)
    assert not ops.is_sum(node)


def test_a_scaled_sum_is_none():
    assert not ops.is_sum(last(traced(lambda u, s: torch.add(u, s, alpha=2))))
    assert not ops.is_sum(last(traced(lambda u, s: u.add(s, alpha=0.5))))


def test_an_operator_that_writes_elsewhere_has_no_two_operands():
    node = last(traced(lambda u, s: torch.mul(u, s, out=u)))
    assert ops.operands(node) is None
    assert not ops.is_product(node)


def test_a_number_is_an_operand_too():
    node = last(traced(lambda u, s: u * 2))
    assert ops.operands(node)[1] == 2


@pytest.mark.parametrize("spelling", [name for name in PRODUCTS if "in place" in name])
def test_products_in_place_make_no_map_of_their_own(spelling):
    assert not ops.makes_map(last(traced(PRODUCTS[spelling])))


@pytest.mark.parametrize(
    "function",
    [
        *(lambda u, s: u * s, torch.add, lambda u, s: torch.cat((u, u)), lambda u, s: F.group_norm(u, 3)),
        lambda u, s: F.conv2d(u, u),
    ],
)
def test_functions_that_compute_a_map_make_one_of_their_own(function):
    assert ops.makes_map(last(traced(function)))


@pytest.mark.parametrize("function", [lambda u, s: u.view(-1), lambda u, s: F.relu(u), lambda u, s: u.add_(s)])
def test_views_and_others_make_no_map_of_their_own(function):
    assert not ops.makes_map(last(traced(function)))


EINSUMS = {
    "nchw,nc->nchw": (U, GATE),
    "nc,nchw->nchw": (GATE, U),
    "n c h w, n c -> n c h w": (U, GATE),
    "nchw,->nchw": (U, GATE[0, 0]),
    "bcij,bcij->bcij": (U, U),
    "nchw,n->nchw": (U, GATE[:, 0]),
    "nchw,hw->nchw": (U, U[0, 0]),
    "nchw,nh->nchw": (U, U[:, 0, :, 0]),
}


@pytest.mark.parametrize("equation", EINSUMS)
def test_an_einsum_that_sums_over_nothing_becomes_a_product(equation):
    model = normalised(lambda u, s: torch.einsum(equation, u, s), *EINSUMS[equation])
    assert ops.is_product(last(model))
    assert all(n.target is not torch.einsum for n in model.graph.nodes)


@pytest.mark.parametrize(
    ("equation", "u", "s"),
    [
        ("nchw,nc->nc", U, GATE),  # sums over positions
        ("nchw,cn->nchw", U, GATE.T.contiguous()),  # transposes
        ("nchw,nc->nhwc", U, GATE),
        ("nchw,ck->nkhw", U, torch.eye(3, dtype=torch.float64)),
        ("nchw,nc", U, GATE),  # sums, as no output is given
        ("n...,n->n...", U, GATE[:, 0]),
        ("nchw,nck->nchw", U, GATE[..., None].expand(2, 3, 2)),
        ("nchw,ncc->nchw", U, torch.eye(3, dtype=torch.float64).expand(2, 3, 3)),
    ],
)
def test_other_einsums_stay(equation, u, s):
    model = normalised(lambda u, s: torch.einsum(equation, u, s), u, s)
    assert last(model).target is torch.einsum


@pytest.mark.parametrize(
    "function",
    [
        lambda u, s: torch.addcmul(u, u, s),
        lambda u, s: torch.addcmul(u, u, s, value=1),
        lambda u, s: u.addcmul(u, s),
    ],
)
def test_addcmul_becomes_a_product_and_a_sum(function):
    model = normalised(function, U, S)
    total = last(model)
    assert ops.is_sum(total)
    first, product = ops.operands(total)
    u, s = inputs(model)
    assert first is u
    assert ops.operands(product) == (u, s)
    assert ops.is_product(product)


def test_a_scaled_addcmul_stays():
    assert last(normalised(lambda u, s: torch.addcmul(u, u, s, value=2), U, S)).target is torch.addcmul


@pytest.mark.parametrize("function", [lambda u, s: sum([u, s]), lambda u, s: 0 + u + s, lambda u, s: (u + 0) + s])
def test_a_zero_that_python_begins_a_sum_with_goes(function):
    model = normalised(function, U, S)
    assert [n.op for n in model.graph.nodes].count("call_function") == 1
    assert ops.operands(last(model)) == inputs(model)


@pytest.mark.parametrize("zero", [0.0, False])
def test_a_zero_that_may_change_the_dtype_stays(zero):
    model = normalised(lambda u, s: u + zero, U, S)
    assert ops.is_sum(last(model))


def test_a_node_in_normal_form_keeps_the_names_of_modules_whose_output_it_is():
    model = traced(lambda u, s: torch.addcmul(u, u, s))
    last(model).meta["output_of"] = ["gate"]
    ops.normalise(model.graph)
    assert last(model).meta["output_of"] == ["gate"]


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (lambda u, s: u.float(), torch.float32),
        (lambda u, s: u.half(), torch.float16),
        (lambda u, s: u.bfloat16(), torch.bfloat16),
        (lambda u, s: u.double(), torch.float64),
        (lambda u, s: u.to(torch.float32), torch.float32),
        (lambda u, s: u.to(dtype=torch.bfloat16), torch.bfloat16),
        (lambda u, s: u.mean((2, 3), dtype=torch.float32), torch.float32),
        (lambda u, s: u.to(torch.int64), None),
        (lambda u, s: u.mean((2, 3)), None),
        (lambda u, s: u.type_as(s), None),
    ],
)
def test_casts_are_told_by_name(function, dtype):
    assert ops.casts(last(traced(function))) is dtype


@pytest.mark.parametrize(
    "function",
    [lambda u, s: u.shape, lambda u, s: u.size(2), lambda u, s: u.shape[0], lambda u, s: u.dim(), lambda u, s: u.dtype],
)
def test_questions_for_sizes_are_queries(function):
    assert ops.is_query(last(traced(function)))


def test_what_computes_is_no_query():
    assert not ops.is_query(last(traced(lambda u, s: u.mean())))
    assert not ops.is_query(last(traced(lambda u, s: u.view(-1))))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3, 4, 5), True),
        (torch.zeros(2, 3, 4), True),
        (torch.zeros(2, 3, 4, 5, 6), True),
        (torch.zeros(2, 3), False),
        (torch.zeros(2, 3, 4, 5, 6, 7), False),
        (torch.zeros(2, 3, 4, 5, dtype=torch.int64), False),
        ([torch.zeros(2, 3, 4)], False),
    ],
)
def test_maps_have_one_to_three_axes_of_positions_and_a_floating_dtype(value, expected):
    assert ops.is_map(value) == expected


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        (S, True),
        (S.expand(2, 3, 4, 5), True),
        (U, False),
        (S[:1], False),  # one for all images
        (S.flatten(1), False),
        (U[..., :1], False),
        (0.5, False),
    ],
)
def test_gates_have_a_number_for_each_channel_of_each_image(s, expected):
    assert ops.is_per_channel(s, U) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda u, s: u.mean((2, 3)), True),
        (lambda u, s: torch.sum(u, (2, 3)), True),
        (lambda u, s: F.adaptive_avg_pool2d(u, 1), True),
        (lambda u, s: F.avg_pool2d(u, 4), True),
        (lambda u, s: F.max_pool2d(u, 4), False),
        (lambda u, s: u.amax((2, 3)), False),
    ],
)
def test_functions_that_average_or_sum_reduce(function, expected):
    assert ops.reduces(last(traced(function)), {}) == expected


def test_modules_that_average_reduce():
    model = Function(lambda u, s: model.relu(model.pool(u)))
    graph = fx.symbolic_trace(model).graph
    nodes = {n.target: n for n in graph.nodes if n.op == "call_module"}
    assert ops.reduces(nodes["pool"], dict(model.named_modules()))
    assert not ops.reduces(nodes["relu"], dict(model.named_modules()))


def test_tensors_are_found_in_containers_and_sizes_hold_none():
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [t.numel() for t in ops.tensors_in({"x": (a, [b, None, 3]), "y": c})] == [1, 2, 3]
    assert not ops.holds_tensors((a.shape, 3, "text", None))
    assert ops.holds_tensors([[], (a,)])


def test_users_of_a_tensor_are_told_from_those_that_ask_for_its_sizes():
    model = traced(lambda u, s: (u * s).view(u.size(0), -1))
    u, s = inputs(model)
    nodes = {n.name: n for n in model.graph.nodes}
    values = {u: U, s: S, nodes["mul"]: U * S, nodes["size"]: 2, nodes["view"]: (U * S).view(2, -1)}
    assert ops.users_of_tensor(u, values) == [nodes["mul"]]
    assert ops.tensor_inputs(nodes["view"], values) == [nodes["mul"]]
    assert [n.op for n in ops.users_of_tensor(nodes["view"], values)] == ["output"]


def test_reaching_follows_users_or_inputs():
    model = traced(lambda u, s: torch.relu(u) + torch.sigmoid(s))
    nodes = {n.name: n for n in model.graph.nodes}
    u, _ = inputs(model)
    assert ops.reaching(u, forward=True) == {u, nodes["relu"], nodes["add"], nodes["output"]}
    assert ops.reaching(nodes["relu"], forward=False) == {u, nodes["relu"]}
