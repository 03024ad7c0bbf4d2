from __future__ import annotations

import copy
import pickle
import sys

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import senet
from senet.errors import InputError
from senet.surgery.attaching.wrapper import Attached
from senet.surgery.gating.strip import strip
from senet.surgery.graph.install import Rewritten
from senet.surgery.report import report

# Networks of different families, where blocks go, and how many.
FOREIGN = {
    "torchvision/resnet18": ("residual", 8),
    "torchvision/mobilenet_v2": ("residual", 10),
    "torchvision/mnasnet0_5": ("stages", 4),
    "torchvision/shufflenet_v2_x0_5": ("depthwise", 19),
    "torchvision/squeezenet1_1": ("conv3x3", 9),
    "torchvision/densenet121": ("stages", 4),
    "timm/efficientnet_b0": ("conv1x1", 32),
    "timm/regnetx_002": ("residual", 13),
    "timm/convnext_atto": ("depthwise", 12),
    "timm/repvgg_a0": ("stages", 5),
    "timm/nf_resnet26": ("residual", 8),
    "timm/mobilenetv4_conv_small": ("residual", 10),
}


def create(name: str) -> nn.Module:
    package, _, network = name.partition("/")
    torch.manual_seed(0)
    if package == "timm":
        return timm.create_model(network, num_classes=4)
    return torchvision.models.get_model(network, num_classes=4)


def resnet(randomise) -> nn.Module:
    return randomise(create("torchvision/resnet18")).eval()


def small() -> nn.Module:
    return senet.create_model("cifar_resnet20", num_classes=4).eval()


@torch.no_grad()
def run(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


@pytest.mark.parametrize("name", FOREIGN)
def test_round_trips(name, randomise):
    """The identity changes no bit; detach gives back the same objects, keys and outputs."""
    where, count = FOREIGN[name]
    model, x = randomise(create(name)).eval(), torch.randn(2, 3, 64, 64)
    outputs, objects, keys = run(model, x), list(model.named_modules()), list(model.state_dict())
    assert senet.attach(model, where=where) is model
    assert sum(isinstance(m, Attached) for m in model.modules()) == count
    assert torch.equal(run(model, x), outputs)
    new = [key for key in model.state_dict() if ".se." in key]
    assert [key for key in model.state_dict() if key not in new or key in keys] == keys
    assert len(model.state_dict()) == len(keys) + 4 * count
    senet.detach(model)
    after = list(model.named_modules())
    assert [path for path, _ in after] == [path for path, _ in objects]
    assert all(now is then for (_, now), (_, then) in zip(after, objects, strict=True))
    assert list(model.state_dict()) == keys
    assert torch.equal(run(model, x), outputs)


def test_nothing_changes_in_training_either(randomise):
    model, x = resnet(randomise).train(), torch.randn(4, 3, 64, 64)
    plain = copy.deepcopy(model)
    senet.attach(model)
    assert torch.equal(model(x), plain(x))
    plain(x)
    model(x)
    assert torch.equal(model.layer4[1].bn2.running_var, plain.layer4[1].bn2.running_var)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 97, 45), (2, 3, 224, 160)])
def test_images_may_be_of_any_size_and_one(randomise, shape):
    model, x = resnet(randomise), torch.randn(shape)
    outputs = run(model, x)
    assert torch.equal(run(senet.attach(model), x), outputs)


def test_the_paper_starts_otherwise(randomise):
    model, x = resnet(randomise), torch.randn(2, 3, 64, 64)
    outputs = run(model, x)
    senet.attach(model, start="paper", options={"reduction": 4})
    assert not torch.allclose(run(model, x), outputs)
    assert model.layer1[0].bn2.se.fc1.out_channels == 16
    u = torch.randn(2, 64, 5, 5)
    with torch.no_grad():
        gated = model.layer1[0].bn2.se(model.layer1[0].bn2.module(u))
        assert torch.equal(model.layer1[0].bn2(u), gated)


