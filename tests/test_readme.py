"""Every code block of the README runs, as it stands there."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [text for language, text in BLOCKS if language == "sh"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def test_there_is_no_block_that_nobody_runs():
    assert {language for language, _ in BLOCKS} == {"python", "sh"}


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python(code, tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=range(len(SHELL)))
def test_shell(block, tmp_path):
    for name, colour in (("blue", (20, 30, 200)), ("red", (200, 30, 20))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(80):
            Image.new("RGB", (32, 32), tuple(c + i // 2 for c in colour)).save(
                tmp_path / "photos" / name / f"{i:02}.png"
            )
    for line in block.splitlines():
        words = shlex.split(line)
        if words[0] == "make":  # would run this very test, or for minutes: that it can run is what is tested here
            command, folder = [*words, "--dry-run"], ROOT
        elif words[0] == "pip":  # the set-up that got us here did it; that the extras exist is what is tested here
            extras = set(re.findall(r"\w+", words[-1]))
            assert (
                extras
                <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
            )
            continue
        else:
            command, folder = words, tmp_path
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, timeout=250)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_the_two_commands_of_the_first_screen_are_what_make_offers():
    targets = set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line.split()[1] for block in SHELL for line in block.splitlines() if line.startswith("make ")}
    assert named == {"demo", "test"}
    assert named <= targets
