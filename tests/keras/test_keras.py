"""senet.keras as a whole: what it says where Keras is missing, and what its names say."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import senet.keras

ROOT = Path(__file__).parents[2]
BACKEND = next((name for name in ("tensorflow", "jax") if importlib.util.find_spec(name) is None), None)
WITHOUT = f"""
import os, sys, senet
sys.modules["keras"] = None
try:
    import senet.keras
except senet.InputError as error:
    print(error)
del sys.modules["keras"]
os.environ["KERAS_BACKEND"] = {BACKEND!r}
try:
    import senet.keras
except senet.InputError as error:
    print(error)
"""


@pytest.mark.skipif(BACKEND is None, reason="all backends are installed")
def test_what_is_missing_is_named():
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True)
    without_keras, without_backend = done.stdout.splitlines()
    assert "pip install 'senet[keras]'" in without_keras
    assert f"backend {BACKEND}" in without_backend
    assert "KERAS_BACKEND=torch" in without_backend


@pytest.mark.parametrize("name", senet.keras.__all__)
def test_public_names_are_documented(name):
    assert getattr(senet.keras, name).__doc__


def test_the_page_runs():
    """The code of docs/keras.md, as it stands there."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "keras.md").read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(code, names)
    assert any(isinstance(layer, senet.keras.SqueezeExcite) for layer in names["model"].layers)
    assert type(names["back"]).__name__ == "ResNet"
