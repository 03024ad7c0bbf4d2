from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torchvision.datasets import utils

from senet.errors import InputError
from senet.train.data.download import cache_dir, download

CONTENT = b"all of it"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("SENET_DATA", str(tmp_path / "cache"))
    (tmp_path / "file.bin").write_bytes(CONTENT)
    return serve(tmp_path) + "file.bin"


def fetch(url: str, md5: str = MD5) -> Path:
    return download(url, md5, folder="some", otherwise="or do without")


def test_cache_dir(monkeypatch):
    monkeypatch.setenv("SENET_DATA", "/somewhere/else")
    assert cache_dir() == Path("/somewhere/else")
    monkeypatch.delenv("SENET_DATA")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/senet/data")


def test_a_whole_file_needs_neither_the_network_nor_the_right_to_write(url):
    path = cache_dir() / "some/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch("http://nowhere.invalid/file.bin") == path
    assert list(path.parent.iterdir()) == [path]  # no lock, either


def test_of_many_at_once_one_downloads(url, monkeypatch):
    many, fetched = 4, []
    together = threading.Barrier(many)

    def slowly(url: str, place: str) -> None:
        fetched.append(url)
        with open(place, "wb") as file:
            for byte in CONTENT:
                file.write(bytes([byte]))
                file.flush()
                time.sleep(0.005)  # the others come in between, were it not for the lock

    def fetch_and_read(_: int) -> bytes:
        together.wait()
        return fetch(url).read_bytes()

    monkeypatch.setattr(utils, "_urlretrieve", slowly)
    with ThreadPoolExecutor(many) as pool:
        assert list(pool.map(fetch_and_read, range(many))) == [CONTENT] * many
    assert fetched == [url]


def test_half_a_file_is_fetched_again(url):
    path = fetch(url)
    path.write_bytes(CONTENT[:3])
    assert fetch(url).read_bytes() == CONTENT


def test_failure_says_why_and_frees_the_lock(url):
    with pytest.raises(InputError, match=r"^cannot download http:.*: File not found or corrupted.; or do without$"):
        fetch(url, md5="0" * 32)
    assert fetch(url).read_bytes() == CONTENT
