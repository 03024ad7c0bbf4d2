import argparse
import collections
import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import pickle
import random
import subprocess
import sys
import threading
import types
import uuid
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models.weights.torch_file import StandIn, read_torch

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2, dtype=torch.float16)}


class Colour(enum.Enum):
    RED = 1


class Way(enum.Flag):
    UP = 1
    LEFT = 2


@dataclass(frozen=True, slots=True)
class Config:
    lr: float = 0.1


class Attributes(dict):
    """Lightning's, yacs' and EasyDict's have this shape: a dict with attributes of its own."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__["frozen"] = True


class ListConfig(list):
    pass


class Buffer:
    """mmengine's HistoryBuffer has this shape: arrays, and methods by getattr."""

    def __init__(self):
        self.values = np.ones(3)
        self.methods = {"mean": Way.UP.__class__.__call__, "own": self.mean}

    def mean(self):
        return self.values.mean()


Pair = collections.namedtuple("Pair", "a b")


def schedule(epoch):
    return 1.0


BESIDE = {
    "timm's arguments": argparse.Namespace(
        lr=0.1, output=pathlib.Path("out"), aug=collections.defaultdict(list, a=[1])
    ),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "paths": [pathlib.PureWindowsPath("a"), pathlib.PurePosixPath("b"), pathlib.Path("c")],
    "deque": collections.deque([0.1, 0.2], maxlen=5),
    "UserDict": collections.UserDict(a=1),
    "ChainMap": collections.ChainMap({"a": 1}),
    "scalars of numpy": {"best": np.float64(76.5), "epoch": np.int64(3), "name": np.str_("a")},
    "arrays of numpy": [np.ones(3), np.array([None, "a"], object), np.dtype("f4")],
    "generators": [random.Random(1), np.random.default_rng(0), np.random.get_state(), random.getstate()],
    "times": [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1), datetime.date(2024, 1, 1)],
    "numbers": [decimal.Decimal("1.1"), fractions.Fraction(1, 2), 10**100, range(3), slice(1), frozenset([1])],
    "uuid": uuid.UUID(int=1),
    "enum": [Colour.RED, Way.UP | Way.LEFT],
    "dataclass": Config(),
    "dict with attributes": Attributes(a=1, b=Attributes(c=[Attributes()])),
    "list": ListConfig([1, 2]),
    "history buffer": Buffer(),
    "namedtuple": Pair(1, 2),
    "functions": [schedule, functools.partial(int, base=2), Config, torch.relu],
    "version": torch.torch_version.TorchVersion("2.1"),
    "optimizer": torch.optim.Adam(nn.Linear(2, 2).parameters()),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", BESIDE)
def test_weights_are_read_whatever_lies_beside_them(tmp_path, what, zipped):
    path = tmp_path / "w.pth"
    content = {"args": BESIDE[what], "state_dict": STATE, "again": BESIDE[what], "ema": STATE, "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_torch(path).content
    assert read["epoch"] == 3
    for entry in ("state_dict", "ema"):
        assert all(torch.equal(read[entry][key], STATE[key]) for key in STATE)


def test_what_was_not_read_is_named_and_stood_for(tmp_path):
    args = argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("out"))
    torch.save(
        {"args": args, "dd": collections.defaultdict(int, a=1), "dq": collections.deque([1])}, tmp_path / "w.pth"
    )
    file = read_torch(tmp_path / "w.pth")
    names = ("argparse.Namespace", "collections.defaultdict", "collections.deque", "pathlib.PurePosixPath")
    assert file.unread == names
    assert isinstance(file.content["args"], StandIn)
    assert file.content["args"].stands_for == "argparse.Namespace"
    assert not hasattr(file.content["args"], "lr")
    assert file.content["dd"] == {"a": 1}
    assert file.content["dq"] == [1]
    torch.save(STATE, tmp_path / "w.pth")
    assert read_torch(tmp_path / "w.pth").unread == ()


def test_classes_that_are_not_installed(tmp_path, monkeypatch):
    """Neither imported nor looked for."""
    module = types.ModuleType("yacs_of_others.config")
    node = type("CfgNode", (Attributes,), {"__module__": module.__name__, "__qualname__": "CfgNode"})
    module.CfgNode = node
    monkeypatch.setitem(sys.modules, "yacs_of_others", types.ModuleType("yacs_of_others"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"cfg": node(lr=1, model=node(depth=50)), "model": STATE}, tmp_path / "w.pth")
    monkeypatch.undo()
    file = read_torch(tmp_path / "w.pth")
    assert file.unread == ("yacs_of_others.config.CfgNode",)
    assert file.content["cfg"] == {"lr": 1, "model": {"depth": 50}}
    assert "yacs_of_others" not in sys.modules


