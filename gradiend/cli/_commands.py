"""The commands: thin, every one a call of `gradiend.experiment`. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import functools
import json
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich_click as click
from click.shell_completion import get_completion_class
from rich.text import Text

from gradiend._version import __version__
from gradiend.cli._output import (
    print_comparison,
    print_description,
    print_json,
    print_needs,
    print_plan,
    print_results,
    results_dict,
)
from gradiend.experiment._fields import SCHEMA_FILE, Field, experiment_schema, fields
from gradiend.util._processes import processes

FAILED, REFUSED, NOT_CONVERGED, INTERRUPTED = 1, 2, 3, 130
EXIT_CODES = (
    "Exit codes: 0 done; 1 an error while working; 2 the file or a flag was refused, and nothing was started; "
    "3 done, but the training has not converged; 4 stopped by max_minutes, 130 by Ctrl-C, 143 by SIGTERM: run the same "
    "command to go on."
)
FLAGS_NOTE = (
    "Every field of the file is a flag too, which wins over the file: `--train.max-steps 500`, "
    "`--evaluate.decoder.strengthen '[she, balance]'`. Values are those of YAML."
)
# A flag's name is never cut: what the value is stands behind the sentence.
click.rich_click.OPTIONS_TABLE_COLUMN_TYPES = ["required", "opt_short", "opt_long", "help"]
click.rich_click.OPTIONS_TABLE_HELP_SECTIONS = ["help", "metavar", "default", "required"]


@click.group(
    # Flags may be spelt as in the file, with underscores.
    context_settings={
        "help_option_names": ["-h", "--help"], "token_normalize_func": lambda token: token.replace("_", "-"),
    },
    epilog=EXIT_CODES,
)  # fmt: skip
@click.version_option(__version__, message="%(version)s")
def app() -> None:
    """Find one feature of a language model in its gradients, look at it, and rewrite the model with it."""


class FieldFlag(click.RichOption):
    """A flag whose name is folded, not cut, where the terminal is narrow."""

    def get_rich_table_row(self, *args: Any, **kwargs: Any) -> Any:
        """The cells of the flag in the help."""
        row = super().get_rich_table_row(*args, **kwargs)
        for cell in row:
            if isinstance(cell, Text):
                cell.overflow = "fold"
        return row


def _help(field: Field) -> str:
    """The sentence of a field, and its default unless the sentence says it."""
    told = "Default:" in field.sentence or field.default is None
    return field.sentence if told else f"{field.sentence} Default: {json.dumps(field.default)}."


class ExperimentCommand(click.RichCommand):
    """A command that takes the file of an experiment and a flag for each of its fields."""

    @functools.cached_property
    def _fields(self) -> list[click.RichOption]:
        return [
            FieldFlag(
                ["__".join(field.keys), field.flag], metavar=field.kind, help=_help(field),
                panel="The experiment" if len(field.keys) == 1 else f"Section {field.keys[0]}",
            )
            for field in fields()
        ]  # fmt: skip

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters of the command, and those of the file, which are made when they are asked for."""
        return [*super().get_params(ctx), *self._fields]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the fields that are given into one parameter, `flags`."""
        rest = super().parse_args(ctx, args)
        given = {field.name: ctx.params.pop(field.name) for field in self._fields}
        ctx.params["flags"] = {name.replace("__", "."): value for name, value in given.items() if value is not None}
        return rest


def experiment_command(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate the function of a command that takes a file and flags; the function gets the `Experiment`."""

    def decorate(function: Callable[..., Any]) -> Any:
        @click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False))
        @functools.wraps(function)
        def call(file: str | None, flags: Mapping[str, str], **options: Any) -> Any:
            from gradiend.experiment import read_experiment  # noqa: PLC0415

            if file is None and not flags:
                raise click.UsageError("Name a file (`gradiend init` writes one), or give its fields as flags.")
            return function(read_experiment(file, flags), **options)

        call.__doc__ = f"{function.__doc__}\n\n{FLAGS_NOTE}"
        return app.command(name, cls=ExperimentCommand, epilog=EXIT_CODES)(call)

    return decorate


def output_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with --json, --quiet and --verbose."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
    quiet = click.option("-q", "--quiet", is_flag=True, help="No progress and no log on stderr, only errors.")
    verbose = click.option("-v", "--verbose", is_flag=True, help="More log on stderr: what is read, and why not.")
    return as_json(quiet(verbose(function)))


