"""The benchmarks that need a GPU: their dry run, and what keeps their results together."""

from __future__ import annotations

import copy
import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import senet
from senet.kernels.triton_plan import plan_sweep

ROOT = Path(__file__).parents[1]
ABOUT = {"device": "none", "torch": "0", "triton": "0", "sources": "a"}
# One search, by Triton's interpreter, which is slow
SEARCH = """
import dataclasses, json
from benchmarks.gpu import clock, setting, tune
dry = dataclasses.replace(setting.dry(), rounds=1, batches=(1,))
case = next(case for case in tune.cases(dry, clock.Clock(dry.device)) if case.key["sweep"] == "moments")
line = case.key | case.measure()
print(json.dumps([line, list(tune.summary([line]))]))
"""

# What benchmarks/public_loop.py calls of PyTorch Lightning, which is not installed here
LIGHTNING = """
import torch
__version__ = "0"
LightningModule = torch.nn.Module
class Callback:
    pass
class Trainer:
    def __init__(self, *, accelerator, max_epochs, barebones, callbacks):
        self.callbacks = callbacks
    def fit(self, module, loader):
        optimizer = module.configure_optimizers()
        for index, batch in enumerate(loader):
            optimizer.zero_grad()
            module.training_step(batch, index).backward()
            optimizer.step()
            for callback in self.callbacks:
                callback.on_train_batch_end(self, module, None, batch, index)
"""


