"""Lines of results, one file a part: written as they come, and looked up so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from senet.measure import device_name

__all__ = ["Results", "about", "incomplete"]

ROOT = Path(__file__).parents[2]
# What a result holds for: with any of these changed, a case is measured again.
_SAME = ("device", "torch", "triton", "sources")


class Results:
    """A folder of lines.

    Args:
        folder: is made if it is not there.
        about: what every line says of where and what was measured, see :func:`about`.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._about = folder, dict(about)

    def lines(self, part: str) -> list[dict[str, Any]]:
        """The lines of a part that hold for this machine and these sources; failures are none."""
        path = self._folder / f"gpu-{part}.jsonl"
        read = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in read if "error" not in line and all(line[k] == self._about[k] for k in _SAME)]

    def find(self, part: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last line of a case, if there is one."""
        same = [line for line in self.lines(part) if all(line[k] == v for k, v in key.items())]
        return same[-1] if same else None

    def append(self, part: str, key: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Adds a line."""
        line = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **self._about, **key, **found}
        with (self._folder / f"gpu-{part}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def about(device: torch.device, commit: str | None) -> dict[str, Any]:
    """Device, driver, versions, commit, and a digest of the sources that are measured."""
    packages = ("torch", "triton", "timm")
    versions = {p: importlib.metadata.version(p) if importlib.util.find_spec(p) else "none" for p in packages}
    return {
        "device": device_name(device),
        "driver": _driver() if device.type == "cuda" else "none",
        "cuda": torch.version.cuda or "none",
        **versions,
        "commit": commit or _commit(),
        "sources": _digest(),
    }


def incomplete(line: Mapping[str, Any]) -> list[str]:
    """What is missing in a line: numbers that are none, and parts that are empty."""

    def missing(name: str, value: Any) -> list[str]:
        if isinstance(value, dict):
            return [found for key, part in value.items() for found in missing(f"{name}.{key}", part)] or (
                [] if value else [name]
            )
        if isinstance(value, list):
            return [found for part in value for found in missing(name, part)] or ([] if value else [name])
        bad = value is None or value == "" or (isinstance(value, float) and not math.isfinite(value))
        return [name] if bad else []

    return [found for name, value in line.items() for found in missing(name, value)]


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit("git does not know the commit of these sources; say it with --commit")
    return done.stdout.strip()


def _digest() -> str:
    """Of the operators, the sites and the surgery: what every part measures."""
    digest = hashlib.sha256()
    for room in ("kernels", "blocks", "surgery"):
        for path in sorted((ROOT / "senet" / room).rglob("*")):
            if path.suffix in (".py", ".cpp"):
                digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
