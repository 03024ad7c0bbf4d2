from __future__ import annotations

import pytest
import torch
from torch import Tensor

from senet.errors import InputError
from senet.kernels.layout import dense, empty_as, memory_format, pixels, shaped


def channels_last(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


SHAPES = [(2, 3, 5, 7), (2, 3, 11), (2, 3, 2, 5, 7), (1, 3, 1, 5), (2, 1, 7), (2, 3, 1, 1, 4), (1, 1, 1, 1, 1)]
LAYOUTS = pytest.mark.parametrize("layout", [Tensor.contiguous, channels_last])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@LAYOUTS
def test_a_dense_map_is_viewed_and_not_copied(shape, layout):
    x = layout(torch.randn(shape))
    seen = dense(x)
    assert seen.data_ptr() == x.data_ptr()
    assert seen.ndim == 4
    assert seen.shape[2] * seen.shape[3] == pixels(x) == x[0, 0].numel()
    assert seen.is_contiguous(memory_format=memory_format(seen))
    assert torch.equal(shaped(seen, x.shape), x)
    assert shaped(seen, x.shape).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 11), (2, 3, 2, 5, 7)], ids=str)
@LAYOUTS
def test_a_map_takes_the_format_of_another(shape, layout):
    like = layout(torch.randn(shape))
    for x in (torch.randn(shape), channels_last(torch.randn(shape)), torch.randn(*shape, 2)[..., 1]):
        seen = shaped(dense(x, like), shape)
        assert seen.stride() == like.stride() == empty_as(like).stride()
        assert torch.equal(seen, x)


@LAYOUTS
@pytest.mark.parametrize("rank", [3, 4, 5])
def test_an_unwritten_map_of_another_shape(rank, layout):
    like, wanted = layout(torch.randn(2, 3, *(4,) * (rank - 2))), (2, 5, *(2,) * (rank - 2))
    assert empty_as(like, wanted).stride() == layout(torch.randn(wanted)).stride()


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 2, 3, 4, 5, 6)], ids=str)
def test_other_ranks_are_refused(shape):
    with pytest.raises(InputError, match=rf"^the map has shape .*, rank {len(shape)}; accepted: \(N, C, L\), "):
        dense(torch.randn(shape))
