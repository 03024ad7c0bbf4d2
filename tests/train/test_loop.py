import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from senet.errors import InputError
from senet.train import classification
from senet.train.data import load_data, make_loader
from senet.train.loop import train
from senet.train.optim import make_optimizer
from senet.train.recipe import Recipe
from senet.train.rundir import read_metrics, read_summary
from senet.train.start import initial_model
from senet.train.trained import read_trained
from senet.train.watch import Watch


def weights(folder, name="model"):
    return read_trained(folder, weights=name).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(Watch):
    """Ends a training after so many steps, as an error would."""

    def __init__(self, after):
        self.left = after

    def step(self, images):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_equals_a_bare_loop_bit_for_bit(tiny, tmp_path):
    recipe = tiny.override({"schedule.name": "constant", "loss.label_smoothing": 0.1})
    summary = train(recipe, tmp_path)
    train_set, _ = load_data(recipe.data)
    loader = make_loader(train_set, recipe.data, train=True, seed=0, device=torch.device("cpu"))
    model = initial_model(recipe.model, 3, 10, seed=0).train()
    optimizer = make_optimizer(model, recipe.optim)
    for epoch in range(3):
        for images, labels in loader.batches(epoch):
            F.cross_entropy(model(images), labels, label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert same(weights(tmp_path), model.state_dict())
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())


def test_leaves_a_complete_folder(tiny, tmp_path):
    summary = train(tiny, tmp_path / "deep" / "run")
    run = tmp_path / "deep" / "run"
    assert {f.name for f in run.iterdir()} == {
        "recipe.json", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors", "model.safetensors",
        "summary.json",
    }  # fmt: skip
    assert read_summary(run) == summary
    history = read_metrics(run)
    assert [m["epoch"] for m in history] == [1, 2, 3]
    assert history[-1]["val_top1"] == summary["top1"]
    assert summary["best_top1"] == max(m["val_top1"] for m in history) == history[summary["best_epoch"] - 1]["val_top1"]
    assert sum(map(sum, summary["confusion"])) == summary["val_images"]
    trained = read_trained(run, weights="best")
    assert trained.recipe == tiny
    assert trained.info["metrics"]["epoch"] == summary["best_epoch"]
    assert not trained.model.training


def test_learns(tiny, tmp_path):
    train(tiny.override({"data.limit": 480, "data.batch_size": 32, "optim.lr": 0.1}), tmp_path)
    first, *_, last = read_metrics(tmp_path)
    assert last["train_loss"] < first["train_loss"] - 0.2
    assert last["train_top1"] > 25  # ten classes


@pytest.mark.parametrize("steps", [1, 6, 7, 11, 17])
def test_interrupted_and_resumed_ends_the_same(tiny, tmp_path, steps):
    recipe = tiny.override(
        {
            "run.save_every": 2,
            "run.ema_decay": 0.9,
            "schedule.name": "plateau",
            "schedule.patience": 0,
            "schedule.freeze_norms": 0.5,
        }
    )
    train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", watchers=[Stop(steps)])
    torch.manual_seed(99)
    train(recipe, tmp_path / "broken", resume=True)
    for name in ("model", "best"):
        assert same(weights(tmp_path / "whole", name), weights(tmp_path / "broken", name))
    timed = {"seconds", "images_per_second"}
    assert [{k: v for k, v in m.items() if k not in timed} for m in read_metrics(tmp_path / "whole")] == [
        {k: v for k, v in m.items() if k not in timed} for m in read_metrics(tmp_path / "broken")
    ]


def test_resuming_a_complete_run_changes_nothing(tiny, tmp_path):
    first = train(tiny, tmp_path)
    (tmp_path / "summary.json").unlink()  # killed just before it was written
    assert train(tiny, tmp_path, resume=True) == first


def test_resume_may_change_what_decides_nothing(tiny, tmp_path):
    train(tiny, tmp_path)
    train(tiny.override({"run.log_every": 5, "data.workers": 0}), tmp_path, resume=True)
    with pytest.raises(InputError, match=r"another recipe \(synthetic.seresnet8\): optim.lr 0.02 -> 0.03"):
        train(tiny.override({"optim.lr": 0.03}), tmp_path, resume=True)


