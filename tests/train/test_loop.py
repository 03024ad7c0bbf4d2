import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from senet.errors import InputError
from senet.train import loop
from senet.train.data import load_data, make_loader
from senet.train.loop import train
from senet.train.optim import make_optimizer
from senet.train.rundir import build_model, read_metrics, read_run, read_summary
from senet.train.watch import Watch


def weights(folder, name="model"):
    return read_run(folder, weights=name).model.state_dict()


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
    torch.manual_seed(0)
    model = build_model(recipe.model, 3, 10).train()
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
    trained = read_run(run, weights="best")
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
        {"run.save_every": 2, "run.ema_decay": 0.9, "schedule.name": "plateau", "schedule.patience": 0}
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

    def build(*arguments):
        model = without_norms(*arguments)
        model(torch.zeros(1, 3, 16, 16))
        return model

    monkeypatch.setattr(loop, "build_model", build)
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


def test_clipping_bounds_the_step(tiny, tmp_path):
    recipe = tiny.override({"optim.clip_grad_norm": 1e-9, "optim.weight_decay": 0.0, "schedule.epochs": 1})
    train(recipe, tmp_path)
    torch.manual_seed(0)
    fresh = build_model(recipe.model, 3, 10)
    trained = weights(tmp_path)
    assert all(torch.allclose(p, trained[name], atol=1e-7) for name, p in fresh.named_parameters())


@pytest.mark.parametrize("changes", [{"run.channels_last": True}, {"optim.name": "adamw", "optim.lr": 0.001}])
def test_other_ways_train_too(tiny, tmp_path, changes):
    train(tiny.override({**changes, "schedule.epochs": 1}), tmp_path)
    assert math.isfinite(read_metrics(tmp_path)[0]["val_loss"])


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


def test_fp16_needs_a_gpu(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"run\.precision is 'fp16', which cannot be had here"):
        train(tiny.override({"run.precision": "fp16"}), tmp_path)


def run_in_processes(tmp_path, *changes, processes):
    """Trains in fresh processes on the CPU, by the command line, as ``torchrun`` starts it."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    settings = [
        *("data.size=16", "data.limit=48", "data.batch_size=8", "optim.lr=0.02", "schedule.epochs=3"),
        *changes,
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    out = tmp_path / "processes"
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "senet", "train", "synthetic.seresnet8", "--out", str(out), *sets],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("top-1 on") == 1  # one process speaks
    return out


def test_bf16(tiny, tmp_path):
    run = run_in_processes(tmp_path, "run.precision=bf16", processes=1)
    assert {t.dtype for t in weights(run).values()} == {torch.float32, torch.int64}
    train(tiny, tmp_path / "fp32")
    losses = [read_metrics(r)[-1]["train_loss"] for r in (run, tmp_path / "fp32")]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


def test_two_processes_share_the_work(tiny, tmp_path):
    recipe = tiny.override({"run.accumulate": 2})
    run = run_in_processes(tmp_path, "run.accumulate=2", processes=2)
    summary = json.loads((run / "summary.json").read_text())
    assert sum(map(sum, summary["confusion"])) == 512  # every validation image once
    assert len(read_metrics(run)) == 3
    train(recipe, tmp_path / "one")
    # Norms see a process's share of the batch, so the losses are near, not equal.
    a, b = (read_metrics(r)[0]["train_loss"] for r in (run, tmp_path / "one"))
    assert a == pytest.approx(b, rel=0.1)


def test_compiled(tmp_path):
    run = run_in_processes(
        tmp_path, "run.compile=true", "run.ema_decay=0.9", "schedule.epochs=1", "data.limit=16", processes=1
    )
    assert math.isfinite(read_metrics(run)[0]["val_loss"])
    assert not any("_orig_mod" in name for name in weights(run))
