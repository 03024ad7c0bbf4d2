from __future__ import annotations

import copy
import json

import pytest
import torch
from timm.layers import SEModule
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.ops import SqueezeExcitation

import senet
from senet.analysis.gates.record import record
from senet.analysis.pruning.judge import judge
from senet.analysis.pruning.prune import prune
from senet.blocks import create_block
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.gating.freeze import frozen
from senet.surgery.graph.run import randomise_norms

CLASSES = 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Times are taken once."""
    for name in ("prune", "costs"):
        monkeypatch.setattr(f"senet.analysis.pruning.{name}.ROUNDS", 1)


def network(**options):
    model = create_model("cifar_seresnet8", num_classes=CLASSES, **options)
    randomise_norms(model)
    return model.eval()


def batches(model, images=60, size=32, wrong=6):
    """Random images whose labels are what the model says, but for some."""
    x = torch.randn(images, 3, size, size) * torch.rand(images, 1, 1, 1) * 3 + 2 * torch.randn(images, 3, 1, 1)
    with torch.no_grad():
        scores = model(x)
    y = scores.argmax(1)
    y[:wrong] = scores[:wrong].argmin(1)
    return list(zip(x.split(25), y.split(25), strict=True))


def unequal(model, first=100, others=1e-6):
    """Makes the gates of the first stage swing wildly and those of the others nearly constant."""
    with torch.no_grad():
        for name, block in model.named_modules():
            if name.endswith(".se"):
                block.fc2.weight.mul_(first if name.startswith("layer1") else others)
        model.layer1[0].bn2.weight.mul_(10)
    return model


def test_gates_that_matter_stay_and_the_others_are_folded():
    model = unequal(network())
    data = batches(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pruned = prune(model.train(), data, max_drop=0)
    done = senet.report(pruned)
    decisions = {step.site: step.decision for step in done.steps}
    assert decisions == {"layer1.0.se": "kept", "layer2.0.se": "folded", "layer3.0.se": "folded"}
    assert model.training
    assert all(module.training for module in pruned.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert type(pruned.layer3[0].se) is nn.Identity
    assert done.before == done.after == 90
    assert float(judge(pruned.eval(), data).double().mean()) == 0.9


def test_the_report_adds_up():
    model = unequal(network())
    pruned = prune(model, batches(model), max_drop=0)
    done = senet.report(pruned)
    gone = [step for step in done.steps if step.decision != "kept"]
    assert done.parameters[0] - done.parameters[1] == sum(step.saving.parameters for step in gone)
    assert done.parameters[1] == sum(p.numel() for p in pruned.parameters())
    assert done.gate_parameters == sum(step.saving.parameters for step in done.steps)
    assert done.bytes[0] - done.bytes[1] == sum(step.saving.bytes for step in gone)
    per_map = {
        step.site: step.saving.bytes / (4 * done.batch) for step in gone
    }  # squeeze reads, scale reads and writes
    assert 3 * 32 * 16 * 16 <= per_map["layer2.0.se"] <= 3.1 * 32 * 16 * 16
    assert all(step.saving.seconds > 0 for step in done.steps)
    assert [step.before for step in done.steps[1:]] == [
        step.before if step.decision == "kept" else step.after for step in done.steps[:-1]
    ]
    assert json.loads(json.dumps(done.to_dict()))["steps"][0]["saving"]["parameters"] == done.steps[0].saving.parameters
    told = str(done)
    assert "2 of 3 gates are constants" in told
    assert "folded into layer2.0.bn2" in told
    assert "judge it by others" in told


def test_the_mean_over_the_data_is_what_is_held():
    model = network()
    data = batches(model)
    pruned = prune(model, data, max_drop=100)
    with record(model) as recording, torch.no_grad():
        for images, _ in data:
            model(images)
    means = {site: gates.double().mean(0) for site, gates in recording.gates.items()}
    x = torch.randn(4, 3, 32, 32)
    with record(model, edit=means), torch.no_grad():
        torch.testing.assert_close(pruned(x), model(x), rtol=1e-5, atol=1e-5)


def test_the_drop_is_of_all_steps_together():
    model = unequal(network(), 30, 30)
    data = batches(model, wrong=0)
    free = senet.report(prune(model, data, max_drop=100))
    assert free.after < 100
    for allowed in ((100 - free.after) / 2, 100 - free.after):
        done = senet.report(prune(model, data, max_drop=allowed))
        assert done.before - done.after <= allowed + 1e-9
        assert all(100 - step.after <= allowed + 1e-9 for step in done.steps if step.decision != "kept")
        assert all(100 - step.after > allowed for step in done.steps if step.decision == "kept")


@pytest.mark.parametrize("gate", [lambda: SEModule(16), lambda: SqueezeExcitation(16, 4)], ids=["timm", "torchvision"])
def test_networks_of_others(gate):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), gate(), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.SiLU(), gate()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)).eval()
    randomise_norms(model)
    pruned = prune(model, batches(model, images=8, size=16), max_drop=100)
    done = senet.report(pruned)
    assert {step.site: step.decision for step in done.steps} == {"2": "folded", "6": "scaled"}
    gone = sum(p.numel() for at in (2, 6) for p in model[at].parameters())
    assert done.parameters[0] - done.parameters[1] == done.gate_parameters == gone
    assert type(pruned[2]) is nn.Identity


def test_gates_outside_of_0_and_1_and_over_positions():
    torch.manual_seed(0)
    for options in ({"gate": "tanh"}, {"gate": "relu"}, {"squeeze": "none"}):
        model = network(attn_options=options)
        done = senet.report(prune(model, batches(model), max_drop=100))
        assert [step.decision for step in done.steps] == ["folded"] * 3


def test_chosen_sites_and_top5():
    model = network()
    data = batches(model)
    done = senet.report(prune(model, data, max_drop=100, metric="top5", sites="layer3.*"))
    assert [step.site for step in done.steps] == ["layer3.0.se"]
    assert done.metric == "top5"
    assert done.gate_parameters == sum(p.numel() for name, p in model.named_parameters() if ".se." in name)


def test_the_last_stage_of_seresnet50_has_most_of_the_weights():
    """Paper sec. 4: leaving SE out in the last stage spares 62.5 % of all its weights."""
    with torch.device("meta"):
        model = create_model("seresnet50")
    by_stage = {
        stage: sum(
            p.numel() for n, p in model.named_parameters() if f"layer{stage}" in n and ".se." in n and p.ndim > 1
        )
        for stage in range(1, 5)
    }
    assert by_stage[4] / sum(by_stage.values()) == pytest.approx(0.625, abs=5e-4)


def test_a_gate_that_cannot_be_a_constant_is_said_and_left():
    gate = create_block("se", 8)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), create_block("se", 8), gate, nn.Conv2d(8, 8, 3), gate, *head).eval()
    done = senet.report(prune(model, batches(model, size=9), max_drop=100))
    assert [step.site for step in done.steps] == ["1"]
    assert "is used 2 times" in dict(done.left)["2"]
    assert "2: the gate '2' is used 2 times" in str(done)


def test_a_pruned_network_can_be_pruned_again_and_fused_and_folded():
    model = network()
    data = batches(model)
    pruned = prune(model, data, max_drop=100, sites=["layer1.0.se", "layer2.0.se"])
    again = prune(pruned, data, max_drop=100)
    assert [step.site for step in senet.report(again).steps] == ["layer3.0.se"]
    images = data[0][0]
    with torch.no_grad():
        wanted = pruned(images)
        torch.testing.assert_close(senet.fold(pruned)(images), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(senet.fuse(copy.deepcopy(pruned))(images), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="no map that is gated"):
        prune(again, data)


def test_one_image_and_missing_classes():
    model = network()
    x = torch.randn(1, 3, 32, 32)
    done = senet.report(prune(model, [(x, model(x).argmax(1))], max_drop=0))
    assert (done.images, done.before, done.after) == (1, 100, 100)
    assert [step.decision for step in done.steps] == ["folded"] * 3  # the mean of one image's gate is that gate


class Numbers(nn.Module):
    def forward(self, x):
        return torch.nan_to_num(x)


X, Y = torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long)


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (iter([(X, Y)]), {}, "which is gone after one pass"),
        (((X, Y) for _ in range(3)), {}, "data is a generator, which is gone after one pass"),
        (5, {}, "data is an int, which holds no batches; give a list or a DataLoader of batches"),
        (TensorDataset(X, Y), {}, "data is a TensorDataset, which holds no batches; give a DataLoader over it"),
        ([(X, Y)], {"sites": []}, "sites is empty"),
        ([], {}, "data holds no image"),
        ([X], {}, "batch 0 is a Tensor"),
        ([(X, Y.float())], {}, "labels torch.float32"),
        ([(X, Y[:2])], {}, r"labels torch.int64 \(2,\)"),
        ([(X, Y + 10)], {}, "labels from 10 to 10 for 10 classes"),
        ([(X, Y - 1)], {}, "labels from -1 to -1 for 10 classes"),
        ([(X, Y)], {"max_drop": -1}, "max_drop is -1"),
        ([(X, Y)], {"max_drop": float("nan")}, "max_drop is nan"),
        ([(X, Y)], {"metric": "top3"}, "metric is 'top3'"),
        ([(X, Y)], {"sites": ["layer9.*"]}, "no gate is called 'layer9.*'"),
        ([(X * torch.nan, Y)], {}, "not numbers"),
    ],
)
def test_bad_input(data, options, said):
    with pytest.raises(InputError, match=said):
        prune(network(), data, **options)


def test_networks_that_cannot_be_pruned():
    with pytest.raises(InputError, match="no map that is gated"):
        prune(create_model("cifar_resnet8"), [(X, Y)])
    block = create_block("se", 8)
    nn.init.constant_(block.fc2.bias, torch.nan)
    head = [Numbers(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)]
    with pytest.raises(InputError, match="the gates of '1' are not numbers"):
        prune(nn.Sequential(nn.Conv2d(3, 8, 3), block, *head), [(X, Y)])
    with pytest.raises(InputError, match="'top5' for 4 classes"):
        prune(create_model("cifar_seresnet8", num_classes=4), [(X, Y)], metric="top5")
    with pytest.raises(InputError, match="accepted: one score a class"):
        prune(nn.Sequential(nn.Conv2d(3, 8, 3), create_block("se", 8)), [(X, Y)])


def test_while_a_recording_runs():
    model = network()
    with record(model), pytest.raises(InputError, match="are being recorded; end the recording first"):
        prune(model, [(X, Y)])


def test_a_network_without_parameters():
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    with pytest.raises(InputError, match="no map that is gated"):
        prune(nn.Sequential(nn.ReLU(), *pool), [(X, Y)])


def test_gates_that_are_constants_singly_and_not_together(monkeypatch):
    def one_by_one(model, values, *, example=None):
        if len(values) > 1:
            raise InputError("one layer cannot take two")
        return frozen(model, values, example=example)

    monkeypatch.setattr("senet.analysis.pruning.prune.frozen", one_by_one)
    with pytest.raises(InputError, match="but not all of them together: one layer cannot take two") as raised:
        prune(network(), [(X, Y)])
    assert "cannot take two" in str(raised.value.__cause__)


def test_data_that_changes():
    class Shrinking:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([(X, Y)] * (1 if self.passes > 2 else 2))

    with pytest.raises(InputError, match="data held 8 images at first and then 4"):
        prune(network(), Shrinking())
