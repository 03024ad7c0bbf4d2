"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from senet.errors import InputError
from senet.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from senet.train.data.randomness import stream
from senet.train.memory import keep_freed_memory
from senet.train.meter import Meter
from senet.train.optim import make_optimizer
from senet.train.recipe import BaseRecipe, Run
from senet.train.results import Results
from senet.train.rundir import check_folder, open_folder, read_summary
from senet.train.schedule import lr_factor
from senet.train.task import Score, Split, Task
from senet.train.tasks import task_of
from senet.train.watch import Audience, TensorBoard, Watch, require_tensorboard

__all__ = ["train"]


def train(
    recipe: BaseRecipe,
    out: Path,
    *,
    resume: bool = False,
    watchers: Sequence[Watch] = (),
    images: tuple[Split, Split] | None = None,
) -> dict[str, Any]:
    """Trains a network and leaves everything about it in a folder.

    What is learnt, a :class:`senet.train.task.Task` knows: the images, the network, the loss and the score.

    Runs on a CPU, on one GPU, or on many where it is started by ``accelerate launch`` or ``torchrun``; the batch size
    is that of a step over all of them. What is random is a function of the recipe's seed and the step, so that a run
    that is killed and resumed ends with the same weights as one that is not: bit for bit where the device's operators
    are deterministic, as a CPU's are (on CUDA, with ``run.deterministic``).

    Args:
        recipe: what to train, on what, and how.
        out: the run's folder; :mod:`senet.train.rundir` says what it holds.
        resume: go on with the run in ``out``; start it where there is none.
        watchers: are told what happens.
        images: those of ``recipe.data`` to train on and to validate with, where they are read already.

    Returns:
        The run's summary, as in ``summary.json``.

    Raises:
        InputError: the recipe, the data or the folder cannot be used, or the loss is not finite any more: the message
            says at which step, and the last checkpoint stays.
    """
    check_folder(out, recipe, resume=resume)
    keep_freed_memory()
    task = task_of(recipe)
    task.check(recipe)
    if recipe.run.tensorboard:
        require_tensorboard()
    with ExitStack() as stack:
        accelerator = _accelerator(recipe.run, stack)
        audience = Audience(watchers if accelerator.is_main_process else ())
        stack.callback(audience.close)
        splits = images or task.load(recipe, progress=audience.loading)
        for note in dict.fromkeys(note for split in splits for note in split.notes):
            audience.note(note)
        return _train(task, recipe, out, *splits, resume=resume, accelerator=accelerator, audience=audience)


