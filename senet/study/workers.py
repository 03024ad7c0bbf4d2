"""Processes that train one cell after another, and tell of it."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from senet.train.data import ImageSet, load_data
from senet.train.loop import train
from senet.train.recipe import Data, Recipe
from senet.train.watch import Watch

__all__ = ["Tell", "training_processes"]

Tell = Callable[[str, Mapping[str, Any]], None]
"""Told the name of a cell and the metrics of an epoch that is done."""

_queue: SimpleQueue[Any]  # in a worker: where it tells what happens
_parent: int  # in a worker: the process that waits for it


@contextmanager
def training_processes(jobs: int, threads: int, tell: Tell) -> Iterator[Callable[[Recipe, Path], Future[None]]]:
    """Some processes that train; gives the function that hands them a recipe and the folder of its run.

    With GPUs, process i has the i-th of them, counted round, to itself or with others. A process whose parent is gone
    stops at its next step, so that two never write into one folder.

    Args:
        jobs: processes.
        threads: of each on the CPU; the numbers of a training may depend on it.
        tell: called in this process after each epoch of each cell.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA, nor PyTorch's threads
    queue: SimpleQueue[Any] = context.SimpleQueue()
    numbers = context.Value("i", 0)
    gpus = _gpus()
    told = Thread(target=_listen, args=(queue, tell), daemon=True)
    told.start()
    pool = ProcessPoolExecutor(jobs, context, _start, (queue, numbers, gpus, threads, os.getpid()))

    def submit(recipe: Recipe, run: Path) -> Future[None]:
        return pool.submit(_work, recipe, run)

    try:
        yield submit
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in (pool._processes or {}).values():  # those still at work: what they do is not wanted any more
            process.terminate()
        pool.shutdown()
        queue.put(None)
        told.join()


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def _listen(queue: SimpleQueue[Any], tell: Tell) -> None:
    while (news := queue.get()) is not None:
        tell(*news)


def _start(queue: SimpleQueue[Any], numbers: Any, gpus: list[str], threads: int, parent: int) -> None:
    """In a new worker."""
    global _queue, _parent
    _queue, _parent = queue, parent
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    torch.set_num_threads(threads)


def _work(recipe: Recipe, run: Path) -> None:
    train(recipe, run, resume=True, watchers=[_Teller(run.name)], images=_images(recipe.data))


@functools.lru_cache(maxsize=2)
def _images(spec: Data) -> tuple[ImageSet, ImageSet]:
    """Read once for all the cells that a worker gets."""
    return load_data(spec)


class _Teller(Watch):
    def __init__(self, name: str) -> None:
        self.name = name

    def step(self, images: int) -> None:  # noqa: ARG002
        if os.getppid() != _parent:
            os._exit(1)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        _queue.put((self.name, dict(metrics)))
