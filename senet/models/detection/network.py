"""Faster and Mask R-CNN with a feature pyramid over any backbone that gives maps at strides of 4 to 32."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from senet.models.detection.config import DetectorConfig
from senet.models.detection.targets import check_images, check_targets
from senet.models.features import Features

__all__ = ["Detector", "Pyramid", "WidePredictor", "WideRPNHead"]

_RATIOS = (0.5, 1.0, 2.0)  # height to width of anchors (arXiv 1612.03144, Sec. 4.1)


class Pyramid(nn.Module):
    """A backbone with a feature pyramid on top (Lin et al., arXiv 1612.03144), and one more level by a max pool.

    Args:
        body: its maps, from fine to coarse, are the levels.
        channels: of each level.

    Shapes: (N, 3, H, W) -> a dictionary of (N, channels, H / stride, W / stride), keys "0", "1", ... and "pool".
    """

    def __init__(self, body: Features, channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        levels = OrderedDict((str(level), features) for level, features in enumerate(self.body(x)))
        pyramid: dict[str, Tensor] = self.fpn(levels)
        return pyramid


class WideRPNHead(RPNHead):
    """torchvision's head of the proposals; what it says is at least float32, under autocast too.

    torchvision computes boxes in the dtype of what heads say: in bfloat16 a corner near 1000 is off by up to 4 pixels.

    Shapes: as torchvision's.
    """

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [_wide(level) for level in logits], [_wide(level) for level in deltas]


class WidePredictor(FastRCNNPredictor):
    """torchvision's classifier of regions; what it says is at least float32, as of :class:`WideRPNHead`.

    Shapes: as torchvision's.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = super().forward(x)
        return _wide(logits), _wide(deltas)


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))


class Detector(FasterRCNN):
    """Faster R-CNN (Ren et al., arXiv 1506.01497), with masks Mask R-CNN (He et al., arXiv 1703.06870), by torchvision.

    Parameter names are torchvision's where the backbone's are.

    Differs from Detectron, by which the SE paper's Table 7 was made: proposals are the best of all levels of an image
    rather than of a batch, anchors that cross the edge of an image learn, and losses of boxes are torchvision's.

    Args:
        body: the backbone.
        num_classes: without the background; labels are 1 to ``num_classes``.
        config: the rest.

    Shapes: in training, a list of (3, H, W) float images in 0..1 and a list of targets, as
    :func:`senet.models.detection.targets.check_targets` takes them, to losses by name; in evaluation, the images alone
    to a dictionary each: ``boxes`` (n, 4) left, top, right, bottom in pixels of the image, ``labels`` (n,) and
    ``scores`` (n,), surest first, and with masks ``masks`` (n, 1, H, W) in 0..1.

    Raises:
        InputError: images of another kind; in training, targets that cannot be learnt from.
    """

    def __init__(self, body: Features, num_classes: int, config: DetectorConfig) -> None:
        levels = [str(level) for level in range(len(body.feature_info))]
        strides = body.feature_info.reduction()
        strides.append(2 * strides[-1])
        anchors = AnchorGenerator(
            tuple((config.anchor_strides * stride,) for stride in strides), (_RATIOS,) * len(strides)
        )
        channels = config.fpn_channels
        box_pool = MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2)
        super().__init__(
            Pyramid(body, channels),
            min_size=config.min_size,
            max_size=config.max_size,
            image_mean=list(config.mean),
            image_std=list(config.std),
            rpn_anchor_generator=anchors,
            box_roi_pool=box_pool,
            box_head=TwoMLPHead(channels * 7 * 7, config.head_channels),
            box_predictor=WidePredictor(config.head_channels, num_classes + 1),
            rpn_post_nms_top_n_train=2 * config.proposals,
            rpn_post_nms_top_n_test=config.proposals,
            box_batch_size_per_image=config.regions,
            box_score_thresh=config.score_threshold,
            box_nms_thresh=config.nms_threshold,
            box_detections_per_img=config.detections,
            rpn_head=WideRPNHead(channels, len(_RATIOS)),  # made last, as torchvision makes its own
        )
        if config.masks:
            self.roi_heads.mask_roi_pool = MultiScaleRoIAlign(levels, output_size=14, sampling_ratio=2)
            self.roi_heads.mask_head = MaskRCNNHeads(channels, (256,) * 4, dilation=1)
            self.roi_heads.mask_predictor = MaskRCNNPredictor(256, 256, num_classes + 1)
        self.num_classes, self.config = num_classes, config

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        check_images(images, self.config.max_size)
        if self.training:
            check_targets(images, targets, self.num_classes, masks=self.config.masks)
        result: dict[str, Tensor] | list[dict[str, Tensor]] = super().forward(list(images), targets)
        return result
