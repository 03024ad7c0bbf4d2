"""Errors caused by wrong input, worded so that the reader knows what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "did_you_mean", "with_article"]


class InputError(ValueError):
    """Something given by the user is wrong: a name, a type, a file, a picture.

    The message is one line that says what was given, what is accepted and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


def did_you_mean(given: str, known: Iterable[str], *, most: int = 3) -> str:
    """The nearest of the known names, as the end of a sentence; all of them where there are few.

    Returns:
        ``"; did you mean 'a' or 'b'?"``, or ``"; known: a, b, c"`` where nothing is near and the list is short.
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(given, names, n=most, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(repr(name) for name in near) + "?"
    if len(names) <= 12:
        return "; known: " + ", ".join(names) if names else ""
    return f"; {len(names)} are known, for example {', '.join(names[:most])}"


def with_article(name: str) -> str:
    """A noun, such as the name of a class, with the article that it is spoken with: ``"a list"``, ``"an object"``."""
    spoken_with_vowel = name[:1].lower() in tuple("aeio") or name.startswith("nd")
    return f"{'an' if spoken_with_vowel else 'a'} {name}"
