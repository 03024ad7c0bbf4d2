"""Writes senet/models/weights/hub.toml: the pretrained weights on the Hugging Face hub that fit our networks.

What they are and how images are brought to them is what timm's own table says. How good they are is what timm measured:
results/results-imagenet.csv of huggingface/pytorch-image-models, downloaded by hand at one commit.

    python tools/hub.py results-imagenet.csv 7479d451a6dfd8af27f941b8e82a7402461fae80
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs

TABLE = Path(__file__).parents[1] / "senet/models/weights/hub.toml"

# The networks that we have under timm's name, with timm's keys.
NAMES = re.compile(
    r"(se)?resnet(18|34|50|101|152)|(se)?resnext(50_32x4d|101_32x4d|101_32x8d|101_64x4d)|senet154"
    r"|vgg(11|13|16|19)_bn|inception_v3|inception_resnet_v2"
    r"|mobilenetv[12]_100|mobilenetv3_(large|small)_100|efficientnet_b[0-7]"
    r"|regnety_(002|004|006|008|008_tv|016|032|040|064|080|080_tv|120|160|320)"
)

# timm has the authors' networks as legacy_*, whose files are pickles. The same weights are on the hub as safetensors,
# at these commits, in the table of encoders of segmentation_models_pytorch. Ours, timm's, theirs:
RELEASED = (
    ("seresnet50_caffe", "legacy_seresnet50", "se_resnet50", "e6b4bc2dc85226c3d3474544410724a485455459"),
    ("seresnet101_caffe", "legacy_seresnet101", "se_resnet101", "71fe95cc0a27f444cf83671f354de02dc741b18b"),
    ("seresnet152_caffe", "legacy_seresnet152", "se_resnet152", "e79fc3d9d76f197bd76a2593c2054edf1083fe32"),
    ("seresnext50_32x4d_caffe", "legacy_seresnext50_32x4d", "se_resnext50_32x4d",
     "73246406d879a2b0e3fdfe6fddd56347d38f38ae"),
    ("seresnext101_32x4d_caffe", "legacy_seresnext101_32x4d", "se_resnext101_32x4d",
     "18808a4276f46421d358a9de554e0b93c2795df4"),
    ("senet154_caffe", "legacy_senet154", "senet154", "249f45efc9881ba560a0c480128edbc34ab87e40"),
)  # fmt: skip

# SHA-256 of model.safetensors, each as at least two unrelated public projects state it.
HASHES = {
    "resnet18.a1_in1k": "80c49dee3da4822c009c5a7fe591e9223c5a2cfcf95a4067ca4dfb5a7b89c612",
    "resnet50.a1_in1k": "773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb",
    "mobilenetv3_small_100.lamb_in1k": "46d2c063b18125884c48937afa4c49e18128869e52e8db96df48bf0a4d7ff697",
    "mobilenetv3_large_100.ra_in1k": "f425af34cc1cead2b5d6211f789a1f30b94835dc32f9c0fcc5a916e4fd2dde85",
    "efficientnet_b0.ra_in1k": "d569899762ea9b1384ee07f4af64805cf8caa1c55f9253ebb1080dc40e87a2cd",
}

# What a file holds besides the network's weights: torchvision trained this one with an auxiliary classifier.
EXTRAS = {"inception_v3.tv_in1k": ["AuxLogits"]}

# What a tag says of the images, in the order of training.
IMAGES = {
    "bamboo": "Bamboo", "yfcc100m": "YFCC-100M", "ig1b": "Instagram-1B", "swag": "Instagram-3.6B",
    "seer": "Instagram (SEER)", "in21k": "ImageNet-21k", "in12k": "ImageNet-12k", "in1k": "ImageNet-1k",
}  # fmt: skip

# By name with tag, size, and crop_pct as timm prints it: top-1 and top-5.
Scores = dict[tuple[str, int, str], tuple[float, float]]


def read_scores(path: Path) -> Scores:
    """The accuracies in timm's results-imagenet.csv."""
    with path.open(newline="") as file:
        return {
            (row["model"], int(row["img_size"]), row["crop_pct"]): (float(row["top1"]), float(row["top5"]))
            for row in csv.DictReader(file)
        }


