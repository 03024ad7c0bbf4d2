"""Files of torch.save: tensors and plain containers, and stand-ins for all else, of which nothing is run."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from senet.errors import InputError
from senet.models.weights.opcodes import Named, names_in

__all__ = ["StandIn", "TorchFile", "read_torch"]

# PyTorch refuses the first four itself. Nothing of these would be run either, but no weights need them, so that a file
# that names them was made to do harm, or is none of weights.
_HOSTILE = {"sys", "os", "posix", "nt", "subprocess", "shutil", "runpy", "pty", "ctypes", "code", "webbrowser"}
_HOSTILE |= {f"builtins.{name}" for name in ("eval", "exec", "execfile", "compile", "open", "__import__")} | {"io.open"}

# Functions that make objects of a class with a name that people know
_MAKERS = {
    f"numpy.{core}.multiarray.{maker}": made
    for core in ("core", "_core")
    for maker, made in (("_reconstruct", "numpy.ndarray"), ("scalar", "numpy.generic"))
}

_ANEW = "Save model.state_dict() anew where it comes from"

_ALONE = threading.Lock()  # what PyTorch is told to accept, it accepts in all threads


class StandIn:
    """An object that was not read, as its class is none of PyTorch's or would have to be run.

    Attributes:
        stands_for: the full name of the class, or of a function that would have made it.
    """

    stands_for: ClassVar[str]

    def __setstate__(self, state: object) -> None:
        """Drops it."""


@dataclass(frozen=True)
class TorchFile:
    """The content of a file.

    Attributes:
        content: tensors, plain containers, and a :class:`StandIn` for every other object.
        unread: full names of the classes and functions whose objects were not made, sorted. Dicts and lists of foreign
            classes are plain ones with the same items; other objects are stand-ins.
    """

    content: Any
    unread: tuple[str, ...] = ()


def read_torch(path: Path) -> TorchFile:
    """Reads a file of ``torch.save`` by PyTorch's restricted unpickler (``weights_only=True``), which runs no code.

    Checkpoints hold more than weights: arguments, paths, records of numpy or of a framework. PyTorch refuses the whole
    file for one of them. Here every class that it does not know is given to it as one that does nothing, whatever that
    class is, installed or not: no module is imported for a file, and none of its functions is called.

    Raises:
        InputError: it is no such file, is cut off, names what runs commands, or holds objects that nothing can stand
            for; says which.
    """
    with _ALONE:
        return _read(path)


def _read(path: Path) -> TorchFile:
    try:
        return TorchFile(_load(path))
    except Exception as error:  # damaged files end in a dozen types of error
        if type(error).__name__ != "UnpicklingError":
            raise _cut_off(path, error) from None
    try:
        named = names_in(path)
    except Exception as error:
        raise _cut_off(path, error) from None
    if hostile := sorted(name for name in named.uses if {name, name.partition(".")[0]} & _HOSTILE):
        raise InputError(
            f"{path} holds more than tensors and plain containers, or is no file of weights: it names "
            f"{_some(hostile)}, which no weights need and which could run commands, so nothing of it is read. {_ANEW}"
        )
    vouched = {_name_of(one) for one in torch.serialization.get_safe_globals()}
    met: set[str] = set()
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (_stand_in(name, uses, met), name) for name, uses in named.uses.items() if name not in vouched
    ]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = _load(path)
    except Exception as error:
        raise InputError(_why_not(path, named, met, error)) from None
    return TorchFile(content, tuple(sorted(met)))


def _load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of unusual pickles; if they matter, an error follows
        return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str, uses: Iterable[str], met: set[str]) -> Callable[..., Any]:
    """A class for a name that PyTorch does not know; names that it knows it takes from itself."""
    known = _MAKERS.get(name, name)

    def __new__(cls: type[StandIn], *args: object) -> object:  # noqa: N807 (it becomes one)
        made_of = next((a for a in args if isinstance(a, type) and issubclass(a, StandIn)), None)
        # Python 2's way to make an object names its class only as an argument.
        called = made_of.stands_for if made_of is not None and name == "copyreg._reconstructor" else known
        met.add(called)
        # PyTorch fills exact dicts and lists only.
        if name == "builtins.getattr":  # what it finds may be called: a class stands for it
            return cls
        if "dict" in uses:
            return OrderedDict()
        return [] if "list" in uses else object.__new__(cls)

    return type(name.rpartition(".")[2], (StandIn,), {"stands_for": known, "__new__": __new__})


def _name_of(vouched: Any) -> str:
    """The name by which PyTorch knows what the user told it to accept."""
    return vouched[1] if isinstance(vouched, tuple) else f"{vouched.__module__}.{vouched.__qualname__}"


def _cut_off(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is no file of weights, or is cut off: {_first_sentence(error)}; download it again")


def _why_not(path: Path, named: Named, met: set[str], error: Exception) -> str:
    if named.protocol > 2:
        return (
            f"{path} is written in pickle protocol {named.protocol}, and PyTorch's reader that runs nothing knows "
            "protocol 2; save it anew without pickle_protocol"
        )
    if type(error).__name__ != "UnpicklingError":
        also = f", or its tensors are made of other objects ({_some(sorted(met))})" if met else ""
        return (
            f"{path} is no file of weights, or is cut off{also}: {_first_sentence(error)}; download it again. {_ANEW}"
        )
    if not (foreign := sorted(met) or _foreign(named.uses)):
        return f"{path} is written in a way that PyTorch's reader that runs nothing does not know. {_ANEW}"
    return (
        f"{path} holds more than tensors and plain containers, or is no file of weights; what else it holds "
        f"({_some(foreign)}) would have to be run to be read, so it is not. {_ANEW}"
    )


def _foreign(names: Iterable[str]) -> list[str]:
    """Names less those that every file of tensors has."""
    return sorted(n for n in names if not n.startswith(("torch._", "collections.", "builtins.")) and "Storage" not in n)


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0] or "it ends too early"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f", and {len(names) - most} more" if len(names) > most else "")
