from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from timm.layers import SEModule
from torch import nn

from senet.analysis.gates.record import record
from senet.analysis.lab.excite import PAPER_CLASSES, excite
from senet.analysis.lab.leave_out import ALL
from senet.blocks import create_block
from senet.errors import InputError
from senet.models import create_model

NAMES = [f"class {k}" for k in range(7)]


@pytest.fixture
def net(randomise):
    net = randomise(create_model("cifar_seresnet8", num_classes=7, in_chans=1)).train()
    for name in ("layer1.0.se", "layer2.0.se", "layer3.0.se"):
        nn.init.normal_(net.get_submodule(name).fc2.weight, std=5.0)
    return net


def batches(count=4, size=12, classes=7):
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        labels = (torch.arange(size) * (number + 1)) % classes
        yield torch.randn(size, 1, 8, 8, generator=generator) * labels[:, None, None, None], labels


def seen(net):
    """Gates, whether right, and labels of all the images, in NumPy, by plain means."""
    images, labels = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    net.eval()
    with record(net) as recording, torch.no_grad():
        right = net(images).argmax(1) == labels
    gates = {site: values.double().numpy() for site, values in recording.gates.items()}
    net.train()
    return gates, right.numpy(), labels.numpy()


def test_all_of_it_against_numpy(net):
    gates, right, labels = seen(net)
    found = excite(net, batches(), NAMES, chosen=["class 2", "class 5"], portraits=3)
    assert net.training
    assert (found.name, found.images, found.chosen) == ("ResNet", 48, (2, 5))
    assert found.top1 == pytest.approx(100 * right.mean())
    assert found.leave_out.top1 == pytest.approx(100 * right.mean())  # the gates intact
    assert list(found.sites) == list(gates)
    means = {}
    for site, values in gates.items():
        np.testing.assert_allclose(found.sites[site].mean, values.mean(0), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.sites[site].std, values.std(0), rtol=1e-3, atol=1e-7)
        means[site] = np.stack([values[labels == k].mean(0) for k in range(7)])
        np.testing.assert_allclose(found.sites[site].class_means, means[site], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.similarity[site], np.corrcoef(means[site]), rtol=1e-4, atol=1e-5)
        spectrum = np.linalg.eigvalsh(np.cov(values.T))
        share = spectrum[spectrum > 1e-9] / spectrum.sum()
        assert found.spectra[site].effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)
    assert found.leave_out.sites == tuple(gates)
    assert [portrait.truth for portrait in found.portraits] == ["class 2", "class 5", "class 2"]


def test_how_images_are_cut_into_batches_does_not_matter(net):
    parts = list(batches())
    whole = [tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))]
    one, other = (excite(net, given, NAMES, limit=20) for given in (parts, whole))
    assert one.leave_out.effects == other.leave_out.effects
    assert one.leave_out.images == 20


def test_constant_gates_lose_nothing_at_their_mean(net):
    for name in ("layer1.0.se", "layer2.0.se", "layer3.0.se"):
        nn.init.zeros_(net.get_submodule(name).fc2.weight)
    found = excite(net, batches(), NAMES)
    assert found.leave_out.of(ALL, "mean").top1.points == 0
    assert all(site.still == 1 for site in found.sites.values())
    assert all(spectrum.effective_rank == 0 for spectrum in found.spectra.values())


def test_the_numbers_can_be_written(net):
    for name in ("layer1.0.se", "layer2.0.se"):  # gates that do not move have no share between classes
        nn.init.zeros_(net.get_submodule(name).fc2.weight)
        nn.init.zeros_(net.get_submodule(name).fc2.bias)
    found = excite(net, batches(), NAMES, name="net")
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["name"] == "net"
    assert written["chosen"] == ["class 0", "class 2", "class 4", "class 6"]
    assert written["blocks"]["layer1.0.se"]["share_between"] is None
    assert written["similarity"]["layer1.0.se"][0][1] is None
    assert len(written["leave_one_out"]["effects"]) == 12
    assert written["blocks"]["layer3.0.se"]["class_means"]["class 2"] == pytest.approx(
        found.sites["layer3.0.se"].class_means[2].tolist()
    )


@pytest.mark.parametrize("gate", ["tanh", "relu"])
def test_gates_that_are_no_sigmoids(gate):
    net = create_model("cifar_seresnet8", num_classes=7, in_chans=1, attn_options={"gate": gate})
    for name in ("layer1.0.se", "layer2.0.se", "layer3.0.se"):
        nn.init.normal_(net.get_submodule(name).fc2.bias, std=3.0)
    found = excite(net, batches(), NAMES)
    assert not found.sites["layer1.0.se"].within_one
    assert found.to_dict()["blocks"]["layer1.0.se"]["dead"] is None


def test_some_blocks_alone(net):
    found = excite(net, batches(), NAMES, blocks="layer[23].*")
    assert list(found.sites) == list(found.spectra) == list(found.similarity) == ["layer2.0.se", "layer3.0.se"]
    assert found.leave_out.sites == ("layer2.0.se", "layer3.0.se")
    assert list(found.portraits[0].deviations) == ["layer2.0.se", "layer3.0.se"]


@pytest.mark.parametrize("words", ["", " and words"])
def test_the_papers_classes(net, words):
    classes = sorted(f"{wordnet}{words}" for wordnet in (*PAPER_CLASSES, "n00000001", "n00000002", "n00000003"))
    chosen = [classes[k].split(" ")[0] for k in excite(net, batches(), classes).chosen]
    assert [PAPER_CLASSES[wordnet] for wordnet in chosen] == ["goldfish", "pug", "plane", "cliff"]
    (plane,) = excite(net, batches(), classes, chosen=["plane"]).chosen
    assert classes[plane].startswith("n02690373")


