"""Float64 twins, casts that stay wide, and the random inputs that are looked at."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import prune

from senet.errors import InputError
from senet.surgery.graph import run


class Keeping(nn.Module):
    """A module that keeps tensors of all kinds, some of them computed with gradients."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.tied = self.fc.weight
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("steps", torch.tensor(3))
        self.last = self.fc(torch.ones(1, 3))  # has a history
        self.history = [self.last, {"again": self.last}]
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return self.fc(x)


def state(model):
    return {name: t.clone() for name, t in model.state_dict().items()}


def test_a_twin_is_in_float64_and_evaluation():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).half().train()
    twin = run.float64_twin(model)
    assert {p.dtype for p in (*twin.parameters(), twin[1].running_mean)} == {torch.float64}
    assert not any(m.training for m in twin.modules())
    assert torch.equal(twin[0].weight, model[0].weight.double())


def test_the_model_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.SyncBatchNorm(4), nn.Linear(4, 4)).train()
    nn.init.zeros_(model[3].weight)
    hook = model[0].register_forward_hook(lambda *_: None)
    before, random = state(model), torch.get_rng_state()
    kinds = [type(m) for m in model.modules()]
    run.float64_twin(model)
    assert all(torch.equal(t, before[name]) and t.dtype == before[name].dtype for name, t in state(model).items())
    assert [type(m) for m in model.modules()] == kinds
    assert all(m.training for m in model.modules())
    assert list(model[0]._forward_hooks) == [hook.id]
    assert torch.equal(torch.get_rng_state(), random)


def test_a_twin_has_no_hooks_but_those_that_compute_weights():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].register_forward_pre_hook(lambda *_: None)
    model[0].register_full_backward_hook(lambda *_: None)
    prune.l1_unstructured(model[1], "weight", amount=0.5)
    twin = run.float64_twin(model)
    assert not any((twin[0]._forward_pre_hooks, twin[0]._forward_hooks, twin[0]._backward_hooks))
    assert all(run.computes_weight(hook) for hook in twin[1]._forward_pre_hooks.values())
    assert len(twin[1]._forward_pre_hooks) == 1
    x = torch.randn(2, 3, dtype=torch.float64)
    assert twin(x).dtype == torch.float64


def test_norms_are_random_the_same_each_time_and_layers_of_zeros_are_not():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm1d(4, affine=False))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[1].weight)
    first, second = run.float64_twin(model), run.float64_twin(model)
    for name, t in first.state_dict().items():
        assert torch.equal(t, second.state_dict()[name])
    for t in (first[0].weight, first[0].bias, first[0].running_mean, first[0].running_var, first[1].weight):
        assert len(t.unique()) == t.numel()
    assert (first[0].running_var > 0).all()
    assert (first[2].running_mean != 0).all()


def test_a_synchronised_norm_runs_on_maps_of_any_rank():
    twin = run.float64_twin(nn.SyncBatchNorm(3)).train()
    for shape in ((2, 3), (2, 3, 4), (2, 3, 4, 5)):
        assert twin(torch.randn(shape, dtype=torch.float64)).shape == shape


def test_kept_tensors_are_copied_without_their_history_and_shared_ones_once():
    model = Keeping()
    with pytest.raises(RuntimeError):
        copy.deepcopy(model)
    twin = run.copied(model)
    assert twin.tied is twin.fc.weight
    assert twin.last is twin.history[0] is twin.history[1]["again"]
    assert twin.last.is_leaf
    assert torch.equal(twin.last, model.last)
    assert twin.last.data_ptr() != model.last.data_ptr()
    assert twin.fc.weight.data_ptr() != model.fc.weight.data_ptr()
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in model.parameters()]
    assert isinstance(twin.frozen, nn.Parameter)


def test_masks_and_counts_keep_their_dtype():
    twin = run.float64_twin(Keeping())
    assert twin.mask.dtype == torch.bool
    assert twin.steps.dtype == torch.int64
    assert twin.mask.tolist() == [True, False, True]
    assert twin.last.dtype == torch.float64


def test_what_has_no_copy_is_an_error_that_says_so():
    model = nn.ReLU()
    model.lock = threading.Lock()
    with pytest.raises(InputError, match=r"ReLU cannot be copied, .*lock"):
        run.copied(model)


