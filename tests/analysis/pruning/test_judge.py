from __future__ import annotations

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from senet.analysis.pruning.judge import batches_of, device_of, hits, judge
from senet.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_hits_are_those_of_torchmetrics(metric):
    scores, labels = torch.randn(200, 12), torch.randint(12, (200,))
    accuracy = MulticlassAccuracy(12, top_k=int(metric[3:]), average="micro")(scores, labels)
    right = hits(scores, labels, metric)
    assert right.dtype == torch.bool
    assert right.double().mean() == pytest.approx(float(accuracy))


def test_judging_goes_through_all_batches_in_order():
    model, x, y = nn.Linear(4, 3), torch.randn(50, 4), torch.randint(3, (50,))
    right = judge(model, [(x[:20], y[:20]), (x[20:20], y[20:20]), [x[20:], y[20:]]])
    assert torch.equal(right, model(x).argmax(1) == y)


def test_a_list_can_be_gone_through_again():
    data = [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.uint8))]
    assert len(list(batches_of(data, CPU))) == len(list(batches_of(data, CPU))) == 1


def test_where_a_model_is():
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")
    assert device_of(nn.BatchNorm2d(2, affine=False, device="meta")) == torch.device("meta")
    assert device_of(nn.ReLU()) == CPU


@pytest.mark.parametrize(
    ("scores", "labels", "metric", "said"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2), "top1", r"the network gives \(2, 3, 4\)"),
        ([torch.zeros(2, 3)], torch.zeros(2), "top1", "the network gives list"),
        (torch.zeros(2, 5), torch.zeros(2), "top5", "'top5' for 5 classes"),
        (torch.full((2, 5), torch.nan), torch.zeros(2), "top1", "not numbers"),
        (torch.zeros(2, 5), torch.tensor([0, 5]), "top1", "labels from 0 to 5 for 5 classes"),
    ],
)
def test_what_cannot_be_judged(scores, labels, metric, said):
    with pytest.raises(InputError, match=said):
        hits(scores, labels, metric)
