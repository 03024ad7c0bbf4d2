from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.detection.folders import write_coco, write_voc


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "voc")
