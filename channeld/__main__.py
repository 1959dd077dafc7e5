"""`python -m channeld` is the command `channeld`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command, or a word on what is missing where only the client was installed."""
    try:
        from channeld.cli import main as command  # noqa: PLC0415 (what it imports may be missing)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("channeld"):
            raise
        sys.exit(f"channeld: {error.name} is missing: the daemon is installed with `pip install 'channeld[daemon]'`")
    command()


if __name__ == "__main__":
    main()
