"""The `gradiend` command."""

from __future__ import annotations

import os
import sys

from gradiend.util._imports import install_hint
from gradiend.util._processes import processes


def main() -> None:
    """Entry point of the `gradiend` command."""
    try:
        import click  # noqa: PLC0415 - click and rich are needed by the command only

        from gradiend.cli._commands import FAILED, INTERRUPTED, REFUSED, app  # noqa: PLC0415
        from gradiend.experiment._fields import ExperimentError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in {"rich_click", "click", "rich"}:
            raise
        sys.exit(f"The gradiend command needs {error.name}: {install_hint(error.name, 'cli')}")
    if not processes().first:
        # Of several processes, the first one talks.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    try:
        app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(REFUSED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except (ValueError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        # The message says what the user did wrong; a traceback would only hide it.
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(REFUSED if isinstance(error, ExperimentError) else FAILED)
