"""Global context: an average weighted by attention, added to the map or made into a gate."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from senet.blocks.stages import Recalibrate, check_rank, excited, gate_stage, squeeze_stage, zero
from senet.blocks.width import Rounding, hidden_width
from senet.errors import InputError

__all__ = ["GlobalContext"]


class Context(nn.Module):
    """W2 relu(layernorm(W1 c)), c the average of u weighted by softmax(W_k u) over positions, or plain.

    Shapes: (N, C, H, W) -> (N, C, 1, 1).
    """

    def __init__(self, channels: int, hidden: int, *, attention: bool) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1) if attention else None
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.LayerNorm((hidden, 1, 1))
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        if self.conv_mask is not None:
            nn.init.kaiming_normal_(self.conv_mask.weight, mode="fan_in")

    def forward(self, u: Tensor) -> Tensor:
        if self.conv_mask is None:
            context = u.mean((2, 3), keepdim=True)
        else:
            weights = self.conv_mask(u).flatten(2).softmax(2)  # (N, 1, H * W)
            context = (u.flatten(2) @ weights.mT).unsqueeze(-1)
        return self.fc2(self.act(self.norm(self.fc1(context))))


class ContextGate(Recalibrate):
    """u * sigmoid(context(u))."""

    last = ("context.fc2",)

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.squeeze = squeeze_stage("none")
        self.context = context
        self.gate = gate_stage("sigmoid")

    def excite(self, z: Tensor) -> Tensor:
        """One logit a channel: (N, C, H, W) -> (N, C, 1, 1)."""
        return self.context(z)


class ContextSum(nn.Module):
    """u + context(u): the authors' fusion, which starts as the identity. There is no gate to record."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.squeeze = squeeze_stage("none")
        self.context = context
        self.gate = nn.Identity()
        self.start_as_identity()

    def excite(self, z: Tensor) -> Tensor:
        """Computes the context that is added to the map: (N, C, H, W) -> (N, C, 1, 1)."""
        return self.context(z)

    def start_as_identity(self) -> None:
        """Makes what is added exactly 0: the last layer becomes zero."""
        zero(self.context.fc2)

    def forward(self, u: Tensor) -> Tensor:
        return u + excited(self, self.squeeze(u)).to(u.dtype)


class GlobalContext(nn.Module):
    """Global context: x = u + W2 relu(layernorm(W1 sum_j a_j u_j)), a = softmax(W_k u) over positions.

    Cao et al., "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond", arXiv 1904.11492, section 3.4.

    Cost: 2C^2/r parameters and multiply-adds, as SE, and 2CHW multiply-adds for the weighted average, with C + 1
    parameters.

    Differs from the paper: nowhere; its code starts the last layer at zero, so that the block starts as the identity.
    timm's module multiplies and has r = 8.

    Not for: networks whose gates are to be recorded, pruned or folded: the paper's own fusion adds and has none; give
    ``fusion="scale"`` there. A hidden width of 1, which the layer norm makes a constant.

    Args:
        channels: channels C of the map.
        reduction: ratio r; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: the hidden width itself.
        rounding: how C / r becomes a whole number.
        fusion: ``"add"``, the paper's; or ``"scale"``: u * sigmoid(W2 ...), its variant.
        pool: ``"attention"``; or ``"avg"``, the ablation's plain average.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: an unknown ``fusion`` or ``pool``, both widths given, or a width below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        fusion: Literal["add", "scale"] = "add",
        pool: Literal["attention", "avg"] = "attention",
    ) -> None:
        super().__init__()
        if fusion not in ("add", "scale"):
            raise InputError(f"fusion is {fusion!r}; accepted: 'add', 'scale'")
        if pool not in ("attention", "avg"):
            raise InputError(f"pool is {pool!r}; accepted: 'attention', 'avg'")
        hidden = hidden_width(channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding)
        context = Context(channels, hidden, attention=pool == "attention")
        self.fusion = ContextSum(context) if fusion == "add" else ContextGate(context)

    def start_as_identity(self) -> None:
        """Makes what is added exactly 0, as it is in a new block, or the gate exactly 1."""
        self.fusion.start_as_identity()

    def forward(self, u: Tensor) -> Tensor:
        check_rank(self, u)
        return self.fusion(u)
