"""senet doctor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable

import typer

__all__ = ["COMMANDS"]

PACKAGES = (
    ("torchvision", "train"), ("accelerate", "train"), ("torchmetrics", "train"), ("safetensors", "train"),
    ("tensorboard", "train"), ("matplotlib", "plot"), ("jinja2", "plot"), ("onnx", "export"), ("onnxruntime", "export"),
    ("webdataset", "shards"), ("faster-coco-eval", "detection"), ("keras", "keras"), ("timm", "dev"),
    ("triton", "comes with torch on CUDA machines"),
)  # fmt: skip


def doctor() -> None:
    """Say what is installed, which device is used, and which data lie at hand."""
    import torch

    import senet
    from senet.kernels.dispatch import explain

    rows = [
        ("senet", senet.__version__),
        ("python", f"{platform.python_version()} on {platform.machine()}"),
        ("torch", torch.__version__),
    ]
    for name, extra in PACKAGES:
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, f"not installed ({extra})"))
    if torch.cuda.is_available():
        rows += [
            (f"device {i}", f"{torch.cuda.get_device_name(i)}, {torch.cuda.mem_get_info(i)[1] / 2**30:.0f} GiB")
            for i in range(torch.cuda.device_count())
        ]
    else:
        rows.append(("device", f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads; no CUDA device"))
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    rows += [(f"free SE on {device}", explain(device)) for device in devices]
    if importlib.util.find_spec("torchvision") is not None:
        from senet.train.data.download import cache_dir
        from senet.train.data.fashion_mnist import SYSTEM_DIR, find_files

        places = (SYSTEM_DIR, cache_dir() / "fashion-mnist")
        at_hand = next((str(place) for place in places if find_files(place)), None)
        rows.append(("Fashion-MNIST", at_hand or "not at hand; will be downloaded"))
    rows.append(("chromium", shutil.which("chromium") or "not installed (only the report's own test wants it)"))
    for name, value in rows:
        typer.echo(f"{name:<16} {value}")


COMMANDS: dict[Callable[..., None], str] = {doctor: "senet doctor"}
