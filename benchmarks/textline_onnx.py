"""What PaddleOCR's file computes: by ONNX Runtime in float32, and by the package onnx itself in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor

__all__ = ["by_definition", "by_runtime"]

LOGITS = "linear_1.tmp_1"


def by_runtime(weights: Path, x: Tensor) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Probabilities (N, 2), logits (N, 2) and the gates of each block (N, C) for RGB images, by ONNX Runtime."""
    import onnxruntime

    model = onnx.load(weights)
    names = [LOGITS, *(node.output[0] for node in model.graph.node if node.op_type == "HardSigmoid")]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    probabilities, logits, *gates = session.run(None, {"x": _blue_first(x)})
    return probabilities, logits, [gate[:, :, 0, 0] for gate in gates]


def by_definition(weights: Path, x: Tensor) -> np.ndarray:
    """Logits (N, 2) in float64 by onnx's reference evaluator, which is NumPy.

    The file's slope of the gate and eps of the norms stay what they are, 0.2 and 1e-5 rounded to float32.
    """
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(weights)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(LOGITS))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == onnx.TensorProto.FLOAT:
                value = onnx.numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(onnx.numpy_helper.from_array(value))
            if attribute.name == "momentum":
                attribute.f = 1.0  # the evaluator updates these norms before it uses them: not by this batch
    results: list[Any] = ReferenceEvaluator(model).run([LOGITS], {"x": _blue_first(x.double())})
    return results[0]


def _blue_first(x: Tensor) -> np.ndarray:
    return x.flip(1).numpy()
