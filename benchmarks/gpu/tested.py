"""The tests of operators and surgery where the figures are to be measured: nothing is timed before they pass."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.results import ROOT
from benchmarks.gpu.setting import Case, Setting

__all__ = ["cases"]


def cases(setting: Setting, _clock: Clock) -> Iterator[Case]:
    """One case; it fails where a test does."""
    yield Case({"tests": " ".join(setting.tests)}, lambda: _run(setting), 240)


def _run(setting: Setting) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *setting.tests]
    since = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the tests failed:\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}")
    counts = re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])
    return {
        "outcome": {what: int(n) for n, what in counts if what in ("passed", "skipped", "xfailed")},
        "seconds": round(time.perf_counter() - since, 1),
    }
