"""The eight sweeps on the CPU, compiled: what :mod:`senet.kernels.plain_sweeps` defines, in one pass over the map each.

Maps may be float32, float64, bfloat16 or float16. As many threads work as ``torch.get_num_threads()`` says, and the
results do not depend on how many. Every function raises
:class:`~senet.kernels.native_build.BuildError` where the library cannot be built, and
:class:`~senet.errors.InputError` on tensors that are not as the sweeps want them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from senet.errors import InputError
from senet.kernels.native_build import library
from senet.kernels.plain_sweeps import Act
from senet.kernels.reference import accumulator_dtype

__all__ = [
    "affine",
    "affine_backward",
    "gate_act",
    "gate_act_backward",
    "moments",
    "spread",
    "spread_act",
    "squeeze_act",
]

# the codes of native.cpp
_DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_ACTS: dict[Act, int] = {"none": 0, "relu": 1, "relu6": 2, "silu": 3, "hard_swish": 4, "gelu": 5}
_ACCEPTED = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)


class _Map(ctypes.Structure):
    """``Map`` of native.cpp: the shape of the maps, and how to go over them."""

    _fields_ = (
        ("images", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("pixels", ctypes.c_int64),
        ("dtype", ctypes.c_int),
        ("channels_last", ctypes.c_int),
        ("threads", ctypes.c_int),
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`senet.kernels.plain_sweeps.moments`."""
    mean, rest, m2 = _sums(x, 3)
    _call("moments", (x,), (), mean, rest, m2, x)
    return mean, rest, m2


def affine(
    x: Tensor, center: Tensor | None, scale: Tensor, shift: Tensor | None, shortcut: Tensor | None, relu: bool
) -> Tensor:
    """See :func:`senet.kernels.plain_sweeps.affine`."""
    out = torch.empty_like(x)
    _call("affine", (x, shortcut), (center, scale, shift), out, x, center, scale, shift, shortcut, relu)
    return out


def affine_backward(g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`senet.kernels.plain_sweeps.affine_backward`."""
    g1 = g if out is None else torch.empty_like(x)
    a, b = _sums(x, 2)
    _call("affine_backward", (x, g, out), (center,), g1, a, b, g, out, x, center)
    return g1, a, b


def spread(g: Tensor, x: Tensor, center: Tensor | None, p: Tensor, q: Tensor | None, r: Tensor) -> Tensor:
    """See :func:`senet.kernels.plain_sweeps.spread`."""
    dx = torch.empty_like(x)
    _call("spread", (x, g), (center, p, q, r), dx, g, x, center, p, q, r)
    return dx


def squeeze_act(
    x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, act: Act
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`senet.kernels.plain_sweeps.squeeze_act`."""
    mean, d0, d1 = _sums(x, 3)
    _call("squeeze_act", (x,), (center, scale, shift), mean, d0, d1, x, center, scale, shift, _ACTS[act])
    return mean, d0, d1


def gate_act(
    x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, s: Tensor, act: Act
) -> Tensor:
    """See :func:`senet.kernels.plain_sweeps.gate_act`."""
    out = torch.empty_like(x)
    _call("gate_act", (x,), (center, scale, shift, s), out, x, center, scale, shift, s, _ACTS[act])
    return out


def gate_act_backward(
    g: Tensor, x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, act: Act
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`senet.kernels.plain_sweeps.gate_act_backward`."""
    p0, p1, p2 = _sums(x, 3)
    _call("gate_act_backward", (x, g), (center, scale, shift), p0, p1, p2, g, x, center, scale, shift, _ACTS[act])
    return p0, p1, p2


def spread_act(
    g: Tensor,
    x: Tensor,
    center: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    p: Tensor,
    e: Tensor,
    q: Tensor | None,
    r: Tensor | None,
    act: Act,
) -> Tensor:
    """See :func:`senet.kernels.plain_sweeps.spread_act`."""
    dx = torch.empty_like(x)
    coefficients = (center, scale, shift, p, e, q, r)
    _call("spread_act", (x, g), coefficients, dx, g, x, *coefficients, _ACTS[act])
    return dx


def _sums(x: Tensor, count: int) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape[:2], dtype=accumulator_dtype(x.dtype)) for _ in range(count))


def _call(
    name: str, maps: tuple[Tensor | None, ...], coefficients: tuple[Tensor | None, ...], *arguments: Tensor | int | None
) -> None:
    """Checks maps and coefficients, and calls the library's function: tensors by address, None as a null pointer."""
    x = maps[0]
    assert x is not None
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    for given in maps:
        if given is not None:
            _check_map(name, given, x, layout)
    for given in coefficients:
        if given is not None:
            _check_coefficient(name, given, x)
    images, channels, height, width = x.shape
    pixels = height * width
    # of one pixel each both layouts are the same, and rows of channels are the longer ones
    last = layout == torch.channels_last or pixels == 1
    shape = _Map(images, channels, pixels, _DTYPES[x.dtype], last, torch.get_num_threads())
    addresses = (ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments)
    _function(name)(ctypes.byref(shape), *addresses)


def _check_map(name: str, given: Tensor, x: Tensor, layout: torch.memory_format) -> None:
    if given.device.type != "cpu" or given.dtype not in _DTYPES:
        raise InputError(f"{name} got a map of {given.dtype} on {given.device}; accepted: {_ACCEPTED} on the CPU")
    if given.dtype != x.dtype or given.shape != x.shape or not given.is_contiguous(memory_format=layout):
        raise InputError(
            f"{name} got a map {tuple(given.shape)} of {given.dtype} with strides {given.stride()} beside one "
            f"{tuple(x.shape)} of {x.dtype} with {x.stride()}; accepted: one shape and dtype, all contiguous or all "
            "channels-last"
        )


def _check_coefficient(name: str, given: Tensor, x: Tensor) -> None:
    wanted = accumulator_dtype(x.dtype)
    if given.shape != x.shape[:2] or given.dtype != wanted or given.device != x.device or not given.is_contiguous():
        raise InputError(
            f"{name} got a coefficient {tuple(given.shape)} of {given.dtype} on {given.device} with strides "
            f"{given.stride()}; accepted: contiguous {tuple(x.shape[:2])} of {wanted} on the CPU"
        )


@functools.cache
def _function(name: str) -> Callable[..., None]:
    function = library()[f"senet_{name}"]
    function.restype = None
    return function
