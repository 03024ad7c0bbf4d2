"""The operators of free SE, registered with fake and autograd rules, so that compile, export and autocast see through.

``moments`` reads the map that a norm would read, once; the gate is computed from what it gives by ordinary small
tensors (after an activation, from what ``squeeze`` gives); ``tail``, ``gated`` or ``project`` closes the site in one
more sweep. These are all the operators a site needs; the others are their backward.

The gradient of the map travels in factored form. A gradient of ``x`` computed by ``tail``, another by the gate and a
third by the norm would be three wide tensors to write, read and add. So ``moments`` also gives a ``handle``, which
has the shape of ``x`` and no memory, and ``terms``, (6, N, C) and no memory. What closes the site returns as the
gradient of ``handle`` a wide tensor g that it has anyway, and as the gradient of ``terms`` the coefficients p, scale
and shift per image and channel; ``squeeze`` returns e, and scale and shift in two rows of its own, which count where
nothing closed the site; backward of ``moments`` then writes, in one sweep,

    dx = act'(scale * (x - mean) + shift) * (p * g + e) + dmean / HW + 2 * dm2 * (x - mean).

``handle`` and ``terms`` belong to one site and go nowhere else: their gradients are not gradients of anything else.

Where gradients of gradients are wanted (``create_graph=True``), every backward is computed by the sweeps of
:mod:`~senet.kernels.plain_sweeps`, which autograd sees through. All that a backward starts from, saved statistics
too, is what autograd knows as a function of ``x``; so second derivatives are right though each formula holds the mean
for given. Forward mode and ``torch.func`` are refused.

Shapes: maps (N, C, H, W), (N, C, L) or (N, C, D, H, W); coefficients (N, C) in
:func:`~senet.kernels.reference.accumulator_dtype`. ``x``, ``shortcut`` and the outputs share their dtype; outputs have
the memory format of ``x``.
"""

from senet.kernels.ops.gated import gated as gated
from senet.kernels.ops.gated import squeeze as squeeze
from senet.kernels.ops.opened import moments as moments
from senet.kernels.ops.opened import stand_in as stand_in
from senet.kernels.ops.project import project as project
from senet.kernels.ops.tail import tail as tail

__all__ = ["gated", "moments", "project", "squeeze", "stand_in", "tail"]