def test_accumulation_steps_on_the_mean_gradient(tiny, tmp_path, monkeypatch):
    # Without norms, which see the micro-batch, two halves are the whole.
    def without_norms(spec, channels, classes):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(channels, 8, 3), torch.nn.Flatten(), torch.nn.LazyLinear(classes))

    def build(*arguments, seed):
        model = without_norms(*arguments)
        model(torch.zeros(1, 3, 16, 16))
        return model

    monkeypatch.setattr(classification, "initial_model", build)
    recipe = tiny.override({"optim.momentum": 0.0, "optim.nesterov": False, "schedule.epochs": 1})
    losses = {}
    for accumulate in (1, 2, 4):
        train(recipe.override({"run.accumulate": accumulate}), tmp_path / str(accumulate))
        losses[accumulate] = read_metrics(tmp_path / str(accumulate))[0]["val_loss"]
    assert losses[2] == pytest.approx(losses[1], rel=1e-4)
    assert losses[4] == pytest.approx(losses[1], rel=1e-4)


def test_moving_average_is_what_is_judged_and_saved(tiny, tmp_path):
    train(tiny, tmp_path / "plain")
    train(tiny.override({"run.ema_decay": 0.5}), tmp_path / "average")
    plain, average = weights(tmp_path / "plain"), weights(tmp_path / "average")
    assert not torch.equal(plain["fc.weight"], average["fc.weight"])
    # The training itself is the same.
    a, b = (read_metrics(tmp_path / name) for name in ("plain", "average"))
    assert [m["train_loss"] for m in a] == [m["train_loss"] for m in b]
    assert [m["val_loss"] for m in a] != [m["val_loss"] for m in b]


@pytest.mark.parametrize(("share", "first_frozen"), [(0.0, 0), (1 / 3, 1), (0.34, 2), (0.66, 2), (0.67, 3), (None, 3)])
def test_norms_freeze_with_the_first_epoch_after_their_share_of_the_training(tiny, tmp_path, share, first_frozen):
    """A bare loop whose norms are in evaluation mode from then on; statistics stay, weights go on."""
    recipe = tiny.override({"schedule.name": "constant", "schedule.freeze_norms": share})
    train(recipe, tmp_path)
    train_set, _ = load_data(recipe.data)
    loader = make_loader(train_set, recipe.data, train=True, seed=0, device=torch.device("cpu"))
    model = initial_model(recipe.model, 3, 10, seed=0).train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    optimizer = make_optimizer(model, recipe.optim)
    for epoch in range(3):
        before = [(norm.running_var.clone(), norm.weight.clone()) for norm in norms]
        for norm in norms:
            norm.train(epoch < first_frozen)
        for images, labels in loader.batches(epoch):
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        for norm, (variance, weight) in zip(norms, before, strict=True):
            assert torch.equal(norm.running_var, variance) == (epoch >= first_frozen)
            assert not torch.equal(norm.weight, weight)
    assert same(weights(tmp_path), model.state_dict())
    assert {norm.num_batches_tracked.item() for norm in norms} == {6 * first_frozen}


def test_clipping_bounds_the_step(tiny, tmp_path):
    recipe = tiny.override({"optim.clip_grad_norm": 1e-9, "optim.weight_decay": 0.0, "schedule.epochs": 1})
    train(recipe, tmp_path)
    fresh = initial_model(recipe.model, 3, 10, seed=0)
    trained = weights(tmp_path)
    assert all(torch.allclose(p, trained[name], atol=1e-7) for name, p in fresh.named_parameters())


def test_channels_last_reaches_the_network(tiny, tmp_path, monkeypatch):
    seen = []

    def watched(*arguments, seed):
        model = initial_model(*arguments, seed=seed)
        hook = lambda module, inputs: seen.append((module, inputs[0]))  # noqa: E731
        model.layer2.register_forward_pre_hook(hook)
        return model

    monkeypatch.setattr(classification, "initial_model", watched)
    train(tiny.override({"run.channels_last": True, "schedule.epochs": 1}), tmp_path)
    module, x = seen[0]
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert module[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert not module[0].conv1.weight.is_contiguous()


def test_adamw_equals_a_bare_loop(tiny, tmp_path):
    recipe = tiny.override(
        {
            "optim": {"name": "adamw", "lr": 0.001, "norm_weight_decay": 0.0},
            "schedule.name": "constant",
            "schedule.epochs": 1,
        }
    )
    train(recipe, tmp_path)
    train_set, _ = load_data(recipe.data)
    loader = make_loader(train_set, recipe.data, train=True, seed=0, device=torch.device("cpu"))
    model = initial_model(recipe.model, 3, 10, seed=0).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-4},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.001,
    )
    for images, labels in loader.batches(0):
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert same(weights(tmp_path), model.state_dict())


