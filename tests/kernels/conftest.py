"""Triton's kernels, interpreted and compiled, in one process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

MODULES = ("triton_tiles", "triton_kernels", "triton_sweeps")


@pytest.fixture(scope="session")
def load_triton_sweeps() -> Callable[[bool], ModuleType]:
    """Loads the sweeps once more, their kernels to be interpreted or else compiled, whatever was imported before."""

    def load(interpret: bool) -> ModuleType:
        triton = pytest.importorskip("triton")
        package = importlib.import_module("senet.kernels")
        with pytest.MonkeyPatch.context() as patch, triton.knobs.runtime.scope():
            triton.knobs.runtime.interpret = interpret
            for name in MODULES:
                patch.delitem(sys.modules, f"senet.kernels.{name}", raising=False)
                patch.delattr(package, name, raising=False)
            module = importlib.import_module("senet.kernels.triton_sweeps")
            for name in MODULES:
                del sys.modules[f"senet.kernels.{name}"]
                delattr(package, name)
        return module

    return load


@pytest.fixture(scope="module")
def interpreted(load_triton_sweeps) -> ModuleType:
    return load_triton_sweeps(True)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Mends where the interpreter rounds differently from a GPU, and where an older one fails with a newer NumPy."""
    interpreter = importlib.import_module("triton.runtime.interpreter")

    def convert(data: np.ndarray, source, target, mode) -> np.ndarray:
        if target == interpreter.tl.float32:
            return data.astype(np.uint32) << 16
        bits = data.view(np.uint32).astype(np.uint64)  # to nearest, ties to even, where the interpreter truncates
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return np.where(np.isnan(data), np.uint16(0x7FC0), rounded)

    def add_pairs(self, values):
        data = np.moveaxis(values[0].handle.data, self.axis, 0)
        while len(data) > 1:
            data = data[::2] + data[1::2]
        return self.to_tensor(data[0], values[0].dtype)

    def patch_tensor(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    patch = interpreter._patch_lang_tensor
    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_tensor)
    monkeypatch.setattr(interpreter, "_convert_float", convert)
    monkeypatch.setattr(interpreter.ReduceOps, "apply_impl", add_pairs)
    with np.errstate(all="ignore"):
        yield
