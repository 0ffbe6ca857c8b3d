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
OTHER = dict(zip(CLASSES, reversed(CLASSES), strict=True))
LEARNING_RATES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
SMALL_LEARNING_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Learning rates of rewrites for other models, which are larger than the embedded model and need smaller ones."""
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
        args=gradiend.TrainingArguments(
            experiment_dir=str(output),
            train_batch_size=16,
            max_steps=200,
            learning_rate=1e-3,
            eval_steps=20,
            encoder_eval_train_max_size=40,
            seed=seed,
            decoder_eval_lrs=LEARNING_RATES if model is None else SMALL_LEARNING_RATES,
        ),
    )
    with _timed(seconds, "train", console, "Training a GRADIEND on the model's gradients"):
        trainer.train()
    with _timed(seconds, "encoder", console, "Encoding the test split and neutral texts"):
        encoder = trainer.evaluate_encoder(plot=True, plot_kwargs={"show": False})
    with _timed(seconds, "decoder", console, "Rewriting the model, both ways, in steps of growing size"):
        decoder = trainer.evaluate_decoder(plot=True, show=False)
    rewritten = [
        trainer.rewrite_base_model(decoder, name, output_dir=str(output / "rewritten" / name))
        for name in CLASSES
        if _was_chosen(decoder, name)
    ]

    summary = summarise(encoder, decoder, seconds)
    write_json(output / SUMMARY, plain(summary))
    _print(console, summary, output, rewritten, decoder_only=trainer.get_model().is_decoder_only_model)
    return summary


def summarise(encoder: Mapping[str, Any], decoder: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Make the content of `summary.json`: encoder, decoder and seconds."""
    classes = {}
    for name in CLASSES:
        if _was_chosen(decoder, name):
            chosen = decoder[name]
            classes[name] = {
                "base_probability": chosen["base_value"], "probability": chosen["value"],
                **{key: chosen[key] for key in ("learning_rate", "feature_factor", "lms", "base_lms")},
            }  # fmt: skip
    return {
        "encoder": {"correlation": encoder["correlation"], "mean_by_class": encoder["mean_by_feature_class"]},
        "decoder": classes, "seconds": dict(seconds),
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
    # The language-modelling score of a masked model is an accuracy; a causal model's is 1 / (1 + mean loss).
    score = "language-modelling score" if decoder_only else "other words still right"
    table = Table("rewritten towards", "on texts with", "P before", "P after", score)
    for name, row in summary["decoder"].items():
        table.add_row(
            name, "/".join(CLASSES[OTHER[name]]), f"{row['base_probability']:.3f}", f"{row['probability']:.3f}",
            f"{row['lms'] / row['base_lms']:.1%} of before",
        )  # fmt: skip
    console.print(table)
    words = "; ".join(f"{name} is {'/'.join(values)}" for name, values in CLASSES.items())
    print(f"P is the probability of the class that the model was rewritten towards; {words}.")
    for name in CLASSES:
        if name not in summary["decoder"]:
            console.print(f"No rewrite towards {name} kept the language-modelling score.")
    plots = f"{output}/*.png" if any(output.glob("*.png")) else f"none: {install_hint('matplotlib', 'plot')}"
    print(f"\nPlots:             {plots}\nAll figures:       {output / SUMMARY}")
    loader = "AutoModelForCausalLM" if decoder_only else "AutoModelForMaskedLM"
    for path in rewritten:
        print(f"A rewritten model: {loader}.from_pretrained('{path}')")
