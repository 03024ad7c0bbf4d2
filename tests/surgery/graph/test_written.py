"""Functions that are written: names, settings and hooks that guards ask for; test_install.py runs the guards."""

from __future__ import annotations

import math
import pickle
import types

import torch
from torch import nn

from senet.surgery.graph.guards import snapshot
from senet.surgery.graph.written import Function, has_hooks, is_there, settings
from tests.surgery.graph.test_install import Block


def test_a_function_is_stored_as_its_text_and_what_its_names_stand_for():
    source = "def add(x):\n    return math.floor(x) + more\n"
    function = Function(source, {"math": math, "more": 2}, "add", "A")
    again = pickle.loads(pickle.dumps(function))
    assert function.call(1.5) == again.call(1.5) == 3
    assert again.call is not function.call


def test_hooks_are_told_and_some_are_looked_past():
    module = nn.ReLU()
    assert not has_hooks(module)
    hook = module.register_forward_hook(print)
    assert has_hooks(module)
    assert not has_hooks(module, lambda each: each is print)
    hook.remove()
    assert not has_hooks(module)


def test_parts_parameters_buffers_and_attributes_are_there_unless_none():
    module = Block()
    module.plain, module.nothing = 1, None
    assert all(is_there(module, name) for name in ("conv", "shift", "plain"))
    assert not any(is_there(module, name) for name in ("skip", "nothing", "unknown"))


def test_settings_are_a_modules_own_plain_attributes():
    found = settings(Block())
    assert set(found) == {"rate", "flag", "sizes", "config"}
    assert found["rate"] == 0.5
    assert found["config"] == snapshot(types.SimpleNamespace(scale=2))
    assert settings(nn.Conv2d(1, 1, 3))["kernel_size"] == snapshot((3, 3))


def test_settings_that_have_no_snapshot_are_their_class():
    module = nn.ReLU()
    module.rng = torch.Generator()
    assert settings(module)["rng"] is torch.Generator
