from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import ECA
from senet.blocks.eca import eca_kernel_size
from senet.errors import InputError


@pytest.mark.parametrize(
    ("channels", "kernel"),
    [(1, 1), (8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_adaptive_kernel(channels, kernel):
    assert eca_kernel_size(channels) == kernel
    assert ECA(channels).conv.kernel_size == (kernel,)


def test_adaptive_rule_for_other_constants():
    assert eca_kernel_size(256, gamma=1, beta=0) == 9  # |8| made odd
    assert eca_kernel_size(256, gamma=4, beta=4) == 3


def test_parameters_of_an_eca_resnet50():
    units = {256: 3, 512: 4, 1024: 6, 2048: 3}
    assert sum(n * sum(p.numel() for p in ECA(c).parameters()) for c, n in units.items()) == 86


@pytest.mark.parametrize("size", [(2, 16, 5, 7), (1, 1, 1, 1), (2, 3, 1, 13), (1, 128, 2, 2)])
@pytest.mark.parametrize(
    "options",
    [{}, {"kernel_size": 1}, {"kernel_size": 9}, {"gamma": 1, "beta": 2}]
    + [{"gate": name} for name in ("sigmoid", "hard_sigmoid", "tanh", "relu")],
    ids=str,
)
def test_equation(size, options, naive):
    block = ECA(size[1], **options).double()
    torch.nn.init.normal_(block.conv.weight, std=3.0)
    u = torch.randn(size, dtype=torch.float64) * 2
    z, w = u.numpy().mean(axis=(2, 3)), block.conv.weight.detach().numpy()[0, 0]
    logits = np.zeros_like(z)
    for c in range(size[1]):
        for offset, weight in enumerate(w):
            neighbour = c + offset - len(w) // 2
            if 0 <= neighbour < size[1]:
                logits[:, c] += weight * z[:, neighbour]
    expected = u.numpy() * naive.gates[options.get("gate", "sigmoid")](logits)[:, :, None, None]
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("channels", "options"), [(8, {}), (64, {}), (2048, {}), (64, {"kernel_size": 7})])
def test_is_timms_with_the_same_weights(channels, options):
    from timm.layers import EcaModule

    theirs = EcaModule(None if options else channels, **options)  # given channels, timm ignores the kernel
    ours = ECA(channels, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    u = torch.randn(2, channels, 3, 5)
    torch.testing.assert_close(ours(u), theirs(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, r"kernel_size is 4; accepted: an odd number"),
        ({"kernel_size": 0}, r"kernel_size is 0; accepted: an odd number"),
        ({"kernel_size": -3}, r"kernel_size is -3; accepted: an odd number"),
        ({"gamma": 0}, r"gamma is 0; accepted: above 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        ECA(64, **options)
