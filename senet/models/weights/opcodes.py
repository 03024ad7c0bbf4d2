"""Names in a pickle, and what becomes of the objects made by them; told by its opcodes, of which none is run."""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what Python 2 called things
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from zipfile import ZipFile, is_zipfile

__all__ = ["Named", "names_in"]

_MARK = object()
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_MADE = ("REDUCE", "NEWOBJ", "BUILD")  # what is below their argument becomes an object, or stays one
_FILLED = {"APPEND": "list", "APPENDS": "list", "SETITEM": "dict", "SETITEMS": "dict"}


@dataclass
class Named:
    """Classes and functions that a pickle names.

    Attributes:
        uses: by full name, in words of Python 3, how objects made by it are filled: ``"list"``, ``"dict"``, or not.
        protocol: of the pickle.
    """

    uses: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    protocol: int = 0


def names_in(path: Path) -> Named:
    """Reads the names in the pickle of a file that ``torch.save`` wrote, in either of its formats.

    Raises:
        Exception: of any type, if it is no such file or is damaged.
    """
    named = Named()
    with _pickle_of(path) as file:
        _follow(file, named)
    return named


@contextmanager
def _pickle_of(path: Path) -> Iterator[IO[bytes]]:
    if is_zipfile(path):
        with ZipFile(path) as archive:
            root = archive.namelist()[0].partition("/")[0]
            with archive.open(f"{root}/data.pkl") as file:
                yield file
    else:  # the format before PyTorch 1.6: a magic number, a version and facts of the machine come first
        with path.open("rb") as file:
            for _ in range(3):
                for _ in pickletools.genops(file):
                    pass
            yield file


def _follow(file: IO[bytes], named: Named) -> None:
    """Follows names over the stack that the opcodes describe; anything else on it is None."""
    stack: list[object] = []
    memo: dict[object, object] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "PROTO" and isinstance(argument, int):
            named.protocol = argument
        elif name == "GLOBAL":
            stack.append(_today(*str(argument).split(" ", 1)))
            named.uses[str(stack[-1])]  # named, if not used
        elif name in _PUT:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _GET:
            stack.append(memo[argument])
        elif name in _MADE:
            stack.pop()
        elif name in _FILLED:
            _pop(stack, opcode.stack_before[1:])
            if isinstance(stack[-1], str):
                named.uses[stack[-1]].add(_FILLED[name])
        else:
            _pop(stack, opcode.stack_before)
            stack += [_MARK if thing is pickletools.markobject else None for thing in opcode.stack_after]


def _pop(stack: list[object], things: list[pickletools.StackObject]) -> None:
    if pickletools.markobject in things:
        while stack.pop() is not _MARK:
            pass
        things = things[: things.index(pickletools.markobject)]
    for _ in things:
        stack.pop()


def _today(module: str, name: str) -> str:
    """The full name in Python 3, as PyTorch's restricted unpickler looks it up; torch.save writes Python 2's."""
    if (module, name) in NAME_MAPPING:
        return ".".join(NAME_MAPPING[module, name])
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"
