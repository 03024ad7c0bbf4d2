"""Files that stand where weights should: pointers, pages, archives; each called by its name, with the way out."""

from __future__ import annotations

import codecs
import re
import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from senet.errors import InputError

__all__ = ["refuse_other_kinds"]

_START = 4096  # bytes that tell
_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # of torch.save before 1.6, as a pickle has it
_AGAIN = "download it again"
_OTHERS = (".onnx", ".caffemodel")  # protocol buffers, whose first bytes tell nothing

# How a text begins -> what it is, and what to do
_POINTERS = {
    "version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "run `git lfs pull` where it was cloned"),
    "version https://hawser.github.com/spec/": ("a Git LFS pointer", "run `git lfs pull` where it was cloned"),
    "# xet version": ("a Xet pointer", "run `git xet install` and `git lfs pull` where it was cloned"),
    "/annex/objects/": ("a git-annex pointer", "run `git annex get` on it"),
    "../.git/annex/objects/": ("a git-annex pointer", "run `git annex get` on it"),
    ".git/annex/objects/": ("a git-annex pointer", "run `git annex get` on it"),
    "outs:": ("a DVC pointer", "run `dvc pull` where it was cloned"),
}
_HTML = re.compile(
    r"(<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(!doctype\s+html|html|head|body|meta|title|script)\b", re.I | re.S
)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.I | re.S)

# How a binary file begins -> what it is, and what to do
_BINARY = {
    b"BZh": ("a bzip2 archive", "unpack it by `bunzip2`"),
    b"\xfd7zXZ\0": ("an xz archive", "unpack it by `unxz`"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", "unpack it by `unzstd`"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file, as Keras writes", "save its tensors by name as safetensors"),
    b"\x93NUMPY": ("one array of NumPy", "save all tensors by name as safetensors"),
    b"GGUF": ("a GGUF file", "give the weights that it was made from"),
    b"\x89PNG": ("a PNG image", "give the file beside it that holds the weights"),
    b"\xff\xd8\xff": ("a JPEG image", "give the file beside it that holds the weights"),
    b"%PDF": ("a PDF", "give the file beside it that holds the weights"),
    b"\0\5\x16\7": ("what macOS keeps beside a file", "give the file of the same name without '._'"),
}


def refuse_other_kinds(path: Path) -> None:
    """Refuses a file whose first bytes tell that it holds no weights, or those of another format than its name says.

    Args:
        path: of a file that is there.

    Raises:
        InputError: says what it is and how to come to the weights.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if found := _kind(path, start):
        what, do = found
        raise InputError(f"{path} is {what}; {do}")


def _kind(path: Path, start: bytes) -> tuple[str, str] | None:
    """Returns the kind of a file that cannot be what its name says, and the remedy; None where it may be."""
    if not start.strip(b"\0"):
        if not start:
            return "empty", f"{_AGAIN}, or wait until it is written"
        return "nothing but zeros where it begins, as a download that was cut off may be", _AGAIN
    if len(start) < len(_MAGIC) and start.startswith((b"P", b"\x80")):
        return f"cut off: {len(start)} bytes are no weights", _AGAIN
    if start.startswith(b"\x1f\x8b"):
        return _gzip(start)
    for magic, found in _BINARY.items():
        if start.startswith(magic):
            return found
    if start[257:262] == b"ustar":
        return "a tar archive", "unpack it and give the file of weights in it"
    if start.startswith(b"PK\x03\x04"):
        return _zip(path)
    if _MAGIC in start[:40]:
        return _named_otherwise(path, "what torch.save writes", ".pth")
    if _is_safetensors(start):
        return _named_otherwise(path, "safetensors", ".safetensors")
    if start.startswith(b"\x80") and path.suffix not in _OTHERS:
        return "a plain pickle, which could run code", "save its tensors by name with torch.save, or as safetensors"
    return _text(start)


def _is_safetensors(start: bytes) -> bool:
    """Whether it begins as they do: the length of a JSON text, and the text."""
    return len(start) > 8 and start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= 100_000_000


def _named_otherwise(path: Path, what: str, suffix: str) -> tuple[str, str] | None:
    """A file whose name says another format than it has; None where it says this one."""
    known = path.suffix not in (".safetensors", *_OTHERS) if suffix == ".pth" else path.suffix == suffix
    return None if known else (f"{what}, whatever its name says", f"rename it to {path.stem}{suffix}")


def _zip(path: Path) -> tuple[str, str] | None:
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, OSError, ValueError):
        return "cut off: it begins as an archive of torch.save does, and has no end", _AGAIN
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return (
            "a TorchScript program, which would have to be run to be read",
            "save torch.jit.load(FILE).state_dict() with torch.save where it comes from",
        )
    if "data.pkl" in inner:
        return _named_otherwise(path, "what torch.save writes", ".pth")
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of arrays of NumPy", "save them by name as safetensors"
    held = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"a zip archive of {held or 'nothing'}", "unpack it and give the file of weights in it"


def _gzip(start: bytes) -> tuple[str, str]:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(start, _START)
    except zlib.error:
        return "a gzip archive that is damaged", _AGAIN
    if found := _text(inside):
        return f"compressed by gzip, and inside is {found[0]}", found[1]
    return "compressed by gzip", "unpack it by `gunzip`"


def _text(start: bytes) -> tuple[str, str] | None:
    """The kind of a text; None where it is none."""
    text = _decoded(start)
    if text is None:
        return None
    plain = text.strip().removeprefix("\ufeff").strip()
    for begins, (what, do) in _POINTERS.items():
        if plain.startswith(begins):
            return f"{what}, not the weights", do
    if _HTML.match(plain):
        title = _TITLE.search(plain)
        said = _short(title[1] if title else plain)
        return (
            f"an HTML page, not the weights: {said}",
            f"open its address in a browser, as it may want a login, and {_AGAIN}",
        )
    kind = {"<": "an XML text", "{": "a JSON text", "[": "a JSON text", "": "a text of spaces"}.get(plain[:1], "a text")
    return f"{kind}, not the weights: {_short(plain)}", f"{_AGAIN}, and look what comes"


def _decoded(start: bytes) -> str | None:
    utf_16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16" if utf_16 else "utf-8")()
    try:
        text = decoder.decode(start)  # what is cut off at the end is left out
    except UnicodeDecodeError:
        if not _HTML.match(text := start.decode("latin-1").strip()):  # pages in older encodings
            return None
    return text if all(c.isprintable() or c.isspace() or c == "\ufeff" for c in text) else None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
