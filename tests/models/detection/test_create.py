import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

import senet
from senet.errors import InputError
from senet.models.detection.create import create_detector
from senet.models.weights.files import write_tensors

SMALL = {"min_size": 32, "max_size": 48, "fpn_channels": 8, "head_channels": 16, "proposals": 20, "regions": 16}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with weights of a SE-ResNet-18 whose classifier is for other classes."""
    torch.manual_seed(1)
    model = senet.create_model("seresnet18", num_classes=5)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    how = {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2], "size": 224}
    write_tensors(
        path, model.state_dict(), {"model": "seresnet18", "options": {"num_classes": 5}, "preprocessing": how}
    )
    return path


def names_learnt(detector):
    return {name.removeprefix("backbone.body.") for name, p in detector.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "name", ["resnet18", "seresnet50_caffe", "seresnext50_32x4d", "mobilenetv3_small_100", "regnety_002", "vgg11_bn"]
)
def test_backbones_of_all_families(name):
    with torch.device("meta"):
        detector = create_detector(name, num_classes=3, **SMALL)
    assert detector.backbone.body.feature_info.reduction() == [4, 8, 16, 32]
    assert len(detector.rpn.anchor_generator.sizes) == 5


def test_parameters_are_torchvision_s_by_name_and_shape():
    with torch.device("meta"):
        ours = create_detector("resnet50", num_classes=90).state_dict()
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).state_dict()
    kept = {name: tensor.shape for name, tensor in ours.items() if "num_batches_tracked" not in name}
    assert kept == {name: t.shape for name, t in theirs.items() if "num_batches_tracked" not in name}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_are_in_float32_under_autocast(dtype):
    torch.manual_seed(0)
    detector = create_detector("seresnet18", num_classes=2, score_threshold=0.0, **SMALL).eval()
    seen = []
    detector.rpn.register_forward_hook(lambda module, args, output: seen.extend(output[0]))
    with torch.no_grad(), torch.autocast("cpu", dtype):
        (found,) = detector([torch.rand(3, 480, 640)])  # corners in which bfloat16 knows multiples of 2 and 4
    assert {seen[0].dtype, found["boxes"].dtype, found["scores"].dtype} == {torch.float32}
    assert not torch.equal(found["boxes"], found["boxes"].to(dtype).float())


def test_trains_and_detects():
    detector = create_detector("seresnet18", num_classes=2, attn="eca", **SMALL)
    images = [torch.rand(3, 32, 40), torch.rand(3, 48, 32)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4, 20, 30]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None for p in detector.parameters())
    for found, image in zip(detector.eval()(images), images, strict=True):
        assert set(found) == {"boxes", "labels", "scores"}
        assert set(found["labels"].tolist()) <= {1, 2}
        assert (found["boxes"] <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all()


def test_masks_are_one_argument_more():
    detector = create_detector("seresnet18", num_classes=2, masks=True, **SMALL)
    image, box = torch.rand(3, 32, 40), torch.tensor([[4.0, 4, 20, 30]])
    target = {"boxes": box, "labels": torch.tensor([1]), "masks": torch.zeros(1, 32, 40, dtype=torch.uint8)}
    target["masks"][0, 4:30, 4:20] = 1
    assert detector([image], [target])["loss_mask"].isfinite()
    assert detector.eval()([image])[0]["masks"].shape[1:] == (1, 32, 40)
    with pytest.raises(InputError, match="target 0 lacks masks"):
        detector.train()([image], [{"boxes": box, "labels": torch.tensor([1])}])


def test_nothing_is_frozen_without_pretrained_weights():
    detector = create_detector("seresnet18", num_classes=2, **SMALL)
    assert detector.config.frozen == 0
    assert detector.config.norm == "batch"
    assert all(p.requires_grad for p in detector.parameters())
    for option in ({"frozen": 2}, {"norm": "frozen"}):
        with pytest.raises(InputError, match="the backbone has fresh weights, which must learn"):
            create_detector("seresnet18", num_classes=2, **option)


def test_stem_and_first_stage_are_frozen_with_their_blocks_and_norms(weights):
    detector = create_detector("seresnet18", num_classes=2, pretrained_backbone=weights, norm="batch", **SMALL)
    body = detector.backbone.body
    learnt = names_learnt(detector)
    assert not any(name.startswith(("conv1", "bn1", "layer1")) for name in learnt)
    assert {"layer2.0.conv1.weight", "layer2.0.bn1.weight", "layer2.0.se.fc1.weight"} <= learnt
    assert any(".se." in name for name, _ in body.layer1.named_parameters())
    norms = {name: type(m) for name, m in body.named_modules() if isinstance(m, (nn.BatchNorm2d, FrozenBatchNorm2d))}
    assert norms["bn1"] is norms["layer1.1.bn2"] is FrozenBatchNorm2d
    assert norms["layer2.0.bn1"] is nn.BatchNorm2d
    before = body.bn1.running_mean.clone()
    body(torch.rand(2, 3, 32, 32))
    assert torch.equal(body.bn1.running_mean, before)


def test_the_stem_of_a_network_whose_stages_lie_in_one_another():
    from senet.models.detection.config import DetectorConfig
    from senet.models.detection.create import assemble, build_body, resolved

    body = build_body("mobilenetv3_small_100", {})
    config = resolved(DetectorConfig(frozen=2, norm="sync", **SMALL), fresh=False)
    detector = assemble(body, "mobilenetv3_small_100", {}, num_classes=1, config=config)
    learnt = names_learnt(detector)
    assert not any(name.startswith(("conv_stem", "bn1", "blocks.0.")) for name in learnt)
    assert any(name.startswith("blocks.1.0.") for name in learnt)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in body.modules())


def test_pretrained_weights_are_loaded_and_their_norms_and_preprocessing_kept(weights):
    detector = create_detector("seresnet18", num_classes=2, pretrained_backbone=weights, **SMALL)
    torch.manual_seed(1)
    theirs = senet.create_model("seresnet18", num_classes=5).state_dict()
    ours = detector.backbone.body.state_dict()
    assert ours
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in detector.backbone.body.modules())
    assert detector.transform.image_mean == [0.4, 0.4, 0.4]


@pytest.mark.parametrize(("size", "smallest"), [(800, 32.0), (400, 16.0)])
def test_anchors_follow_the_size_of_images(size, smallest):
    with torch.device("meta"):
        detector = create_detector("resnet18", num_classes=1, min_size=size)
    assert [sizes[0] / smallest for sizes in detector.rpn.anchor_generator.sizes] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet19", {}, "no model is called 'resnet19'; did you mean"),
        ("cifar_resnet20", {}, "cifar_resnet20 has no maps at a stride of 8"),
        ("resnet18", {"min_sise": 3}, "has no option 'min_sise'"),
        ("resnet18", {"min_size": 0}, "detector min_size is 0; accepted: 1 or more"),
        ("resnet18", {"max_size": 100}, "detector max_size is 100, smaller than min_size=800"),
        ("resnet18", {"num_classes": 0}, "num_classes is 0; accepted: 1 or more"),
        ("resnet18", {"nms_threshold": 2.0}, "detector nms_threshold is 2.0; accepted: from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(name, options, words):
    with pytest.raises(InputError) as refused:
        create_detector(name, **{"num_classes": 2, **options})
    assert words in str(refused.value)
