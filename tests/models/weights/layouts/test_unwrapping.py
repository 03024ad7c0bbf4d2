from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.layouts.unwrapping import part_hint, take_entry, without_wrappers
from senet.models.weights.torch_file import StandIn

PATH = Path("w.pth")
STATE = {"conv1.weight": torch.arange(4.0), "bn1.bias": torch.ones(2), "layer1.0.se.fc1.weight": torch.zeros(3)}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}
OPTIMIZER = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def same(tensors, state=STATE):
    assert list(tensors) == list(state)
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    return True


def refused(content, entry=None):
    with pytest.raises(InputError) as error:
        take_entry(content, entry, PATH)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("w.pth")
    return str(error.value)


# --- entries ---


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ({"weight": STATE}, "weight"),
        ({"params": STATE, "iter": 3}, "params"),
        ({"params_ema": STATE}, "params_ema"),
        ({"module": STATE, "global_steps": 3}, "module"),  # DeepSpeed
        ({"model": {"state_dict": STATE}}, "model.state_dict"),
        ({"model": {"params": STATE, "config": {"depth": 50}}}, "model.params"),
        ({"checkpoint": {"net": {"state_dict": STATE}}}, "checkpoint.net.state_dict"),
        ({"model_state": STATE, "optimizer_state": OPTIMIZER, "cfg": "a: 1"}, "model_state"),  # pycls
        ({"state_dict": STATE, "optimizer": OPTIMIZER, "callbacks": {"EMA": {"shadow": OTHER}}}, "state_dict"),
        ({"best_model": STATE, "acc": 0.9}, "best_model"),
        ({"my_own_name": STATE, "optimizer": OPTIMIZER, "rng": {"cpu": torch.zeros(3)}}, "my_own_name"),
        ({"run": {"final": STATE}, "optim": {"a.b": torch.zeros(1)}}, "run.final"),
        ((STATE, 3), "0"),
        ([3, {"net": STATE}], "1.net"),
    ],
)
def test_the_only_state_dict_is_found(content, name):
    tensors, taken = take_entry(content, None, PATH)
    assert same(tensors)
    assert taken == (f"entry {name!r}",)
    assert same(take_entry(content, name, PATH)[0])
    assert take_entry(content, name.partition(".")[0], PATH)[1] == taken


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"state_dict": STATE, "state_dict_ema": OTHER}, ["state_dict", "state_dict_ema"]),
        ({"model": {"state_dict": STATE, "ema": OTHER}}, ["model.state_dict", "model.ema"]),
        ({"generator": STATE, "critic": OTHER}, ["generator", "critic"]),
        ([STATE, OTHER], ["0", "1"]),
    ],
)
def test_several_are_named_and_none_is_chosen(content, names):
    told = refused(content)
    assert f"holds weights as {names[0]!r} and {names[1]!r}; name the entry that you want" in told
    assert f"entry={names[1]!r} (`senet convert --entry {names[1]}`)" in told
    assert same(take_entry(content, names[0], PATH)[0])
    assert same(take_entry(content, names[1], PATH)[0], OTHER)


def test_part_of_an_entrys_path_with_several_in_it():
    assert "as 'model.net' and 'model.ema'" in refused({"model": {"net": STATE, "ema": OTHER}, "old": STATE}, "model")


def stand_in(name):
    return type("X", (StandIn,), {"stands_for": name})()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("state_dict_eam", "entry 'state_dict_eam' is not in the file; did you mean 'state_dict_ema'"),
        ("epoch", "entry 'epoch' holds a value of type int and no tensors by name"),
        ("model", "entry 'model' holds a pickled object, ultralytics.nn.tasks.DetectionModel, whose code would have"),
        ("nothing", "entry 'nothing' holds a value of type NoneType and no tensors by name"),
        ("sharded", "entry 'sharded' holds no tensors by name: its 'conv1.weight' is a torch.ShardedTensor"),
        ("optimizer", "entry 'optimizer' holds no tensors by name: its 'state' is a dict"),
    ],
)
def test_an_entry_that_holds_no_weights(entry, told):
    content = {
        "state_dict_ema": STATE,
        "epoch": 3,
        "model": stand_in("ultralytics.nn.tasks.DetectionModel"),
        "nothing": None,
        "sharded": {"conv1.weight": stand_in("torch.ShardedTensor")},
        "optimizer": OPTIMIZER,
    }
    assert told in refused(content, entry)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (stand_in("torchvision.models.resnet.ResNet"), "holds a pickled object, torchvision.models.resnet.ResNet"),
        ({"model": stand_in("a.Net"), "epoch": 3}, "entry 'model' holds a pickled object, a.Net, whose code"),
        ({"model": None, "ema": stand_in("a.Net")}, "entry 'ema' holds a pickled object, a.Net, whose code"),
        (
            {"state_dict": {"a.b": stand_in("numpy.ndarray")}},
            "entry 'state_dict' holds no tensors by name: its 'a.b' is",
        ),
        ({"epoch": 3, "optimizer": OPTIMIZER}, "holds epoch, optimizer; accepted: tensors by name"),
        ([1, 2], "holds a list; accepted: tensors by name"),
        ("text", "holds a str; accepted: tensors by name"),
    ],
)
def test_no_weights_at_all(content, told):
    assert told in refused(content)


