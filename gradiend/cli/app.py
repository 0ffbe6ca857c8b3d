"""The `gradiend` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradiend import __version__

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def gradiend(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find one feature of a language model in its gradients, look at it, and rewrite the model with it."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("runs/demo"),
    model: Annotated[
        str | None, typer.Option(help="Name or path of a masked or causal model. Default: the embedded one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="First seed of the training.")] = 0,
) -> None:
    """From raw sentences to a rewritten model: 3rd person singular (he, she, it) against plural (they)."""
    from gradiend.cli.demo import run_demo  # noqa: PLC0415 - torch is loaded when there is work to do

    run_demo(output, model=model, seed=seed)
