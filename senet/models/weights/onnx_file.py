"""ONNX files: their parameters by name, whether the exporter wrote initializers or constant nodes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from senet.errors import InputError

__all__ = ["read_onnx"]


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a graph that have an axis: its parameters, by the names they have there.

    Shapes, axes and scalars, which exporters write among them, are left out. Nothing is run.

    Returns:
        float16, float32 or float64, as in the file.

    Raises:
        InputError: it is no ONNX file or is cut off, it has no parameters or keeps them in other files, or the package
            onnx is not installed.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError:
        raise InputError(f"reading {path} needs onnx; pip install 'senet[export]'") from None
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except DecodeError as error:
        raise InputError(f"{path} is no ONNX file, or is cut off: {error}") from None
    constants = {
        n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.HasField("t")
    }
    named = {**{tensor.name: tensor for tensor in graph.initializer}, **constants}
    kinds = (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    found = {name: tensor for name, tensor in named.items() if tensor.dims and tensor.data_type in kinds}
    if not found:
        raise InputError(f"{path} has no parameters; give an ONNX file of a network with its weights")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in found.values()):
        raise InputError(f"{path} keeps its weights in another file; export it anew with external_data=False")
    try:
        return {name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for name, tensor in found.items()}
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
