from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from senet.errors import InputError
from senet.train.checkpoint import Progress
from senet.train.meter import Meter

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])  # of classes 0, 2 and 1


def read(*batches: tuple[float, torch.Tensor]) -> Progress:
    progress = Progress()
    meter = Meter(Accelerator(), progress, first_step=6)
    for loss, labels in batches:
        meter.add(torch.tensor(loss), LOGITS[: len(labels)], labels)
    meter.read()
    meter.read()  # finds nothing new
    return progress


def test_losses_count_by_images():
    progress = read((1.0, torch.tensor([0, 2, 0])), (4.0, torch.tensor([0])))
    assert (progress.seen, progress.correct, progress.loss_sum) == (4, 3, 7.0)


def test_of_a_mixture_the_larger_share_is_the_right_class():
    assert read((1.0, torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1], [0.3, 0.7, 0.0]]))).correct == 2


def test_a_loss_that_is_not_finite_is_told_by_its_step():
    with pytest.raises(InputError, match=r"^the loss is nan at step 7 \(epoch 1, step 1 of it\)"):
        read((float("nan"), torch.tensor([0])))