def test_numbers_among_the_tensors_are_left_out_and_named():
    tensors, taken = take_entry({**STATE, "epoch": 3, "arch": "resnet18", "best": None}, None, PATH)
    assert same(tensors)
    assert taken == ("'epoch' left out", "'arch' left out", "'best' left out")
    assert "holds conv1.weight" in refused({**STATE, "args": stand_in("argparse.Namespace")})


def test_a_part_of_a_state_dict_is_taken_by_its_name():
    both = {f"student.{k}": v for k, v in STATE.items()} | {f"teacher.{k}": v for k, v in OTHER.items()}
    tensors, taken = take_entry(both, "teacher", PATH)
    assert same(tensors, OTHER)
    assert taken == ("prefix 'teacher.' (3 others left out)",)
    tensors, taken = take_entry({"state_dict": both}, "student", PATH)
    assert same(tensors)
    assert taken == ("entry 'state_dict'", "prefix 'student.' (3 others left out)")
    told = refused(both, "techer")
    assert (
        "is one state_dict of 6 tensors without entries, and none of their names begins with 'techer.'; leave" in told
    )
    assert told.endswith("did you mean 'teacher'?")


def test_the_hint_at_parts():
    both = {f"model.{k}": v for k, v in STATE.items()} | {"criterion.weight": torch.ones(3)}
    hint = part_hint(both)
    assert hint.startswith("; names begin with model (3), criterion (1): if one of them is the network")
    assert hint.endswith("name it by entry='model' (`senet convert --entry model`)")
    assert part_hint(STATE) == ""
    assert part_hint({"model.a": torch.zeros(1)}) == ""


# --- prefixes ---


@pytest.mark.parametrize(
    "prefix",
    [
        *("net.", "backbone.", "model.", "module.", "_orig_mod.", "encoder.", "network."),
        *("module._orig_mod.", "_orig_mod.module.", "model.net.", "module.model.backbone.", "net._orig_mod.module."),
        *("student.", "resnet.", "trunk.body.", "0.", "module.1.", "base_model.model."),
    ],
)
def test_what_all_names_begin_with_is_taken_off_and_said(prefix):
    tensors, taken = without_wrappers({prefix + name: tensor for name, tensor in STATE.items()})
    assert same(tensors)
    assert taken == tuple(f"prefix '{part}.'" for part in prefix.split(".")[:-1])


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_within_names(wrapper):
    state = {name.replace("layer1.0.", f"layer1.0.{wrapper}."): tensor for name, tensor in STATE.items()}
    tensors, taken = without_wrappers(state)
    assert same(tensors)
    assert taken == (f"{wrapper!r} in names",)
    twice = {"a.b.weight": torch.zeros(1), f"a.{wrapper}.b.weight": torch.zeros(1), "c.weight": torch.zeros(1)}
    assert same(without_wrappers(twice)[0], twice)  # as one would be lost


def test_averages_count_beside_the_network():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    tensors, taken = without_wrappers(AveragedModel(net).state_dict())
    assert same(tensors, net.state_dict())
    assert taken == ("'n_averaged' left out", "prefix 'module.'")
    tensors, taken = without_wrappers({"steps": torch.tensor(3), **{f"module.{k}": v for k, v in STATE.items()}})
    assert taken == ("'steps' left out", "prefix 'module.'")


@pytest.mark.parametrize(
    "state",
    [
        {"model.conv1.weight": torch.zeros(1), "fc.weight": torch.zeros(1)},
        {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)},
        {"features.0.weight": torch.zeros(1), "features.3.weight": torch.zeros(1)},  # VGG's, without its classifier
        {"backbone.conv1.weight": torch.zeros(1), "head.fc.weight": torch.zeros(1)},  # mmpretrain's
        {"backbone.conv1.weight": torch.zeros(1), "backbone.layer1.0.se_layer.conv1.conv.weight": torch.zeros(1)},
        {"module.conv1.weight": torch.zeros(1), "steps": torch.zeros(3)},
    ],
)
def test_what_belongs_to_the_network_stays(state):
    assert same(without_wrappers(state)[0], state)


@pytest.mark.parametrize("prefix", ["net.", "module._orig_mod.", "model.backbone."])
@pytest.mark.parametrize("nest", [lambda s: s, lambda s: {"weight": s}, lambda s: {"model": {"state_dict": s}}])
def test_into_a_network(tmp_path, prefix, nest):
    state = create_model("cifar_seresnet8").state_dict()
    content = nest({prefix + name: tensor for name, tensor in state.items()})
    torch.save(content, tmp_path / "w.pth")
    assert same(create_model("cifar_seresnet8", pretrained=tmp_path / "w.pth").state_dict(), state)
    torch.save({"args": Namespace(lr=1), "content": content}, tmp_path / "w.pth")
    assert same(create_model("cifar_seresnet8", pretrained=tmp_path / "w.pth").state_dict(), state)
