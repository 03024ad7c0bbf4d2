"""``python -m benchmarks.gpu``: goes through the parts until all is measured or the time is up."""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch

from benchmarks.gpu import networks, profiled, sites, sweeps, tested, tune
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.results import ROOT, Results, about, incomplete
from benchmarks.gpu.setting import Case, Setting, dry, on_gpu

PARTS: dict[str, Callable[[Setting, Clock], Iterator[Case]]] = {
    "tests": tested.cases,
    "tune": tune.cases,
    "sweeps": lambda setting, clock: chain(sweeps.cases(setting, clock), sites.cases(setting, clock)),
    "networks": networks.cases,
    "profile": profiled.cases,
}
SUMMARIES = {"tune": tune.summary, "profile": profiled.summary}
IN_A_ROW = 3  # failures after which a part is given up: the device is no longer well


def main() -> None:
    """Measures what is not measured yet; ends with 1 where a case failed, with 3 where the time was up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU, results into a temporary folder")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=9, help="no case is begun that may take longer than is left")
    parser.add_argument("--results", type=Path, help="folder of gpu-PART.jsonl, where measured cases are looked up too")
    parser.add_argument("--commit", help="of the sources, where git cannot tell")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    if not options.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --dry-run goes without")
    setting = dry() if options.dry_run else on_gpu()
    if options.dry_run:
        torch.set_num_threads(1)  # maps this small are no work for two
    with tempfile.TemporaryDirectory() as temporary:
        usual = Path(temporary) if options.dry_run else ROOT / "benchmarks" / "results"
        results = Results(options.results or usual, about(setting.device, options.commit))
        raise SystemExit(run(setting, results, options.only, deadline))


def run(setting: Setting, results: Results, parts: Sequence[str], deadline: float) -> int:
    """The parts in their order; the exit status."""
    clock = Clock(setting.device)
    failed = waiting = 0
    for part in parts:
        if part != "tests" and not results.lines("tests"):
            print("the tests have not passed here; nothing is timed (run the part tests)", flush=True)
            return 1
        in_a_row = 0
        for case in PARTS[part](setting, clock):
            name = f"{part}: {' '.join(map(str, case.key.values()))}"
            if results.find(part, case.key):
                continue
            if time.monotonic() + case.seconds > deadline:
                waiting += 1
                continue
            since = time.monotonic()
            problem = measure(part, case, setting, results)
            print(f"{name}: {problem or 'measured'} in {time.monotonic() - since:.1f} s", flush=True)
            failed, in_a_row = failed + bool(problem), in_a_row + 1 if problem else 0
            if in_a_row == IN_A_ROW:
                break
        for line in SUMMARIES.get(part, lambda _: ())(results.lines(part)):
            print(line, flush=True)
    print(f"{failed} cases failed, {waiting} wait for more time: run again to go on", flush=True)
    return 1 if failed else 3 if waiting else 0


def measure(part: str, case: Case, setting: Setting, results: Results) -> str | None:
    """Measures a case and adds its line; what went wrong, if something did: that is a line, too."""
    torch.compiler.reset()
    gc.collect()
    if setting.on_cuda:
        torch.cuda.empty_cache()
    try:
        found = case.measure()
        missing = incomplete(found)
        if missing:
            raise RuntimeError(f"the line lacks {', '.join(missing)}")
    except Exception as error:  # one case that fails must not cost the others their time on the machine
        traceback.print_exc()
        results.append(part, case.key, {"error": f"{type(error).__name__}: {error}"})
        return f"failed ({type(error).__name__})"
    results.append(part, case.key, found)
    return None


if __name__ == "__main__":
    main()
