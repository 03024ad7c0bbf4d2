from __future__ import annotations

import itertools

import numpy as np
import torch

from senet.train.data.randomness import stream


def test_same_question_same_answer():
    first, second = (stream("image", seed=1, epoch=2, index=3).random(5) for _ in range(2))
    assert np.array_equal(first, second)


def test_different_questions_different_answers():
    purposes = ("subset", "order", "batch", "image", "layers", "mixup")
    questions = itertools.product(purposes, (0, 1), (0, 1), (0, 1))
    answers = [tuple(stream(p, seed=s, epoch=e, index=i).random(4)) for p, s, e, i in questions]
    numbers = [number for answer in answers for number in answer]
    assert len(set(numbers)) == len(numbers) == 48 * 4


def test_image_streams_do_not_run_into_each_other():
    """Where streams were cut from one sequence, many numbers from one would repeat in the next."""
    numbers = np.concatenate([stream("image", index=index).random(1000) for index in range(4)])
    assert len(np.unique(numbers)) == 4000


def test_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    stream("order").permutation(100)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
