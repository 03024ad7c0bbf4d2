"""Processes that train one cell after another."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from senet.train.data import ImageSet, load_data
from senet.train.loop import train
from senet.train.recipe import Data, Recipe

__all__ = ["training_processes"]


@contextmanager
def training_processes(jobs: int, threads: int) -> Iterator[Callable[[Recipe, Path], Future[None]]]:
    """Some processes that train; gives the function that hands them a recipe and the folder of its run.

    With GPUs, process i has the i-th of them, counted round, to itself or with others. A process whose parent is gone
    ends at once, so that two never write into one folder. Nothing but the run's folder tells how far it is: a process
    that is killed can leave no lock behind.

    Args:
        jobs: processes.
        threads: of each on the CPU; the numbers of a training may depend on it.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA, nor PyTorch's threads
    pool = ProcessPoolExecutor(jobs, context, _start, (context.Value("i", 0), _gpus(), threads))

    def submit(recipe: Recipe, run: Path) -> Future[None]:
        return pool.submit(_work, recipe, run)

    try:
        yield submit
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list((pool._processes or {}).values()):  # those still at work: it is not wanted any more
            process.terminate()
        pool.shutdown()


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def _start(numbers: Any, gpus: list[str], threads: int) -> None:
    """In a new worker."""
    Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption reaches the parent, which ends its workers
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    torch.set_num_threads(threads)


def _work(recipe: Recipe, run: Path) -> None:
    train(recipe, run, resume=True, images=_images(recipe.data))


@functools.lru_cache(maxsize=2)
def _images(spec: Data) -> tuple[ImageSet, ImageSet]:
    """Read once for all the cells that a worker gets."""
    return load_data(spec)


def _end_with_parent() -> None:
    """Ends a process that nobody waits for any more, whatever it is at."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
