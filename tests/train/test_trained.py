from dataclasses import replace

import pytest
import torch
from PIL import Image

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.convert import convert
from senet.models.weights.files import write_tensors
from senet.options import to_plain
from senet.train.apply import evaluate_run, held_out, predict_image
from senet.train.recipe import Model
from senet.train.rundir import build_model, open_folder
from senet.train.trained import read_trained


def test_only_two_weights_have_names(tiny, tmp_path):
    with pytest.raises(InputError, match="weights is 'bset'; accepted: 'model'"):
        read_trained(tmp_path, weights="bset")


def test_weights_of_another_network_are_listed(tiny, tmp_path):
    plain = build_model(Model("cifar_resnet8"), 3, 10)
    info = {"recipe": to_plain(tiny), "classes": list("abcdefghij")}
    write_tensors(tmp_path / "model.safetensors", plain.state_dict(), info)
    with pytest.raises(InputError, match=r"12 missing \(layer1.0.se.fc1.bias"):
        read_trained(tmp_path / "model.safetensors")


def test_a_run_comes_back_as_it_was(tiny, tmp_path):
    recipe = replace(tiny, model=Model("cifar_seresnet8", {"attn_options": {"reduction": 4}}))
    model = build_model(recipe.model, 3, 7)
    info = {"recipe": to_plain(recipe), "classes": list("abcdefg")}
    write_tensors(tmp_path / "model.safetensors", model.state_dict(), info)
    trained = read_trained(tmp_path / "model.safetensors")
    assert (trained.recipe, trained.classes) == (recipe, tuple("abcdefg"))
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(trained.model(x), model.eval()(x))


def test_a_folder_knows_where_its_images_were_moved(tiny, tmp_path):
    model = build_model(tiny.model, 3, 2)
    info = {"recipe": to_plain(tiny), "classes": ["a", "b"]}
    write_tensors(tmp_path / "model.safetensors", model.state_dict(), info)
    open_folder(tmp_path, tiny.override({"data.root": "moved"}))
    assert read_trained(tmp_path).data.root == "moved"
    assert read_trained(tmp_path / "model.safetensors").data.root is None


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"classes": ["a", "b"]}, "no weights of a trained network"),
        ({"classes": ["a", "b"], "recipe": 3}, "accepted: names and values"),
        ({"classes": ["a", "b"], "recipe": {"name": "x"}}, "lacks 'model', 'data'"),
        ({"classes": "ab", "recipe": {}}, "classes"),
    ],
)
def test_information_that_is_no_ones(tmp_path, info, said):
    write_tensors(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, info)
    with pytest.raises(InputError, match=said):
        read_trained(tmp_path / "w.safetensors")