def test_old_checkpoints_lack_the_new_keys_and_nothing_else(randomise):
    model, x = resnet(randomise), torch.randn(2, 3, 64, 64)
    stored, outputs = copy.deepcopy(model.state_dict()), run(model, x)
    senet.attach(model)
    for p in model.layer1.parameters():
        nn.init.zeros_(p.detach())
    loaded = model.load_state_dict(stored, strict=False)
    assert loaded.unexpected_keys == []
    assert set(loaded.missing_keys) == set(model.state_dict()) - set(stored)
    assert torch.equal(run(model, x), outputs)


def test_new_parameters_are_trained_with_all_others(randomise):
    model = resnet(randomise).train()
    senet.attach(model)
    assert all(p.requires_grad for p in model.parameters())
    model(torch.randn(4, 3, 64, 64)).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.any() or ".fc1." in name, name  # behind a last layer of zeros, the first has to wait


def test_a_module_in_two_places_is_edited_once():
    shared = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)).eval()
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared).eval()
    outputs = run(model, x := torch.randn(2, 3, 8, 8))
    senet.attach(model, where="conv3x3")
    assert isinstance(model[1][1], Attached)
    assert model[3] is model[1]
    senet.attach(senet.detach(model), where=["1"])
    assert isinstance(model[1], Attached)
    assert model[3] is model[1]
    assert torch.equal(run(model, x), outputs)
    senet.detach(model)
    assert model[1] is model[3] is shared


def test_half_precision_and_memory_format():
    model = small().to(torch.bfloat16, memory_format=torch.channels_last)
    x = torch.randn(2, 3, 32, 32).to(torch.bfloat16, memory_format=torch.channels_last)
    outputs = run(model, x)
    senet.attach(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(run(model, x), outputs)


def test_every_module_keeps_its_mode():
    model = small().train()
    model.layer1.eval()
    modes = {m: m.training for m in model.modules()}
    senet.attach(model)
    assert all(m.training == mode for m, mode in modes.items())
    assert not model.layer1[0].bn2.se.training
    assert model.layer2[0].bn2.se.training


def test_blocks_of_every_name_can_be_attached():
    model, x = small(), torch.randn(2, 3, 32, 32)
    for name in ("eca", "cbam", "scse", "ge"):
        senet.attach(model, name, start="paper", where="layer2")
        assert type(model.layer2.block) is type(senet.create_block(name, 32))
        assert run(model, x).shape == (2, 4)
        senet.detach(model)


def test_what_is_wrapped_may_lie_in_what_is_wrapped():
    model, x = small(), torch.randn(2, 3, 32, 32)
    objects, keys, outputs = list(model.modules()), list(model.state_dict()), run(model, x)
    senet.attach(model, where=["layer1", "layer1.0.bn2", "conv1"])
    assert torch.equal(run(model, x), outputs)
    assert {"layer1.0.bn2.se.fc1.weight", "layer1.se.fc1.weight"} <= set(model.state_dict())
    model.load_state_dict(model.state_dict())
    senet.detach(model)
    assert list(map(id, model.modules())) == list(map(id, objects))
    assert list(model.state_dict()) == keys


def test_a_second_time_elsewhere_adds_and_in_the_same_place_is_refused():
    model = small()
    senet.attach(model)
    count = len(list(model.modules()))
    for where in ("residual", "layer1.0.bn2", lambda name, m: name == "layer1.0.bn2.module"):
        with pytest.raises(InputError, match="already"):
            senet.attach(model, where=where)
    assert len(list(model.modules())) == count
    senet.attach(model, "eca", start="paper", where="stages")
    assert [each.verb for each in (senet.report(model), senet.report(model).earlier)] == ["attached", "attached"]
    senet.detach(model)
    assert not any(isinstance(m, Attached) for m in model.modules())


def test_the_report_is_a_table():
    model = small()
    senet.attach(model, where="stages", options={"reduction": 8})
    assert str(senet.report(model)) == (
        "layer1  se: 16 channels, 82 parameters\n"
        "layer2  se: 32 channels, 292 parameters\n"
        "layer3  se: 64 channels, 1,096 parameters\n"
        "attached: 3 sites taken, 0 left alone"
    )
    senet.detach(model)
    with pytest.raises(InputError, match="has no blocks attached, and is neither fused nor folded"):
        senet.report(model)


def test_fuse_takes_attached_blocks_and_gives_them_back(randomise):
    model, x = randomise(small()), torch.randn(2, 3, 32, 32)
    senet.attach(model)
    outputs, keys = run(model, x), list(model.state_dict())
    senet.fuse(model)
    report = senet.report(model)
    assert [what for _, what in report.taken] == ["norm + gate + drop + shortcut + relu"] * 9
    assert report.earlier.verb == "attached"
    torch.testing.assert_close(run(model, x), outputs)
    assert list(model.state_dict()) == keys
    for verb in (senet.attach, senet.detach):
        with pytest.raises(InputError, match=r"is fused already; senet\.unfuse\(model\) undoes it"):
            verb(model)
    senet.unfuse(model)
    assert senet.report(model).verb == "attached"
    assert not any(isinstance(m, Rewritten) for m in model.modules())
    assert torch.equal(run(model, x), outputs)


def test_fold_takes_attached_blocks(randomise):
    model, x = randomise(small()), torch.randn(2, 3, 32, 32)
    senet.attach(model, start="paper")
    folded = senet.fold(model)
    assert senet.report(folded).left == []
    torch.testing.assert_close(run(folded, x), run(model, x))
    with pytest.raises(InputError, match="is folded already; detach the model that it was folded from"):
        senet.detach(folded)


def test_strip_gives_the_model_without_them(randomise):
    model, x = randomise(small()), torch.randn(2, 3, 32, 32)
    outputs = run(model, x)
    assert torch.equal(run(strip(senet.attach(model, start="paper")), x), outputs)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_can_be_detached(twin_of):
    model, x = small(), torch.randn(2, 3, 32, 32)
    outputs = run(model, x)
    twin = twin_of(senet.attach(model, start="paper"))
    assert torch.equal(run(twin, x), run(model, x))
    assert str(senet.report(twin)) == str(senet.report(model))
    assert torch.equal(run(senet.detach(twin), x), outputs)
    assert any(isinstance(m, Attached) for m in model.modules())


def test_it_compiles_and_exports():
    model, x = small(), torch.randn(2, 3, 32, 32)
    senet.attach(model, where=["layer1.0.bn2", "layer2"], start="paper")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(run(compiled, x), run(model, x))
    size = torch.export.Dim("size", min=16)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("n"), 2: size, 3: size},))
    other = torch.randn(3, 3, 40, 40)
    torch.testing.assert_close(run(exported.module(), other), run(model, other))


