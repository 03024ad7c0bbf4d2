"""What the compiler makes of the kernels, for GPUs that need not be here: no spills, 16 bytes a load and store."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from typing import NamedTuple

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
EVERY_FORMAT = pytest.mark.parametrize("layout", FORMATS)
# maps read, maps written, by name; then those that can run on planes of any size
SWEEPS = {
    "moments": (1, 0),
    "affine": (2, 1),
    "affine_backward": (3, 1),
    "spread": (2, 1),
    "squeeze_act": (1, 0),
    "gate_act": (1, 1),
    "gate_act_backward": (2, 0),
    "spread_act": (2, 1),
}
MAPS = ("affine", "spread", "gate_act", "spread_act")


class Driver(NamedTuple):
    """Stands for the driver of a GPU that is not here: as much of it as compiling asks for."""

    capability: int

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled(NamedTuple):
    """A kernel: its PTX, and what the assembler said of it."""

    name: str
    ptx: str
    log: str

    @property
    def spilled(self) -> int:
        """Bytes of registers stored to and loaded from memory."""
        found = re.findall(r"(\d+) bytes spill (?:stores|loads)", self.log)
        assert len(found) == 2, self.log
        return sum(map(int, found))

    def accesses(self, kind: str) -> Counter[int]:
        """Global loads (``"ld"``) or stores (``"st"``) by bytes a thread."""
        sizes = re.findall(rf"\b{kind}\.global[\w.:]*?(?:\.v(\d))?\.[a-z](\d+)\b", self.ptx)
        return Counter(int(count or 1) * int(bits) // 8 for count, bits in sizes)


@pytest.fixture(scope="module")
def real(load_triton_sweeps):
    return load_triton_sweeps(False)


@pytest.fixture
def build(real, monkeypatch, tmp_path):
    """``build(capability, name, x, act)``: the kernels of a sweep, compiled from the very arguments of its launch."""

    def build(capability: int, name: str, x: torch.Tensor, act: str = "silu") -> list[Compiled]:
        kernels = []

        def compile_only(kernel, *args, grid, warmup, **options):
            log = io.StringIO()
            kernel.device_caches.clear()
            with contextlib.redirect_stdout(log):
                compiled = run(kernel, *args, grid=grid, warmup=True, **options)
            kernels.append(Compiled(kernel.fn.__name__, compiled.asm["ptx"], log.getvalue()))

        acc = torch.promote_types(x.dtype, torch.float32)
        c = torch.empty(x.shape[:2], dtype=acc)
        arguments = {
            "moments": (x,),
            "affine": (x, c, c, c, x, True),
            "affine_backward": (x, x, x, c),
            "spread": (x, x, c, c, c, c),
            "squeeze_act": (x, c, c, c, act),
            "gate_act": (x, c, c, c, c, act),
            "gate_act_backward": (x, x, c, c, c, act),
            "spread_act": (x, x, c, c, c, c, c, c, c, act),
        }
        run = JITFunction.run
        with monkeypatch.context() as patch, triton.knobs.nvidia.scope(), triton.knobs.compilation.scope():
            triton.knobs.nvidia.dump_ptxas_log = True
            triton.knobs.compilation.always_compile = True  # or there is no log
            patch.setattr(type(triton.runtime.driver), "active", Driver(capability))
            patch.setattr(JITFunction, "run", compile_only)
            patch.setenv("TRITON_CACHE_DIR", str(tmp_path))
            getattr(real, name)(*arguments[name])
        return kernels

    return build


def empty(shape, dtype, layout) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=FORMATS[layout])


@EVERY_FORMAT
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_maps_are_moved_16_bytes_a_thread_and_nothing_is_spilled(build, real, capability, dtype, layout):
    x = empty((32, 256, 56, 56), dtype, layout)
    for name, (reads, writes) in SWEEPS.items():
        kernel, *merge = build(capability, name, x)
        assert kernel.spilled == 0, kernel
        assert [(m.name, m.spilled) for m in merge] == ([("merge_moments_kernel", 0)] if name == "moments" else [])
        plan, _ = real._planned("map" if name in MAPS else "sums", reads, x, None)
        loads = kernel.accesses("ld")
        if layout == "last":  # coefficients too run along channels
            assert set(loads) == {16}
            assert loads[16] >= reads * plan.tile.unroll
        else:
            assert set(loads) <= {16, 4}
            assert loads[16] == reads * plan.tile.unroll
        assert kernel.accesses("st")[16] == writes * plan.tile.unroll
        assert (set(kernel.accesses("st")) <= {16}) == (name in MAPS)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shape", [(32, 256, 7, 7), (8, 64, 57, 57)], ids=["small", "odd"])
def test_planes_of_any_size_are_written_16_bytes_a_thread(build, name, shape):
    (kernel,) = build(90, name, empty(shape, torch.bfloat16, "first"))
    assert kernel.spilled == 0
    assert kernel.accesses("ld")[16] >= SWEEPS[name][0]
    assert set(kernel.accesses("st")) == {16}


@EVERY_FORMAT
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_odd_sizes_and_every_activation_compile(build, dtype, layout):
    x = empty((3, 5, 7, 9), dtype, layout)
    for name, act in zip(SWEEPS, ("none", "relu", "relu6", "none", "gelu", "hard_swish", "relu", "gelu"), strict=True):
        for kernel in build(90, name, x, act):
            assert kernel.spilled == 0, kernel.name
