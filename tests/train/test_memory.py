from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Pages that were given back are faulted in anew, one by one; those that were kept are not.
PROGRAM = """
import resource
import torch
from senet.train.memory import keep_freed_memory

def faults(mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(mebibytes * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def settled(mebibytes):
    faults(mebibytes)
    return faults(mebibytes)

print(settled(20), settled(200))
keep_freed_memory()
print(settled(20), settled(200))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have other rules")
def test_what_was_freed_is_not_faulted_in_again(monkeypatch):
    for name in (
        "LD_PRELOAD",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_MMAP_MAX_",
        "GLIBC_TUNABLES",
    ):
        monkeypatch.delenv(name, raising=False)  # they would fix the rules
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after = ([int(count) for count in line.split()] for line in done.stdout.splitlines())
    assert before[1] >= 100  # a fault a page of 2 MiB, or of 4 KiB
    assert max(after) <= 10
