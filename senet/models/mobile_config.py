"""Options of mobile networks: their trunk, stage by stage, and the options of all networks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from torch import nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.mbconv import Act, Placement
from senet.options import checked

__all__ = ["MobileConfig", "MobileStage", "multiple_of_8"]


def multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not more than 10 % below (MobileNetV2's release; all that follow)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


@dataclass(frozen=True, kw_only=True)
class MobileStage:
    """A stage of a mobile network: units of one kind, the first of which has the stride.

    Args:
        unit: ``"separable"`` (MobileNet), ``"inverted"`` (MobileNetV2 and all that follow), or ``"conv"``.
        outputs: channels of the stage.
        expansions: one number a unit: by what its depthwise convolution is wider than its input (a multiple of 8).
        kernel: size of the depthwise convolution, or of the plain one; odd.
        stride: of the first unit, 1 or 2.
        act: the activation; None: the network's.
        site: where in its units a block sits by the network's definition; None: nowhere.
    """

    unit: Literal["separable", "inverted", "conv"] = "inverted"
    outputs: int
    expansions: tuple[float, ...]
    kernel: int = 3
    stride: int = 1
    act: Act | None = None
    site: Placement | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be built.

        Raises:
            InputError: says which field, its value and what is accepted.
        """
        checked(type(self), {f.name: getattr(self, f.name) for f in fields(self)}, what="a stage of trunk")
        if self.outputs < 1:
            raise InputError(f"outputs of a stage is {self.outputs}; accepted: 1 or more")
        if self.stride not in (1, 2):
            raise InputError(f"stride of a stage is {self.stride}; accepted: 1 or 2")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"kernel of a stage is {self.kernel}; accepted: an odd number of 1 or more")
        if not self.expansions or min(self.expansions) <= 0:
            raise InputError(f"expansions of a stage is {list(self.expansions)}; give each unit a number above 0")
        if self.unit != "inverted" and set(self.expansions) != {1}:
            raise InputError(f"expansions of a stage is {list(self.expansions)}, but {self.unit!r} units accept: 1")
        if self.unit == "conv" and self.site is not None:
            raise InputError(f"site of a stage is {self.site!r}, but 'conv' units have no place for a block")


@dataclass(frozen=True, kw_only=True)
class MobileConfig(NetConfig):
    """The options of a mobile network: those of :class:`NetConfig`, and its own.

    Stages are counted as in EfficientNet's Table 1: the stem is stage 1, the trunk begins with stage 2. Only stages
    that have blocks by definition can be named in ``stages`` (in MobileNetV3 not all have).

    SE's own hidden width is the network's, see ``input_reduction``; a ``reduction`` in ``attn_options`` counts from
    the channels of the map that the block sits on.

    Args:
        placement: where in each unit the block sits: ``"standard"`` at the end of the branch, before the sum (in
            MobileNet after the last activation), as in the SE paper; ``"depthwise"`` after the depthwise convolution
            and its activation, as in EfficientNet and MobileNetV3 (the SE paper's SE_3x3, Table 15); None: where the
            network has it by definition.
        trunk: its stages.
        stem_width: channels of the first convolution, 3x3 with stride 2.
        head_width: outputs of the 1x1 convolution between the trunk and the classifier; None for none.
        act: the activation of stem, head, and stages without their own.
        input_reduction: by what SE's hidden layer is narrower than the input of its unit (EfficientNet: 4); None: the
            block's own ``reduction`` of the map decides.
        norm_eps: added to the variance in all batch norms. 1e-5, as in timm; torchvision has 1e-3 in MobileNetV3 and
            EfficientNet-B5 to B7.
        norm_momentum: share of the new batch in the running statistics. 0.1, as in timm; torchvision has 0.01 where
            its eps is 1e-3.
        output_stride: by how much the last map is smaller than the image: 32, or 16 or 8 with dilated convolutions in
            place of strides.
    """

    placement: Placement | None = None
    trunk: tuple[MobileStage, ...]
    stem_width: int = 32
    head_width: int | None = None
    act: Act = "relu6"
    input_reduction: float | None = None
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    output_stride: Literal[8, 16, 32] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.trunk:
            raise InputError("trunk is empty; give one stage or more")
        if self.stem_width < 1 or (self.head_width is not None and self.head_width < 1):
            raise InputError(
                f"stem_width is {self.stem_width}, head_width {self.head_width}; accepted: 1 or more, or no head_width"
            )
        if self.input_reduction is not None and self.input_reduction <= 0:
            raise InputError(f"input_reduction is {self.input_reduction}; accepted: above 0, or none")
        if self.norm_eps <= 0:
            raise InputError(f"norm_eps is {self.norm_eps}; accepted: above 0")
        if not 0 < self.norm_momentum <= 1:
            raise InputError(f"norm_momentum is {self.norm_momentum}; accepted: above 0, up to 1")
        sites = [index for index, stage in enumerate(self.trunk, start=2) if stage.site is not None]
        if self.attn is not None and not sites:
            raise InputError(f"attn is {self.attn!r}, but no stage of trunk has a site; give one or leave attn out")
        self.check_stages(sites)
        if self.attn is None and self.placement is not None:
            raise InputError("placement says where blocks sit, but attn is none; give attn='se'")
        if not self._has_shortcuts():
            self.refuse_drop_path("no unit of trunk has a shortcut")

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """A norm with the network's eps and momentum."""
        return nn.BatchNorm2d(channels, eps=self.norm_eps, momentum=self.norm_momentum)

    def _has_shortcuts(self) -> bool:
        before = (self.stem_width, *(stage.outputs for stage in self.trunk))
        return any(
            stage.unit == "inverted" and (len(stage.expansions) > 1 or (stage.stride == 1 and inputs == stage.outputs))
            for inputs, stage in zip(before, self.trunk, strict=False)
        )
