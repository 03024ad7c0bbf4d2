import pytest

from senet.recipes import get_recipe


@pytest.fixture
def tiny():
    """A recipe that trains in a second: 48 made-up images of 16x16, 6 steps an epoch, 3 epochs."""
    return get_recipe("synthetic.seresnet8").override(
        {
            "data.size": 16,
            "data.limit": 48,
            "data.batch_size": 8,
            "optim.lr": 0.02,
            "schedule.epochs": 3,
            "run.log_every": 2,
        }
    )
