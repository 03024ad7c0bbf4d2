"""Modules as surgery handles them: states that every verb refuses, norms, modes, and one module for another."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import senet
from senet.errors import InputError
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.tap import listen
from senet.surgery.graph import modules
from senet.surgery.graph.install import Rewritten
from tests.surgery.networks import network, randomised

IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
VERBS = ("attach", "fuse", "fold", "freeze", "record")


class DataParallel(nn.Module):
    """As a wrapper of distributed training is told: by the name of its class."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class Strategy(DataParallel):
    """A wrapper of somebody's own."""


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.UninitializedParameter()


class LazyBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", nn.UninitializedBuffer())


def compiled():
    model = nn.Sequential(nn.Conv2d(3, 8, 1))
    model[0].compile(backend="eager")
    return model


def fused(model=None):
    return senet.fuse(randomised(model or network()), example=(IMAGES,))


def folded():
    return senet.fold(randomised(network()).eval(), example=(IMAGES,))


STATES = {
    "no module": (lambda: [nn.ReLU()], "is a list"),
    "scripted": (lambda: torch.jit.trace(nn.ReLU(), torch.zeros(1)), "ScriptModule"),
    "compiled": (lambda: torch.compile(nn.Conv2d(3, 8, 1), backend="eager"), "the model is compiled"),
    "compiled in place": (compiled, "part 0 is compiled"),
    "compiled part": (lambda: nn.Sequential(torch.compile(nn.ReLU(), backend="eager")), "part 0 is compiled"),
    "wrapped": (lambda: DataParallel(nn.ReLU()), "wrapped for distributed training"),
    "wrapped part": (lambda: nn.Sequential(Strategy(nn.ReLU())), "part 0 is wrapped"),
    "lazy": (Lazy, "lazy"),
    "lazy buffer": (lambda: nn.Sequential(LazyBuffer()), "part 0 is lazy"),
    "on meta": (lambda: nn.Conv2d(3, 8, 1, device="meta"), "meta device"),
    "folded": (folded, "folded already"),
    "part folded": (lambda: nn.Sequential(folded()), "part 0 is folded already"),
    "fused": (fused, "fused already"),
    "part fused": (lambda: nn.Sequential(fused()), "fused already"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("state", STATES)
def test_states_are_refused_by_name_and_verb(state, verb):
    make, message = STATES[state]
    with pytest.raises(InputError, match=message) as told:
        modules.refuse(make(), verb)
    assert verb in str(told.value) or state == "no module"
    assert "\n" not in str(told.value)


def test_a_plain_model_is_accepted():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    modules.refuse(model, "fuse")
    assert not any(isinstance(m, Rewritten) for m in model.modules())


def test_a_fused_model_will_do_where_asked():
    modules.refuse(fused(), "fold", fused=True)


def test_an_unfused_model_is_accepted():
    model = fused()
    modules.refuse(senet.unfuse(model), "fuse")


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_a_scripted_part_is_no_reason():
    modules.refuse(nn.Sequential(torch.jit.trace(nn.ReLU(), torch.zeros(1))), "fuse")


def test_a_model_that_is_being_recorded_is_refused_meanwhile():
    model = randomised(network())
    with senet.record(model, example=(IMAGES,)):
        for refuse in (lambda: modules.refuse(model, "fuse"), lambda: modules.refuse_recorded(model)):
            with pytest.raises(InputError, match="are being recorded"):
                refuse()
        modules.refuse(model, "record", recorded=True)
    modules.refuse(model, "fuse")
    modules.refuse_recorded(model)


def test_a_copy_of_a_model_that_is_listened_to_is_tidied():
    model = randomised(network())
    kinds = [type(m) for m in model.modules()]
    with listen(find_gates(model, (IMAGES,)), lambda _name, _gate: None):
        twin = copy.deepcopy(model)
        assert [type(m) for m in twin.modules()] != kinds
        with pytest.raises(InputError, match="being recorded"):
            modules.refuse(twin, "fuse")
        modules.tidy(twin)
        assert [type(m) for m in twin.modules()] == kinds
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())
        modules.refuse(twin, "fuse")


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.BatchNorm1d(3), True),
        (nn.BatchNorm2d(3, affine=False), True),
        (nn.SyncBatchNorm(3), True),
        (nn.BatchNorm2d(3, track_running_stats=False), False),
        (nn.GroupNorm(1, 3), False),
        (nn.InstanceNorm2d(3), False),
        (nn.Sequential(nn.BatchNorm2d(3)), False),
        (nn.Identity(), False),
    ],
)
def test_norms_keep_running_statistics(module, expected):
    assert modules.is_norm(module) == expected


def test_a_frozen_norm_of_somebodys_own_is_one():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.eps = 1e-5
            self.register_buffer("running_mean", torch.zeros(3))
            self.register_buffer("running_var", torch.ones(3))

    assert modules.is_norm(Frozen())
    del (bare := Frozen()).eps
    assert not modules.is_norm(bare)


def test_a_wrapper_that_passes_attributes_on_is_no_norm():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.BatchNorm2d(3)

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

    assert Wrapper().eps
    assert not modules.is_norm(Wrapper())


def test_evaluation_is_for_a_while_and_modes_come_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    model[1].eval()
    before = [m.training for m in model.modules()]
    with modules.evaluating(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == before
    with pytest.raises(KeyError), modules.evaluating(model):
        raise KeyError
    assert [m.training for m in model.modules()] == before


def test_a_module_is_replaced_in_every_place():
    old, new = nn.ReLU(), nn.SiLU()
    model = nn.Sequential(old, nn.Sequential(nn.Identity(), old), nn.ModuleDict({"a": old}))
    model.register_module("none", None)
    modules.replace(model, {old: new})
    assert model[0] is model[1][1] is model[2]["a"] is new
    assert old not in set(model.modules())


def test_a_refused_model_is_as_it_was():
    model = fused()
    before = pickle.dumps(sorted(model.state_dict()))
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(InputError):
        modules.refuse(model, "fuse")
    assert [type(m) for m in model.modules()] == kinds
    assert pickle.dumps(sorted(model.state_dict())) == before
