"""A convolution with norm and activation, under timm's names."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ConvNormAct", "Kernel"]

Kernel = int | tuple[int, int]  # a size, or height and width; odd


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, ReLU; parameter names are timm's ``conv`` and ``bn``.

    Args:
        inputs, outputs: channels.
        kernel: its size, or height and width.
        stride, dilation, groups: of the convolution.
        padding: zeros around the map; None keeps its size at stride 1.
        eps: of the norm.
        act: whether there is a ReLU.

    Shapes: (N, inputs, H, W) -> (N, outputs, H', W').
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Kernel,
        *,
        stride: int = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        eps: float = 1e-5,
        act: bool = True,
    ) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (dilation * (size[0] // 2), dilation * (size[1] // 2)) if padding is None else (padding, padding)
        self.conv = nn.Conv2d(inputs, outputs, size, stride, around, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=eps)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))
