"""The house itself: which room knows which, what is public, what an import costs, and where tests lie."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import senet

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "senet").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
# of the whole, not of a file
WITHOUT_MIRROR = {
    "test_architecture.py",
    "test_bad_input.py",
    "test_benchmarks.py",
    "test_dispatched.py",
    "test_architectures.py",
    "test_kill.py",
    "test_readme.py",
    "test_kinds.py",
    "test_second_derivatives.py",
    "test_why.py",
}

PUBLIC = [
    "CBAM",
    "ECA",
    "SCSE",
    "EffectiveSE",
    "GatherExcite",
    "InputError",
    "SqueezeExcite",
    "attach",
    "create_block",
    "create_detector",
    "create_model",
    "detach",
    "fold",
    "fuse",
    "list_models",
    "prune",
    "record",
    "report",
    "unfuse",
]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCE = pytest.mark.parametrize("path", SOURCES, ids=relative)


def test_imports_go_one_way():
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 1 kept, 0 broken." in done.stdout


def test_public_names_are_these():
    assert senet.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name):
    thing = getattr(senet, name)
    assert thing.__doc__
    assert thing.__doc__ != next((base.__doc__ for base in getattr(thing, "__mro__", ())[1:]), None)


def test_the_core_needs_torch_alone():
    """What `import senet` loads beyond what `import torch` loads anyway: itself."""
    program = "import sys, torch; before = set(sys.modules); import senet; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    added = {name.partition(".")[0] for name in done.stdout.split()}
    assert "senet" in added
    heavy = {"PIL", "accelerate", "jinja2", "matplotlib", "rich", "safetensors", "tensorboard", "timm", "torchmetrics"}
    assert not added & (heavy | {"torchvision", "triton", "typer"})
    assert added - set(sys.stdlib_module_names) <= {"senet", "torch"}


@SOURCE
def test_files_say_what_they_are(path):
    tree = ast.parse(path.read_text())
    if not tree.body:
        assert path.name == "__init__.py"
        return
    assert ast.get_docstring(tree)
    defined = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
    ]
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "__all__" in assigned or not defined or path.name == "__main__.py"


@SOURCE
def test_long_files_say_why(path):
    """One idea a file; above 400 lines the docstring says why it is that long."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400 or "one file" in (ast.get_docstring(ast.parse(text)) or "")


@SOURCE
def test_docstrings_begin_with_a_noun_or_a_verb(path):
    """Docstrings say "Number of images", not "How many images"; "Standard error of ...", not "Of ..."."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if re.match(r"(What|Which|Whose|Where|That|Of|How|Who|Why)\b", first):
                found.append(f"{relative(path)}:{node.body[0].lineno}: {first}")
    assert not found, "\n".join(["a docstring begins with a noun or a verb:", *found])


@SOURCE
def test_nothing_is_pickled(path):
    """Weights and arrays are read from formats that cannot run code; of others' files, tensors alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "save"), ("np", "save")}
        if isinstance(node, ast.Import):
            assert not {"pickle", "dill", "joblib"} & {name.name.partition(".")[0] for name in node.names}
        if isinstance(node, ast.ImportFrom):
            # To ask whether a value can be pickled runs nothing.
            asks = node.module == "pickle" and [name.name for name in node.names] == ["dumps"]
            assert asks or (node.module or "").partition(".")[0] not in {"pickle", "dill", "joblib"}


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_tests_mirror_the_files_they_test(path):
    """tests/a/test_b.py is of senet/a/b.py or of the folder senet/a/b; tests/a/test_a.py of the folder senet/a."""
    if path.name in WITHOUT_MIRROR:
        return
    folder = ROOT / "senet" / path.parent.relative_to(ROOT / "tests")
    name = path.stem.removeprefix("test_")
    candidates = [folder / f"{name}.py", folder / name / "__init__.py"]
    if name == folder.name:
        candidates.append(folder / "__init__.py")
    assert any(candidate.is_file() for candidate in candidates), f"{relative(path)} is the test of no file"
