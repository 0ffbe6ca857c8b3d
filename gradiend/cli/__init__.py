"""Commands: thin, every one a call of the public API."""

from __future__ import annotations

import sys

from gradiend.util._imports import install_hint


def main() -> None:
    """Entry point of the `gradiend` command."""
    try:
        from gradiend.cli._commands import app  # noqa: PLC0415 - typer and rich are needed by the command only
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.exit(f"The gradiend command needs {error.name}: {install_hint(error.name, 'cli')}")
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        # The message says what the user did wrong; a traceback would only hide it.
        sys.exit(f"Error: {error}")
