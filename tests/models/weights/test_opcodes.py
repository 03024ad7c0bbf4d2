import argparse
import copyreg
from collections import OrderedDict, defaultdict, deque

import pytest
import torch

from senet.models.weights.opcodes import names_in


@pytest.mark.parametrize("zipped", [True, False])
def test_names_and_how_their_objects_are_filled(tmp_path, zipped):
    content = {
        "a": argparse.Namespace(out=[1, 2], lr={"a": 1}),
        "b": defaultdict(list, {1: [2]}),
        "c": deque([1, 2], 3),
        "d": torch.zeros(3),
        "e": [OrderedDict(a=1)] * 2,
    }
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    named = names_in(tmp_path / "w.pth")
    assert named.protocol == 2
    assert named.uses["argparse.Namespace"] == set()
    assert named.uses["collections.defaultdict"] == {"dict"}
    assert named.uses["collections.deque"] == {"list"}
    assert named.uses["collections.OrderedDict"] == {"dict"}
    assert named.uses["builtins.list"] == set()  # only named
    assert "torch._utils._rebuild_tensor_v2" in named.uses


def test_names_are_those_of_python_3(tmp_path):
    """torch.save writes those of Python 2: ``copy_reg`` and ``__builtin__``."""
    torch.save({"a": range(3), "b": copyreg._reconstructor}, tmp_path / "w.pth")
    assert {"builtins.range", "copyreg._reconstructor"} <= names_in(tmp_path / "w.pth").uses.keys()
    assert b"copy_reg" in (tmp_path / "w.pth").read_bytes()


def test_the_protocol(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth", pickle_protocol=4)
    assert names_in(tmp_path / "w.pth").protocol == 4


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02.", b"PK\x03\x04"])
def test_what_is_no_file_of_torch(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(Exception, match=r"."):
        names_in(tmp_path / "w.pth")