def _train(
    task: Task[Any, Any],
    recipe: BaseRecipe,
    out: Path,
    train_set: Split,
    val_set: Split,
    *,
    resume: bool,
    accelerator: Accelerator,
    audience: Audience,
) -> dict[str, Any]:
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    schedule, run = recipe.schedule, recipe.run
    first_process = accelerator.is_main_process

    # Data, network, optimizer.
    batches = task.loader(train_set, recipe, train=True, device=device, rank=rank, world=world)
    val_batches = task.loader(val_set, recipe, train=False, device=device, rank=rank, world=world)
    model = task.initial_model(recipe, train_set).to(device)
    if run.channels_last:
        model = model.to(memory_format=torch.channels_last)
    average = None if run.ema_decay is None else _moving_average(model, run.ema_decay)
    judged = model if average is None else average.module  # whose scores and weights are the run's
    optimizer = make_optimizer(model, recipe.optim)
    if run.compile:
        model.compile()
    net, optimizer = accelerator.prepare(model, optimizer)

    # Where the run stands.
    checkpoint = out / "checkpoint.safetensors"
    known = {"train": train_set.fingerprint, "val": val_set.fingerprint}
    state = {"model": model, "ema": average, "optimizer": optimizer, "scaler": accelerator.scaler, "images": known}
    progress = load_checkpoint(checkpoint, **state) if resume and checkpoint.exists() else Progress()
    accelerator.wait_for_everyone()  # all have seen the folder as it was
    if first_process:
        open_folder(out, recipe)
    accelerator.wait_for_everyone()
    if progress.epoch == schedule.epochs and (out / "summary.json").exists():
        return read_summary(out)
    told = {"metric": task.metric, "images": known, "epochs": progress.epoch, "write": first_process}
    results = Results(out, recipe, train_set, val_set, **told)
    steps = len(batches) // run.accumulate
    if run.tensorboard and first_process:
        audience.add(TensorBoard(out / "tensorboard", first_epoch=progress.epoch))
    audience.start(recipe.name, epochs=schedule.epochs, steps=steps, done=progress.epoch * steps + progress.step)

    def save() -> None:
        if first_process:
            save_checkpoint(checkpoint, progress=progress, **state)

    def judge() -> Score:
        if world > 1:  # norm statistics differ between processes; those of the first are saved
            for buffer in judged.buffers():
                broadcast(buffer)
        with accelerator.autocast():
            return task.evaluate(judged, val_batches.batches(0), val_set, device)

    score: Score | None = None
    for epoch in range(progress.epoch, schedule.epochs):
        net.train()
        if schedule.freeze_norms is not None and epoch / schedule.epochs >= schedule.freeze_norms:
            _freeze_norms(model)
        meter = Meter(accelerator, progress, first_step=epoch * steps)
        started = time.perf_counter() - progress.seconds
        first = progress.step * run.accumulate
        for micro, (inputs, targets) in enumerate(batches.batches(epoch, first), first):
            # Layers that draw random numbers draw the same ones, however the run got here.
            chance = stream("layers", seed=run.seed, epoch=epoch, index=micro * world + rank)
            torch.manual_seed(int(chance.integers(2**63)))
            last = (micro + 1) % run.accumulate == 0
            with nullcontext() if last else accelerator.no_sync(net):
                loss, numbers = task.loss(net, inputs, targets, recipe)
                accelerator.backward(loss / run.accumulate)
            meter.add(loss, numbers, len(targets))
            if not last:
                continue

            factor = lr_factor(schedule, (epoch + progress.step / steps) / schedule.epochs, progress.val_losses)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * factor
            if recipe.optim.clip_grad_norm is not None:
                accelerator.clip_grad_norm_(net.parameters(), recipe.optim.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.update_parameters(model)
            progress.step += 1

            audience.step(len(targets) * run.accumulate * world)
            if progress.step % run.log_every == 0 or progress.step == steps:
                meter.read()
                audience.loss(progress.loss_sum / progress.seen)
            if run.save_every is not None and progress.step % run.save_every == 0 and progress.step < steps:
                meter.read()
                progress.seconds = time.perf_counter() - started
                save()
        progress.seconds = time.perf_counter() - started

        score = judge()
        metrics = results.epoch(progress, score, lr=recipe.lr * factor, weights=judged)
        progress.next_epoch(score.loss)
        save()
        audience.epoch(metrics)

    summary = results.finish(progress, score or judge(), judged, device)
    accelerator.wait_for_everyone()  # what the first process has written, all may read
    return summary


def _accelerator(run: Run, stack: ExitStack) -> Accelerator:
    """The device, or devices, and the precision; deterministic operators where asked for, until the stack ends."""
    if run.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        stack.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        torch.use_deterministic_algorithms(True)
    try:
        accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(run.precision, run.precision))
    except ValueError as error:
        if "already been initialized" in str(error):  # accelerate keeps one precision a process
            raise InputError(
                f"this process has trained in another precision than run.precision={run.precision!r}; start a new one"
            ) from None
        raise InputError(f"run.precision is {run.precision!r}, which cannot be had here: {error}") from None
    if run.precision == "fp16" and accelerator.device.type == "cpu":  # told to use the CPU, accelerate trains in fp32
        raise InputError("run.precision is 'fp16', which cannot be had on a CPU; accepted there: 'fp32', 'bf16'")
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:  # they would train apart and write over one another
        raise InputError(
            f"{started} processes were started, but they do not see one another; without a GPU, "
            "set ACCELERATE_USE_CPU=1"
        )
    return accelerator


def _freeze_norms(model: nn.Module) -> None:
    """Batch norms use their running statistics, as in evaluation, and keep them; their weights still learn."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of weights and buffers (norm statistics are part of the network)."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
