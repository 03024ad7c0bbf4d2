import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.train.evaluate import evaluate

CPU = torch.device("cpu")


class Table(nn.Module):
    """Returns given logits: image i holds its own row number."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        assert not self.training
        return self.logits[images[:, 0, 0, 0].long()]


def batches(labels, size):
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
    return zip(images.split(size), labels.split(size), strict=True)


def test_scores_against_their_definitions():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(23, 7, generator=generator)
    labels = torch.randint(7, (23,), generator=generator)
    model = Table(logits).train()
    result = evaluate(model, batches(labels, 5), 7, CPU)
    assert model.training
    assert result.images == 23
    assert result.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    best = logits.argsort(1, descending=True)
    assert result.top1 == pytest.approx(100 * (best[:, 0] == labels).float().mean().item())
    assert result.top5 == pytest.approx(100 * (best[:, :5] == labels[:, None]).any(1).float().mean().item())
    for true in range(7):
        for predicted in range(7):
            assert result.confusion[true][predicted] == ((labels == true) & (best[:, 0] == predicted)).sum()


def test_no_top5_of_five_classes():
    assert evaluate(Table(torch.eye(5)), batches(torch.arange(5), 2), 5, CPU).top5 is None


def test_a_loss_that_is_not_finite_is_told():
    logits = torch.full((4, 3), math.nan)
    assert math.isnan(evaluate(Table(logits), batches(torch.zeros(4).long(), 2), 3, CPU).loss)
