from __future__ import annotations

import copy

import pytest
import torch

from senet.models.shake_mix import ShakeMix

MODES = [
    (there, back, per)
    for there in ("shake", "even")
    for back in ("shake", "even", "keep")
    for per in ("image", "batch")
]
EACH = pytest.mark.parametrize(("there", "back", "per"), MODES)


def maps(count=6, dtype=torch.float64):
    """Two maps that differ by at least 1 everywhere, and a gradient that is nowhere near 0."""
    a = torch.rand(count, 3, 2, 5, dtype=dtype)
    b = a + 1 + torch.rand_like(a)
    return a.requires_grad_(), b.requires_grad_(), 1 + torch.rand_like(a)


def shares(mix, a, b, gradient):
    """The shares of ``a`` at every element: in the value, and in the gradient of each of the two maps."""
    y = mix(a, b)
    grad_a, grad_b = torch.autograd.grad(y, (a, b), gradient)
    torch.testing.assert_close(grad_a + grad_b, gradient)
    return ((y - b) / (a - b)).detach(), grad_a / gradient


def of_each_image(share):
    """One number an image; it must be the same all over its map."""
    flat = share.flatten(1)
    torch.testing.assert_close(flat, flat[:, :1].expand_as(flat))
    return flat[:, 0]


@EACH
def test_values_go_by_alpha_and_gradients_by_beta(there, back, per):
    alpha, beta = map(of_each_image, shares(ShakeMix(there, back, per), *maps()))
    for share in (alpha, beta):
        assert (share >= 0).all()
        assert (share <= 1).all()
    assert len(alpha.round(decimals=8).unique()) == (6 if (there, per) == ("shake", "image") else 1)
    drawn_back = there if back == "keep" else back
    assert len(beta.round(decimals=8).unique()) == (6 if (drawn_back, per) == ("shake", "image") else 1)
    if there == "even":
        torch.testing.assert_close(alpha, torch.full_like(alpha, 0.5))
    if drawn_back == "even":
        torch.testing.assert_close(beta, torch.full_like(beta, 0.5))
    same = back == "keep" or (there, back) == ("even", "even")
    assert torch.allclose(alpha, beta) == same


@EACH
def test_evaluation_is_the_mean(there, back, per):
    a, b, gradient = maps()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    alpha, beta = shares(ShakeMix(there, back, per).eval(), a, b, gradient)
    torch.testing.assert_close(alpha, torch.full_like(alpha, 0.5))
    torch.testing.assert_close(beta, torch.full_like(beta, 0.5))
    assert torch.equal(torch.get_rng_state(), state)


def test_shares_are_uniform_and_independent():
    a, b, gradient = maps(4000)
    alpha, beta = map(of_each_image, shares(ShakeMix("shake", "shake", "image"), a, b, gradient))
    for share in (alpha, beta):
        assert share.mean().item() == pytest.approx(1 / 2, abs=0.02)
        assert share.var().item() == pytest.approx(1 / 12, abs=0.005)
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1].item()) < 0.05


def test_every_call_draws_anew_and_the_seed_decides():
    mix = ShakeMix("shake", "shake", "image")
    a, b, _ = maps()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(mix(a, b))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(mix(a, b), mix(a, b))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_shares_are_the_same_in_any_dtype(dtype):
    mix = ShakeMix("shake", "shake", "image")
    a, b, gradient = maps()
    torch.manual_seed(1)
    exact = mix(a, b)
    (exact_grad,) = torch.autograd.grad(exact, a, gradient)
    low_a, low_b = (x.detach().to(dtype).requires_grad_() for x in (a, b))
    torch.manual_seed(1)
    result = mix(low_a, low_b)
    (grad,) = torch.autograd.grad(result, low_a, gradient.to(dtype))
    assert result.dtype == grad.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(result.double(), exact, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(grad.double(), exact_grad, rtol=tolerance, atol=tolerance)


@EACH
def test_compiled_it_draws_the_same_shares(there, back, per):
    mix = ShakeMix(there, back, per)
    a, b, gradient = maps()
    torch.compiler.reset()
    results = []
    for each in (mix, torch.compile(copy.deepcopy(mix), fullgraph=True, backend="aot_eager")):
        torch.manual_seed(1)
        results.append(shares(each, a, b, gradient))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivatives_go_by_beta():
    """Beta is a constant of the mixture, so a mixture of squares has the second derivative 2 beta."""
    mix = ShakeMix("shake", "shake", "image")
    a, b, _ = maps()
    y = mix(a**2, b)
    (first,) = torch.autograd.grad(y.sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), a)
    torch.testing.assert_close(second, first.detach() / a.detach())