def refused(model: nn.Module, says: str, **options) -> None:
    before = list(model.named_modules())
    with pytest.raises(InputError, match=says):
        senet.attach(model, **options)
    after = list(model.named_modules())
    assert [(path, id(m)) for path, m in after] == [(path, id(m)) for path, m in before]


def test_wrapped_and_compiled_models_are_refused():
    model = small()
    refused(nn.DataParallel(model), r"is wrapped for distributed training \(DataParallel\).*; attach before wrapping")
    refused(nn.Sequential(nn.DataParallel(model)), "the model's part 0 is wrapped")
    refused(torch.compile(model, backend="eager"), "is compiled; attach before torch.compile")
    in_place = small()
    in_place.compile(backend="eager")
    refused(in_place, "is compiled; attach before torch.compile")
    for name in ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"):
        wrapper = type(name, (nn.Module,), {})()
        wrapper.module = model
        refused(wrapper, rf"\({name}\)")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning")
def test_scripts_are_refused():
    refused(torch.jit.script(nn.Conv2d(3, 8, 1)), "is a ScriptModule, whose forward cannot be read")


def test_models_without_values_are_refused():
    refused(nn.Sequential(nn.LazyConv2d(8, 1)), "is lazy and has no weights yet; run the model once, then attach")
    refused(small().to("meta"), "lies on the meta device and has no values")


