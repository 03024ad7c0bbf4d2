"""Squeeze-and-excitation, and the form of it without a bottleneck."""

from __future__ import annotations

from torch import Tensor, nn

from senet.blocks.aliases import accept_aliases
from senet.blocks.stages import (
    Activation,
    Gate,
    Recalibrate,
    Squeeze,
    activation_stage,
    gate_stage,
    squeeze_stage,
)
from senet.blocks.width import Rounding, hidden_width

__all__ = ["EffectiveSE", "SqueezeExcite"]


class SqueezeExcite(Recalibrate):
    """Squeeze-and-excitation: x = u * sigmoid(W2 relu(W1 z)), z the global average of u.

    Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507v4, equations 2 to 4. Each argument is one of
    the paper's ablations, ``squeeze="conv"`` alone is not.

    Cost: 2C^2/r parameters and multiply-adds; one read of the map for the average, a read and a write for the product.

    Differs from the paper: the formula has no biases and the ablations drop them, but the released networks,
    timm and torchvision have them, so ``bias`` is True by default. The weights are 1x1 convolutions, as in the
    release; weights that others keep under other names, or as Linear layers, load as they are
    (:mod:`senet.blocks.aliases`).

    Not for: the last stage where parameters are scarce: it holds most of the blocks' parameters, and the paper's sec. 4
    leaves them out there at a small loss.

    Args:
        channels: channels C of the map.
        reduction: the paper's r, hidden width C / r (Table 10). None means 16 unless ``hidden_channels`` is given.
        hidden_channels: the hidden width itself.
        rounding: how C / r becomes a whole number: ``"paper"``, ``"timm"``, ``"torchvision"``.
        bias: whether both layers have biases.
        squeeze: ``"avg"``, ``"max"`` (Table 11), ``"none"`` (Table 16: a gate for every position); or ``"conv"``, a 3x3
            convolution in its place, wrong as it knows a position's neighbours and not the map.
        activation: the inner non-linearity.
        gate: the final non-linearity (Table 12): ``"sigmoid"``, ``"hard_sigmoid"``, ``"hard_sigmoid_0.2"``,
            ``"double_sigmoid"``, ``"tanh"``, ``"relu"``.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept; with
    ``squeeze="conv"`` (N, C, H, W) alone.

    Raises:
        InputError: ``reduction`` and ``hidden_channels`` both given, or a width below 1.
    """

    last = ("fc2",)

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        squeeze: Squeeze = "avg",
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding)
        self.squeeze = squeeze_stage(squeeze, channels)
        if squeeze == "conv":
            self.ranks = (4,)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.act = activation_stage(activation)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.gate = gate_stage(gate)
        self.register_load_state_dict_pre_hook(accept_aliases)

    def excite(self, z: Tensor) -> Tensor:
        """W2 act(W1 z) (eq. 3 before the gate): (N, C, h, w) -> (N, C, h, w)."""
        return self.fc2(self.act(self.fc1(z)))


class EffectiveSE(Recalibrate):
    """Effective SE: x = u * hard_sigmoid(W z + b), z the global average of u.

    Lee and Park, "CenterMask: Real-Time Anchor-Free Instance Segmentation", arXiv 1911.06667, section 3.3: one full
    layer and no bottleneck.

    Cost: C^2 + C parameters and C^2 multiply-adds, r/2 times those of SE; the passes of SE.

    Differs from the paper: nowhere; its hard sigmoid is relu6(x + 3) / 6, as in the authors' code.

    Not for: wide maps: at 2048 channels a block has 4.2 million parameters.

    Args:
        channels: channels C of the map.
        gate: the final non-linearity.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.
    """

    last = ("fc",)

    def __init__(self, channels: int, *, gate: Gate = "hard_sigmoid") -> None:
        super().__init__()
        self.squeeze = squeeze_stage("avg")
        self.fc = nn.Conv2d(channels, channels, 1)
        self.gate = gate_stage(gate)

    def excite(self, z: Tensor) -> Tensor:
        """W z + b: (N, C, 1, 1) -> (N, C, 1, 1)."""
        return self.fc(z)
