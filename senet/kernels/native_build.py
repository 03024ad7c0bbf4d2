"""The compiled sweeps, built once on the machine that runs them, for its processor, and kept in the user's cache.

A compiler is the only thing needed, no header of PyTorch's or Python's. The library is linked to the OpenMP runtime
that PyTorch itself has loaded: two runtimes in a process would keep two teams of threads, each as large as the machine.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

__all__ = ["BuildError", "build", "cache_folder", "library"]

_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fPIC", "-shared")
_COMPILERS = ("c++", "g++", "clang++")


class BuildError(RuntimeError):
    """The compiled sweeps cannot be had here; the message is one line that says why and what to do."""


def cache_folder() -> Path:
    """Returns the folder of built libraries: ``$SENET_CACHE``, or ``senet`` in the user's cache folder.

    That is ``$XDG_CACHE_HOME/senet``, or ``~/.cache/senet``.
    """
    if own := os.environ.get("SENET_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "senet"


def build(source: Path = _SOURCE) -> Path:
    """The library built from a C++ source, compiled now unless the cache has it.

    Its name holds a hash of the source, the compiler's version, the flags, and the processor's features. It is written
    beside its place and renamed, so that of several processes that build at once each finds a whole one.

    Raises:
        BuildError: not on Linux, no compiler, no OpenMP runtime in the process, a compile error (its first lines
            are shown), or a folder that cannot be written.
    """
    if sys.platform != "linux":
        raise BuildError(f"the compiled sweeps are built on Linux alone, and this is {sys.platform}")
    compiler = _compiler()
    command = [*compiler, *_FLAGS, str(source), str(_openmp_runtime())]
    version = _run([*compiler, "--version"]).stdout
    key = "\0".join([source.read_text(), version, *command, _processor()])
    place = cache_folder() / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    if not place.exists():
        try:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent) as folder:
                draft = Path(folder) / place.name
                _compile([*command, "-o", str(draft)])
                draft.replace(place)
        except OSError as error:
            raise BuildError(
                f"cannot write {place.parent}: {error.strerror}; name another place with $SENET_CACHE"
            ) from None
    return place


def library() -> ctypes.CDLL:
    """The library of the eight sweeps, built if need be and loaded into this process once.

    Raises:
        BuildError: it cannot be built (see :func:`build`) or not be loaded. Tried once in a process.
    """
    loaded = _load()
    if isinstance(loaded, str):
        raise BuildError(loaded)
    return loaded


@functools.cache
def _load() -> ctypes.CDLL | str:
    """The library, or why there is none: a compiler that fails would take its time at every call."""
    try:
        return ctypes.CDLL(str(build()))
    except BuildError as error:
        return str(error)
    except OSError as error:
        return f"cannot load {error}; name another compiler with $CXX, or delete the file"


def _compiler() -> list[str]:
    """``$CXX`` where it is set, which may hold arguments, or the first compiler found."""
    named = os.environ.get("CXX", "").split()
    for command in [named] if named else [[name] for name in _COMPILERS]:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    looked_for = " ".join(named) or ", ".join(_COMPILERS)
    raise BuildError(f"no C++ compiler found (looked for {looked_for}); install one, or name it with $CXX")


def _openmp_runtime() -> Path:
    """The file of the OpenMP runtime that PyTorch has loaded: its own, or else the only one in this process."""
    mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    found = sorted(path for path in mapped if re.match(r"lib(gomp|omp|iomp5)\b.*\.so", os.path.basename(path)))
    own = [path for path in found if path.startswith(str(Path(torch.__file__).parent))] or found
    if len(own) != 1:
        raise BuildError(f"PyTorch should have loaded one OpenMP runtime; loaded: {', '.join(own) or 'none'}")
    return Path(own[0])


def _processor() -> str:
    """Identifies the processor, on which ``-march=native`` depends: a cache may be shared by several machines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), os.uname().machine)


def _compile(command: list[str]) -> None:
    result = _run(command)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
        first = " | ".join(line.strip() for line in lines[:3])
        raise BuildError(f"{command[0]} failed: {first}; name another compiler with $CXX")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