@pytest.fixture
def gpu(monkeypatch):
    """Gives the benchmarks' modules by name."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"benchmarks.gpu.{name}")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_dry_run_takes_every_case_and_leaves_the_results_alone(tmp_path):
    before = {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").iterdir()}
    done = python("-m", "benchmarks.gpu", "--dry-run", "--commit", "none", "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 cases failed, 0 wait" in done.stdout
    lines = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in tmp_path.iterdir()}
    # 4 sweeps of a tail and 5 of a mobile site; 2 sites, apart and whole; 1 network trained, run in 2 ways, 4 profiled
    counts = {"gpu-tests": 1, "gpu-tune": 9, "gpu-sweeps": 4, "gpu-networks": 3, "gpu-profile": 4}
    assert {part: len(of_part) for part, of_part in lines.items()} == counts
    for line in (line for of_part in lines.values() for line in of_part):
        assert "error" not in line
        assert {"date", "device", "driver", "torch", "triton", "timm", "commit", "sources"} <= set(line)
    assert {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").iterdir()} == before


def test_without_a_gpu_nothing_but_a_dry_run():
    done = python("-m", "benchmarks.gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    assert done.stderr == "there is no CUDA device here; --dry-run goes without\n"


def test_a_search_of_plans_goes_through():
    pytest.importorskip("triton")
    done = python("-c", SEARCH, TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    line, table = json.loads(done.stdout)
    assert line["implementation"] == "triton"
    assert line["tried"] > 8
    assert {"warps", "pixels", "channels", "stages", "reverse"} <= set(line["gain"])
    assert [row.split()[:3] for row in table] == [["sums", "of", "1"]] * (len(line["gain"]) + 1)


def test_search_finds_two_changes_that_help(gpu):
    shape = (64, 256, 56 * 56)
    plan = plan_sweep("map", 2, shape, 2, "last")

    def seconds(candidate):
        if candidate.warps == 2:
            return None  # needs more registers than there are
        better = (candidate.warps == 8) + (candidate.tile.stages == 2)
        return 1.0 - 0.2 * better + 0.1 * (candidate.tile.unroll != plan.tile.unroll)

    best, gain, _ = gpu("tune").search(plan, seconds, "map", shape)
    assert best == plan._replace(warps=8, tile=plan.tile._replace(stages=2))
    assert gain["warps"] == gain["stages"] == 1.25
    assert gain["unroll"] == pytest.approx(1 / 1.1, abs=1e-3)
    assert gain["reverse"] == 1


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("kind", ["map", "sums"])
@pytest.mark.parametrize("area", [49, 196, 3136])
def test_near_plans_are_plans(gpu, layout, kind, area):
    shape = (8, 96, area)
    plan = plan_sweep(kind, 1, shape, 2, layout)
    found = list(gpu("plans").near(plan, kind, shape))
    assert len({plan, *(p for _, p in found)}) == len(found) + 1
    for field, (tile, rows, warps) in found:
        assert {n.bit_count() for n in (warps, tile.pixels, tile.channels, tile.unroll)} == {1}, field
        assert rows % (tile.unroll * tile.pixels) == 0
        assert tile.vector == plan.tile.vector


class TestRun:
    """What goes on, what stops, and what it ends with."""

    @pytest.fixture
    def go(self, gpu, monkeypatch, tmp_path):
        main, setting, results = gpu("__main__"), gpu("setting"), gpu("results")

        def run(*, left: float = 100, about=ABOUT, tune=(), tests=lambda: {"outcome": 1}):
            parts = {
                "tests": lambda *_: iter([setting.Case({"of": "all"}, tests, 1)]),
                "tune": lambda *_: (setting.Case({"n": n}, measure, 10) for n, measure in enumerate(tune)),
            }
            monkeypatch.setattr(main, "PARTS", parts)
            monkeypatch.setattr(main, "SUMMARIES", {})
            kept = results.Results(tmp_path, about)
            status = main.run(setting.dry(), kept, list(parts), time.monotonic() + left)
            return status, kept.lines("tune")

        return run

    def test_measures_once(self, go):
        calls = []
        tune = [lambda: {"x": calls.append(1) or 1.0}]
        assert go(tune=tune)[0] == go(tune=tune)[0] == 0
        assert len(calls) == 1
        status, lines = go(tune=tune, about=ABOUT | {"sources": "b"})
        assert (status, len(calls), len(lines)) == (0, 2, 1)

    def test_a_failure_is_told_and_tried_again(self, go, capsys):
        status, lines = go(tune=[lambda: 1 / 0, lambda: {"x": 1}])
        assert status == 1
        assert [line["n"] for line in lines] == [1]
        assert "ZeroDivisionError" in capsys.readouterr().out
        assert go(tune=[lambda: {"x": 2}, lambda: 1 / 0])[0] == 0

    @pytest.mark.parametrize("found", [{}, {"us": {}}, {"us": {"cold": float("nan")}}, {"us": [None]}])
    def test_a_line_that_lacks_something_is_a_failure(self, go, found):
        status, lines = go(tune=[lambda: found or {"us": ""}])
        assert (status, lines) == (1, [])

    def test_gives_up_after_three_in_a_row(self, go):
        calls = []
        assert go(tune=[lambda: 1 / (calls.append(1) or 0)] * 9)[0] == 1
        assert len(calls) == 3

    def test_begins_nothing_that_may_not_end(self, go):
        assert go(tune=[lambda: {"x": 1}], left=5) == (3, [])

    def test_times_nothing_where_tests_fail(self, go):
        assert go(tune=[lambda: {"x": 1}], tests=lambda: 1 / 0) == (1, [])


def test_a_twin_is_stripped_where_timm_has_none(gpu):
    setting, networks = gpu("setting"), gpu("networks")
    mobile = setting.Network("mobilenetv3_small_050", None)
    arms = networks.training_arms(mobile, setting.dry(), ("plain", "se"))
    plain, se = (arm.result() for arm in arms.values())
    assert plain.isfinite()
    assert plain != se


@pytest.mark.parametrize("name", ["architectures", "gates", "keras", "packages"])
def test_pages_say_what_was_measured(name):
    tool = runpy.run_path(str(ROOT / "tools" / f"{name}.py"))
    assert tool["PAGE"].read_text() == tool["page"](tool["newest"]()), f"run python tools/{name}.py"


class Gated(nn.Module):
    """A network with one gate, written out in its forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        u = self.norm(self.conv(x)).relu()
        return (u * self.fc(u.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3))


