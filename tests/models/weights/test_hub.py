from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save
from timm.models import get_pretrained_cfg, list_pretrained

import senet
from senet.errors import InputError
from senet.models.weights.hub import download, hub_weights
from senet.models.weights.pretrained import find_weight
from senet.models.weights.weight import Weight

ROOT = Path(__file__).parents[3]
NAMES = sorted(hub_weights())
WEIGHTS = [weight for name in NAMES for weight in hub_weights()[name]]
TENSORS = {"fc.bias": torch.arange(3.0)}
CONTENT = save(TENSORS)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c" * 40


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hub_tool", ROOT / "tools/hub.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the table


def timms_name(weight: Weight) -> str:
    legacy = weight.layout == "timm-legacy"
    return f"legacy_{weight.model.removesuffix('_caffe')}.{weight.tag}" if legacy else str(weight)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_of_networks_that_there_are(name):
    assert name in senet.list_models()


def test_no_weights_of_timms_hub_are_missing():
    ours = set(senet.list_models())
    theirs = {name for name in list_pretrained() if name.partition(".")[0] in ours}
    assert len(theirs) > 40
    assert {name for name in theirs if get_pretrained_cfg(name).hf_hub_id} <= set(map(str, WEIGHTS))


@pytest.mark.parametrize("name", NAMES)
def test_timms_default_comes_first(name):
    first = hub_weights()[name][0]
    assert find_weight(name) == first
    assert get_pretrained_cfg(timms_name(first).partition(".")[0]).tag == first.tag


@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
def test_images_are_brought_as_timm_brings_them(weight):
    cfg = get_pretrained_cfg(timms_name(weight)).to_dict()
    for use_test_size, at in zip((False, True), weight.published, strict=False):
        wanted = timm.data.resolve_data_config(pretrained_cfg=cfg, use_test_size=use_test_size)
        (resize, crop, *_) = timm.data.create_transform(**wanted).transforms
        squashed = tuple(resize.size) if weight.preprocessing.squash else resize.size
        ours = at.preprocessing
        assert squashed == ((ours.resize, ours.resize) if ours.squash else ours.resize)
        assert tuple(crop.size) == (ours.size, ours.size)
        assert (ours.interpolation, ours.mean, ours.std) == tuple(
            wanted[key] for key in ("interpolation", "mean", "std")
        )
        assert resize.interpolation.value == ours.interpolation
    both = {tuple(timm.data.resolve_data_config(pretrained_cfg=cfg, use_test_size=u).items()) for u in (False, True)}
    assert len(weight.published) == len(both)


@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
def test_the_file_is_what_timm_says(weight):
    cfg = get_pretrained_cfg(timms_name(weight))
    assert weight.num_classes == cfg.num_classes
    assert weight.license == cfg.license
    assert weight.trained_on
    if weight.layout == "timm":
        assert weight.hub == cfg.hf_hub_id
    else:
        assert len(weight.revision) == 40  # not timm's: pinned


def test_classifiers_of_imagenet_have_published_accuracies():
    unknown = {str(w) for w in WEIGHTS if w.num_classes == 1000 and any(at.top1 is None for at in w.published)}
    # put on the hub after the measurements
    assert unknown == {"mobilenetv3_large_100.ra4_e3600_r224_in1k", "resnet34.ra4_e3600_r224_in1k"}
    for weight in WEIGHTS:
        for at in weight.published:
            assert (at.top1 is None) == (at.top5 is None)
            assert at.top1 is None or 60 < at.top1 < at.top5 < 100


def test_the_accuracies_are_those_that_timm_publishes():
    """A few rows of the file that the table names, by hand."""
    scores = {str(w): [(at.preprocessing.size, at.top1, at.top5) for at in w.published] for w in WEIGHTS}
    assert scores["seresnet50.a1_in1k"] == [(224, 80.012, 94.706), (288, 81.104, 95.12)]
    assert scores["seresnet50_caffe.in1k"] == [(224, 77.644, 93.72)]
    assert scores["senet154.gluon_in1k"] == [(224, 81.258, 95.358)]


def test_the_table_is_as_the_tool_writes_it():
    hub = tool()
    text = hub.TABLE.read_text()
    table = tomllib.loads(text)
    commit = table["scores"].rpartition(" ")[2]
    assert hub.render(table["weights"], version=table["timm"], commit=commit) == text
    bare = {
        name: {tag: without_scores(entry) for tag, entry in tags.items()} for name, tags in table["weights"].items()
    }
    assert bare == hub.weights({})


def without_scores(entry: dict) -> dict:
    return entry | {"at": [{key: at[key] for key in ("size", "resize")} for at in entry["at"]]}


