from __future__ import annotations

import sys

import pytest

from senet.cli.networks import find_network
from senet.errors import InputError


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("cifar_seresnet8", "senet.models", 32),
        ("seresnet50_caffe", "senet.models", 224),  # ours
        ("timm:seresnet18", "timm.models", 224),
        ("tf_efficientnet_b4", "timm.models", 380),
        ("torchvision:mobilenet_v3_small", "torchvision.models", 224),
        ("mobilenet_v3_small", "torchvision.models", 224),  # timm calls it otherwise
    ],
)
def test_whose_a_network_is(name, kind, size):
    network, side = find_network(name)
    assert type(network).__module__.startswith(kind)
    assert side == size


def test_a_function_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "own_network_of_mine.py").write_text(
        "from torch import nn\n\nnumber = 3\n"
        "def build():\n    return nn.Conv2d(3, 8, 1)\n"
        "def no_module():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    network, side = find_network("own_network_of_mine:build")
    assert (network.out_channels, side) == (8, 224)
    assert "" not in sys.path[:1]
    for function, said in (
        ("number", "has no function 'number'"),
        ("nothing", "has no function 'nothing'"),
        ("no_module", "gives int; accepted: a torch.nn.Module"),
    ):
        with pytest.raises(InputError, match=said):
            find_network(f"own_network_of_mine:{function}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("seresnt50", "no model is called 'seresnt50'; did you mean 'seresnet50'"),
        ("timm:seresnt50", "timm has no model 'seresnt50'; did you mean"),
        ("torchvision:resnt50", "torchvision has no model 'resnt50'; did you mean 'resnet50'"),
        ("nowhere_at_all:build", "there is no module 'nowhere_at_all'; give"),
    ],
)
def test_names_that_are_not_known(name, said):
    with pytest.raises(InputError, match=said):
        find_network(name)


def test_packages_that_are_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="is timm's, which is not installed; pip install timm"):
        find_network("timm:seresnet18")
    with pytest.raises(InputError, match="no model is called 'seresnet152d'"):
        find_network("seresnet152d")
