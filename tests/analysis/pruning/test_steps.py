from __future__ import annotations

import json

import pytest

from senet.analysis.pruning.steps import Pruning, Saving, Step
from senet.measure import Ratio


def pruning(**changes):
    steps = (
        Step("layer3.0.se", "folded", "folded into layer3.0.bn2", 90.0, 89.9, Saving(300, 4_000_000, 2e-3)),
        Step("layer1.0.se", "kept", "5.00 points would be lost", 89.9, 84.9, Saving(100, 1_000_000, 1e-3)),
    )
    fields = {
        "taken": [("layer3.0.se", "folded into layer3.0.bn2")],
        "left": [("layer1.0.se", "5.00 points would be lost"), ("layer2.0.se", "it is used twice")],
        "metric": "top1",
        "max_drop": 0.1,
        "images": 900,
        "before": 90.0,
        "after": 89.9,
        "parameters": (10_000, 9_700),
        "gate_parameters": 400,
        "bytes": (40_000_000, 36_000_000),
        "seconds": (0.02, 0.018),
        "ratio": Ratio(0.9, 0.85, 0.95),
        "batch": 16,
        "machine": "a machine",
        "steps": steps,
    }
    return Pruning(**{**fields, **changes})


def test_the_table():
    assert str(pruning()).splitlines() == [
        "site         gate    accuracy, %     parameters  MB    ms",
        "layer3.0.se  folded  90.00 -> 89.90  300         4.00  2.00  folded into layer3.0.bn2",
        "layer1.0.se  kept    89.90 -> 84.90  100         1.00  1.00  5.00 points would be lost",
        "layer2.0.se: it is used twice",
        "1 of 2 gates are constants, 300 (75.0 %) of the gates' 400 parameters are gone, of 10,000 in all",
        "top1 90.00 % -> 89.90 % on the 900 images that chose (standard error 1.00); judge it by others",
        "a batch of 16: 40.0 -> 36.0 MB moved, 20.00 -> 18.00 ms, 0.900 times as long (0.850 to 0.950) on a machine",
    ]


def test_the_standard_error_is_that_of_a_share():
    assert pruning(after=90.0).standard_error == pytest.approx(1.0)
    assert pruning(after=100.0).standard_error == 0


def test_json():
    told = json.loads(json.dumps(pruning().to_dict()))
    assert told["verb"] == "pruned"
    assert told["steps"][1]["saving"] == {"parameters": 100, "bytes": 1_000_000, "seconds": 1e-3}
    assert told["ratio"] == {"median": 0.9, "low": 0.85, "high": 0.95}