class TestAgreement:
    """What benchmarks/architectures.py and benchmarks/packages.py say of a network."""

    @pytest.fixture
    def agreement(self, monkeypatch):
        monkeypatch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("agreement")

    @pytest.fixture
    def measured(self, agreement):
        inputs = [(torch.randn(2, 3, 8, 12, dtype=torch.float64),), (torch.randn(3, 3, 12, 8, dtype=torch.float64),)]
        return lambda: agreement.measured(Gated, inputs, example=True)

    def test_a_gate_is_taken_and_numbers_agree(self, measured):
        row = measured()
        assert (row["gates"], row["more"], row["last"]) == (1, 0, 0)
        for verb in ("fuse", "fold", "record"):
            assert (row[verb]["taken"], row[verb]["silent"], row[verb]["others"]) == (1, [], [])
            assert row[verb]["evaluation"] <= 1e-12
        assert row["fuse"]["training"] <= 1e-12
        assert row["fuse"]["restored"]
        assert "rounding" not in row

    def test_wrong_numbers_and_silence_are_seen(self, measured, monkeypatch):
        def silent(model, example):
            copied = copy.deepcopy(model)
            with torch.no_grad():
                copied.conv.weight[0] *= 1 + 1e-7
            return copied

        monkeypatch.setattr(senet, "fold", silent)
        monkeypatch.setattr(senet, "report", lambda _: SimpleNamespace(taken=[], left=[]))
        row = measured()
        assert row["fold"]["silent"] == [""]
        assert 1e-9 < row["fold"]["evaluation"] < 1e-5
        assert 0 < row["rounding"]["evaluation"] < 1e-12

    def test_a_verb_that_raises_is_a_result(self, measured, monkeypatch):
        monkeypatch.setattr(senet, "fold", lambda *_, **__: 1 / 0)
        row = measured()
        assert row["fold"] == {"error": "ZeroDivisionError: division by zero"}
        assert row["record"]["taken"] == 1

    def test_rows_take_the_place_of_older_ones(self, agreement, tmp_path):
        path = tmp_path / "rows.jsonl"
        for row in ({"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "a", "n": 3}):
            agreement.put(path, row)
        assert agreement.newest(path) == {"a": {"name": "a", "n": 3}, "b": {"name": "b", "n": 2}}
        assert len(path.read_text().splitlines()) == 2

    def test_rows_grow_stale(self, agreement, tmp_path, monkeypatch):
        def git(*arguments):
            who = ("-c", "user.name=a", "-c", "user.email=a@b")
            done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
            return done.stdout.strip()

        def commit(name):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            git("add", name)
            git("commit", "-m", name)
            return git("rev-parse", "--short", "HEAD")

        git("init")
        monkeypatch.setattr(agreement, "ROOT", tmp_path)
        old, new, other = commit("senet/surgery/a.py"), commit("senet/kernels/b.py"), commit("docs/c.md")
        rows = tmp_path / "rows.jsonl"
        for name, at in {"old": old, "new": new, "other": other, "dirty": f"{new}-dirty"}.items():
            agreement.put(rows, {"name": name, "commit": at})
        agreement.put(rows, {"name": "none"})
        assert set(agreement.mark(rows)) == {"old", "dirty", "none"}
        assert {name for name, row in agreement.newest(rows).items() if row.get("stale")} == {"old", "dirty", "none"}
        assert agreement.commit() == other
        (tmp_path / "senet" / "d.py").write_text("")
        assert agreement.commit() == f"{other}-dirty"


def test_the_page_on_free_se_says_what_was_measured():
    tool = runpy.run_path(str(ROOT / "tools" / "free.py"))
    assert tool["PAGE"].read_text() == tool["page"](tool["newest"]()), "run python tools/free.py"


def test_the_readme_says_what_was_measured_of_free_se():
    lines = runpy.run_path(str(ROOT / "tools" / "free.py"))["newest"]()["kept"]
    step, kept = lines["train"], lines["counts"]
    said = " ".join((ROOT / "README.md").read_text().split())
    assert f"takes {step['se'][0]:.2f} times as long" in said
    assert f"keeps {kept['kept_seresnet50']:.3f} times" in said
    assert f"fused, {step['fused'][0]:.2f} times and {kept['kept_fused_seresnet50']:.3f} times" in said


def test_the_page_on_text_lines_says_and_draws_what_was_measured():
    tool = runpy.run_path(str(ROOT / "tools" / "textline.py"))
    lines = tool["newest"]()
    assert tool["PAGE"].read_text() == tool["page"](lines), "run python tools/textline.py"
    for name, drawn in tool["figures"](lines).items():
        assert (tool["FIGURES"] / f"{name}.svg").read_bytes() == drawn, "run python tools/textline.py"


def test_what_was_measured_of_recording():
    """Running statistics cost under 10 % of a forward pass, and hold after 50 batches what they held after 1."""
    lines = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "record.jsonl").read_text().splitlines()]
    newest = {line["what"]: line for line in lines}
    assert {"cifar_seresnet8", "seresnet18", "timm seresnet18"} <= set(newest)
    for line in newest.values():
        assert line["statistics"][0] < 1.1
        assert line["bytes_held"]["after 1"] == line["bytes_held"]["after 50"]


