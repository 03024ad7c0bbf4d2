from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from senet.errors import InputError
from senet.train.checkpoint import Progress
from senet.train.meter import Meter


def read(*batches: tuple[float, float, int]) -> Progress:
    progress = Progress()
    meter = Meter(Accelerator(), progress, first_step=6)
    for loss, hits, images in batches:
        meter.add(torch.tensor(loss), {"hits": torch.tensor(hits)}, images)
    meter.read()
    meter.read()  # finds nothing new
    return progress


def test_losses_count_by_images_and_other_numbers_are_sums():
    progress = read((1.0, 2, 3), (4.0, 1, 1))
    assert (progress.seen, progress.sums, progress.loss_sum) == (4, {"hits": 3}, 7.0)


def test_a_loss_that_is_not_finite_is_told_by_its_step():
    with pytest.raises(InputError, match=r"^the loss is nan at step 7 \(epoch 1, step 1 of it\)"):
        read((float("nan"), 1, 1))
