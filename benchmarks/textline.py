"""A network with SE that others trained, PaddleOCR's classifier of text lines: read, looked at, pruned, folded.

Appends a line for each to results/textline.jsonl, from which tools/textline.py makes docs/textline.md. What is moved
is counted; times only order the gates that `prune` tries. Needs onnx, onnxruntime and the files of textline_data.py.

    python benchmarks/textline.py
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from textline_data import CLASSES, PAGE, WEIGHTS, crops
from textline_onnx import by_definition, by_runtime
from torch import Tensor, nn

import senet
from senet.analysis.lab.excite import excite
from senet.analysis.pruning.prune import prune
from senet.analysis.traffic import traffic
from senet.surgery.gating.strip import strip

RESULTS = Path(__file__).parent / "results" / "textline.jsonl"
NAME = "paddle_textline_cls"
STEP = 8  # pixels between windows where there should be many crops; those overlap
DROPS = (0.1, 5.0)  # percentage points


def network() -> nn.Module:
    """The network with PaddleOCR's weights."""
    return senet.create_model(NAME, pretrained=WEIGHTS).eval()


def agreement() -> dict[str, Any]:
    """How far outputs and gates lie from those of PaddleOCR's file."""
    torch.manual_seed(0)
    net, lines = network(), crops(PAGE)[0]
    result: dict[str, Any] = {"runtime": f"ONNX Runtime {onnxruntime.__version__}"}
    for of, x in (("noise", torch.randn(64, 3, 48, 192)), ("lines", lines)):
        probabilities, logits, gates = by_runtime(WEIGHTS, x)
        with torch.no_grad(), senet.record(net) as recording:
            found = net(x)
        pairs = zip(recording.gates.values(), gates, strict=True)
        exact = by_definition(WEIGHTS, x)
        double = copy.deepcopy(net).double()
        with torch.no_grad():
            precise = double(x.double())
        result[of] = {
            "images": len(x),
            "largest_logit": _largest(exact),
            "logits": _largest(found.numpy() - logits),
            "probabilities": _largest(found.softmax(1).numpy() - probabilities),
            "gates": max(_largest(mine.numpy() - theirs) for mine, theirs in pairs),
            "logits_float64": _largest(precise.numpy() - exact),
            "logits_runtime_float64": _largest(logits - exact),
        }
    return result


def lab() -> dict[str, Any]:
    """What the excitation lab finds on crops that do not overlap."""
    found = excite(network(), [crops(PAGE)], CLASSES, name=NAME, portraits=0)
    told = found.to_dict()
    blocks = {
        name: {
            **{key: told["blocks"][name][key] for key in ("gates", "still", "dead", "saturated", "effective_rank")},
            "count": site.count.int().tolist(),
            "means": _rounded(site.means),
            "moments": _rounded(site.moments),
        }
        for name, site in found.sites.items()
    }
    return {"images": found.images, "top1": found.top1, "blocks": blocks, "leave_one_out": told["leave_one_out"]}


def pruned() -> dict[str, Any]:
    """Gates held constant by the left half of the page, judged by the right half."""
    net, seen, unseen = network(), crops(PAGE, step=STEP, part=(0, 0.5)), crops(PAGE, step=STEP, part=(0.5, 1))
    result: dict[str, Any] = {"images": len(seen[0]), "unseen": len(unseen[0]), "before_unseen": _right(net, unseen)}
    result["drops"] = []
    for drop in DROPS:
        smaller = prune(net, [seen], max_drop=drop)
        told = senet.report(smaller).to_dict()
        steps = [
            {key: step[key] for key in ("site", "decision", "became", "before", "after")} for step in told["steps"]
        ]
        result["drops"].append(
            {
                **{key: told[key] for key in ("max_drop", "before", "after", "gate_parameters")},
                "before_parameters": told["parameters"][0],
                "after_unseen": _right(smaller, unseen),
                "steps": steps,
                **_moved(smaller),
                "folded": _moved(senet.fold(smaller)),
            }
        )
    return result


def folded() -> dict[str, Any]:
    """The network folded, beside itself and beside itself without gates: what they move for one image."""
    net, (x, labels) = network(), crops(PAGE)
    faster, plain = senet.fold(net), strip(net)
    with torch.no_grad():
        difference = _largest((faster(x) - net(x)).numpy())
        double = copy.deepcopy(net).double()
        difference64 = _largest((senet.fold(double)(x.double()) - double(x.double())).numpy())
    return {
        "images": len(x),
        "logits": difference,
        "logits_float64": difference64,
        "before": _right(net, (x, labels)),
        "after": _right(faster, (x, labels)),
        "as it is": _moved(net),
        "without gates": _moved(plain),
        "folded": _moved(faster),
        "without gates, folded": _moved(senet.fold(plain)),
    }


def _moved(net: nn.Module) -> dict[str, int]:
    """Operators, bytes and parameters for one image, in inference."""
    with torch.no_grad():
        total = traffic(lambda: net(torch.zeros(1, 3, 48, 192))).total()
    parameters = sum(p.numel() for p in net.parameters())
    return {"parameters": parameters, "launches": total.launches, "bytes": total.read + total.written}


def _right(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Percent."""
    with torch.no_grad():
        return 100 * float((net(data[0]).argmax(1) == data[1]).double().mean())


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _rounded(values: Tensor) -> list[list[float]]:
    return [[float(f"{v:.4g}") for v in row] for row in values.tolist()]


WHAT: dict[str, Callable[[], dict[str, Any]]] = {
    "agreement": agreement,
    "lab": lab,
    "prune": pruned,
    "fold": folded,
}


def main() -> None:
    """Measures, and appends a line for each."""
    if WEIGHTS is None or PAGE is None:
        raise SystemExit("pip install --no-deps rapidocr-onnxruntime==1.4.4 scikit-image==0.26.0")
    torch.set_num_threads(1)
    commit = ["git", "rev-parse", "--short", "HEAD"]
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "senet": senet.__version__,
        "commit": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
    }
    with RESULTS.open("a") as file:
        for what, measure in WHAT.items():
            line = json.dumps({"what": what, **measure(), **about})
            print(line[:300])
            file.write(line + "\n")


if __name__ == "__main__":
    main()
