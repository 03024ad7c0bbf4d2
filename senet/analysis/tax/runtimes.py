"""Other programs that run networks: each takes a module and gives the function that runs it there, on the CPU."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["onnxruntime", "openvino"]


def onnxruntime(module: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """A network in ONNX Runtime, as PyTorch exports it.

    Args:
        module: in evaluation, float32.
        x: what it will be called with.
    """
    runtime: Any = importlib.import_module("onnxruntime")

    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        program.save(str(file))
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.numpy()})


def openvino(module: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """A network in OpenVINO, as it reads PyTorch's modules.

    Args:
        module: in evaluation, float32.
        x: what it will be called with.
    """
    runtime: Any = importlib.import_module("openvino")

    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    converted = runtime.convert_model(module, example_input=x, input=[tuple(x.shape)])
    compiled = runtime.compile_model(converted, "CPU", threads)
    return lambda images: compiled([images.numpy()])