def working(experiment: Any, step: Any, *, as_json: bool, quiet: bool, verbose: bool, watch: bool = False) -> None:
    """Run an experiment, or a step of it, and print what it found."""
    from gradiend.experiment import ExperimentRun  # noqa: PLC0415 - torch is loaded for work only

    run = ExperimentRun(experiment, command_line())
    with messages(quiet=quiet, verbose=verbose), stoppable(run):
        run.do(run.steps(step), watch=watch)
    print_json(results_dict(run)) if as_json else print_results(run)
    if not run.converged:
        sys.exit(NOT_CONVERGED)


@contextmanager
def messages(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Log and progress on stderr, in the form of the command."""
    from transformers.utils import logging as of_transformers  # noqa: PLC0415

    from gradiend.util._progress import BesideBars, set_quiet  # noqa: PLC0415

    if not processes().first:
        # Of several processes, the first one talks.
        yield
        return
    handler = BesideBars()
    handler.setFormatter(_Plain())
    logger, steps = logging.getLogger("gradiend"), logging.getLogger("gradiend.experiment")
    before = logger.handlers, logger.propagate, logger.level, steps.level, of_transformers.get_verbosity()
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    steps.setLevel(logging.ERROR if quiet else logging.INFO)
    # Loading and saving take moments; their bars would hide those that matter.
    of_transformers.disable_progress_bar()
    if quiet:
        of_transformers.set_verbosity_error()
    set_quiet(quiet)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])
        steps.setLevel(before[3])
        of_transformers.set_verbosity(before[4])
        of_transformers.enable_progress_bar()
        set_quiet(False)


class _Plain(logging.Formatter):
    """Messages as sentences; only warnings and errors say what they are."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: {text}"


@contextmanager
def stoppable(run: Any) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of `max_minutes` end with one line that says how to go on."""
    from gradiend.util._interruption import Interrupted, StopRequest  # noqa: PLC0415

    with StopRequest():
        try:
            yield
        except Interrupted as stop:
            during = f" during {run.record.running}" if run.record.running else ""
            print(f"\n{stop.why}{during}. {stop.kept} To go on: {command_line()}", file=sys.stderr)
            sys.exit(stop.code)


def command_line() -> str:
    """The command, as a person types it."""
    return shlex.join(["gradiend", *sys.argv[1:]])


# Work


@experiment_command("run")
@click.option("--dry-run", is_flag=True, help="Print what would be done and what is found done, and start nothing.")
@click.option("--watch", is_flag=True, help="Serve the growing report to this machine; the address is on stderr.")
@output_flags
def run_command(experiment: Any, *, dry_run: bool, watch: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Run all steps of an experiment's FILE, or of a run.json; what is done already is not done again."""
    if dry_run:
        from gradiend.experiment import plan_run  # noqa: PLC0415

        with messages(quiet=True, verbose=False):
            plan = plan_run(experiment)
        print_json(plan.to_dict()) if as_json else print_plan(plan)
        return
    working(experiment, None, watch=watch, as_json=as_json, quiet=quiet, verbose=verbose)


def _step_command(step: str, text: str) -> None:
    @experiment_command(step)
    @output_flags
    def command(experiment: Any, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        working(experiment, step, as_json=as_json, quiet=quiet, verbose=verbose)

    app.commands[step].help = f"{text}\n\n{FLAGS_NOTE}"


for _step, _text in {
    "data": "Make the rows of an experiment from raw text, or read them, and describe them.",
    "train": "Train the GRADIEND of an experiment, after `data`.",
    "evaluate": "Measure encoder, decoder and side effects of an experiment, after `train`.",
    "rewrite": "Save the rewritten models of an experiment, after `evaluate`.",
    "delta": "Save small files with the changed weights alone, after `evaluate`.",
    "report": "Write report.html of an experiment, after `evaluate`.",
}.items():
    _step_command(_step, _text)


@experiment_command("estimate")
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
def estimate(experiment: Any, *, as_json: bool) -> None:
    """The memory and the rough time of the training."""
    from gradiend.experiment import plan_run  # noqa: PLC0415

    with messages(quiet=True, verbose=False):
        plan = plan_run(experiment.replace(train=experiment.train.replace(use_cache=False)), "train")
    print_json(plan.to_dict()) if as_json else print_needs(plan)


@app.command(epilog=EXIT_CODES)
@click.option("--output", type=click.Path(file_okay=False), default="runs/demo", show_default=True, metavar="FOLDER",
              help="Where everything is written.")  # fmt: skip
@click.option("--model", help="Name or path of a masked or causal model. Default: the embedded one.")
@click.option("--seed", type=int, default=0, show_default=True, help="First seed of the training.")
@output_flags
def demo(output: str, model: str | None, seed: int, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """From raw sentences to a rewritten model: 3rd person singular (he, she, it) against plural (they).

    The folder gets an experiment.yaml, to be changed and run again with `gradiend run`.
    """
    from gradiend.demo._experiment import write_experiment  # noqa: PLC0415
    from gradiend.experiment import read_experiment  # noqa: PLC0415

    file = write_experiment(output, model=model, seed=seed)
    working(read_experiment(file), None, as_json=as_json, quiet=quiet, verbose=verbose)


# Files


@app.command(cls=ExperimentCommand, epilog=EXIT_CODES)
@click.argument("file", default="experiment.yaml", type=click.Path(dir_okay=False))
@click.option("--all", "everything", is_flag=True, help="Every field, also those that few need.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(file: str, flags: Mapping[str, str], *, everything: bool, force: bool) -> None:
    """Write a commented FILE to begin with, and experiment.schema.json, by which editors complete it."""
    from gradiend.experiment._reading import flag_value  # noqa: PLC0415
    from gradiend.experiment._template import new_file  # noqa: PLC0415
    from gradiend.util._files import write_json  # noqa: PLC0415

    place = Path(file)
    if place.exists() and not force:
        raise click.UsageError(f"{file} is there already: choose another name, or replace it with --force.")
    values = {(keys := tuple(key.split("."))): flag_value(keys, text) for key, text in flags.items()}
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(new_file(values, everything=everything), encoding="utf-8")
    write_json(place.with_name(SCHEMA_FILE), experiment_schema())
    print(f"{file} is written. Say in it which model and which text, then: gradiend run --dry-run {file}")


@app.command()
def schema() -> None:
    """Print the JSON schema of an experiment's file."""
    print_json(experiment_schema())


@app.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def info(path: str, *, as_json: bool) -> None:
    """What is at PATH: a run, a trained GRADIEND, a rewritten model, or a delta. No weights are loaded.

    PATH may also be a place on a model hub: owner/name, or hf://owner/name@revision/subfolder.
    """
    from gradiend.experiment import describe  # noqa: PLC0415

    found = describe(path)
    print_json(found) if as_json else print_description(found)


@app.command(epilog=EXIT_CODES)
@click.argument("place", type=click.Path(exists=True))
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--subfolder", metavar="FOLDER", help="The folder in the repository. Default: the repository itself.")
@click.option("--private/--public", default=True, show_default=True,
              help="Whether a new repository is private; one that is there and public needs --public.")  # fmt: skip
@click.option("--base-model", metavar="OWNER/NAME", help="The base model on the hub, if the recorded one is a folder.")
@click.option("--include-base-model", is_flag=True, help="Publish a base model that is a folder with the GRADIEND.")
@click.option("--license", metavar="NAME", help="The license, as the hub names it, such as cc-by-4.0.")
@click.option("--revision", metavar="BRANCH", help="The branch. Default: main.")
@click.option("--create-pr", is_flag=True, help="Propose the change to the owner of the repository: a pull request.")
@click.option("--message", "commit_message", metavar="TEXT", help="The title of the commit.")
@click.option("--dry-run", type=click.Path(file_okay=False), metavar="FOLDER",
              help="Write what would be published to a new folder, and send nothing.")  # fmt: skip
@output_flags
def push(place: str, repository: str, *, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Publish what is at PLACE on a hub: a trained GRADIEND, the run that has one, a rewritten model, or a delta.

    It goes into one commit of OWNER/NAME, with a card. The login is that of `hf auth login`, or HF_TOKEN.
    """
    from gradiend.hub import push_to_hub  # noqa: PLC0415

    with messages(quiet=quiet, verbose=verbose):
        published = push_to_hub(place, repository, **options)
    print_json(published.to_dict()) if as_json else print(published)


@app.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--html", type=click.Path(dir_okay=False), help="Also write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def compare(runs: tuple[str, ...], *, html: str | None, as_json: bool) -> None:
    """Set several RUNS side by side: their folders, or their run.json."""
    from gradiend.experiment import read_record  # noqa: PLC0415
    from gradiend.report import comparison_table, write_comparison  # noqa: PLC0415

    records = [read_record(run) for run in runs]
    table = comparison_table(records)
    if as_json:
        print_json(json.loads(table.to_json(orient="split")))
    else:
        print_comparison(table)
    if html is not None:
        print(f"The page: {write_comparison(html, records)}")


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the code by which SHELL completes commands and flags, for its start-up file.

    For bash: `gradiend completion bash >> ~/.bashrc`
    """
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(app, {}, "gradiend", "_GRADIEND_COMPLETE").source())
