"""The package that counts average precision, and reads masks."""

from __future__ import annotations

import importlib.util

from senet.errors import InputError

__all__ = ["require_evaluator"]


def require_evaluator() -> None:
    """Refuses to begin without it.

    Raises:
        InputError: it is not installed; says how to.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise InputError("average precision needs faster-coco-eval; install it by pip install 'senet[detection]'")
