"""The report of one experiment: results → the view of each section → one page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend import __version__
from gradiend.report._encodings import encodings_of
from gradiend.report._facts import arguments_of, described_data, reproduction
from gradiend.report._figures import Chart, Rule, Series, chart, thinned_means
from gradiend.report._format import is_number, model_name
from gradiend.report._importance import importance_of, trained_gradiend
from gradiend.report._render import write_page
from gradiend.report._rewrites import balance_of, moves_of, title_of
from gradiend.report._side_effects import predictions_of, side_effects_of
from gradiend.report._verdict import converged, feature_sentence, moved, separated
from gradiend.trainer.core.stats import overlap_sentence
from gradiend.util._checks import require_finite
from gradiend.util._imports import require_package
from gradiend.visualizer.convergence import training_curves


def write_report(
    path: str | Path, trainer: Any, *, encoder: Mapping[str, Any] | None = None,
    decoder: Mapping[str, Any] | None = None, side_effects: Mapping[str, pd.DataFrame] | None = None,
    record: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None, title: str | None = None,
    refresh: float | None = None,
) -> str:  # fmt: skip
    """Write a page that shows what an experiment has learned; the file needs no other file and no network.

        encoder = trainer.evaluate_encoder(return_df=True)
        decoder = trainer.evaluate_decoder(lrs="auto")
        write_report("report.html", trainer, encoder=encoder, decoder=decoder)

    A result that is not given is called not measured. The trainer and its model stay as they are, and nothing is
    measured.

    Args:
        path: The file of the page, which is replaced.
        trainer: A `TextPredictionTrainer`, trained or not.
        encoder: The result of `evaluate_encoder(return_df=True)`.
        decoder: The result of `evaluate_decoder`.
        side_effects: Goal → the frame of `evaluate_side_effects`; goals are the keys of the results of
            `evaluate_decoder`.
        record: The content of the run's run.json.
        training: Statistics of a training that still runs, in place of `trainer.get_training_stats()`; the model is
            then not looked at.
        title: Heading of the page. Default: the classes and the model.
        refresh: Seconds after which the page loads itself again; None for a page that stays.

    Returns:
        The path of the page.

    Raises:
        ImportError: jinja2 is not installed.
        ValueError: The encoder's result has no encodings, refresh is below 0.1, or the data cannot be read.
    """
    require_package("jinja2", "A report", "report")
    if refresh is not None:
        require_finite("refresh", refresh, 0.1)
    running = training is not None
    classes, words = trainer.target_classes, trainer.modality.class_words()
    model = model_name(trainer.base_model_path)
    stats = training if running else trainer.get_training_stats() if trainer.has_model() else None
    # A report of seeds beside a training of one seed is that of an earlier training.
    one_seed = trainer.training_args.max_seeds == 1
    seeds = None if running or stats is None or one_seed else trainer.get_seed_report()
    stability = (seeds or {}).get("topk_stability", {})
    moves = None
    if decoder is not None:
        moves = moves_of(decoder, classes, on_others=trainer.strengthens_on_other_classes)
    encodings = None if encoder is None else encodings_of(encoder, classes)
    gradiend = None if running else trained_gradiend(trainer)
    effects = side_effects or {}
    titles = {one.key: one.title for one in moves or ()}
    tried = [run["seed"] for run in seeds["runs"]] if seeds is not None else [trainer.training_args.seed]
    view = {
        "title": title or f"{classes[0]} or {classes[1]} in {model}",
        "model": model,
        "classes": classes,
        "words": words,
        "sentence": feature_sentence(classes, words, model),
        "version": __version__,
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "refresh": refresh,
        "running": running,
        "answers": [converged(stats, seeds, running=running), separated(encoder, classes), moved(moves)],
        "moves": moves,
        "convergence": None if stats is None else convergence_charts(stats),
        "stats": stats,
        "encodings": encodings,
        "balance": None if decoder is None else balance_of(decoder),
        "predictions": predictions_of(effects, titles),
        "side_effects": [
            side_effects_of(key, frame, titles.get(key) or title_of(key)) for key, frame in effects.items()
        ],
        "importance": None if gradiend is None else importance_of(gradiend, trainer),
        "data_summary": described_data(trainer.data_summary()),
        "seeds": seeds,
        "overlap": overlap_sentence(stability) if stability.get("computed") else None,
        "arguments": arguments_of(trainer),
        "reproduction": reproduction(record, tried),
        "data": {} if encodings is None else encodings.points,
    }
    return write_page(path, "report.html.j2", view)


def convergence_charts(stats: Mapping[str, Any]) -> list[Chart]:
    """Correlation, class means and loss over the steps, as far as they were recorded."""
    curves = training_curves(stats)
    best = [] if curves.best_step is None else [Rule(curves.best_step, "kept", True, "chosen")]
    by_class = curves.by_class
    if len(curves.by_feature_class) > len(by_class):
        by_class = curves.by_feature_class
    found = []
    if curves.correlation is not None:
        series = Series("correlation", _points(curves.correlation), 0)
        found.append(chart(
            "Correlation on validation texts", [series], x_name="training step", y_name="correlation",
            y_range=(0.0, 1.0), rules=best, labels=False,
        ))  # fmt: skip
    found.append(chart(
        "Mean encoding of each class", [Series(one.name, _points(one), i) for i, one in enumerate(by_class)],
        x_name="training step", y_name="mean encoding", y_range=(-1.0, 1.0), rules=[*best, Rule(0.0, "")],
    ))  # fmt: skip
    losses = {i + 1.0: loss for i, loss in enumerate(stats.get("losses") or ())}
    series = Series("loss", thinned_means(losses), 3, marked=False)
    found.append(chart(
        "Training loss", [series], x_name="training step", y_name="loss", y_range=(0.0, 0.0), labels=False, rules=best,
    ))  # fmt: skip
    return [one for one in found if one is not None]


def _points(curve: Any) -> list[tuple[float, float]]:
    pairs = zip(curve.steps, curve.values, strict=True)
    return [(step, value) for step, value in pairs if is_number(value)]
