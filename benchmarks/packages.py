r"""Measures what `fuse`, `fold` and `record` do with networks of other packages that have gates.

Each is built with fresh weights, its gates are counted by what a run of it dispatches (benchmarks/dispatched.py), and
its numbers are compared in float64 (benchmarks/agreement.py). These packages are needed here alone, not by senet or its
tests. Make an environment of their own, which sees the project's; most are installed without what they ask for, since
that is more than their networks need, and some of it is too old:

    .venv/bin/python -m venv packages
    packages/bin/python -m pip install setuptools wheel munch einops iopath fvcore parameterized pandas scipy \
        tokenizers regex hyperpyyaml sentencepiece joblib six loguru requests
    packages/bin/python -m pip install --no-deps --no-build-isolation segmentation-models-pytorch monai geffnet \
        efficientnet-pytorch pytorchcv torchreid transformers speechbrain torchaudio pretrainedmodels pytorchvideo \
        timm-3d segmentation-models-pytorch-3d pytorch-toolbelt opencv-python-headless pytorch-tools vit-pytorch glasses
    PYTHONPATH="$PWD:$(echo .venv/lib/python3.*/site-packages)" packages/bin/python benchmarks/packages.py
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from agreement import commit, mark, measured, newest, put, stale
from torch import nn

RESULTS = Path(__file__).parent / "results" / "packages.jsonl"


@dataclass(frozen=True)
class Network:
    """A network of a package.

    Attributes:
        package: its name in the registry.
        build: makes it.
        shapes: of its input, batch first, at two sizes.
    """

    package: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = ((2, 3, 64, 96), (3, 3, 96, 64))


def _made(where: str, *args: Any, **kwargs: Any) -> Any:
    """Calls ``module:name``."""
    module, name = where.split(":")
    made = import_module(module)
    for part in name.split("."):
        made = getattr(made, part)
    return made(*args, **kwargs)


def _of(package: str, where: str, *args: Any, shapes: Any = None, **kwargs: Any) -> Network:
    build = partial(_made, where, *args, **kwargs)
    return Network(package, build, shapes) if shapes else Network(package, build)


def _transformers(name: str, **config: Any) -> Network:
    def build() -> nn.Module:
        settings = _made(f"transformers:{name}Config", **config)
        return _made(f"transformers:{name}ForImageClassification", settings)

    return Network("transformers", build)


def _contextnet() -> nn.Module:
    return _made(
        "speechbrain.lobes.models.ContextNet:ContextNet",
        input_shape=(2, 40, 16),
        out_channels=24,
        conv_channels=[16, 16, 24, 24],
        strides=[1, 2, 1, 1],
        num_blocks=4,
        num_layers=2,
    )


# More than one pixel after a stride of 32
VOLUMES = ((2, 3, 32, 64, 32), (3, 3, 64, 32, 32))
OWN = ((2, 3, 224, 224), (3, 3, 224, 224))  # the one size that their last pool takes
SPEECH = ((2, 40, 16), (3, 56, 16))
_SMP = "segmentation_models_pytorch"
_MONAI = "monai.networks.nets"
_BRAIN = "speechbrain.lobes.models"

NETWORKS = {
    "smp Unet, efficientnet-b0, scSE decoder": _of(
        *("segmentation-models-pytorch", f"{_SMP}:Unet", "efficientnet-b0"),
        encoder_weights=None,
        decoder_attention_type="scse",
    ),
    "smp FPN, se_resnet50": _of("segmentation-models-pytorch", f"{_SMP}:FPN", "se_resnet50", encoder_weights=None),
    "smp DeepLabV3Plus, mobileone_s4": _of(
        "segmentation-models-pytorch", f"{_SMP}:DeepLabV3Plus", "mobileone_s4", encoder_weights=None
    ),
    "smp Linknet, timm-regnety_002": _of(
        "segmentation-models-pytorch", f"{_SMP}:Linknet", "tu-regnety_002", encoder_weights=None
    ),
    "monai SEResNet50, 2-D": _of("monai", f"{_MONAI}:SEResNet50", spatial_dims=2, in_channels=3, num_classes=5),
    "monai SEResNet50, 3-D": _of(
        "monai", f"{_MONAI}:SEResNet50", spatial_dims=3, in_channels=3, num_classes=5, shapes=VOLUMES
    ),
    "monai EfficientNet-b0, 3-D": _of(
        *("monai", f"{_MONAI}:EfficientNetBN", "efficientnet-b0"),
        pretrained=False,
        spatial_dims=3,
        in_channels=3,
        shapes=VOLUMES,
    ),
    "geffnet mixnet_s": _of("geffnet", "geffnet:mixnet_s", pretrained=False),
    "geffnet mobilenetv3_large_100": _of("geffnet", "geffnet:mobilenetv3_large_100", pretrained=False),
    "geffnet efficientnet_b0": _of("geffnet", "geffnet:efficientnet_b0", pretrained=False),
    "efficientnet-pytorch b0": _of(
        "efficientnet-pytorch", "efficientnet_pytorch:EfficientNet.from_name", "efficientnet-b0"
    ),
    **{
        f"pytorchcv {name}": _of("pytorchcv", "pytorchcv.model_provider:get_model", name, shapes=OWN)
        for name in ("seresnet10", "sepreresnet10", "mobilenetv3_small_w7d20", "cbam_resnet18")
    },
    "torchreid osnet_x0_25": _of(
        *("torchreid", "torchreid.reid.models.osnet:osnet_x0_25"), num_classes=5, pretrained=False, loss="softmax"
    ),
    "torchreid osnet_ain_x0_25": _of(
        *("torchreid", "torchreid.reid.models.osnet_ain:osnet_ain_x0_25"),
        num_classes=5,
        pretrained=False,
        loss="softmax",
    ),
    "torchreid se_resnet50": _of(
        *("torchreid", "torchreid.reid.models.senet:se_resnet50"), num_classes=5, pretrained=False, loss="softmax"
    ),
    "transformers EfficientNet": _transformers(
        "EfficientNet", image_size=64, width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640
    ),
    "transformers RegNetY": _transformers(
        "RegNet", depths=[1, 1, 2, 1], hidden_sizes=[24, 56, 152, 368], groups_width=8
    ),
    "transformers PP-LCNet": _transformers("PPLCNet"),
    "speechbrain ECAPA-TDNN": _of(
        *("speechbrain", f"{_BRAIN}.ECAPA_TDNN:ECAPA_TDNN", 16),
        channels=[32, 32, 32, 32, 96],
        se_channels=16,
        attention_channels=16,
        res2net_scale=4,
        lin_neurons=24,
        shapes=SPEECH,
    ),
    "speechbrain ResNet": _of(
        *("speechbrain", f"{_BRAIN}.ResNet:ResNet"),
        input_size=16,
        channels=[16, 16, 32, 32],
        lin_neurons=24,
        shapes=SPEECH,
    ),
    "speechbrain ContextNet": Network("speechbrain", _contextnet, SPEECH),
    "pretrainedmodels se_resnet50": _of(
        "pretrainedmodels", "pretrainedmodels:se_resnet50", pretrained=None, shapes=OWN
    ),
    "pytorchvideo X3D-XS": _of(
        *("pytorchvideo", "pytorchvideo.models.x3d:create_x3d"),
        input_clip_length=4,
        input_crop_size=64,
        model_num_class=5,
        head_output_with_global_average=True,
        shapes=((2, 3, 4, 64, 64), (3, 3, 4, 64, 96)),
    ),
    "timm-3d seresnet18": _of("timm-3d", "timm_3d:create_model", "seresnet18", shapes=VOLUMES),
    "timm-3d efficientnet_b0": _of("timm-3d", "timm_3d:create_model", "efficientnet_b0", shapes=VOLUMES),
    "smp-3d Unet, efficientnet-b0": _of(
        *("segmentation-models-pytorch-3d", "segmentation_models_pytorch_3d:Unet", "efficientnet-b0"),
        encoder_weights=None,
        decoder_attention_type="scse",
        shapes=VOLUMES,
    ),
    "pytorch-toolbelt se_resnet50": _of(
        "pytorch-toolbelt", "pytorch_toolbelt.modules.backbone.senet:se_resnet50", pretrained=None, shapes=OWN
    ),
    "pytorch-tools resnet34 with SE": _of(
        "pytorch-tools", "pytorch_tools.models:resnet34", pretrained=None, attn_type="se"
    ),
    "pytorch-tools resnet34 with ECA": _of(
        "pytorch-tools", "pytorch_tools.models:resnet34", pretrained=None, attn_type="eca"
    ),
    "vit-pytorch MaxViT": _of(
        *("vit-pytorch", "vit_pytorch.max_vit:MaxViT"),
        num_classes=5,
        dim=32,
        depth=(1, 1),
        dim_head=16,
        window_size=4,
        shapes=((2, 3, 64, 96), (3, 3, 96, 64)),
    ),
    "glasses EfficientNet-b0": _of("glasses", "glasses.models:EfficientNet.efficientnet_b0"),
}


def row(name: str, at: str) -> dict[str, Any]:
    """The row of a network, measured at a commit; an error is a result too."""
    network = NETWORKS[name]
    about = {"name": name, "package": network.package, "version": version(network.package)}
    torch.manual_seed(0)
    inputs = [(torch.randn(shape, dtype=torch.float64),) for shape in network.shapes]
    try:
        found = measured(lambda: _fresh(network), inputs, example=True)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    return about | found | {"torch": torch.__version__, "commit": at}


def _fresh(network: Network) -> nn.Module:
    torch.manual_seed(0)
    return network.build()


def main() -> None:
    """Takes the networks that have no row of this state of senet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks, or words of their names; none: all without a row")
    parser.add_argument("--keep", action="store_true", help="mark rows of an older state instead of taking them again")
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # the packages', about themselves
    torch.set_num_threads(1)
    # Once, for it is this state that is loaded, whatever is committed meanwhile
    at, done, is_stale = commit(), newest(RESULTS), stale()
    if options.keep:
        print("marked:", *mark(RESULTS))
    for name in NETWORKS:
        wanted = any(word in name for word in options.names)
        fresh = name in done and (options.keep or not is_stale(done[name]))
        if wanted or (not options.names and not fresh):
            found = row(name, at)
            print(json.dumps(found), flush=True)
            if not options.dry:
                put(RESULTS, found)


if __name__ == "__main__":
    main()
