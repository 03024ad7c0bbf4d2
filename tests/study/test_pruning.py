from __future__ import annotations

import importlib.util
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.files import read_tensors
from senet.models.weights.pruned import ChannelScale
from senet.options import to_plain
from senet.recipes import get_recipe
from senet.study.pruning import check_target, prune_trained, save_pruned
from senet.train.apply import evaluate_run
from senet.train.recipe import Data
from senet.train.trained import Trained, read_trained

COLOURS = {"blue": (20, 30, 200), "green": (30, 150, 30), "red": (200, 30, 20)}
X = torch.randn(2, 3, 16, 16)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Times are taken once."""
    for name in ("prune", "costs"):
        monkeypatch.setattr(f"senet.analysis.pruning.{name}.ROUNDS", 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of class folders: three colours, 9 images each."""
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(9):
            Image.new("RGB", (20, 20), tuple(c + 2 * i for c in colour)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def trained(randomise):
    """A network with weights of others, two blocks of which have nothing to say, and the third no place to fold it."""
    torch.manual_seed(0)
    model = randomise(create_model("cifar_seresnet8", num_classes=3, placement="post")).eval()
    data = Data("folder", size=16, mean=(0.5,) * 3, std=(0.25,) * 3, augment="none", workers=0, batch_size=4)
    info = {"model": "cifar_seresnet8", "options": {"num_classes": 3, "placement": "post"}}
    return Trained(model, data, tuple(COLOURS), None, info)


def test_half_chooses_and_half_judges(trained, photos):
    told = []
    before = evaluate_run(trained, photos).top1
    pruned = prune_trained(trained, photos, max_drop=100, progress=lambda *what: told.append(what[0]))
    assert (pruned.report.images, pruned.judged.images) == (14, 13)
    halves = pruned.report.before * 14 + pruned.judged.before * 13
    assert halves / 27 == pytest.approx(before)
    judged = pruned.judged
    assert judged.metric == "top1"
    assert f"judged by the 13 others: top1 {judged.before:.2f} % -> {judged.after:.2f} %" in str(judged)
    assert told[0] == "decoding images"
    assert told[-1] == "judging"


def test_the_standard_error_is_of_the_difference(trained, photos):
    same = prune_trained(trained, photos, max_drop=0, sites=["layer1.0.se"]).judged
    assert (same.after - same.before, same.error) == (0, 0)


def test_limit_takes_equally_many_of_each_class(trained, photos):
    pruned = prune_trained(trained, photos, max_drop=100, limit=6)
    assert (pruned.report.images, pruned.judged.images) == (3, 3)
    with pytest.raises(InputError, match=r"data\.limit is 2, fewer than the 3 classes"):
        prune_trained(trained, photos, limit=2)


def test_weights_of_others_round_trip(trained, photos, tmp_path):
    path = tmp_path / "pruned.safetensors"
    pruned = prune_trained(trained, photos, max_drop=100)
    save_pruned(path, trained, pruned)
    again = read_trained(path)
    assert again.classes == trained.classes
    assert again.data.mean == trained.data.mean
    assert isinstance(again.model.layer1[0].se, ChannelScale)
    assert torch.equal(again.model(X), pruned.model(X))
    assert evaluate_run(again, photos).images == 27
    created = create_model("cifar_seresnet8", placement="post", pretrained=path).eval()
    assert torch.equal(created(X), pruned.model(X))
    assert created.loaded.preprocessing.std == trained.data.std
    _, info = read_tensors(path)
    assert info["pruning"]["judged"] == to_plain(pruned.judged)
    assert [step["site"] for step in info["pruning"]["report"]["steps"]] == info["pruned"]


def test_runs_round_trip_and_are_pruned_again(photos, tmp_path, randomise):
    recipe = get_recipe("cifar.seresnet8").override(
        {"data.root": str(photos), "data.size": 16, "data.batch_size": 4, "data.workers": 0}
    )
    model = randomise(create_model("cifar_seresnet8", num_classes=3)).eval()
    trained = Trained(model, recipe.data, tuple(COLOURS), recipe, {"recipe": to_plain(recipe), "classes": [*COLOURS]})
    pruned = prune_trained(trained, photos, max_drop=100, sites=["layer3.*"])
    save_pruned(tmp_path / "once.safetensors", trained, pruned)
    again = read_trained(tmp_path / "once.safetensors")
    assert again.recipe == recipe
    assert type(again.model.layer3[0].se) is nn.Identity
    assert torch.equal(again.model(X), pruned.model(X))
    twice = prune_trained(again, photos, max_drop=100, sites=["layer1.*"])
    save_pruned(tmp_path / "twice.safetensors", again, twice)
    last = read_trained(tmp_path / "twice.safetensors")
    assert last.info["pruned"] == ["layer3.0.se", "layer1.0.se"]
    assert torch.equal(last.model(X), twice.model(X))


def test_export(trained, photos, tmp_path):
    model = prune_trained(trained, photos, max_drop=100).model.eval()
    program = torch.export.export(model, (X,))
    torch.testing.assert_close(program.module()(X), model(X))


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra",
)
@pytest.mark.filterwarnings("ignore")  # of the exporter's own
def test_onnx(trained, photos, tmp_path):
    import onnxruntime

    model = prune_trained(trained, photos, max_drop=100).model.eval()
    torch.onnx.export(model, (X,), tmp_path / "pruned.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "pruned.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), model(X), rtol=1e-4, atol=1e-5)


def test_what_cannot_be(trained, photos, tmp_path):
    with pytest.raises(InputError, match=r"ends in '\.pt'; accepted: '\.safetensors'"):
        check_target(tmp_path / "pruned.pt")
    with pytest.raises(InputError, match="there is no folder"):
        check_target(tmp_path / "nowhere" / "pruned.safetensors")
    missing = replace(trained, classes=("blue", "green", "yellow"))
    with pytest.raises(InputError, match="missing: yellow; extra: red"):
        prune_trained(missing, photos)
