import pytest
import torch

from senet import create_model
from senet.train.optim import make_optimizer, parameter_groups
from senet.train.recipe import Optim


def test_one_group_where_all_decay_alike():
    model = create_model("cifar_seresnet8")
    (group,) = parameter_groups(model, Optim(weight_decay=0.1))
    assert group["weight_decay"] == 0.1
    assert len(group["params"]) == len(list(model.parameters()))


def test_biases_and_norms_apart():
    model = create_model("cifar_seresnet8")
    kernels, vectors = parameter_groups(model, Optim(weight_decay=0.1, norm_weight_decay=0.0))
    assert (kernels["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    in_vectors = {names[id(p)] for p in vectors["params"]}
    expected = {n for n, _ in model.named_parameters() if n.endswith("bias") or ".bn" in n or n.startswith("bn")}
    assert in_vectors == expected
    assert len(kernels["params"]) + len(in_vectors) == len(names)


def test_frozen_parameters_are_left_out():
    model = create_model("cifar_seresnet8")
    model.conv1.requires_grad_(False)
    (group,) = parameter_groups(model, Optim())
    assert all(p is not model.conv1.weight for p in group["params"])


@pytest.mark.parametrize(
    ("spec", "plain"),
    [
        (Optim("sgd", lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.1),
         lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.1)),
        (Optim("adamw", lr=0.3, betas=(0.8, 0.9), weight_decay=0.1),
         lambda p: torch.optim.AdamW(p, lr=0.3, betas=(0.8, 0.9), weight_decay=0.1)),
    ],
)  # fmt: skip
def test_steps_as_pytorch_does(spec, plain):
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    pairs = [(ours, make_optimizer(ours, spec)), (theirs, plain(theirs.parameters()))]
    for seed in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        for model, optimizer in pairs:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
