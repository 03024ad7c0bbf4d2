"""ImageNet: the paper's networks, each trained as the paper, or the authors' release, says.

Give ``--data DIR`` with ``DIR/train/CLASS`` and ``DIR/val/CLASS``, the classes called by their WordNet ids. Networks
are the authors' own variants (``*_caffe``, ``bn_inception`` ...), which the published figures are about. None of these
recipes has been run to its end by us.

All take a random part of the image (8 to 100 % of its area, the networks for phones 20 to 100 %, sides 3:4 to 4:3),
flip every second image, and subtract the mean colour: pixels of 0..255, divided by nothing, as the authors' released
weights see them. Another scale of all pixels would train the same network, since a norm follows the first convolution.

What the publications leave open, and what is chosen here:

- Images that a norm sees: 32, as on each of the 8 GPUs of the release (batch 256) and the 64 GPUs of SENet-154 (batch
  2048), which makes four servers of 8 GPUs for batch 1024. One process goes through them in turn
  (``run.accumulate``); on 8 processes give an eighth of that, for example ``--set run.accumulate=4``; where memory does
  not suffice for 32 images, a multiple of it.
- Weight decay: the authors have that of the network without SE, 1e-4 for SE-ResNet and 2e-4 for SE-BN-Inception (issue
  37 of github.com/hujie-frank/SENet); for others it is that of the network's own publication. Norms and biases decay,
  too; in the release the biases of norms do not (issue 8).
- A plateau of the validation loss: 20 epochs without a better one. Its images are those that errors are reported on, as
  in the publications.
- Biases in SE's layers: as in the release they have them; the ablations do not.
- Order and interpolation of augmentations: crop, rotation, jitter, as the release lists them; bilinear.

Differs from the CVPR edition: which draws the images of a batch by a "data balancing" strategy (class-aware sampling,
arXiv 1512.05830); the TPAMI edition no longer mentions it.
"""

from __future__ import annotations

from senet.recipes.imagenet.ablation import (
    resnet50_ablation,
    resnet50_ablation270,
    seresnet50_ablation,
    seresnet50_ablation270,
)
from senet.recipes.imagenet.challenge import senet154, senet154_320
from senet.recipes.imagenet.mobile import mobilenetv1, semobilenetv1, seshufflenet, shufflenet
from senet.recipes.imagenet.paper import (
    bn_inception,
    inception_resnet_v2,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x4d,
    sebn_inception,
    seinception_resnet_v2,
    seresnet50,
    seresnet101,
    seresnet152,
    seresnext50_32x4d,
    seresnext101_32x4d,
    sevgg16_bn,
    vgg16_bn,
)
from senet.recipes.imagenet.release import (
    sebn_inception_release,
    seresnet50_release,
    seresnet101_release,
    seresnet152_release,
    seresnext50_32x4d_release,
    seresnext101_32x4d_release,
)

__all__ = [
    "bn_inception",
    "inception_resnet_v2",
    "mobilenetv1",
    "resnet50",
    "resnet50_ablation",
    "resnet50_ablation270",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "sebn_inception",
    "sebn_inception_release",
    "seinception_resnet_v2",
    "semobilenetv1",
    "senet154",
    "senet154_320",
    "seresnet50",
    "seresnet50_ablation",
    "seresnet50_ablation270",
    "seresnet50_release",
    "seresnet101",
    "seresnet101_release",
    "seresnet152",
    "seresnet152_release",
    "seresnext50_32x4d",
    "seresnext50_32x4d_release",
    "seresnext101_32x4d",
    "seresnext101_32x4d_release",
    "seshufflenet",
    "sevgg16_bn",
    "shufflenet",
    "vgg16_bn",
]
