r"""Compares senet.keras with PyTorch under Keras's three backends, and has each read the files of all.

Each backend runs in an environment of its own, given by its folder, since some of TensorFlow's and JAX's packages want
other versions than the project's. PyTorch has to be in each: `import senet` loads it, and the blocks compared with are
its. Installing it again would be gigabytes for each, so those environments see the project's packages behind their own:

    for name in jax tensorflow; do python3 -m venv keras-$name; done
    keras-jax/bin/python -m pip install keras==3.15.1 jax
    keras-tensorflow/bin/python -m pip install keras==3.15.1 tensorflow-cpu numpy==2.4.6
    for name in jax tensorflow; do
        echo "$PWD"/.venv/lib/python3.*/site-packages > "$(echo keras-$name/lib/python3.*/site-packages)/project.pth"
    done
    .venv/bin/python benchmarks/keras_backends.py --torch .venv --jax keras-jax --tensorflow keras-tensorflow

Differences are the largest, relative to the largest number that PyTorch gives. Weights and norms are random.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "keras.jsonl"
BACKENDS = ("torch", "jax", "tensorflow")
FORMATS = ("channels_last", "channels_first")
# What a row is called, the block, its options, and the sizes of its map
BLOCKS: Mapping[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "SqueezeExcite": ("se", {}, (9, 7)),
    "SqueezeExcite, max, hard sigmoid": ("se", {"squeeze": "max", "gate": "hard_sigmoid"}, (9, 7)),
    "SqueezeExcite, no squeeze, GELU, tanh": ("se", {"squeeze": "none", "activation": "gelu", "gate": "tanh"}, (9, 7)),
    "SqueezeExcite, sequence": ("se", {}, (9,)),
    "SqueezeExcite, volume": ("se", {}, (5, 9, 7)),
    "EffectiveSE": ("ese", {}, (9, 7)),
    "ECA": ("eca", {}, (9, 7)),
    "CBAM": ("cbam", {}, (9, 7)),
}
NETWORKS: Mapping[str, int] = {"cifar_seresnet20": 32, "seresnet50": 64}
# Networks of keras.applications, and behind which layers SE goes
CLONES = {"ResNet50": "conv*_block*_3_bn", "VGG16": "block*_conv?", "MobileNet": "conv_dw_*_relu"}


def main() -> None:
    """Runs every backend in its environment, then lets each read all files, and keeps the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for backend in BACKENDS:
        parser.add_argument(f"--{backend}", type=Path, help=f"folder of the environment with Keras and {backend}")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)  # what a child does: part, backend, folder of files
    options = parser.parse_args()
    if options.part:
        part, backend, folder = options.part
        for row in PARTS[part](backend, Path(folder)):
            print(json.dumps(row), flush=True)
        return
    if missing := [backend for backend in BACKENDS if getattr(options, backend) is None]:
        parser.error(f"give the folder of an environment for each backend; missing: --{', --'.join(missing)}")
    rows: list[dict[str, Any]] = [{"what": "run", "commit": _commit(), "machine": platform.machine()}]
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            for backend in BACKENDS:
                print(f"{part}, {backend}", flush=True)
                rows += _child(part, backend, getattr(options, backend), folder)
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _child(part: str, backend: str, environment: Path, folder: str) -> list[dict[str, Any]]:
    settings = {
        "KERAS_BACKEND": backend,
        "KERAS_HOME": folder,  # and not the settings that somebody has at home
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [str(environment.absolute() / "bin" / "python"), __file__, "--part", part, backend, folder]
    done = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(backend: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of versions, blocks, networks and clones of a backend; leaves files for :func:`read`."""
    import keras

    package = "tensorflow-cpu" if backend == "tensorflow" else backend
    names = ("keras", "numpy", "h5py")
    assert keras.config.backend() == backend
    about = {"what": "versions", "backend": backend, "python": platform.python_version(), "torch": version("torch")}
    yield about | {name: version(name) for name in names} | {backend: version(package)}
    for name in BLOCKS:
        for data_format in FORMATS:
            for policy in ("float32", "mixed_bfloat16"):
                yield {"what": "block", "backend": backend} | _block(name, data_format, policy)
    for name in NETWORKS:
        for data_format in FORMATS:
            yield {"what": "network", "backend": backend} | _network(name, data_format)
    yield {"what": "training", "backend": backend, "losses": _losses()}
    for name in CLONES:
        yield {"what": "clone", "backend": backend} | _clone(name)
    for name, make in FILES.items():
        model = make()
        x = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype("float32")
        model.save(folder / f"{name} {backend}.keras")
        np.savez(folder / f"{name} {backend}.npz", x=x, y=_array(model(x, training=False)))


def read(backend: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of the files of all backends, read under one."""
    import keras

    import senet.keras  # noqa: F401, whose layers the files name

    for name in FILES:
        for writer in BACKENDS:
            model = keras.models.load_model(folder / f"{name} {writer}.keras")
            with np.load(folder / f"{name} {writer}.npz") as kept:
                found = _difference(_array(model(kept["x"], training=False)), kept["y"])
            yield {"what": "file", "backend": backend, "writer": writer, "model": name, "difference": found}


PARTS: dict[str, Callable[[str, Path], Iterator[dict[str, Any]]]] = {"compare": compare, "read": read}


def _block(name: str, data_format: str, policy: str) -> dict[str, Any]:
    """A block and its layer on one map, and its weights there and back."""
    import torch

    import senet.keras

    torch.manual_seed(0)
    kind, options, sizes = BLOCKS[name]
    block = _random(senet.create_block(kind, 64, options)).eval()
    u = torch.randn(3, 64, *sizes)
    if policy != "float32":
        u = u.bfloat16()
    layer = senet.keras.from_torch(block, data_format=data_format, dtype=policy)
    with torch.no_grad():
        expected = block(u).float().numpy()
    y = _array(layer(_laid_out(u.float().numpy(), data_format)))
    back = senet.keras.to_torch(layer).state_dict()
    same = all(torch.equal(tensor, back[key]) for key, tensor in block.state_dict().items() if "num_batches" not in key)
    difference = _difference(y, _laid_out(expected, data_format))
    return {
        "layer": name, "data_format": data_format, "policy": policy, "difference": difference, "weights_back": same,
    }  # fmt: skip


def _network(name: str, data_format: str) -> dict[str, Any]:
    """A network and the model made of it, on one batch."""
    import torch

    import senet.keras

    torch.manual_seed(0)
    net = _random(senet.create_model(name)).eval()
    x = torch.randn(2, 3, NETWORKS[name], NETWORKS[name])
    with torch.no_grad():
        expected = net(x).numpy()
    model = senet.keras.from_torch(net, data_format=data_format)
    row: dict[str, Any] = {"network": name, "data_format": data_format, "parameters": model.count_params()}
    try:
        y = _array(model(_laid_out(x.numpy(), data_format), training=False))
    except Exception as error:  # TensorFlow's own refusal is a result
        return row | {"error": type(error).__name__}
    return row | {"difference": _difference(y, expected), "largest": float(np.abs(expected).max())}


def _clone(name: str) -> dict[str, Any]:
    """A network of keras.applications before and after SE, started as the identity and as the paper has it."""
    import senet.keras

    model = _application(name, size=64)
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype("float32")
    y = _array(model(x, training=False))
    row: dict[str, Any] = {"network": name, "where": CLONES[name]}
    for start in ("identity", "paper"):
        new = senet.keras.attach(model, where=CLONES[name], start=start)
        row["sites"] = sum(isinstance(layer, senet.keras.SqueezeExcite) for layer in new.layers)
        row[start] = _difference(_array(new(x, training=False)), y)
    return row


def _losses() -> list[float]:
    """The loss before each of four steps of SGD from the same weights, on the same batch."""
    import keras

    model = _blocks_in_a_row()
    model = keras.Model(model.input, keras.layers.GlobalAveragePooling2D()(model.output))
    model.compile(keras.optimizers.SGD(50.0, momentum=0.9), "mse")
    rng = np.random.default_rng(0)
    x, wanted = (rng.standard_normal(shape).astype("float32") for shape in ((8, 32, 32, 3), (8, 32)))
    return [float(model.train_on_batch(x, wanted)) for _ in range(4)]


def _application(name: str, *, size: int) -> Any:
    """A network of keras.applications with random norms: fresh, its logits hardly depend on what SE does."""
    import keras

    keras.utils.set_random_seed(0)
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return model


def _blocks_in_a_row() -> Any:
    import keras
    import torch

    import senet.keras

    torch.manual_seed(0)
    inputs = x = keras.Input((32, 32, 3))
    first = keras.initializers.Constant(np.random.default_rng(0).standard_normal((3, 3, 3, 32)) / 4)
    x = keras.layers.Conv2D(32, 3, padding="same", kernel_initializer=first)(x)
    for name in ("se", "ese", "eca", "cbam"):
        x = senet.keras.from_torch(_random(senet.create_block(name, 32)))(x)
    return keras.Model(inputs, x)


def _cifar() -> Any:
    import torch

    import senet.keras

    torch.manual_seed(0)
    return senet.keras.from_torch(_random(senet.create_model("cifar_seresnet20")))


def _attached() -> Any:
    import senet.keras

    model = _application("MobileNet", size=32)
    return senet.keras.attach(model, where=CLONES["MobileNet"], start="paper")


FILES: Mapping[str, Callable[[], Any]] = {
    "the four layers in a row": _blocks_in_a_row,
    "cifar_seresnet20": _cifar,
    "MobileNet with SE": _attached,
}


def _random(module: Any) -> Any:
    """Norms and biases that hide nothing."""
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor, low, high in (
                (part.weight, 0.5, 1.5), (part.bias, -0.5, 0.5),
                (part.running_mean, -0.5, 0.5), (part.running_var, 0.5, 1.5),
            ):  # fmt: skip
                nn.init.uniform_(tensor, low, high)
        elif isinstance(part, (nn.Conv2d, nn.Linear)) and part.bias is not None:
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module


def _laid_out(x: np.ndarray, data_format: str) -> np.ndarray:
    return x if data_format == "channels_first" else np.moveaxis(x, 1, -1)


def _array(x: Any) -> np.ndarray:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")))


def _difference(given: np.ndarray, expected: np.ndarray) -> float:
    assert given.shape == expected.shape
    return float(np.abs(given - expected).max() / np.abs(expected).max())


def _commit() -> str:
    """The commit that is measured, ``-dirty`` if the package or this file has changes that are in none."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        "-dirty" if git("status", "--porcelain", "--", "senet", "benchmarks/keras_backends.py") else ""
    )


if __name__ == "__main__":
    main()
