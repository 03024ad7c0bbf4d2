"""Random numbers are given back and drawing them is told; autocast is on while nothing is computed, and as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from senet.surgery.graph.guards import Unguardable
from senet.surgery.graph.side_effects import both_autocasts, random_numbers_kept

DRAWS = {"Python": random.random, "NumPy": np.random.rand, "PyTorch": lambda: torch.rand(1).item()}


@pytest.mark.parametrize("name", DRAWS)
def test_drawing_is_told_and_undone(name):
    draw, states = DRAWS[name], (random.getstate(), np.random.get_state(), torch.get_rng_state())
    wanted = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    with pytest.raises(Unguardable, match="draws random numbers"), random_numbers_kept():
        draw()
    assert draw() == wanted


def test_nothing_drawn_is_no_coin():
    with random_numbers_kept():
        torch.ones(1)


def test_an_error_is_not_hidden_and_numbers_are_given_back():
    state = random.getstate()
    with pytest.raises(KeyError), random_numbers_kept():
        {}.pop(random.random())
    assert random.getstate() == state


def test_autocast_is_on_meanwhile():
    with both_autocasts():
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cuda")
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cuda")


def test_switching_it_on_is_refused_and_off_is_not():
    with both_autocasts(), torch.autocast("cpu", enabled=False):
        assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(Unguardable, match="autocast on"), both_autocasts(), torch.autocast("cpu", dtype=torch.bfloat16):
        pass
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as PyTorch has it again
        assert torch.is_autocast_enabled("cpu")
