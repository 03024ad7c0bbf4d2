from __future__ import annotations

import huggingface_hub.constants
import pytest

from senet.errors import InputError
from senet.models import list_models
from senet.models.weights.hub import hub_weights
from senet.models.weights.own.records import FOLDER
from senet.models.weights.pretrained import fetch, find_weight, list_pretrained, weights_of


def test_weights_by_tag():
    assert find_weight("seresnet50", "ra2_in1k").hub == "timm/seresnet50.ra2_in1k"
    assert str(find_weight("seresnet50", "ra2_in1k")) == "seresnet50.ra2_in1k"
    assert list_pretrained("senet154*") == ["senet154.gluon_in1k", "senet154_caffe.in1k"]
    assert weights_of("cifar_seresnet110") == ()


def test_those_in_the_package_are_among_them():
    assert find_weight("cifar_seresnet8", "fashion_mnist") in weights_of("cifar_seresnet8")
    assert "cifar_seresnet8.fashion_mnist" in list_pretrained()
    assert list_pretrained() == sorted({str(weight) for name in list_models() for weight in weights_of(name)})


def test_an_unknown_tag_names_the_nearest():
    with pytest.raises(InputError, match=r"no pretrained weights called 'a1_1k'; did you mean 'a1_in1k'"):
        find_weight("seresnet50", "a1_1k")


def test_a_network_without_weights_says_so():
    with pytest.raises(InputError, match=r"'seresnet101' has no pretrained weights; .* path .*'seresnet101_caffe'"):
        find_weight("seresnet101")


def test_a_file_comes_from_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch(find_weight("cifar_seresnet8", "fashion_mnist")).parent == FOLDER
    with pytest.raises(InputError, match="the hub cannot be reached"):
        fetch(hub_weights()["seresnet50"][0])