def test_a_network_of_others():
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), SEModule(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7)
    )
    found = excite(net, batches(), NAMES, name="tutorial")
    (site,) = found.sites
    assert found.leave_out.sites == (site,)
    assert list(found.portraits[0].deviations) == [site]
    assert found.portraits[0].maps == {}


def test_a_class_without_images(net):
    found = excite(net, batches(classes=5), NAMES)
    assert found.chosen == (0, 2, 4)  # class 6 has none
    with pytest.raises(InputError, match="class 'class 6' has no image in the data"):
        excite(net, batches(classes=5), NAMES, chosen=["class 6"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"chosen": ["clas 3"]}, "no class is called 'clas 3'; did you mean 'class 3'"),
        ({"chosen": []}, "classes to show are none; accepted: 1 to 6, each once"),
        ({"chosen": ["class 1", "class 1"]}, "accepted: 1 to 6, each once"),
        ({"chosen": NAMES}, "accepted: 1 to 6, each once"),
        ({"blocks": "layer4.*"}, r"no block is called 'layer4\.\*'"),
        ({"limit": 1}, "limit is 1; accepted: 2 images or more"),
    ],
)
def test_options_that_cannot_be(net, options, said):
    with pytest.raises(InputError, match=said):
        excite(net, batches(), NAMES, **options)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there are no images; give at least two"),
        ([(torch.zeros(1, 1, 8, 8), torch.tensor([0]))], "there is one image; give at least two"),
        ([torch.zeros(2, 1, 8, 8)], r"batch 1 is no pair \(images, labels\)"),
        ([(torch.zeros(2, 1, 8, 8), torch.tensor([0]))], r"batch 1 is no pair \(images, labels\)"),
        ([(torch.zeros(2, 1, 8, 8), torch.tensor([0, 7]))], "labels from 0 to 7 for 7 classes"),
        (
            [(torch.full((2, 1, 8, 8), value), torch.tensor([0, 1])) for value in (0.0, torch.nan)],
            "block 'layer1.0.se': gates that are not finite in batch 2",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be(net, given, said):
    with pytest.raises(InputError, match=said):
        excite(net, given, NAMES)
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_models_that_cannot_be(net):
    with pytest.raises(InputError, match="has no"):
        excite(create_model("cifar_resnet8", num_classes=7, in_chans=1), batches(), NAMES)
    with pytest.raises(InputError, match=r"the model gives \(12, 7\) for 12 images of 8 classes"):
        excite(net, batches(), [*NAMES, "one more"])
    with pytest.raises(InputError, match="there is one class; give the names of at least two"):
        excite(net, batches(), ["one"])


def test_none_of_the_papers_classes_has_images(net):
    classes = [f"n0000000{k}" for k in range(3)] + list(PAPER_CLASSES)
    found = excite(net, [(x, labels % 3) for x, labels in batches()], classes)
    assert found.chosen == (0, 1, 2)
    with pytest.raises(InputError, match="class 'n01443537' has no image"):
        excite(net, [(x, labels % 3) for x, labels in batches()], classes, chosen=["goldfish"])
    assert excite(net, [(x, labels * 0 + 1) for x, labels in batches()], classes).chosen == (1,)


def test_classes_by_two_names(net):
    classes = ["n00000001", "n00000002", "n00000003", *PAPER_CLASSES]
    assert excite(net, batches(), classes, chosen=["goldfish", "n01443537", "pug"]).chosen == (3, 4)
    with pytest.raises(InputError, match="two classes are called 'crane'"):
        excite(net, batches(), ["a", "crane", "b", "c", "crane", "d", "e"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_outputs_that_are_not_finite(net, value):
    with torch.no_grad():
        net.fc.bias[3] = value
    with pytest.raises(InputError, match="outputs that are not finite in batch 1"):
        excite(net, batches(), NAMES)


class Twice(nn.Module):
    def __init__(self, passes=None):
        super().__init__()
        self.conv, self.se, self.fc = nn.Conv2d(1, 16, 3, padding=1), create_block("cbam", 16), nn.Linear(16, 7)
        self.passes = passes

    def forward(self, x):
        x = self.se(self.conv(x))
        return self.fc((x if len(x) == self.passes else self.se(x)).amax((2, 3)))


def test_a_block_that_is_used_twice():
    found = excite(Twice(), batches(), NAMES, portraits=1, blocks="*spatial*")
    assert list(found.sites) == list(found.portraits[0].deviations) == ["se.spatial", "se.spatial#2"]
    assert found.planes == ("se.spatial", "se.spatial#2")
    assert (found.blocks, found.looked_at) == (4, "blocks looked at (2 of 4)")
    json.dumps(found.to_dict(), allow_nan=False)


def test_which_gates_differ_over_positions():
    found = excite(Twice(), batches(), NAMES, portraits=0)
    assert found.planes == ("se.spatial", "se.spatial#2")
    assert (found.blocks, found.looked_at, found.called(ALL)) == (4, "blocks", ALL)


def test_a_block_that_does_not_run_for_all_images():
    given = [*batches(2), (torch.randn(5, 1, 8, 8), torch.arange(5))]
    with pytest.raises(InputError, match=r"block 'se.channel#2' ran for 24 of 29 images"):
        excite(Twice(passes=5), given, NAMES)
