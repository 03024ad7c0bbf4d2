"""Every command, as a user types it."""

import json
import re
import shutil
import sys

import pytest
from PIL import Image

import senet as package
from senet.cli import app
from senet.recipes import RECIPES

COMMANDS = [command.name for command in app.registered_commands]
QUICK = [
    *("--set", "data.size=16", "--set", "data.limit=48", "--set", "data.batch_size=8", "--set", "optim.lr=0.02"),
    *("--epochs", "1"),
]


def test_the_commands_are_these():
    expected = [
        "compare",
        "convert",
        "doctor",
        "eval",
        "excite",
        "info",
        "models",
        "predict",
        "prune",
        "recipes",
        "report",
        "reproduce",
        "tax",
        "train",
        "twins",
    ]
    assert sorted(COMMANDS) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(senet, command):
    code, out, _ = senet(command, "--help")
    assert code == 0
    assert f"Example: senet {command}" in out


def test_without_the_extra_it_says_what_to_install(senet, monkeypatch):
    for module in [name for name in sys.modules if name == "senet.cli" or name.startswith(("senet.cli.", "typer"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "typer", None)
    code, _, err = senet("models")
    assert code == 2
    assert err == "senet: error: this needs typer; install it by pip install 'senet[train,plot]'\n"


def test_train_then_all_that_follows(senet, refused, tmp_path, photos):
    changes = [
        "--set",
        "data.size=16",
        "--batch-size",
        8,
        "--epochs",
        2,
        "--lr",
        0.05,
        "--set",
        "data.val_fraction=0.25",
    ]
    for seed in (0, 1):
        for recipe in ("cifar.resnet8", "cifar.seresnet8"):
            out = tmp_path / f"{recipe}-{seed}"
            code, printed, _ = senet("train", recipe, "--data", photos, "--out", out, "--seed", seed, *changes)
            assert code == 0
            assert "top-1 on 6 validation images after 2 epochs" in " ".join(printed.split())
    runs = sorted(tmp_path.iterdir(), key=lambda run: "seresnet" in run.name)

    code, printed, _ = senet("compare", *runs)
    assert code == 0
    assert "cifar_seresnet8" in printed
    code, printed, _ = senet("compare", *runs, "--json")
    assert [arm["score"]["n"] for arm in json.loads(printed)["arms"]] == [2, 2]
    assert "by_epoch" not in json.loads(printed)

    code, printed, _ = senet("compare", *runs, "--epochs", "1,2", "--csv", tmp_path / "epochs.csv")
    assert code == 0
    assert {"epoch", "validation", "training", "error,"} <= set(printed.split())
    lines = (tmp_path / "epochs.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [epoch, f"cifar_{se}resnet8", "2"] for epoch in "12" for se in ("", "se")
    ]
    told = json.loads(senet("compare", *runs, "--epochs", "2", "--json")[1])["by_epoch"]
    assert [row["epoch"] for row in told] == [2, 2]
    assert f",{told[1]['top1_error']['mean']}," in lines[4]
    assert "no network was trained for epoch 3; accepted: 1 to 2" in refused("compare", *runs, "--epochs", "3")
    assert "--epochs is '1;2'; accepted: numbers with commas" in refused("compare", *runs, "--epochs", "1;2")

    code, _, _ = senet("report", *runs, "--out", tmp_path / "report.html", "--epochs", "2")
    page = (tmp_path / "report.html").read_text()
    assert code == 0
    assert '<th scope="row">2</th><td class="text">cifar_resnet8</td>' in page
    assert '<th scope="row">1</th><td class="text">cifar_resnet8</td>' not in page
    for word in ("cifar_seresnet8", "layer3.0.se", "blue", "data:image/png"):
        assert word in page


def test_resume_goes_on_and_says_so(senet, tmp_path):
    words = ["train", "synthetic.resnet8", "--out", tmp_path, *QUICK]
    assert senet(*words)[0] == 0
    code, out, _ = senet(*words, "--resume")
    assert code == 0
    assert "after 1 epoch (" in " ".join(out.split())


def test_an_interruption_says_how_to_go_on(senet, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("senet.train.loop.train", interrupted)
    code, _, err = senet("train", "synthetic.resnet8", "--out", tmp_path)
    assert code == 130
    assert "with --resume goes on" in err


def test_one_setting_given_twice_is_refused(senet, tmp_path):
    code, _, err = senet("train", "synthetic.resnet8", "--out", tmp_path, "--lr", 0.1, "--set", "optim.lr=0.2")
    assert code == 2
    assert "optim.lr is given twice" in err


def test_twins_trains_compares_and_reports(senet, tmp_path):
    code, out, err = senet("twins", "synthetic.resnet8", "synthetic.seresnet8", "--seeds", 2, "--out", tmp_path, *QUICK)
    assert code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [arm["model"] for arm in summary["arms"]] == ["cifar_resnet8", "cifar_seresnet8"]
    assert [arm["seeds"] for arm in summary["arms"]] == [[0, 1], [0, 1]]
    assert summary["differences"][0]["verdict"] in " ".join(out.split())
    assert (tmp_path / "report.html").is_file()
    assert err.count("net8 1/1: loss") == 4


def test_eval_counts_every_image_of_another_folder(senet, trained, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "others")
    for image in (tmp_path / "others").glob("*/*.png"):
        image.rename(image.with_stem(f"other-{image.stem}"))
    code, out, _ = senet("eval", trained, "--data", tmp_path / "others", "--json")
    result = json.loads(out)
    assert code == 0
    assert result["classes"] == ["blue", "red"]
    assert sum(map(sum, result["confusion"])) == 24
    assert result["top1"] == 100 * (result["confusion"][0][0] + result["confusion"][1][1]) / 24


@pytest.mark.parametrize("named", ["no", "own", "moved"])
def test_eval_counts_held_out_images_of_its_own_folder(senet, trained, photos, tmp_path, named):
    shutil.copytree(photos, tmp_path / "moved")
    data = {"no": [], "own": ["--data", photos], "moved": ["--data", tmp_path / "moved"]}[named]
    code, out, _ = senet("eval", trained, "--weights", "best", *data)
    assert code == 0
    assert ", 6 images" in out


def test_predict_names_classes_and_probabilities(senet, trained, photos):
    images = [photos / "blue" / "03.png", photos / "red" / "05.png"]
    code, out, _ = senet("predict", trained, *images, "--json")
    assert code == 0
    found = json.loads(out)
    assert list(found) == [str(image) for image in images]
    for best in found.values():
        assert {row["class"] for row in best} == {"blue", "red"}
        assert sum(row["probability"] for row in best) == pytest.approx(1)
        assert best[0]["probability"] >= best[1]["probability"]
    code, out, _ = senet("predict", trained / "model.safetensors", *images, "--top", 1)
    assert code == 0
    assert out.count("%") == 2


def test_predict_says_what_eval_says(senet, trained, photos, tmp_path):
    photos = shutil.copytree(photos, tmp_path / "others")
    for image in photos.glob("*/*.png"):
        image.rename(image.with_stem(f"other-{image.stem}"))
    images = sorted(photos.glob("*/*.png"))
    found = json.loads(senet("predict", trained, *images, "--json")[1])
    right = sum(best[0]["class"] in name for name, best in found.items())
    assert json.loads(senet("eval", trained, "--data", photos, "--json")[1])["top1"] == pytest.approx(100 * right / 24)


def test_models(senet):
    code, out, _ = senet("models", "se*50", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert (row["name"], row["parameters"], row["multiply_adds"]) == ("seresnet50", 28_088_024, 4_091_699_200)
    assert "a1_in1k" in row["weights"]
    assert "28,088,024" in senet("models", "se*50")[1]


def test_models_are_sorted_and_filtered(senet):
    def names(*words):
        return [row["name"] for row in json.loads(senet("models", *words, "--json")[1])]

    assert names("*resnet50_caffe", "--sort", "error") == ["seresnet50_caffe", "resnet50_caffe"]
    assert names("*resnet*18", "--sort", "parameters") == ["resnet18", "seresnet18"]
    assert names("cifar_*resnet20", "--attn", "none") == ["cifar_resnet20"]
    assert "no model matches" in senet("models", "*resnet110", "--pretrained")[2]
    assert "no block is called 'sse'; did you mean" in senet("models", "--attn", "sse")[2]
    assert "resnet18" in names("*resnet18", "--pretrained")
    code, _, err = senet("models", "--sort", "price")
    assert code == 2
    assert "'multiply-adds'" in err


def test_info(senet):
    code, out, _ = senet("info", "seresnet50")
    assert code == 0
    for number in ("28,088,024", "4,091,699,200", "2,530,992", "2,514,944", "5,519,360"):
        assert number in out
    for word in ("a1_in1k", "ImageNet-1k", "apache-2.0", "placement", "arXiv 1709.01507v4", "2/r N C^2"):
        assert word in out
    assert re.search(r"layer3 +6 +1024 +16 +786,432 +792,960\n", out)
    for name in ("resnet18", "cifar_seresnet8 --set attn=eca"):  # no SE, no equation
        assert "equation 5" not in senet("info", *name.split())[1]
    code, out, _ = senet("info", "seresnet50", "--set", 'attn_options={"bias": false}', "--size", 64, "--json")
    assert json.loads(out)["total"]["parameters"] == 28_071_976
    assert sum(stage["weights"] for stage in json.loads(out)["equation_5"]) == 2_514_944
    assert json.loads(out)["size"] == 64


def test_info_shows_published_figures_beside_ours(senet):
    out = " ".join(senet("info", "seresnet50_caffe")[1].split())
    assert "top1 error 23.29 %" in out
    assert "3,860,488,192 by our count; the published figure is that of a count that counts the squeezes'" in out
    assert json.loads(senet("info", "seresnet50_caffe", "--json")[1])["published"][0]["row"] == "SE-ResNet-50"


def test_networks_in_the_package_need_nothing_else(senet, tmp_path):
    code, out, _ = senet("models", "cifar_*resnet8", "--pretrained", "--json")
    assert {row["name"] for row in json.loads(out)} == {"cifar_resnet8", "cifar_seresnet8"}
    out = " ".join(senet("info", "cifar_seresnet8")[1].split())
    assert re.search(r"fashion_mnist 28 \d\d\.\d\d Fashion-MNIST apache-2.0 in the package", out)
    assert re.search(
        r"fashion_mnist: seed 0 after its last epoch \(\d+\); [\d,]+ of 10,000 held-out images right; ", out
    )
    told = json.loads(senet("info", "cifar_seresnet8", "--json")[1])
    (weight,) = [weight for weight in told["weights"] if weight["tag"] == "fashion_mnist"]
    (record,) = [record for record in told["records"] if record["tag"] == "fashion_mnist"]
    assert weight["published"][0]["top1"] == pytest.approx(100 * record["right"] / record["images"])
    of_tag = json.loads(senet("info", "cifar_seresnet8.fashion_mnist", "--json")[1])
    assert of_tag == told | {"weights": [weight], "records": [record]}
    assert json.loads(senet("info", "seresnet50.a1_in1k", "--json")[1])["weights"][0]["tag"] == "a1_in1k"
    Image.effect_noise((28, 28), 90).save(tmp_path / "a.png")
    code, out, err = senet("predict", "cifar_seresnet8.fashion_mnist", tmp_path / "a.png", "--top", 10)
    assert (code, err) == (0, "")
    assert "Ankle boot" in out


def test_recipes(senet):
    code, out, _ = senet("recipes")
    assert code == 0
    assert all(name in out for name in RECIPES)
    code, out, _ = senet("recipes", "cifar.resnet20")
    assert "8.75 % error" in out
    assert '"cifar_resnet20"' in out
    assert json.loads(senet("recipes", "fashion.*", "--json")[1]).keys() == {
        name for name in RECIPES if name.startswith("fashion.")
    }


def test_doctor(senet):
    code, out, _ = senet("doctor")
    assert code == 0
    assert package.__version__ in out
    assert "torchvision" in out


def test_a_copy_of_a_run_is_complete(senet, trained, tmp_path, photos):
    shutil.copytree(trained, tmp_path / "moved")
    assert senet("eval", tmp_path / "moved", "--data", photos)[0] == 0
