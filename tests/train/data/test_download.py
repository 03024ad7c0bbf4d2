from __future__ import annotations

from pathlib import Path

from senet.train.data.download import cache_dir


def test_cache_dir(monkeypatch):
    monkeypatch.setenv("SENET_DATA", "/somewhere/else")
    assert cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("SENET_DATA")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/senet/data")