def test_reading_what_is_no_run(tiny, tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_trained(tmp_path)
    open_folder(tmp_path, tiny)
    with pytest.raises(InputError, match="has not finished an epoch"):
        read_trained(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_trained(tmp_path / "nothing.safetensors")


@pytest.fixture
def others(tmp_path):
    """A file that torchvision wrote, converted; with no word on preprocessing."""
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=3).state_dict(), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", "resnet18")
    return tmp_path / "ours.safetensors"


def test_weights_of_others_need_to_be_told_how_images_reach_them(others):
    with pytest.raises(InputError, match="does not say how images are brought to it; say so by --set size=224 --set"):
        read_trained(others)
    how = {"size": 48, "resize": 64, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(InputError, match="does not say how"):
        read_trained(others, changes={"size": 48})
    trained = read_trained(others, changes=how)
    assert (trained.data.size, trained.data.resize, trained.data.interpolation) == (48, 64, "bicubic")
    assert (trained.recipe, trained.classes) == (None, ("0", "1", "2"))
    assert not trained.model.training
    with pytest.raises(InputError, match="how images reach a network has no field 'sise'; did you mean 'size'"):
        read_trained(others, changes={"sise": 48})
    with pytest.raises(InputError, match="these weights do not come from a run"):
        held_out(trained)


def test_weights_that_say_how_are_used_so(tmp_path):
    net = create_model("seresnet18", num_classes=2).eval()
    how = {"size": 40, "resize": 50, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3}
    info = {"model": "seresnet18", "options": {"num_classes": 2}, "classes": ["cat", "dog"], "preprocessing": how}
    write_tensors(tmp_path / "w.safetensors", net.state_dict(), info)
    trained = read_trained(tmp_path / "w.safetensors")
    assert {key: to_plain(getattr(trained.data, key)) for key in how} == how
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.effect_noise((60, 80), 90).convert("RGB").save(tmp_path / "pets" / name / "a.png")
    assert {name for name, _ in predict_image(trained, tmp_path / "pets" / "cat" / "a.png")} == {"cat", "dog"}
    assert evaluate_run(trained, tmp_path / "pets").images == 2


def test_the_hubs_weights_have_imagenets_words(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    net = create_model("seresnet18").eval()
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(
        "senet.models.create.fetch", lambda weight: asked.append(str(weight)) or tmp_path / "model.safetensors"
    )
    monkeypatch.setattr("senet.train.trained.find_weight", find := lambda name, tag: resnet(tag))
    monkeypatch.setattr("senet.models.create.find_weight", find)
    trained = read_trained("seresnet18.some_tag", changes={"size": 32, "resize": 32})
    assert asked == ["seresnet18.some_tag"]
    Image.effect_noise((60, 80), 90).convert("RGB").save(tmp_path / "a.png")
    (name, probability), *_ = predict_image(trained, tmp_path / "a.png")
    assert name.startswith(("n0", "n1"))
    assert " " in name
    assert 0 < probability < 1
    assert trained.classes[1] == "n01443537"
    assert "n01443537 goldfish" in {name for name, _ in predict_image(trained, tmp_path / "a.png", top=1000)}


def resnet(tag):
    from senet.models.weights.preprocessing import Preprocessing
    from senet.models.weights.weight import Published, Weight

    published = (Published(preprocessing=Preprocessing(size=224, resize=256)),)
    return Weight(model="seresnet18", tag=tag, hub="a/b", published=published, trained_on=("ImageNet-1k",))


def test_what_is_neither_file_nor_network(tmp_path):
    with pytest.raises(InputError, match="cifar_seresnet9 is no run, file or network; did you mean 'cifar_seresnet"):
        read_trained("cifar_seresnet9")
    with pytest.raises(InputError, match=r"cifar_seresnet9\.fashion_mnist is no run, file or network; did you mean"):
        read_trained("cifar_seresnet9.fashion_mnist")
    with pytest.raises(InputError, match="'cifar_resnet110' has no pretrained weights; train it"):
        read_trained("cifar_resnet110")
    with pytest.raises(InputError, match="'seresnet50' has no pretrained weights called 'a1'"):
        read_trained("seresnet50.a1")


def test_a_converted_file_is_evaluated_in_the_order_of_its_outputs(others, tmp_path):
    for name in "abc":
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.effect_noise((60, 80), 90).convert("RGB").save(tmp_path / "data" / name / "a.png")
    how = {"size": 48, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert evaluate_run(read_trained(others, changes=how), tmp_path / "data").images == 3
    (tmp_path / "data" / "d").mkdir()
    Image.effect_noise((60, 80), 90).convert("RGB").save(tmp_path / "data" / "d" / "a.png")
    with pytest.raises(InputError, match="has 4 class folders for a network of 3 classes"):
        evaluate_run(read_trained(others, changes=how), tmp_path / "data")


def test_a_file_converted_like_others_says_all(tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "theirs.pth")
    convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", "resnet18", like="resnet18.tv_in1k")
    trained = read_trained(tmp_path / "ours.safetensors")
    assert (trained.data.size, trained.classes[0]) == (224, "n01440764")
    assert create_model("resnet18", pretrained=tmp_path / "ours.safetensors").loaded.preprocessing.size == 224


def test_other_channels_are_refused(tmp_path):
    net = create_model("seresnet18", num_classes=2, in_chans=1)
    info = {"model": "seresnet18", "options": {"num_classes": 2, "in_chans": 1}}
    write_tensors(tmp_path / "w.safetensors", net.state_dict(), info)
    with pytest.raises(InputError, match="takes images of 1 channels, not 3"):
        read_trained(tmp_path / "w.safetensors", changes={"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3})
    assert (
        read_trained(
            tmp_path / "w.safetensors", changes={"size": 32, "mean": [0.5], "std": [0.5], "channels": 1}
        ).data.channels
        == 1
    )


def test_best_is_for_folders(others):
    with pytest.raises(InputError, match="is no run's folder; leave it out"):
        read_trained(others, weights="best")


def test_a_file_that_is_not_there_is_no_tag():
    with pytest.raises(InputError, match=r"seresnet50.safetensors: no such file"):
        read_trained("seresnet50.safetensors")
