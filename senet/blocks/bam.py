"""BAM: one logit from the channel and one from the position, made into one gate."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from senet.blocks.stages import OnePlus, Recalibrate, gate_stage, squeeze_stage
from senet.blocks.width import Rounding, hidden_width
from senet.errors import InputError

__all__ = ["BAM"]


class BAM(Recalibrate):
    """Bottleneck attention: x = u * (1 + sigmoid(c * s)), c = W2 relu(bn(W1 z)), s = convolutions of u to one channel.

    Park et al., "BAM: Bottleneck Attention Module", arXiv 1807.06514, section 3; z is the global average. The
    convolutions are 1x1 to C / r channels, two dilated 3x3, each with batch norm and ReLU, and 1x1 to one channel.

    Cost: 3C^2/r + 18(C/r)^2 parameters or so; the spatial ones are applied at every position; a gate as large as the
    map.

    Differs from the paper: its logits are added, and each branch ends with a batch norm; the authors' code, followed
    here, multiplies them and has a norm after each layer but the last. ``combine="add"`` adds. The code averages over
    the first H x H window, which is the map where that is square; here it is the map.

    Not for: every unit, as SE: its authors put it between stages, three times a network; batches of one image in
    training, of which the channel's norm has one value (PyTorch refuses them).

    Args:
        channels: channels C of the map.
        reduction: ratio r; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: the hidden width itself, of both branches.
        rounding: how C / r becomes a whole number.
        dilation: of the 3x3 convolutions, 1 or more.
        combine: ``"multiply"`` or ``"add"``, of the logits.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.

    Raises:
        InputError: an unknown ``combine``, a dilation below 1, both widths given, or a width below 1.
    """

    ranks = (4,)

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        dilation: int = 4,
        combine: Literal["multiply", "add"] = "multiply",
    ) -> None:
        super().__init__()
        if combine not in ("multiply", "add"):
            raise InputError(f"combine is {combine!r}; accepted: 'multiply', 'add'")
        if dilation < 1:
            raise InputError(f"dilation is {dilation}; accepted: 1 or more")
        hidden = hidden_width(channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding)
        self.combine = combine
        self.squeeze = squeeze_stage("none")
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.bn = nn.BatchNorm2d(hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.spatial = nn.Sequential(
            *_normed(nn.Conv2d(channels, hidden, 1)),
            *_normed(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)),
            *_normed(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)),
            nn.Conv2d(hidden, 1, 1),
        )
        self.gate = OnePlus(gate_stage("sigmoid"))
        # One factor at zero makes a product zero, and leaves it a slope that both would take from each other.
        self.last = ("fc2",) if combine == "multiply" else ("fc2", "spatial.9")

    def excite(self, z: Tensor) -> Tensor:
        """One logit an element: (N, C, H, W) -> (N, C, H, W)."""
        by_channel = self.fc2(self.act(self.bn(self.fc1(z.mean((2, 3), keepdim=True)))))
        by_position = self.spatial(z)
        return by_channel * by_position if self.combine == "multiply" else by_channel + by_position


def _normed(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
    return conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()
