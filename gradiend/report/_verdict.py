"""The feature in a sentence, and the verdict: converged? separated? how far can it be moved, at what cost?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.report._format import interval, is_number, listed, number, percent, signed
from gradiend.report._rewrites import Moved
from gradiend.trainer.core.stats import judgement

NOT_TRAINED = "There is no training yet."
NO_ENCODER = "The encoder has not been evaluated yet."
NO_DECODER = "No rewrite has been evaluated yet."


@dataclass(frozen=True)
class Answer:
    """The answer to one question of the verdict."""

    question: str
    answer: str
    """Two or three words."""
    good: bool | None
    """Whether the answer is the desired answer; None if that is not known."""
    figure: str
    """The number that decides, with its name."""
    sentences: Sequence[str]


def feature_sentence(classes: Sequence[str], words: Mapping[str, Sequence[str]], model: str) -> str:
    """The feature in a sentence."""
    told = [f"{name} ({listed(words[name])})" if words.get(name) else name for name in classes]
    return (
        f"One number, read from the gradients of {model}, says whether the word at a place in a text is of the class "
        f"{told[0]} or of the class {told[1]}: +1 stands for {classes[0]}, −1 for {classes[1]}."
    )


def converged(stats: Mapping[str, Any] | None, seeds: Mapping[str, Any] | None, *, running: bool) -> Answer:
    """Whether the training, which may still be running, has converged by its own rule.

    `stats` is the content of training.json, `seeds` the report of the choice among seeds; None before a training.
    """
    question = "Has the training converged?"
    if stats is None:
        return Answer(question, "Not trained", None, "", [NOT_TRAINED])
    best = stats.get("best_score_checkpoint") or {}
    outcome = (None if running else judgement(stats, seeds)) or {}
    sentences = []
    step, correlation = best.get("global_step"), best.get("correlation")
    value, threshold = outcome.get("convergence_metric_value"), outcome.get("threshold")
    metric = outcome.get("convergence_metric", "correlation")
    if is_number(threshold):
        least = "at most" if metric == "loss" else "at least"
        sentences.append(
            f"On validation texts the {metric} is {number(value)}; {least} {number(threshold, 2)} counts as converged."
        )
    if is_number(correlation) and is_number(step):
        sentences.append(
            f"The {'best' if running else 'kept'} weights are those of step {step:g}, whose evaluation during the "
            f"training was the best ({number(correlation)})."
        )
    if outcome.get("reason"):
        sentences.append(f"It has not converged, because {outcome['reason']}.")
    if seeds is not None:
        count, best = seeds["convergent_count"], seeds["best_seed"]
        sentences.append(f"{count} of {len(seeds['runs'])} seeds converged; seed {best} was kept.")
    if running:
        return Answer(question, "Still running", None, _figure("correlation", correlation), sentences)
    if not outcome:
        return Answer(question, "Not judged", None, _figure("correlation", correlation), sentences)
    good = bool(outcome["converged"])
    return Answer(question, "Yes" if good else "No", good, _figure(metric, value), sentences)


def _figure(name: str, value: Any) -> str:
    return f"{name} {number(value)}" if is_number(value) else ""


def separated(encoder: Mapping[str, Any] | None, classes: Sequence[str]) -> Answer:
    """How well the encoder tells the classes apart."""
    question = "How well are the classes separated?"
    if encoder is None or not is_number(encoder.get("correlation")):
        return Answer(question, "Not measured", None, "", [NO_ENCODER])
    correlation, ends = encoder["correlation"], interval(encoder.get("correlation_interval"))
    sentences = []
    auc = encoder.get("roc_auc")
    if is_number(auc):
        sentences.append(
            f"In {percent(auc)} of all pairs of test texts, the text of {classes[0]} is encoded higher than that of "
            f"{classes[1]}."
        )
    means, known = encoder.get("mean_by_feature_class") or {}, encoder.get("mean_by_feature_class_interval") or {}
    there = [name for name in classes if name in means]
    told = [f"{name} {signed(means[name])} {interval(known.get(name), 2)}".rstrip() for name in there]
    if told:
        sentences.append(f"Mean encodings: {'; '.join(told)}.")
    neutral = (encoder.get("neutral_mean_by_type") or {}).get("neutral_dataset")
    if is_number(neutral):
        sentences.append(f"Neutral texts have the mean {signed(neutral)}, where 0 is neither class.")
    sentences.append(_about_new_words(encoder.get("held_out_words")))
    accuracy = (encoder.get("target_classes_only") or {}).get("accuracy")
    answer = f"{percent(accuracy)} on the right side" if is_number(accuracy) else "Measured"
    return Answer(question, answer, None, f"correlation {number(correlation)} {ends}".rstrip(), sentences)


def _about_new_words(held_out: Mapping[str, Any] | None) -> str:
    """A sentence on words that training has not seen: without such words, a correlation may only tell words apart."""
    if held_out is None or not held_out["n_samples"]:
        return (
            "All test words occur in training, so this does not say whether the encoder knows the feature beyond these "
            "words; hold_out_words makes test rows that do."
        )
    if not is_number(held_out["correlation"]):
        return f"{held_out['n_samples']} test texts have words that training has not seen, too few for a correlation."
    ends = interval(held_out["correlation_interval"])
    return (
        f"On the {held_out['n_samples']} test texts whose words training has not seen, the correlation is "
        f"{number(held_out['correlation'])}{f' {ends}' if ends else ''}."
    )


def moved(moves: Sequence[Moved] | None) -> Answer:
    """How far the feature can be moved, and at what cost; the numbers of each goal stand in a table below."""
    question = "How far can it be moved, at what cost?"
    if moves is None:
        return Answer(question, "Not measured", None, "", [NO_DECODER])
    done = [one for one in moves if one.step is not None]
    if not done:
        return Answer(question, "Not at this cost", False, "", [one.why for one in moves])
    clear = [one for one in done if clearly_moved(one)]
    sentences = []
    for one in moves:
        title = f"{one.title[:1].upper()}{one.title[1:]}"
        if one.step is None:
            sentences.append(f"{title}: no acceptable rewrite.")
            continue
        told = f"{title}: {number(one.before)} → {number(one.after)} {interval(one.after_interval)}".rstrip()
        sentences.append(f"{told}." if one in clear else f"{told}, which may be chance.")
    kept = [one.kept for one in done if one.kept is not None]
    figure = f"at least {percent(min(kept))} of the {done[0].score} kept" if kept else ""
    return Answer(question, f"{len(clear)} of {len(moves)} goals moved", len(clear) == len(moves), figure, sentences)


def clearly_moved(one: Moved) -> bool:
    """Whether the 95 % interval of the change does not include 0; False if the interval is not estimable."""
    ends = one.change_interval
    return ends is not None and (ends[0] > 0 or ends[1] < 0)