def test_pytorch_accepts_afterwards_what_it_did_before(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1), "at": fractions.Fraction(1, 2)}, tmp_path / "w.pth")
    with torch.serialization.safe_globals([argparse.Namespace, (fractions.Fraction, "fractions.Fraction")]):
        before = torch.serialization.get_safe_globals()
        file = read_torch(tmp_path / "w.pth")  # whoever vouches for a class gets it
        assert file.content["args"].lr == 1
        assert file.unread == ()
        assert set(torch.serialization.get_safe_globals()) == set(before)
    before = torch.serialization.get_safe_globals()
    read_torch(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == set(before)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=True)


def test_in_many_threads(tmp_path):
    for k in range(4):
        torch.save({"args": argparse.Namespace(lr=k), "b": [Buffer()] * k, "w": torch.tensor(k)}, tmp_path / f"{k}.pth")
    found = {}

    def read(k):
        found[k] = [read_torch(tmp_path / f"{k}.pth").content["w"].item() for _ in range(20)]

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [k] * 20 for k in range(4)}


# --- nothing is run ---


class Calls:
    """Makes a pickle that calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Spy(dict):
    """Leaves a trace when it is made, filled or given its state."""

    seen: list = []  # noqa: RUF012 (of the class)

    def __init__(self):
        Spy.seen.append("made")

    def __reduce__(self):
        return Spy, (), {"a": 1}, None, iter([("b", 2)])

    def __setstate__(self, state):
        Spy.seen.append("state")

    def __setitem__(self, key, value):
        Spy.seen.append("filled")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_class_of_a_file_is_called_though_it_is_here(tmp_path, zipped):
    torch.save({"spy": Spy(), "state_dict": STATE}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    Spy.seen.clear()
    assert "state_dict" in read_torch(tmp_path / "w.pth").content
    assert Spy.seen == []


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Calls(os.mkdir, "ran"), "posix.mkdir"),
        (Calls(os.system, "mkdir ran"), "posix.system"),
        (Calls(subprocess.call, ["mkdir", "ran"]), "subprocess.call"),
        (Calls(eval, "__import__('os').mkdir('ran')"), "builtins.eval"),
        (Calls(exec, "import os; os.mkdir('ran')"), "builtins.exec"),
        (Calls(open, "ran", "w"), "io.open"),
        (Calls(pathlib.Path.mkdir, pathlib.PurePosixPath("ran")), None),
        (Calls(functools.reduce, os.mkdir, ["ran"]), "posix.mkdir"),
        (Calls(np.save, "ran", 1), None),
    ],
)
def test_what_could_run_something_does_not(tmp_path, monkeypatch, call, name, zipped):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": STATE, "more": call}, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.chdir(tmp_path)
    if name is None:  # names nothing that is known to do harm: a stand-in stands there
        read_torch(path)
    else:
        told = refused(path)
        assert f"it names {name}, which no weights need" in told
        assert "weights_only" not in told
    assert os.listdir(tmp_path) == ["w.pth"]


def refused(path):
    with pytest.raises(InputError) as error:
        read_torch(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


class Odd(list):
    def __init__(self, *items):
        super().__init__(items)
        self.more = 1


def test_what_nothing_can_stand_for_is_named(tmp_path):
    """A list with attributes: PyTorch fills exact lists only, and those take no attributes."""
    torch.save({"state_dict": STATE, "odd": Odd(1, 2)}, tmp_path / "w.pth")
    assert f"what else it holds ({__name__}.Odd) would have to be run to be read" in refused(tmp_path / "w.pth")


def test_a_module_in_the_old_format(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    told = refused(tmp_path / "w.pth")
    assert "(torch.nn.modules.linear.Linear" in told
    assert told.endswith("Save model.state_dict() anew where it comes from")


def test_arrays_of_numpy_are_called_so(tmp_path):
    torch.save({"w": np.ones(2), "best": np.float64(1)}, tmp_path / "w.pth")
    file = read_torch(tmp_path / "w.pth")
    assert file.unread == ("numpy.dtype", "numpy.generic", "numpy.ndarray")
    assert file.content["w"].stands_for == "numpy.ndarray"


def test_numbers_too_long_for_pytorch(tmp_path):
    torch.save({"a.w": torch.zeros(1), "n": 1 << 5000}, tmp_path / "w.pth")
    assert "is written in a way that PyTorch's reader that runs nothing does not know" in refused(tmp_path / "w.pth")


def test_another_protocol(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", pickle_protocol=4)
    assert "is written in pickle protocol 4" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.3, 0.9, -1])
def test_a_file_cut_off(tmp_path, zipped, kept):
    path = tmp_path / "w.pth"
    torch.save({"args": argparse.Namespace(), "state_dict": STATE}, path, _use_new_zipfile_serialization=zipped)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(size * kept) if kept > 0 else kept])
    assert "is cut off" in refused(path)
