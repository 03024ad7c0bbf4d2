import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from senet.errors import InputError
from senet.models.weights.kinds import refuse_other_kinds

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 102400\n"
PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>" + b"x" * 9000
JSON = json.dumps({"error": "Repository not found"}).encode()


def written(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


TORCH = written(lambda file: torch.save({"a.weight": torch.zeros(999)}, file))
OLD_TORCH = written(lambda file: torch.save({"a": torch.zeros(9)}, file, _use_new_zipfile_serialization=False))
SAFE = save({"a.weight": torch.zeros(999)})


def zipped(name, content):
    return written(lambda file: zipfile.ZipFile(file, "w").writestr(name, content))


def tarred(file):
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("w.pth"), io.BytesIO())


OTHER = {
    "Git LFS": (LFS, "is a Git LFS pointer, not the weights; run `git lfs pull`"),
    "Git LFS with a BOM": (b"\xef\xbb\xbf" + LFS, "is a Git LFS pointer"),
    "Git LFS of 2014": (LFS.replace(b"git-lfs", b"hawser"), "is a Git LFS pointer"),
    "Git LFS on Windows": (LFS.replace(b"\n", b"\r\n"), "is a Git LFS pointer"),
    "Xet": (b"# xet version 0\nfilesize = 3\nhash = 'a'\n", "is a Xet pointer, not the weights; run `git xet install`"),
    "git-annex": (
        b"/annex/objects/SHA256E-s1--ab.pth\n",
        "is a git-annex pointer, not the weights; run `git annex get`",
    ),
    "DVC": (b"outs:\n- md5: a\n  path: w.pth\n", "is a DVC pointer, not the weights; run `dvc pull`"),
    "a page": (PAGE, "is an HTML page, not the weights: 'Google Drive - Virus scan warning'; open its address"),
    "a page after a comment": (b"\n <!-- saved\nfrom -->\n<HTML lang=en>", "is an HTML page, not the weights"),
    "XHTML": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C">', "is an HTML page, not the weights"),
    "a page in UTF-16": ("<html><title>Sperre</title>".encode("utf-16"), "is an HTML page, not the weights: 'Sperre'"),
    "a page in Latin-1": ("<html><title>Rés</title>".encode("latin-1"), "is an HTML page, not the weights: 'Rés'"),
    "a page of one letter cut in two": (b"<html>" + "é".encode() * 3000, "is an HTML page"),
    "a bucket's answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "is an XML text, not the weights"),
    "JSON": (JSON, 'is a JSON text, not the weights: \'{"error": "Repository not found"}\''),
    "a list in JSON": (b'[\n{"a": 1}]', "is a JSON text, not the weights"),
    "a sentence": (b"Entry not found", "is a text, not the weights: 'Entry not found'; download it again"),
    "an error's code": (b"error code: 1010\r\n", "is a text, not the weights: 'error code: 1010'"),
    "spaces": (b"\n\n", "is a text of spaces"),
    "nothing": (b"", "is empty; download it again"),
    "zeros": (bytes(9999), "is nothing but zeros where it begins"),
    "a page in gzip": (
        gzip.compress(PAGE),
        "is compressed by gzip, and inside is an HTML page, not the weights: 'Google",
    ),
    "JSON in gzip": (gzip.compress(JSON), "is compressed by gzip, and inside is a JSON text, not the weights"),
    "a pointer in gzip": (gzip.compress(LFS), "is compressed by gzip, and inside is a Git LFS pointer"),
    "weights in gzip": (gzip.compress(TORCH), "is compressed by gzip; unpack it by `gunzip`"),
    "damaged gzip": (b"\x1f\x8b" + b"\xff" * 50, "is a gzip archive that is damaged"),
    "bzip2": (bz2.compress(TORCH), "is a bzip2 archive; unpack it"),
    "xz": (lzma.compress(TORCH), "is an xz archive; unpack it"),
    "tar": (written(tarred), "is a tar archive; unpack it"),
    "zip": (zipped("model/w.pth", TORCH), "is a zip archive of model/w.pth; unpack it"),
    "zip cut off": (TORCH[:-100], "is cut off: it begins as an archive of torch.save does, and has no end"),
    "zip's beginning": (TORCH[:60], "is cut off"),
    "two bytes": (TORCH[:2], "is cut off: 2 bytes are no weights"),
    "two of the old format": (OLD_TORCH[:2], "is cut off: 2 bytes are no weights"),
    "npz": (written(lambda file: np.savez(file, a=np.zeros(3))), "is an archive of arrays of NumPy"),
    "npy": (written(lambda file: np.save(file, np.zeros(3))), "is one array of NumPy"),
    "TorchScript": (zipped("w/constants.pkl", b""), "is a TorchScript program, which would have to be run to be read"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file, as Keras writes"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "is a PNG image"),
}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors", ".onnx", ".caffemodel"])
@pytest.mark.parametrize("what", OTHER)
def test_each_is_called_by_its_name(tmp_path, what, suffix):
    content, told = OTHER[what]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        refuse_other_kinds(path)
    assert str(refused.value).startswith(f"{path} {told}")
    assert "\n" not in str(refused.value)
    assert "; " in str(refused.value)  # what to do


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TORCH, "w.pth"),
        (TORCH, "w.pth.tar"),
        (OLD_TORCH, "w.bin"),
        (SAFE, "w.safetensors"),
        (b"\x08\x07\x12\x07pytorch", "w.onnx"),
        (b"\n\x03net\xa2\x06\x10", "w.caffemodel"),
        (b"\x80\x04 anything and more", "w.onnx"),
    ],
)
def test_weights_pass(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    refuse_other_kinds(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        (SAFE, "w.pth", "safetensors, whatever its name says; rename it to w.safetensors"),
        (SAFE, "pytorch_model.bin", "safetensors, whatever its name says; rename it to pytorch_model.safetensors"),
        (TORCH, "w.safetensors", "what torch.save writes, whatever its name says; rename it to w.pth"),
        (OLD_TORCH, "w.safetensors", "what torch.save writes, whatever its name says; rename it to w.pth"),
        (TORCH, "w.onnx", "what torch.save writes, whatever its name says; rename it to w.pth"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01s.", "w.pth", "a plain pickle, which could run code; save its tensors"),
    ],
)
def test_a_name_that_says_something_else(tmp_path, content, name, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refused:
        refuse_other_kinds(tmp_path / name)
    assert str(refused.value).startswith(f"{tmp_path / name} is {told}")
