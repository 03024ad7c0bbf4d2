import pytest
import torch
from torch.optim import lr_scheduler

from senet.train.recipe import Schedule
from senet.train.schedule import lr_factor, plateau_drops


def rates(make, epochs):
    """The rates that one of PyTorch's schedulers gives, epoch by epoch, starting from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_step_is_multi_step_lr():
    spec = Schedule("step", epochs=10, milestones=(0.3, 0.7), gamma=0.2)
    expected = rates(lambda o: lr_scheduler.MultiStepLR(o, [3, 7], 0.2), 10)
    assert [lr_factor(spec, e / 10) for e in range(10)] == pytest.approx(expected)


def test_cosine_is_cosine_annealing_lr():
    spec = Schedule("cosine", epochs=10, final_factor=0.1)
    expected = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.1), 10)
    assert [lr_factor(spec, e / 10) for e in range(10)] == pytest.approx(expected)
    assert lr_factor(spec, 1.0) == pytest.approx(0.1)


def test_warm_up_rises_in_a_line_and_then_the_schedule_begins():
    spec = Schedule("cosine", epochs=10, warmup=0.2, warmup_factor=0.1)
    assert [lr_factor(spec, done) for done in (0, 0.1, 0.2)] == pytest.approx([0.1, 0.55, 1.0])
    plain = Schedule("cosine", epochs=10)
    shares = [i / 10 for i in range(11)]
    assert [lr_factor(spec, 0.2 + 0.8 * s) for s in shares] == pytest.approx([lr_factor(plain, s) for s in shares])


def test_constant():
    assert {lr_factor(Schedule("constant"), done / 5) for done in range(5)} == {1.0}


LOSSES = [3.0, 2.0, 2.5, 2.4, 2.3, 2.2, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 0.9]


@pytest.mark.parametrize("patience", [0, 1, 2, 5])
def test_plateau_is_reduce_lr_on_plateau(patience):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0)
    spec = Schedule("plateau", epochs=20, patience=patience, gamma=0.5)
    for epoch, loss in enumerate(LOSSES):
        scheduler.step(loss)
        assert lr_factor(spec, (epoch + 1) / 20, LOSSES[: epoch + 1]) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_drops_count_from_the_beginning():
    assert plateau_drops([], 3) == 0
    assert plateau_drops([1.0] * 9, 1) == 4