def test_deterministic_operators_are_asked_for_and_then_no_more(tiny, tmp_path):
    seen = []

    class Look(Watch):
        def step(self, images):
            seen.append(torch.are_deterministic_algorithms_enabled())

    train(tiny.override({"run.deterministic": True, "schedule.epochs": 1}), tmp_path / "a", watchers=[Look()])
    assert seen == [True] * 6
    assert not torch.are_deterministic_algorithms_enabled()


def test_another_precision_in_the_same_process_is_refused_with_the_reason(tiny, tmp_path):
    train(tiny.override({"schedule.epochs": 1}), tmp_path / "a")
    with pytest.raises(InputError, match=r"another precision than run\.precision='bf16'; start a new one"):
        train(tiny.override({"run.precision": "bf16"}), tmp_path / "b")


def test_a_refused_attempt_leaves_no_run_behind(tiny, tmp_path):
    with pytest.raises(InputError, match="fewer than"):
        train(tiny.override({"data.batch_size": 64}), tmp_path / "run")
    with pytest.raises(InputError, match="root"):
        train(tiny.override({"data.root": str(tmp_path / "nowhere")}), tmp_path / "run")
    with pytest.raises(InputError, match="BasicBlock units accept"):
        train(tiny.override({"model.options.placement": "3x3"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(tiny, tmp_path / "run")


def test_resuming_on_other_images_is_refused(tiny, tmp_path):
    for folder, count in (("photos", 12), ("fewer", 10)):
        for name in ("blue", "red"):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (16, 16), (10 * i, 0, 99)).save(tmp_path / folder / name / f"{i}.png")
    changes = {"data.source": "folder", "data.limit": None, "data.val_fraction": 0.25}
    recipe = tiny.override({**changes, "data.root": str(tmp_path / "photos")})
    with pytest.raises(KeyboardInterrupt):
        train(recipe.override({"run.save_every": 1}), tmp_path / "run", watchers=[Stop(2)])
    with pytest.raises(InputError, match="the train and val images are not those that the run"):
        train(recipe.override({"data.root": str(tmp_path / "fewer")}), tmp_path / "run", resume=True)
    (tmp_path / "photos").rename(tmp_path / "moved")  # the same images elsewhere are the same images
    train(recipe.override({"data.root": str(tmp_path / "moved")}), tmp_path / "run", resume=True)


@pytest.mark.parametrize("steps", [2, 4])
def test_interrupted_while_streaming_ends_the_same(tiny, tmp_path, steps):
    for name in ("blue", "red"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (20, 24), (10 * i, 0, 99)).save(tmp_path / "photos" / name / f"{i}.png")
    recipe = tiny.override(
        {
            "data": {"source": "folder", "root": str(tmp_path / "photos"), "limit": None, "val_fraction": 0.25},
            "data.augment": "resized-crop",
            "data.workers": 1,
            "run.save_every": 1,
        }
    )
    train(recipe.override({"data.workers": 0}), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", watchers=[Stop(steps)])
    train(recipe, tmp_path / "broken", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_seed_decides(tiny, tmp_path):
    recipe = tiny.override({"schedule.epochs": 1})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(recipe.override({"run.seed": seed}), tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    recipe = tiny.override({"run.log_every": 4})
    real, calls = F.cross_entropy, iter(range(1000))

    def broken(*arguments, **options):
        loss = real(*arguments, **options)
        return loss * math.nan if torch.is_grad_enabled() and next(calls) == 8 else loss

    monkeypatch.setattr(F, "cross_entropy", broken)
    with pytest.raises(InputError, match=r"the loss is nan at step 9 \(epoch 2, step 3 of it\); stopped, the last"):
        train(recipe, tmp_path)
    monkeypatch.undo()
    assert [m["epoch"] for m in read_metrics(tmp_path)] == [1]
    train(recipe, tmp_path, resume=True)
    train(recipe, tmp_path / "whole")
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_diverging_for_real(tiny, tmp_path):
    with pytest.raises(InputError, match=r"(the loss is (nan|inf) at step \d+|validation loss is)"):
        train(tiny.override({"optim.lr": 1e18, "schedule.epochs": 9}), tmp_path)


def test_tensorboard_if_asked(tiny, tmp_path):
    train(tiny.override({"run.tensorboard": True, "schedule.epochs": 1}), tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def start(out, *changes, processes=1, resume=False):
    """Trains in fresh processes on the CPU, by the command line, as ``torchrun`` starts it."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    settings = [
        *("data.size=16", "data.limit=48", "data.batch_size=8", "optim.lr=0.02", "schedule.epochs=3"),
        *changes,
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    words = ["senet", "train", "synthetic.seresnet8", "--out", str(out), *sets, *(["--resume"] if resume else [])]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *words],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )


def run_in_processes(out, *changes, **how):
    """Starts a training that must end well; its folder."""
    done = start(out, *changes, **how)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("top-1 on") == 1  # one process speaks
    return out


def test_fp16_needs_a_gpu(tmp_path):
    done = start(tmp_path / "run", "run.precision=fp16")
    assert done.returncode == 2
    assert "run.precision is 'fp16', which cannot be had on a CPU" in done.stderr
    assert not (tmp_path / "run").exists()


def test_bf16(tiny, tmp_path):
    run = run_in_processes(tmp_path / "bf16", "run.precision=bf16")
    assert {t.dtype for t in weights(run).values()} == {torch.float32, torch.int64}
    train(tiny, tmp_path / "fp32")
    losses = [read_metrics(r)[-1]["train_loss"] for r in (run, tmp_path / "fp32")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_two_processes_share_the_work(tiny, tmp_path):
    changes = ("run.accumulate=2", "run.save_every=2")
    run = run_in_processes(tmp_path / "whole", *changes, processes=2)
    summary = json.loads((run / "summary.json").read_text())
    assert sum(map(sum, summary["confusion"])) == 512  # every validation image once
    assert len(read_metrics(run)) == 3
    train(tiny.override({"run.accumulate": 2}), tmp_path / "one")
    # Norms see a process's share of the batch, so the losses are near, not equal.
    a, b = (read_metrics(r)[0]["train_loss"] for r in (run, tmp_path / "one"))
    assert a == pytest.approx(b, rel=0.1)
    # Resumed by two processes from inside an epoch, it ends the same.
    broken = tmp_path / "broken"
    recipe = Recipe.load(run / "recipe.json")
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import os, signal, sys; from pathlib import Path\n"
        "from senet.train.loop import train; from senet.train.recipe import Recipe\n"
        "from senet.train.watch import Watch\n"
        "class Kill(Watch):\n"
        "    left = 9\n"
        "    def step(self, images):\n"
        "        self.left -= 1\n"
        "        if not self.left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "train(Recipe.load(Path(sys.argv[1])), Path(sys.argv[2]), watchers=[Kill()])\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(killer)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(run / "recipe.json"), str(broken)], env=environment, capture_output=True, timeout=200)
    assert recipe == Recipe.load(broken / "recipe.json")
    assert not (broken / "summary.json").exists()
    run_in_processes(broken, *changes, "run.log_every=20", processes=2, resume=True)
    assert same(weights(run), weights(broken))


def test_compiled(tmp_path):
    run = run_in_processes(
        tmp_path / "run", "run.compile=true", "run.ema_decay=0.9", "schedule.epochs=1", "data.limit=16", processes=1
    )
    assert math.isfinite(read_metrics(run)[0]["val_loss"])
    assert not any("_orig_mod" in name for name in weights(run))


def test_compiling_is_asked_for(tiny, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: asked.append(type(module).__name__))
    train(tiny.override({"run.compile": True, "schedule.epochs": 1}), tmp_path)
    assert asked == ["ResNet"]