def test_models_without_a_place_are_refused():
    refused(nn.Conv2d(3, 8, 3), r"no place for a block by where='residual'; give where=")
    refused(nn.Conv2d(3, 8, 3), r"attach to torch\.nn\.Sequential\(model\)", where=lambda name, m: True)
    refused(nn.Sequential(nn.Linear(3, 8)), "has no Conv2d to tell an image's channels by; give example=")
    refused(nn.Sequential(nn.Linear(3, 8)), "not a map", where="0", example=(torch.randn(2, 3),))


def test_wrong_words_are_refused():
    refused(small(), "start is 'zero'; accepted: 'identity', 'paper'", start="zero")
    refused(small(), "no block is called 'sse'", block="sse")
    refused(small(), "has no option 'ratio'", options={"ratio": 4})
    refused(small(), "start='paper'", options={"gate": "relu"})


def test_what_is_of_another_kind_is_refused():
    refused(small(), "block is <class .*>; accepted: a name, 'se', ", block=senet.blocks.SqueezeExcite)
    refused(small(), r"block 'se': options is \['reduction'\]; accepted: names and values", options=["reduction"])
    refused(small(), "optimizer is list; accepted: an optimizer", optimizer=[1])
    refused(small(), "but a structure stands alone; give where='residual'$", where=["residual", "stages"])


def test_a_model_that_keeps_what_it_computed_takes_blocks():
    """PyTorch makes no copy of a tensor that was computed with gradients, and surgery looks at a copy."""
    model, x = small(), torch.randn(2, 3, 32, 32)
    outputs = run(model, x)
    model.last = model(x)
    assert torch.equal(run(senet.attach(model), x), outputs)
    assert model.last.grad_fn is not None


def test_a_model_that_has_no_copy_is_refused():
    model = small()
    model.lines = (line for line in ())
    refused(model, "^ResNet cannot be copied, which surgery does to look at it .*; take away what has no copy")


def test_what_is_set_around_the_call_does_not_matter():
    model, x = small(), torch.randn(2, 3, 32, 32)
    before = run(model, x)
    with torch.device("meta"), torch.inference_mode():
        senet.attach(model)
    assert torch.equal(run(model, x), before)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.layer1[0].bn2.se.fc2.parameters())
    with torch.device("meta"):
        assert report(senet.fuse(model)).taken
    assert torch.allclose(run(model, x), before, atol=1e-5)


class Lists(nn.Module):
    """Takes a list of images, as detection networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.net(image[None]) for image in images]


def test_an_example_may_hold_lists():
    model = Lists().eval()
    senet.attach(model, example=([torch.randn(3, 32, 32), torch.randn(3, 48, 32)],))
    assert sum(isinstance(m, Attached) for m in model.modules()) == 9
    refused(model, r"of shape \(3, 32\) ", where="net.layer1", example=([torch.randn(3, 32)],))


def test_an_exception_in_the_middle_changes_nothing(monkeypatch):
    made = []

    def fails_the_third_time(*args):
        made.append(args)
        if len(made) == 3:
            raise KeyboardInterrupt
        return nn.Identity()

    model = small()
    objects = list(map(id, model.modules()))
    monkeypatch.setattr(sys.modules["senet.surgery.attaching.attach"], "new_block", fails_the_third_time)
    with pytest.raises(KeyboardInterrupt):
        senet.attach(model)
    assert list(map(id, model.modules())) == objects


def test_nothing_attached_is_nothing_to_detach():
    with pytest.raises(InputError, match=r"no blocks are attached in ResNet; senet\.attach\(model\) attaches some"):
        senet.detach(small())


def test_nobodys_random_numbers_are_used_up_by_looking():
    model = small()
    torch.manual_seed(3)
    with pytest.raises(InputError):
        senet.attach(model, where="depthwise")
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_channels_follow_pruned_maps():
    """A block is as wide as the map is, whatever a network of that name has elsewhere."""
    model = small()
    senet.attach(model, where="layer3", options={"reduction": 2})
    assert model.layer3.se.fc1.in_channels == 64
    assert sum(p.numel() for p in model.layer3.se.parameters()) == 2 * 64 * 32 + 32 + 64
