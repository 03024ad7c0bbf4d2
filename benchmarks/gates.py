"""What the gates of trained networks do, by the excitation lab, and what `senet prune` takes away.

Appends a line for each run to results/gates.jsonl, from which tools/gates.py makes docs/gates.md. Images are those held
out in the training; the lab takes all of them, `prune` chooses by one half and is judged by the other.

    senet train fashion.seresnet8 --epochs 3 --set data.limit=30000 --out runs/seresnet8
    senet train fashion.seresnet8 --epochs 3 --set data.limit=30000 --set model.name=cifar_seresnet20 --out runs/se20
    python benchmarks/gates.py runs/seresnet8 runs/se20
"""

from __future__ import annotations

import argparse
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import torch

from senet.analysis.lab.leave_out import ALL, Change, How
from senet.measure import device_name
from senet.study.excitation import excite_trained
from senet.study.pruning import prune_trained
from senet.train.trained import read_trained

RESULTS = Path(__file__).parent / "results" / "gates.jsonl"
DROPS = (0.1, 0.5, 1.0, 2.0)  # percentage points


def tell(what: str, done: int, total: int) -> None:
    """A line now and then."""
    if done == total:
        print(f"{what}: {done}", flush=True)


def change(paired: Change) -> dict[str, float]:
    """What changed gates change, in points, with its standard error."""
    return {"points": round(paired.points, 3), "error": round(paired.error, 3)}


def lab(run: Path) -> dict[str, Any]:
    """Leave-one-out over all held-out images, and how the gates of each block move."""
    found = excite_trained(read_trained(str(run)), name=run.name, limit=10**9, portraits=1, progress=tell)
    ways = get_args(How)
    sites = [*found.sites, ALL] if len(found.sites) > 1 else list(found.sites)
    effects = {site: {how: change(found.leave_out.of(site, how).top1) for how in ways} for site in sites}
    blocks = {
        name: {
            "gates": len(site.mean),
            "std": round(float((site.std**2).mean().sqrt()), 4),
            "between": round(100 * site.share_between, 1),
            "rank": round(found.spectra[name].effective_rank, 2),
        }
        for name, site in found.sites.items()
    }
    return {"images": found.leave_out.images, "top1": found.leave_out.top1, "blocks": blocks, "effects": effects}


def pruned(run: Path, drop: float) -> dict[str, Any]:
    """What an allowance buys, on images that chose and on others."""
    result = prune_trained(read_trained(str(run)), max_drop=drop, progress=tell)
    done, judged = result.report, result.judged
    return {
        "max_drop": drop,
        "constant": [step.site for step in done.steps if step.decision != "kept"],
        "parameters": done.parameters,
        "gate_parameters": done.gate_parameters,
        "bytes": done.bytes,
        "chosen_by": {"images": done.images, "before": done.before, "after": done.after},
        "judged_by": {"images": judged.images, "before": judged.before, "after": judged.after, "error": judged.error},
    }


def main() -> None:
    """Each run in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of complete runs")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    for run in parser.parse_args().runs:
        summary = json.loads((run / "summary.json").read_text())
        line = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device_name(torch.device("cpu")),
            "torch": torch.__version__,
            "commit": commit.stdout.strip(),
            **{name: summary[name] for name in ("recipe", "model", "dataset", "train_images", "epochs", "seed")},
            "lab": lab(run),
            "pruned": [pruned(run, drop) for drop in DROPS],
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line, indent=1), flush=True)


if __name__ == "__main__":
    main()
