import pytest
import torch
from torch import nn

from senet.recipes import get_recipe
from senet.train.classification import Classification

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])  # of classes 0, 2 and 1


@pytest.mark.parametrize(
    ("targets", "percent"),
    [
        (torch.tensor([0, 2, 0]), 200),
        # Of a mixture, the larger share is the right class.
        (torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1], [0.3, 0.7, 0.0]]), 200),
    ],
)
def test_hits_are_counted_in_percent_of_each_image(targets, percent):
    recipe = get_recipe("synthetic.resnet8")
    _, numbers = Classification().loss(nn.Identity(), LOGITS, targets, recipe)
    assert {name: int(number) for name, number in numbers.items()} == {"train_top1": percent}
