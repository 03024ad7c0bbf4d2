"""The ``senet`` command: ``senet`` where it is installed, ``python -m senet`` anywhere."""

from __future__ import annotations

import sys

from senet.errors import InputError

__all__ = ["main"]


def main() -> None:
    """Runs the command line; what the user got wrong is one line on stderr and exit code 2."""
    try:
        from senet.cli import app

        app()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "senet":
            raise
        print(f"senet: error: this needs {error.name}; install it by pip install 'senet[train,plot]'", file=sys.stderr)
        sys.exit(2)
    except InputError as error:
        print("senet: error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