CASTS = {
    "float": lambda x: x.float(),
    "half": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "to": lambda x: x.to(torch.float32),
    "to by keyword": lambda x: x.to(dtype=torch.float16),
    "to, device and dtype": lambda x: x.to("cpu", torch.float32),
    "type": lambda x: x.type(torch.float32),
    "mean": lambda x: x.mean(dtype=torch.float32),
    "softmax": lambda x: torch.softmax(x, 0, dtype=torch.float32),
    "zeros": lambda x: torch.zeros(3, dtype=torch.float32),
}


@pytest.mark.parametrize("cast", CASTS)
def test_casts_to_a_floating_dtype_stay_wide(cast):
    x = torch.randn(3, dtype=torch.float64)
    assert CASTS[cast](x).dtype != torch.float64
    with run.Wide():
        assert CASTS[cast](x).dtype == torch.float64


def test_casts_to_whole_numbers_stay():
    with run.Wide():
        assert torch.ones(3).to(torch.int64).dtype == torch.int64
        assert torch.ones(3).bool().dtype == torch.bool


def test_tensors_are_made_wide_and_all_else_is_left():
    assert run.in_float64(torch.ones(2).half()).dtype == torch.float64
    assert run.in_float64(torch.ones(2).long()).dtype == torch.int64
    assert run.in_float64("text") == "text"


def test_random_inputs_are_of_the_shape_asked_for_and_the_same_each_time():
    like = torch.empty(2, 3, 5, device="meta")
    x = run.random_like(like)
    assert (x.shape, x.dtype, x.device.type) == (like.shape, torch.float64, "cpu")
    assert torch.equal(x, run.random_like(like))
    assert not torch.equal(x, run.random_like(like, 1))
    assert x.unique().numel() == x.numel()
    assert abs(run.random_like(torch.empty(10_000)).mean()) < 0.1
    x.zero_()
    assert run.random_like(like).any()


def test_random_inputs_of_many_numbers_repeat_in_no_maps_period():
    x = run.random_like(torch.empty(8, 8, 128, 128, device="meta"))
    assert not torch.equal(x[0], x[4])
    assert x.flatten(2).mean(2).unique().numel() == 64


def test_random_inputs_of_whole_numbers_are_zeros():
    for dtype in (torch.int64, torch.bool):
        x = run.random_like(torch.empty(3, dtype=dtype))
        assert x.dtype == dtype
        assert not x.any()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(5, 8, 3)), (2, 5, 64, 64)),
        (nn.Conv1d(2, 8, 3), (2, 2, 256)),
        (nn.Conv3d(1, 8, 3), (2, 1, 16, 16, 16)),
    ],
)
def test_example_inputs_follow_the_first_convolution(model, shape):
    assert next(run.example_inputs(model))[0].shape == shape


def test_example_inputs_are_of_the_size_that_a_model_states():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    model.pretrained_cfg = {"input_size": (3, 40, 40), "fixed_input_size": True}
    assert [x.shape for (x,) in run.example_inputs(model)] == [(2, 3, 40, 40)]
    model.pretrained_cfg = {"input_size": (3, 40, 40)}
    assert next(run.example_inputs(model))[0].shape == (2, 3, 64, 64)


def test_example_inputs_may_have_a_smallest_size():
    assert all(x.shape[-1] >= 128 for (x,) in run.example_inputs(nn.Conv2d(3, 8, 3), 128))


def test_examples_grow_unless_one_is_given():
    given = (torch.zeros(1),)
    assert list(run.growing_examples(nn.Conv2d(3, 8, 3), given)) == [given]
    first, *larger = run.growing_examples(nn.Conv2d(3, 8, 3), None)
    assert first is None
    assert [x.shape[-1] for (x,) in larger] == [128, 256]


def test_a_model_without_a_convolution_is_asked_for_an_example():
    with pytest.raises(InputError, match=r"Linear has no Conv2d .*; give example="):
        next(run.example_inputs(nn.Linear(3, 3)))


def test_values_of_nodes_are_kept_as_they_were_before_operators_in_place():
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.mul, (x, 2))
    z = graph.call_method("add_", (y, 1))
    graph.output(z)
    given = torch.ones(2, dtype=torch.float64)
    values = run.node_values(nn.Module(), graph, [given])
    assert [values[n].tolist() for n in (x, y, z)] == [[1, 1], [2, 2], [3, 3]]
    assert given.tolist() == [1, 1]
    assert set(run.node_values(nn.Module(), graph, [given], keep={y})) == {y}


def test_norms_are_randomised_by_a_seed():
    models = [nn.BatchNorm2d(4) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        run.randomise_norms(model, seed)
    assert torch.equal(models[0].weight, models[1].weight)
    assert not torch.equal(models[0].weight, models[2].weight)