def test_loading_is_measured_from_end_to_end(tmp_path):
    done = python("benchmarks/data.py", "--images", "256", "--rounds", "1", "--results", str(tmp_path / "data.jsonl"))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["crop and flip", "crop, flip and Cutout"]
    for line in lines:
        assert set(line["images_per_second"]) == {"ours", "0 workers", "2 workers"}
        assert line["best"] != "ours"


def test_what_was_measured_of_loading():
    """At least as fast as torchvision's way: the whole interval, by the clock and by the processor."""
    newest = of_newest_commit("data.jsonl")
    assert {line["what"] for line in newest} == {"crop and flip", "crop, flip and Cutout"}
    for line in newest:
        assert line["times_as_fast"][1] >= 1
        assert line["times_as_fast_by_processor"][1] >= 1


def test_what_was_measured_beside_a_public_loop():
    """Not slower: the whole interval of every line, by the clock and by the processor."""
    newest = of_newest_commit("public_loop.jsonl")
    assert {line["batch_size"] for line in newest} == {64, 128}
    for line in newest:
        assert line["ratio"][2] <= 1
        assert line["ratio_by_processor"][2] <= 1


def of_newest_commit(name: str) -> list[dict]:
    """All lines of the last commit in a file of results: none is left out for another."""
    lines = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / name).read_text().splitlines()]
    return [line for line in lines if line["commit"] == lines[-1]["commit"]]


def test_the_loops_are_measured_from_end_to_end(tmp_path):
    (tmp_path / "pytorch_lightning.py").write_text(LIGHTNING)
    few = ["--batch-sizes", "8", "--images", "32", "--rounds", "1", "--results", str(tmp_path / "loop.jsonl")]
    done = python("benchmarks/public_loop.py", *few, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(line) for line in (tmp_path / "loop.jsonl").read_text().splitlines()]
    assert set(line["images_per_second"]) == {"ours", "Lightning", "Lightning, 1 worker"}
    assert min(line["images_per_second"].values()) > 0
    assert (line["batch_size"], line["images"], line["rounds"]) == (8, 32, 1)


def test_without_lightning_the_loop_says_what_it_needs(tmp_path):
    (tmp_path / "pytorch_lightning.py").write_text("raise ModuleNotFoundError")
    done = python("benchmarks/public_loop.py", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("this benchmark needs PyTorch Lightning: pip install pytorch-lightning==")
