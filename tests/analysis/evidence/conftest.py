from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from senet.analysis.evidence.compare import compare_table


@dataclass(frozen=True)
class Arm:
    label: str
    model: str
    options: dict = field(default_factory=dict)
    row: str = ""


PLAIN = Arm("plain", "cifar_resnet8", {}, "ResNet-50")
R4 = Arm("r4", "cifar_seresnet8", {"attn_options": {"reduction": 4}}, "r = 4")
R16 = Arm("r16", "cifar_seresnet8", {}, "r = 16")
R32 = Arm("r32", "cifar_seresnet8", {"attn_options": {"reduction": 32}}, "r = 32")
ARMS = (PLAIN, R4, R16, R32)


def lines(arm, errors, **changes):
    """A result for each error, with seeds 0, 1, ..."""
    return [
        {
            "run": f"{arm.label}-seed{seed}",
            "recipe": "small",
            "model": arm.model,
            "plain": {"model": {"name": arm.model, "options": arm.options}},
            "settings": {"optim.lr": 0.1, **{f"model.options.{name}": value for name, value in arm.options.items()}},
            "parameters": 78_042,
            "seed": seed,
            "epochs": 2,
            "seconds": 60.0,
            "top1": 100 - error,
            "top5": None,
            "val_loss": 1.0,
            "dataset": "pictures",
            "train_images": 9000,
            "val_images": 1000,
            "history": [{"train_top1": 50.0 + seed, "val_top1": 60.0}, {"train_top1": 70.0, "val_top1": 100 - error}],
            **changes,
        }
        for seed, error in enumerate(errors)
    ]


def baseline(arm):
    return PLAIN if arm.model == "cifar_seresnet8" else None


@pytest.fixture
def table10():
    """Compares results with the paper's Table 10."""

    def compare(results, arms=ARMS, **changes):
        return compare_table(results, arms, baseline, **{"number": "10", "seeds": range(3), **changes})

    return compare


@pytest.fixture
def results():
    """r = 4 and r = 16 are better than plain and this is shown, r = 32 is better without being shown."""
    return [
        *lines(PLAIN, (30.0, 31.0, 32.0)),
        *lines(R4, (28.0, 29.1, 30.2)),
        *lines(R16, (28.5, 29.4, 30.4)),
        *lines(R32, (31.0, 29.0, 30.0)),
    ]
