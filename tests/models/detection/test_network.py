"""What the rest of the library does with detectors, ours and torchvision's."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

import senet
from senet.analysis.tax.tax import tax
from senet.cli.networks import find_network
from senet.errors import InputError
from senet.models.detection.network import Detector

SMALL = {"min_size": 64, "max_size": 80, "fpn_channels": 8, "head_channels": 16, "proposals": 20, "regions": 16}
NARROW = {"depths": (1, 1, 1, 1), "planes": (8, 8, 16, 16)}
IMAGES = ([torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(0)), torch.rand(3, 64, 72)],)


def ours(network="seresnet18"):
    return senet.create_detector(network, num_classes=2, score_threshold=0.0, **NARROW, **SMALL)


def theirs():
    return fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=80, rpn_post_nms_top_n_test=20,
        rpn_score_thresh=0.0, box_score_thresh=0.0,
    )  # fmt: skip


@pytest.fixture(params=[ours, theirs], ids=["ours", "torchvision"])
def detector(request, randomise):
    torch.manual_seed(0)
    return randomise(request.param()).eval()


def gates(detector):
    return sum("SqueezeExcit" in type(module).__name__ for module in detector.modules())


def maps(detector):
    """The pyramid's maps: detections may change places where scores are nearly equal."""
    with torch.no_grad():
        images, _ = detector.transform(IMAGES[0])
        return detector.backbone(images.tensors)


def agree(before, after):
    return all(torch.allclose(before[name], after[name], rtol=1e-3, atol=1e-3) for name in before)


def test_folded(detector):
    folded = senet.fold(detector, example=IMAGES)
    assert len(senet.report(folded).taken) > gates(detector) > 0
    assert agree(maps(detector), maps(folded))
    assert {"boxes", "labels", "scores"} <= folded(*IMAGES)[0].keys()


def test_folded_where_most_levels_have_no_regions():
    options = {**SMALL, "proposals": 1, "score_threshold": 0.0}
    detector = senet.create_detector("seresnet18", num_classes=2, **NARROW, **options).eval()
    assert senet.report(senet.fold(detector, example=IMAGES)).taken


def test_fused_and_trained(detector):
    before = maps(detector)
    senet.fuse(detector, example=IMAGES)
    assert len(senet.report(detector).taken) == gates(detector) > 0
    assert agree(before, maps(detector))
    target = {"boxes": torch.tensor([[4.0, 4, 40, 50]]), "labels": torch.tensor([1])}
    sum(detector.train()(*IMAGES, [target, target]).values()).backward()
    assert all(p.grad is not None for p in detector.backbone.parameters())


def test_recorded(detector):
    with senet.record(detector, example=IMAGES) as recording:
        detector(*IMAGES)
    assert len(recording.gates) == gates(detector)
    assert all(len(gate) == 2 for gate in recording.gates.values())


def test_attached_without_a_change(randomise):
    detector = randomise(ours("resnet18")).eval()
    before = maps(detector)
    senet.attach(detector, "se", where="residual", example=IMAGES)
    assert len(senet.report(detector).taken) == 4
    assert all(torch.equal(value, before[name]) for name, value in maps(detector).items())


def test_the_tax_is_of_the_backbone(detector):
    with pytest.raises(InputError, match=r"is a detector, .*; give its \.backbone"):
        tax(detector, train=False, batch=2, size=64, ways=["eager"], rounds=1)
    if isinstance(detector, Detector):
        found = tax(detector.backbone, batch=2, size=64, ways=["eager", "fused"], rounds=1)
        assert len(found.sites) == gates(detector)
        assert [price.way for price in found.prices] == ["eager", "fused"]


def test_the_command_finds_backbones_of_detectors():
    network, size = find_network("detector:seresnet18")
    assert isinstance(network.fpn, nn.Module)
    assert size == 800
