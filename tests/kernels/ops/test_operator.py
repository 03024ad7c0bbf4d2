"""What the operators refuse: derivatives and transforms that they would get wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from senet.blocks.free import close_project, close_tail, open_site, pooled
from senet.errors import InputError
from senet.kernels import ops
from senet.kernels.ops.opened import spread

# Forward mode scripts its own decompositions when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

X = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NORM, CONV = nn.BatchNorm2d(3).double().eval().requires_grad_(False), nn.Conv2d(3, 2, 1).double()


def tail(x: Tensor) -> Tensor:
    site = open_site(x, NORM)
    return close_tail(site, pooled(site).sigmoid(), None, relu=True)


def mobile(x: Tensor) -> Tensor:
    site = open_site(x, NORM, "silu")
    return close_project(site, pooled(site).sigmoid(), CONV)


@pytest.mark.parametrize("function", [tail, mobile])
@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.vmap(lambda z: f(z[None])[0])(X),
        lambda f: torch.func.grad(lambda z: f(z).sum())(X),
        lambda f: torch.func.jvp(f, (X,), (X,)),
        lambda f: torch.func.jacfwd(f)(X),
        lambda f: torch.func.hessian(lambda z: f(z).sum())(X),
    ],
    ids=["vmap", "grad", "jvp", "jacfwd", "hessian"],
)
def test_transforms_of_functions(function, transform):
    with pytest.raises(InputError, match=r"know no torch\.func .*; call senet\.unfuse\(model\) first$"):
        transform(function)


@pytest.mark.parametrize("function", [tail, mobile])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_tangents(function, requires_grad):
    with forward_ad.dual_level():
        x = forward_ad.make_dual(X.clone().requires_grad_(requires_grad), X)
        with pytest.raises(InputError, match=r"know no forward-mode differentiation .*; call senet\.unfuse\(model\) "):
            function(x)


def test_tangents_of_gradients():
    """The forward saw no tangents; its backward would drop those of the incoming gradient."""
    x = X.clone().requires_grad_()
    out = tail(x)
    with forward_ad.dual_level():
        g = forward_ad.make_dual(torch.ones_like(out), torch.ones_like(out))
        with pytest.raises(InputError, match="know no forward-mode differentiation"):
            torch.autograd.grad(out, x, g)


@pytest.mark.parametrize("operator", [ops.moments, spread])
def test_operators_alone(operator):
    given = (X, "none") if operator is ops.moments else (X, None, X, X[:, :, 0, 0], X[:, :, 0, 0], None, "none")
    with forward_ad.dual_level(), pytest.raises(InputError, match="know no forward-mode"):
        operator(*given)
    assert operator(*given) is not None


@pytest.mark.parametrize("function", [tail, mobile])
def test_many_gradients_at_once_are_those_of_each(function):
    """``vectorize=True`` runs backward alone under vmap, which loops over it."""
    at_once = torch.autograd.functional.jacobian(function, X, vectorize=True)
    torch.testing.assert_close(at_once, torch.autograd.functional.jacobian(function, X))