def test_the_tool_takes_accuracies_by_size_and_crop(tmp_path):
    rows = ["model,img_size,top1,top5,crop_pct", "seresnet50.a1_in1k,224,80.0,95.0,0.950"]
    rows.append("seresnet50.a1_in1k,288,81.0,96.0,0.950")  # timm tests at 288 without a crop: another setting
    (tmp_path / "results.csv").write_text("\n".join(rows))
    hub = tool()
    at = hub.weights(hub.read_scores(tmp_path / "results.csv"))["seresnet50"]["a1_in1k"]["at"]
    assert at == [{"size": 224, "resize": 235, "top1": 80.0, "top5": 95.0}, {"size": 288, "resize": 288}]
    assert math.floor(224 / 0.95) == 235


# --- fetching: huggingface_hub itself, on files laid out as it lays them out, without network


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def weight() -> Weight:
    return replace(find_weight("seresnet50", "a1_in1k"), sha256=None)


def put(cache: Path, weight: Weight, *, content: bytes = CONTENT, name: str = SHA256) -> Path:
    """Files of the hub's cache, as after a download; returns the one with the content."""
    repository = cache / f"models--{weight.hub.replace('/', '--')}"
    blob = repository / "blobs" / name
    snapshot = repository / "snapshots" / COMMIT
    for folder in (blob.parent, snapshot, repository / "refs"):
        folder.mkdir(parents=True)
    blob.write_bytes(content)
    (repository / "refs/main").write_text(COMMIT)
    (snapshot / weight.file).symlink_to(Path("../../blobs") / name)
    return blob


def test_a_file_is_found_and_checked(cache, weight):
    put(cache, weight)
    path = download(weight)
    assert path.name == "model.safetensors"
    assert torch.equal(load_file(path)["fc.bias"], TENSORS["fc.bias"])
    assert download(replace(weight, sha256=SHA256)) == path


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"!", b""], ids=["cut off", "damaged", "empty"])
def test_a_damaged_file_is_refused_and_named(cache, weight, content):
    blob = put(cache, weight, content=content)
    with pytest.raises(InputError, match=rf"{blob} is not the promised .* not {SHA256}; delete it") as caught:
        download(weight)
    assert "\n" not in str(caught.value)


def test_a_file_deleted_as_told_is_asked_for_again(cache, weight):
    blob = put(cache, weight, content=b"damaged")
    blob.unlink()
    with pytest.raises(InputError, match="is not in the cache and the hub cannot be reached"):
        download(weight)


def test_other_weights_than_recorded_are_refused_though_the_hub_vouches_for_them(cache, weight):
    put(cache, weight)
    with pytest.raises(InputError, match=f"its SHA-256 is {SHA256}, not {'0' * 64}"):
        download(replace(weight, sha256="0" * 64))


def test_a_file_in_the_shared_store_is_checked_by_its_hash_not_by_the_stores(cache, weight):
    """Files may be kept once for all repositories, under a hash of another kind, with a second link to them."""
    blob = put(cache, weight)
    store = cache / "blobs/ee" / ("e" * 64)
    store.parent.mkdir(parents=True)
    blob.rename(store)
    blob.symlink_to(Path("../../blobs/ee") / store.name)
    assert download(weight).resolve() == store
    store.write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"{store} is not the promised .* not {SHA256}"):
        download(weight)


def test_where_a_cache_has_no_links_the_hub_is_asked(cache, weight, monkeypatch):
    blob = put(cache, weight)
    pointer = blob.parents[1] / "snapshots" / COMMIT / weight.file
    pointer.unlink()
    blob.rename(pointer)
    with pytest.raises(InputError, match=r"cannot fetch model.safetensors of timm/seresnet50.a1_in1k: .*offline"):
        download(weight)
    asked = []
    stated = SimpleNamespace(etag=SHA256)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: asked.append(url) or stated)
    assert download(weight) == pointer
    assert asked == ["https://huggingface.co/timm/seresnet50.a1_in1k/resolve/main/model.safetensors"]
    stated.etag = "0" * 64
    with pytest.raises(InputError, match=rf"{pointer} is not the promised .* not 0000"):
        download(weight)


def test_offline_and_not_there_says_how_to_go_on(cache, weight):
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set.*path of a file") as caught:
        download(weight)
    assert "\n" not in str(caught.value)


def test_a_commit_is_kept_to(cache):
    weight = find_weight("seresnet50_caffe")
    put(cache, weight)  # of another commit
    with pytest.raises(InputError, match="is not in the cache"):
        download(weight)
    assert download(replace(weight, revision=COMMIT)).parent.name == COMMIT


def test_what_the_hub_says_is_passed_on_in_one_line(weight, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> str:
        raise OSError("401 Client Error.\n\nAccess to this model is restricted.")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        InputError, match=r"401 Client Error\. Access to this model is restricted\.; try again, or give"
    ):
        download(weight)


def test_without_huggingface_hub_the_extra_is_named(weight, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'senet\[weights\]', or give the path"):
        download(weight)
