from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Blocks of their own are given back when freed; those in the heap can be kept.
PROGRAM = """
import ctypes
import torch
from senet.train.memory import keep_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks a b c d".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info

def in_heap():
    before = mallinfo().hblks
    kept.append(torch.empty(30 * 2**20, dtype=torch.uint8))
    return mallinfo().hblks == before

kept = []
print(in_heap())
keep_freed_memory()
print(in_heap())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 33),
    reason="other allocators have other rules",
)
def test_large_blocks_come_from_the_heap(monkeypatch):
    for name in (
        "LD_PRELOAD",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_MMAP_MAX_",
        "GLIBC_TUNABLES",
    ):
        monkeypatch.delenv(name, raising=False)  # they would fix the rules
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
