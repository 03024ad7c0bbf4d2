"""The ``senet`` command: ``senet`` where it is installed, ``python -m senet`` anywhere."""

from __future__ import annotations

import sys

from senet.errors import InputError

__all__ = ["main"]


def main() -> None:
    """Runs the command line; what the user got wrong is one line on stderr and exit code 2."""
    try:
        from senet.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"senet: the command line needs {error.name}; install it with: pip install 'senet[train,plot]'")
    try:
        app()
    except InputError as error:
        print("senet: error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("senet: interrupted; a training goes on with --resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
