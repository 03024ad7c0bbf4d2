"""Triton's kernels, interpreted and compiled, in one process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

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
