import re
import sys

import pytest
from PIL import Image

from senet.__main__ import main


@pytest.fixture
def senet(monkeypatch, capsys):
    """Runs the command line in this process: exit code, stdout, stderr without colours."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["senet", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        return end.value.code, *(re.sub(r"\x1b\[[0-9;]*m", "", text) for text in (printed.out, printed.err))

    return run


@pytest.fixture
def refused(senet):
    """Runs a command that must be refused: code 2, one line, no traceback; the line is returned."""

    def run(*words):
        code, _, err = senet(*words)
        assert code == 2, err
        lines = err.strip().splitlines()
        assert lines[-1].startswith("senet: error: ")
        assert "Traceback" not in err
        assert sum(line.startswith("senet: error") for line in lines) == 1
        return lines[-1]

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of class folders: two colours, 12 images of 20x20 each."""
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in (("blue", (20, 30, 200)), ("red", (200, 30, 20))):
        (folder / name).mkdir()
        for i in range(12):
            Image.new("RGB", (20, 20), tuple(c + 2 * i for c in colour)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photos):
    """The folder of a complete run on those photos."""
    from senet.recipes import get_recipe
    from senet.train.loop import train

    out = tmp_path_factory.mktemp("trained") / "run"
    recipe = get_recipe("cifar.seresnet8").override(
        {
            "data.root": str(photos),
            "data.size": 16,
            "data.batch_size": 8,
            "data.val_fraction": 0.25,
            "schedule.epochs": 3,
            "schedule.warmup": 0,
            "optim.lr": 0.05,
        }
    )
    train(recipe, out)
    return out
