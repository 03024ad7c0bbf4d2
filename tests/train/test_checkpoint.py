import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from senet import create_model
from senet.errors import InputError
from senet.models.weights.files import write_tensors
from senet.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from senet.train.optim import make_optimizer
from senet.train.recipe import Optim


def stepped(name="cifar_seresnet8", optim="sgd", steps=2, seed=0):
    """A network, its average and its optimizer after some steps."""
    torch.manual_seed(seed)
    model = create_model(name)
    average = AveragedModel(model, use_buffers=True)
    optimizer = make_optimizer(model, Optim(optim, lr=0.01))
    for _ in range(steps):
        model(torch.randn(4, 3, 16, 16)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
    return {
        "model": model,
        "ema": average,
        "optimizer": optimizer,
        "scaler": None,
        "images": {"train": "a", "val": "b"},
    }


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
def test_everything_comes_back(tmp_path, optim):
    before = stepped(optim=optim)
    progress = Progress(
        epoch=3, step=7, loss_sum=1.25, sums={"train_top1": 300}, seen=8, best=50.0, val_losses=[2.0, 1.5]
    )
    save_checkpoint(tmp_path / "c.safetensors", **before, progress=progress)
    after = stepped(optim=optim, steps=0, seed=1)
    assert load_checkpoint(tmp_path / "c.safetensors", **after) == progress
    assert equal(before["model"].state_dict(), after["model"].state_dict())
    assert equal(before["ema"].state_dict(), after["ema"].state_dict())
    old, new = before["optimizer"].state_dict(), after["optimizer"].state_dict()
    for index, values in old["state"].items():
        assert equal({k: v for k, v in values.items() if v is not None}, new["state"][index])
    # The next step is the same, bit for bit.
    x = torch.randn(4, 3, 16, 16)
    for state in (before, after):
        state["model"](x).square().mean().backward()
        state["optimizer"].step()
    assert equal(before["model"].state_dict(), after["model"].state_dict())


def test_channels_last_weights_keep_their_layout_and_their_values(tmp_path):
    before = stepped()
    before["model"].to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "c.safetensors", **before, progress=Progress())
    after = stepped(steps=0, seed=1)
    after["model"].to(memory_format=torch.channels_last)
    load_checkpoint(tmp_path / "c.safetensors", **after)
    assert equal(before["model"].state_dict(), after["model"].state_dict())
    assert after["model"].layer2[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    state = stepped()
    save_checkpoint(tmp_path / "c.safetensors", **state, progress=Progress(epoch=1))
    with torch.no_grad():
        state["model"].fc.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"1 tensors .* not finite \(first: model.fc.weight\)"):
        save_checkpoint(tmp_path / "c.safetensors", **state, progress=Progress(epoch=2))
    assert load_checkpoint(tmp_path / "c.safetensors", **stepped(steps=0)).epoch == 1


def test_another_networks_checkpoint_is_refused_and_nothing_changes(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", **stepped("cifar_resnet8"), progress=Progress())
    state = stepped(steps=0)
    before = copy.deepcopy(state["model"].state_dict())
    with pytest.raises(InputError, match=r"belongs to another network: 12 missing \(layer1.0.se.fc1.bias"):
        load_checkpoint(tmp_path / "c.safetensors", **state)
    assert equal(before, state["model"].state_dict())


def test_weights_alone_are_no_checkpoint(tmp_path):
    write_tensors(tmp_path / "w.safetensors", {"w": torch.zeros(1)}, {"classes": []})
    with pytest.raises(InputError, match="holds weights, but no state to resume from"):
        load_checkpoint(tmp_path / "w.safetensors", **stepped(steps=0))


def test_other_images_are_refused(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", **stepped(), progress=Progress())
    state = {**stepped(steps=0), "images": {"train": "a", "val": "other"}}
    with pytest.raises(InputError, match="the val images are not those"):
        load_checkpoint(tmp_path / "c.safetensors", **state)
