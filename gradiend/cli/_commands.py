"""The commands, and the demo: text → gradients → GRADIEND → evaluation → rewritten models, on the embedded model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import gradiend
from gradiend.demo import model_path, sentences
from gradiend.util._files import write_json
from gradiend.util._imports import install_hint

CLASSES = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
GOALS = [*CLASSES, "balance"]
OTHER = dict(zip(CLASSES, reversed(CLASSES), strict=True))
BALANCE_TEXTS = (
    "That evening [MASK] went home.", "After the rain [MASK] walked along the river.", "In the end [MASK] won.",
    "When the door opened, [MASK] looked up.", "For a long time [MASK] said nothing.", "At noon [MASK] had a rest.",
    "Before the war [MASK] lived in the south.", "Without a word [MASK] left the room.", "Then [MASK] began to sing.",
    "By the next morning [MASK] knew the truth.", "On the way [MASK] met a friend.", "Late at night [MASK] came back.",
)  # fmt: skip
"""Texts that fit both classes; the goal "balance" makes the model prefer neither."""
SUMMARY = "summary.json"


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(gradiend.__version__)
        raise typer.Exit


@app.callback()
def _command(
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
    run_demo(output, model=model, seed=seed)


def run_demo(output: Path, *, model: str | None = None, seed: int = 0) -> dict[str, Any]:
    """Run the demo and print its results.

    Args:
        output: Directory for data, model, plots, rewritten models and `summary.json`.
        model: Name or path of a masked or causal language model. Default: the embedded one.
        seed: First seed of the training.

    Returns:
        The content of `summary.json`.
    """
    # torch and transformers are loaded only for work, so that `gradiend --help` answers at once.
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    from gradiend.trainer.core.stats import plain  # noqa: PLC0415

    # Loading and saving take milliseconds here; their progress bars would hide the two that matter.
    disable_progress_bar()
    console = Console()
    seconds: dict[str, float] = {}
    with _timed(seconds, "data", console, "Finding he/she/it and they in raw sentences"):
        creator = gradiend.TextPredictionDataCreator(
            base_data=sentences(),
            feature_targets=[gradiend.TextFilterConfig(targets=words, id=name) for name, words in CLASSES.items()],
            output_dir=str(output / "data"),
        )
        training = creator.generate_training_data(max_size_per_class=800)
        neutral = creator.generate_neutral_data(max_size=800)

    trainer = gradiend.TextPredictionTrainer(
        model=model or str(model_path()),
        data=training,
        eval_neutral_data=neutral,
        target_classes=list(CLASSES),
        decoder_eval_targets=CLASSES,
        balance_texts=list(BALANCE_TEXTS),
        args=gradiend.TrainingArguments(
            experiment_dir=str(output),
            train_batch_size=16,
            max_steps=200,
            learning_rate=1e-3,
            eval_steps=20,
            encoder_eval_train_max_size=40,
            seed=seed,
            decoder_eval_lrs="auto",
        ),
    )
    with _timed(seconds, "train", console, "Training a GRADIEND on the model's gradients"):
        trainer.train()
    with _timed(seconds, "encoder", console, "Encoding the test split and neutral texts"):
        encoder = trainer.evaluate_encoder(plot=True, plot_kwargs={"show": False})
    with _timed(seconds, "decoder", console, "Rewriting the model: towards each class, and towards neither"):
        decoder = trainer.evaluate_decoder(target_class=GOALS, plot=True, show=False)
    rewritten = [
        trainer.rewrite_base_model(decoder, name, output_dir=str(output / "rewritten" / name))
        for name in GOALS
        if _was_chosen(decoder, name)
    ]

    summary = summarise(encoder, decoder, seconds)
    write_json(output / SUMMARY, plain(summary))
    _print(console, summary, output, rewritten, decoder_only=trainer.get_model().is_decoder_only_model)
    return summary


def summarise(encoder: Mapping[str, Any], decoder: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Make the content of `summary.json`: encoder, decoder and seconds."""
    goals = {}
    for name in GOALS:
        if _was_chosen(decoder, name):
            chosen, measured = decoder[name], "gap" if name == "balance" else "probability"
            goals[name] = {f"base_{measured}": chosen["base_value"], measured: chosen["value"]}
            for key in ("learning_rate", "feature_factor", "lms", "base_lms", "likelihood_ratio", "why"):
                goals[name][key] = chosen[key]
    if "balance" in goals:
        goals["balance"] |= {key: decoder["balance"][key] for key in ("measures", "base_measures")}
    return {
        "encoder": {"correlation": encoder["correlation"], "mean_by_class": encoder["mean_by_feature_class"]},
        "decoder": goals, "seconds": dict(seconds),
    }  # fmt: skip


def _was_chosen(decoder: Mapping[str, Any], name: str) -> bool:
    return name in decoder and decoder[name]["learning_rate"] is not None


@contextmanager
def _timed(seconds: dict[str, float], name: str, console: Console, title: str) -> Iterator[None]:
    console.print(f"[bold]{title}[/bold]")
    start = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - start, 2)


def _print(
    console: Console, summary: Mapping[str, Any], output: Path, rewritten: list[str], *, decoder_only: bool
) -> None:
    encoder = summary["encoder"]
    means = ", ".join(f"{name} at {mean:+.2f}" for name, mean in encoder["mean_by_class"].items())
    print(f"\nThe encoder tells the classes apart: correlation {encoder['correlation']:.3f} on test texts,\n{means}.\n")
    table = Table("rewritten towards", "measured", "before", "after", "likelihood of other words")
    for name, row in summary["decoder"].items():
        if name in OTHER:
            told = name, f"P({name}) on {'/'.join(CLASSES[OTHER[name]])} texts"
            values = row["base_probability"], row["probability"]
        else:
            told, values = ("neither", "|difference| / sum on texts that fit both"), (row["base_gap"], row["gap"])
        kept = row["likelihood_ratio"]["value"]
        table.add_row(*told, *(f"{value:.3f}" for value in values), f"{kept:.1%} of before")
    console.print(table)
    words = "; ".join(f"{name} is {'/'.join(values)}" for name, values in CLASSES.items())
    print(f"P is the probability of the class that the model was rewritten towards; {words}.")
    for name, row in summary["decoder"].items():
        print(f"{name if name in OTHER else 'neither'}: {row['why']}")
    for name in GOALS:
        if name not in summary["decoder"]:
            console.print(f"No rewrite towards {name} kept the likelihood of the other words.")
    plots = f"{output}/*.png" if any(output.glob("*.png")) else f"none: {install_hint('matplotlib', 'plot')}"
    print(f"\nPlots:             {plots}\nAll figures:       {output / SUMMARY}")
    loader = "AutoModelForCausalLM" if decoder_only else "AutoModelForMaskedLM"
    for path in rewritten:
        print(f"A rewritten model: {loader}.from_pretrained('{path}')")
