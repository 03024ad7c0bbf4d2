"""Caffe's ``.caffemodel`` files: protocol buffers of layers, each with the blobs that hold its parameters.

The messages are those of BVLC/caffe, ``src/caffe/proto/caffe.proto``, of which only the fields read here are declared.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError
from senet.models.weights.kinds import refuse_other_kinds

__all__ = ["read_caffe"]

# message -> field -> number, type, whether repeated. Packed numbers are declared as the bytes that they are on the
# wire, little-endian: nothing unpacks hundreds of millions of them one by one.
_MESSAGES = {
    "BlobShape": {"dim": (1, "INT64", True)},
    "BlobProto": {
        "num": (1, "INT32", False),
        "channels": (2, "INT32", False),
        "height": (3, "INT32", False),
        "width": (4, "INT32", False),
        "data": (5, "BYTES", True),
        "shape": (7, "BlobShape", False),
        "double_data": (8, "BYTES", True),
    },
    "LayerParameter": {"name": (1, "BYTES", False), "blobs": (7, "BlobProto", True)},
    "NetParameter": {"layers": (2, "BYTES", True), "layer": (100, "LayerParameter", True)},
}


def read_caffe(path: Path) -> dict[str, list[Tensor]]:
    """The layers of a ``.caffemodel`` that have parameters, by name.

    Returns:
        For each layer its blobs in Caffe's order, float32, in the shape the file gives them: four numbers where it
        was written before Caffe had shapes.

    Raises:
        InputError: there is no such file, it is no ``.caffemodel`` or is cut off, it is of Caffe's old format, it has
            no parameters, or the package protobuf is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError:
        raise InputError(f"reading {path} needs protobuf; pip install 'senet[weights]'") from None
    net = _net_parameter()()
    if path.is_file():
        refuse_other_kinds(path)
    try:
        net.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except DecodeError as error:
        raise InputError(f"{path} is no .caffemodel, or is cut off: {error}") from None
    if net.layers:
        raise InputError(f"{path} is of Caffe's old format; bring it up to date with upgrade_net_proto_binary")
    layers: dict[str, list[Tensor]] = {}
    for layer in net.layer:
        name = layer.name.decode(errors="replace")
        if layer.blobs and name in layers:
            raise InputError(f"{path} has two layers called {name!r}; give a file as Caffe's solver writes it")
        if layer.blobs:
            layers[name] = [_tensor(blob, f"{path}: layer {name!r}") for blob in layer.blobs]
    if not layers:
        raise InputError(f"{path} has no layer with parameters; give a .caffemodel as Caffe's solver writes it")
    return layers


def _tensor(blob: Any, what: str) -> Tensor:
    """The numbers of a BlobProto, in its shape."""
    dtype = torch.float64 if blob.double_data else torch.float32
    data = bytearray(b"".join(blob.double_data or blob.data))
    legacy = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else legacy
    if min(shape, default=1) < 1 or math.prod(shape) * dtype.itemsize != len(data):
        raise InputError(f"{what} has a blob of shape {list(shape)} in {len(data)} bytes; the file is damaged")
    return torch.frombuffer(data, dtype=dtype).reshape(shape).float()


@cache
def _net_parameter() -> Any:
    """The class of the message that a ``.caffemodel`` is."""
    from google.protobuf import descriptor_pool, message_factory
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

    file = FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, (number, kind, repeated) in fields.items():
            field = declared.field.add(name=name, number=number)
            field.label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()  # its own: another program's caffe.proto may be in the default one
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
