"""Shake-Shake networks for CIFAR, plain and with any block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.net import Entry, FeatureInfo, Net, classifier, global_pool
from senet.models.shake_mix import BackwardMix, ForwardMix, MixPer, ShakeMix
from senet.models.shake_units import SHAKE_UNITS, ShakePlacement
from senet.models.units import Shape, conv3x3

__all__ = ["TABLE", "ShakeShake", "ShakeShakeConfig"]


@dataclass(frozen=True, kw_only=True)
class ShakeShakeConfig(NetConfig):
    """The options of a Shake-Shake network: those of :class:`NetConfig`, and its own.

    Stages are numbered as in the SE paper: 1 is the stem, 2 the first stage of units.

    Args:
        unit: ``"basic"``, branches of two 3x3 convolutions, or ``"bottleneck"``, ResNeXt's.
        depths: units in each stage.
        planes: width of each stage's 3x3 convolutions, or of one of their groups (the d of "2x96d", "2x4x64d").
        groups: groups of a bottleneck's 3x3 convolution (the 4 of "2x4x64d").
        stem_width: channels of the stem.
        forward_mix: by which shares the branches are mixed in training: ``"shake"``, drawn, or ``"even"``, halves.
        backward_mix: by which shares gradients are shared out among them: ``"shake"``, drawn anew, ``"even"``, or
            ``"keep"``, those of the way forward.
        mix_per: draw shares for each ``"image"``, or for the whole ``"batch"``.
        placement: ``"standard"``, a block on the mixture of the branches, or ``"branch"``, one at the end of each.
    """

    unit: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    planes: tuple[int, ...]
    groups: int = 1
    stem_width: int
    forward_mix: ForwardMix = "shake"
    backward_mix: BackwardMix = "shake"
    mix_per: MixPer = "image"
    placement: ShakePlacement = "standard"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.planes):
            raise InputError(f"depths is {list(self.depths)}, planes {list(self.planes)}; give each one number a stage")
        self.check_positive("depths", "planes", "groups", "stem_width")
        if self.unit == "basic" and self.groups != 1:
            raise InputError(f"groups is {self.groups}, but basic units have none; leave it out")
        if self.unit == "basic" and any(planes % 2 for planes in self.planes):
            raise InputError(f"planes is {list(self.planes)}; accepted: even numbers, for shortcuts of two halves")
        if self.mix_per == "batch" and "shake" not in (self.forward_mix, self.backward_mix):
            raise InputError("mix_per says for what shares are drawn, but none is; give forward_mix='shake'")
        if self.attn is None and self.placement != "standard":
            raise InputError("placement says where blocks sit, but attn is none; give attn='se'")
        self.check_stages(range(2, 2 + len(self.depths)))


class ShakeShake(Net):
    """A residual network of two branches a unit, mixed at random in training.

    Gastaldi, arXiv 1705.07485, and the author's code (github.com/xgastaldi/shake-shake): for CIFAR-10
    (``cifar_shake26_2x96d``) pre-activation units and a stem without ReLU; for CIFAR-100 (``cifar_shake29_2x4x64d``,
    with 100 classes unless told otherwise) ResNeXt's bottlenecks. SE: arXiv 1709.01507v4, Tables 4 and 5.
    Training draws from PyTorch's global generator; evaluation is the mean of the branches. ``drop_path_rate`` leaves
    out whole mixtures.

    Where the paper leaves it open: it does not say whether SE recalibrates the mixture or each branch. Its Sec. 3.3
    puts one block on what a unit adds to its shortcut, which is the mixture: ``placement="standard"``, 96,768 weights
    in 26 2x96d. ``placement="branch"`` is the other reading, with twice as many. No figure tells them apart.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, channels) where num_classes is 0.
    """

    def __init__(self, config: ShakeShakeConfig) -> None:
        super().__init__()
        self.config = config
        preact = config.unit == "basic"
        channels = config.stem_width
        self.conv1 = conv3x3(config.in_chans, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        if not preact:
            self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [FeatureInfo(num_chs=channels, reduction=1, module="bn1" if preact else "act1")]
        rates = config.drop_path_rates(sum(config.depths))
        for index, (planes, depth) in enumerate(zip(config.planes, config.depths, strict=True)):
            stage = nn.Sequential()
            for number in range(depth):
                shape = Shape(
                    inputs=channels,
                    width=planes * config.groups,
                    outputs=planes * SHAKE_UNITS[config.unit].expansion,
                    narrow=planes * config.groups,
                    stride=2 if index > 0 and number == 0 else 1,
                    groups=config.groups,
                )
                unit = SHAKE_UNITS[config.unit](
                    shape,
                    mix=ShakeMix(config.forward_mix, config.backward_mix, config.mix_per),
                    placement=config.placement,
                    make_block=partial(config.block_at, index + 2),
                    drop_path=rates.pop(0),
                )
                stage.append(unit)
                channels = shape.outputs
            self.add_module(f"layer{index + 1}", stage)
            self.feature_info.append(FeatureInfo(num_chs=channels, reduction=2**index, module=f"layer{index + 1}"))
        if preact:
            self.act = nn.ReLU(inplace=True)
            self.feature_info[-1]["module"] = "act"
        self.num_features = channels
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.fc = classifier(channels, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as in the author's code; the blocks likewise
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


# The names give depth, then branches, groups and width. The second is the paper's "Shake-Even".
_CIFAR10 = ShakeShakeConfig(
    unit="basic", depths=(4, 4, 4), planes=(96, 192, 384), stem_width=16, num_classes=10,
)  # fmt: skip
_CIFAR100 = ShakeShakeConfig(
    unit="bottleneck", depths=(3, 3, 3), planes=(64, 128, 256), groups=4, stem_width=64, backward_mix="even",
    num_classes=100,
)  # fmt: skip

TABLE: dict[str, Entry] = {}
for _name, _plain, _number in (("shake26_2x96d", _CIFAR10, 1), ("shake29_2x4x64d", _CIFAR100, 2)):
    _se = replace(_plain, attn="se")
    TABLE[f"cifar_{_name}"] = Entry(ShakeShake, _plain, f"arXiv 1705.07485, Table {_number}", 32)
    TABLE[f"cifar_se{_name}"] = Entry(ShakeShake, _se, f"arXiv 1709.01507v4, Table {_number + 3}", 32)