def weights(scores: Scores) -> dict[str, dict[str, dict[str, Any]]]:
    """The table: by our name and by tag, in timm's order, its own default first."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name in filter(NAMES.fullmatch, timm.list_models(pretrained=False)):
        for full_name, cfg in get_arch_pretrained_cfgs(name).items():
            if cfg.hf_hub_id:
                table.setdefault(name, {})[cfg.tag] = {"hub": cfg.hf_hub_id} | _entry(full_name, cfg, scores)
    for name, legacy, repo, commit in RELEASED:
        for full_name, cfg in get_arch_pretrained_cfgs(legacy).items():
            place = {"hub": f"smp-hub/{repo}.imagenet", "revision": commit, "layout": "timm-legacy"}
            table.setdefault(name, {})[cfg.tag] = place | _entry(full_name, cfg, scores)
    return dict(sorted(table.items()))


def _entry(full_name: str, cfg: PretrainedCfg, scores: Scores) -> dict[str, Any]:
    """What is worth saying; what is as always (1000 classes, ImageNet's mean) is left out."""
    if cfg.crop_mode not in ("center", "squash") or cfg.label_offset or cfg.input_size[0] != 3 or cfg.custom_load:
        raise NotImplementedError(f"{full_name} is used in a way that we have no word for: {cfg}")
    said: dict[str, Any] = {
        "sha256": HASHES.get(full_name),
        "extra": EXTRAS.get(full_name),
        "num_classes": cfg.num_classes if cfg.num_classes != 1000 else None,
        "trained_on": [images for word, images in IMAGES.items() if word in cfg.tag],
        "license": cfg.license,
        "interpolation": cfg.interpolation,
        "squash": cfg.crop_mode == "squash" or None,
        "mean": list(cfg.mean) if cfg.mean != timm.data.IMAGENET_DEFAULT_MEAN else None,
        "std": list(cfg.std) if cfg.std != timm.data.IMAGENET_DEFAULT_STD else None,
        "at": list(_sizes(full_name, cfg, scores)),
    }
    if not said["trained_on"]:
        raise NotImplementedError(f"{full_name}: no word for the images that it was trained on")
    return {key: value for key, value in said.items() if value is not None}


def _sizes(full_name: str, cfg: PretrainedCfg, scores: Scores) -> Iterator[dict[str, Any]]:
    """The size that timm uses by default; then the one, mostly larger, that it tests at, where that is another."""
    usual = cfg.input_size[-1], cfg.crop_pct
    tested = (cfg.test_input_size or cfg.input_size)[-1], cfg.test_crop_pct or cfg.crop_pct
    for size, crop in dict.fromkeys([usual, tested]):
        at = {"size": size, "resize": math.floor(size / crop)}  # timm.data.transforms_imagenet_eval
        top = scores.get((full_name, size, f"{crop:.3f}"))
        yield at | ({"top1": top[0], "top5": top[1]} if top else {})


def render(table: dict[str, dict[str, dict[str, Any]]], *, version: str, commit: str) -> str:
    """The table as TOML."""
    lines = [
        "# Pretrained weights on the hub, for hub.py. Written by tools/hub.py, not by hand.",
        f"timm = {json.dumps(version)}",
        f"scores = {json.dumps('huggingface/pytorch-image-models, results/results-imagenet.csv at ' + commit)}",
    ]
    for name, tags in table.items():
        for tag, entry in tags.items():
            lines += ["", f"[weights.{name}.{tag}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list) and isinstance(value[0], dict):
        return "[\n" + "".join(f"  {_toml(item)},\n" for item in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    results, commit = sys.argv[1:]
    TABLE.write_text(render(weights(read_scores(Path(results))), version=timm.__version__, commit=commit))
