"""The card of a checkpoint, of a rewritten model, or of a delta: what is on disk → README.md.

A card holds no time, host or path: two equal runs give equal cards. What was not measured is said to be so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from gradiend import __version__
from gradiend.model import Delta, read_delta, read_rewrite_record
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._checkpoint_files import mapped_parameters, read_config, read_facts, read_training
from gradiend.model._context import moving_factor, read_gradiend_context
from gradiend.model._rewrite_files import RewriteRecord
from gradiend.objectives.registry import auto_classes
from gradiend.report._card_facts import moved_of
from gradiend.report._format import count, is_number, listed, model_name, percent, signed, step
from gradiend.report._render import Raw, write_text
from gradiend.report._rewrites import Moved, title_of
from gradiend.report._verdict import clearly_moved, converged, feature_sentence, separated
from gradiend.util import BALANCE
from gradiend.util._card_seal import write_card as write_card
from gradiend.util._keywords import ALL_SPLITS
from gradiend.util._processes import by_first
from gradiend.util.logging import get_logger
from gradiend.util.paths import CONTEXT, OWN_BASE_MODEL, REWRITE_RECORD

logger = get_logger(__name__)

Kind = Literal["checkpoint", "rewrite", "delta"]

RELATION: dict[Kind, str] = {"checkpoint": "adapter", "rewrite": "finetune", "delta": "adapter"}
"""The hub's names of the relation to the base model: used beside the base model, or instead of it."""
TAGS: dict[Kind, list[str]] = {
    "checkpoint": ["gradiend", "interpretability", "model-editing"],
    "rewrite": ["gradiend", "model-editing", "transformers"],
    "delta": ["gradiend", "model-editing", "gradiend-delta"],
}
NOT_RECORDED = "Not recorded"
"""The name in the metadata of texts that are not known: an evaluation of given rows, or facts of an earlier version."""
UNKNOWN_LICENSE = "unknown"
PLACES: dict[Kind, str] = dict.fromkeys(RELATION, "path/to/this/folder") | {"delta": "path/to/this/delta"}
"""The words in place of a path that is not known."""
GRADIENTS = {
    "factual": "the gradient for the word of the text",
    "alternative": "the gradient for the word of the other class in its place",
    "diff": "the gradient for the word of the text minus that for the word of the other class",
}
"""A side of an example, as a card says it."""


@dataclass(frozen=True)
class About:
    """The facts about a place that its files have."""

    kind: Kind
    base: str
    """The recorded name or path of the base model."""
    revision: str | None
    classes: Mapping[str, int]
    """Class → label; empty if not recorded."""
    task: str | None
    """The hub's name of what the base model does."""
    facts: Mapping[str, Any]
    """See `gradiend.report._card_facts`."""
    rows: Sequence[tuple[str, str]]
    """Further (name, value) of the table at the beginning."""
    record: RewriteRecord | None = None
    training: Mapping[str, Any] | None = None
    target: str | None = None
    """The side whose gradient the decoder of a checkpoint gives; None if not recorded."""

    @property
    def targets(self) -> list[str]:
        """The class with the label +1, then that with −1."""
        return sorted((name for name, label in self.classes.items() if label), key=lambda name: -self.classes[name])

    @property
    def goals(self) -> dict[str, Mapping[str, Any]]:
        """Goal → what came of it."""
        return dict(self.facts.get("goals") or {})

    def by_name(self, goal: Mapping[str, Any], name: str, *, strengthen: bool) -> bool:
        """Whether the rewrite of a measured goal is the one that strengthens (or weakens) a class by its name."""
        usual = moving_factor(self.classes, self.target, name, strengthen=strengthen)
        return bool(goal["part"] == "decoder" and goal["factor"] == usual)


def card_of(
    place: str | Path | Delta, *, base_model: str | None = None, repo_id: str | None = None,
    subfolder: str | None = None, license: str | None = None, language: str | None = None,
) -> str:  # fmt: skip
    """The text of a card, with its metadata; it holds no time, host or path.

    Args:
        place: A local checkpoint, a folder of a rewritten model, a delta, or the file or folder of one.
        base_model: The name of the base model on the hub. Default: the recorded name; of a path, the last part.
        repo_id: The repository (`owner/name`) that the lines for loading name. Default: a folder to fill in.
        subfolder: The folder in that repository.
        license: The license, as the hub names it. Default: "unknown", to be filled in.
        language: The language of the data as a code, such as "en". Default: not said.

    Raises:
        FileNotFoundError, ValueError: None of these is at `place`, or a file of it is damaged.
        ImportError: jinja2 is not installed.
    """
    about = _about(place)
    base = base_model or model_name(about.base) or "a model without a name"
    hub_name = base_model or (about.base if _is_hub_name(about.base) else None)
    title = _title(about, base)
    moves = {key: moved_of(fact) for key, fact in about.goals.items() if fact["after"] is not None or not fact["step"]}
    results = _results(about, moves)
    metadata = ModelCardData(
        language=language, license=license or UNKNOWN_LICENSE, library_name="gradiend", base_model=hub_name,
        base_model_relation=RELATION[about.kind] if hub_name else None, pipeline_tag=about.task, tags=TAGS[about.kind],
        model_name=title if results else None, eval_results=results or None,
    )  # fmt: skip
    effects = about.facts.get("side_effects") or {}
    targets = about.targets
    view = {
        "metadata": Raw(metadata.to_yaml()),
        "kind": about.kind,
        "title": title,
        "sentence": feature_sentence(targets, about.facts.get("words") or {}, base) if len(targets) == 2 else None,
        "base": base,
        "holds_base": about.kind == "checkpoint" and (Path(str(place)) / OWN_BASE_MODEL).is_dir(),
        "rows": _table(about, base, hub_name),
        "goal": title_of_record(about),
        "use": _use(about, base if hub_name else f"path/to/{base}", repo_id, subfolder),
        "rewriting": Raw("\n".join(_rewriting(about))) if about.kind == "checkpoint" else None,
        "answers": [] if about.kind != "checkpoint" else _answers(about),
        "n_texts": (about.facts.get("encoder") or {}).get("training_rows"),
        "moves": list(moves.values()),
        "texts": _texts_of_moves(about, moves),
        "unclear": [one.title for one in moves.values() if one.change_interval is not None and not clearly_moved(one)],
        "effects": [(moves[key].title, one) for key, one in effects.items() if key in moves],
        "splits": [(split, sorted(n.items())) for split, n in (about.facts.get("rows") or {}).items()],
        "not_measured": _not_measured(about, moves),
        "license": license,
    }
    return write_text("card.md.j2", view)


@by_first
def renew(folder: str | Path) -> None:
    """Write the card of a checkpoint or a rewritten model into its folder; finished work is never lost for it."""
    try:
        write_card(folder, card_of(folder))
    except ImportError as error:
        logger.info("%s has no card. %s", folder, error)
    except (ValueError, OSError) as error:
        logger.warning("%s has no new card: %s", folder, error)


# What is there


def _about(place: str | Path | Delta) -> About:
    if isinstance(place, Delta):
        return _of_delta(place)
    folder = Path(place)
    if folder.suffix != ".safetensors" and (folder / REWRITE_RECORD).is_file():
        record = read_rewrite_record(folder)
        return _of_rewrite("rewrite", record, record.base_model, [])
    if folder.suffix != ".safetensors" and is_checkpoint(folder):
        return _of_checkpoint(folder)
    return _of_delta(read_delta(folder))


def _of_checkpoint(folder: Path) -> About:
    config = read_config(folder)
    metadata, architecture = config.get("metadata") or {}, config.get("architecture") or {}
    source = target = direction = None
    if (folder / CONTEXT).is_file():
        source, target, direction = read_gradiend_context(folder)
    entries = mapped_parameters(config)
    size = architecture.get("input_dim")
    there = sum(math.prod(entry["shape"]) for entry in entries)
    rows = []
    if is_number(size):
        share = f", {percent(size / there)} of those in its parameters" if there > size else ""
        rows.append(("Size", f"{count(size)} weights of {len(entries)} parameters of the base model{share}"))
    rows.append(("Latent features", str(architecture.get("latent_dim"))))
    if source is not None:
        rows.append(("Encoder reads", GRADIENTS[source]))
    if target is not None:
        rows.append(("Decoder gives", GRADIENTS[target]))
    rows.append(("Activations", f"{architecture.get('activation_encoder')}, {architecture.get('activation_decoder')}"))
    training = _training(folder)
    if training is not None:
        steps, seed = len(training.get("losses") or ()), (training.get("training_args") or {}).get("seed")
        rows.append(("Training", f"{count(steps)} steps, seed {seed}"))
    rows.append(("Card by", f"gradiend {__version__}"))
    return About(
        "checkpoint", str(metadata.get("base_model") or ""), metadata.get("base_model_revision"), direction or {},
        metadata.get("task"), read_facts(folder), rows, training=training, target=target,
    )  # fmt: skip


def _training(folder: Path) -> Mapping[str, Any] | None:
    """How the weights in a folder were judged; None without a record, or with one of other weights."""
    try:
        found = read_training(folder)
    except ValueError:
        return None
    # Checkpoints on the way only note their step.
    return found if found is not None and "convergence_info" in found else None


def _of_delta(delta: Delta) -> About:
    rows = [("Size", f"{count(delta.num_entries)} values of {len(delta.changes)} parameters")]
    return _of_rewrite("delta", delta.rewrite, delta.base_model, rows)


def _of_rewrite(kind: Kind, record: RewriteRecord | None, base: str, rows: list[tuple[str, str]]) -> About:
    choice = None if record is None else record.choice
    facts = (None if choice is None else choice.facts) or {}
    if record is not None:
        rows += [
            ("Step", f"{step(record.learning_rate)} × {record.part} ({record.feature_factor})"),
            ("Weights that changed", f"{percent(record.share_changed)} of the weights in the map of the GRADIEND"),
            ("Made with", f"gradiend {record.gradiend_version}"),
        ]
    return About(
        kind, base, facts.get("base_model_revision"), facts.get("classes") or {}, facts.get("task"), facts, rows, record
    )


def _is_hub_name(name: str) -> bool:
    """Whether a recorded name may be one of the hub: no path, and no folder that is there."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return bool(name) and not Path(name).exists()


# What is said of it


def title_of_record(about: About) -> str | None:
    """The aim of a rewrite, such as "towards 3PL"; None for a checkpoint, and if the aim is not recorded."""
    choice = None if about.record is None else about.record.choice
    if choice is None:
        return None
    return title_of(
        BALANCE if choice.direction == "balance" else choice.target_class,
        {"strengthen": choice.direction == "strengthen"},
    )


def _title(about: About, base: str) -> str:
    if about.kind == "checkpoint":
        return f"GRADIEND: {' or '.join(about.targets) or 'a feature'} in {base}"
    what = "Delta: " if about.kind == "delta" else ""
    goal = title_of_record(about)
    return f"{what}{base}, rewritten" + ("" if goal is None else f" {goal}")


def _table(about: About, base: str, hub_name: str | None) -> list[tuple[str, str]]:
    words, totals = about.facts.get("words") or {}, about.facts.get("n_words") or {}
    rows = []
    for name in about.targets:
        more = totals.get(name, 0) - len(words.get(name, ()))
        told = f": {listed(words[name], len(words[name]))}" if words.get(name) else ""
        rows.append(
            (f"Class {signed(about.classes[name], 0)}", f"{name}{told}{f' and {more} more' if more > 0 else ''}")
        )
    revision = f", revision {about.revision}" if about.revision else ""
    rows.append(("Base model", f"{base}{revision}" if hub_name else f"{base}, from a local folder{revision}"))
    return [*rows, *about.rows]


def _answers(about: About) -> list[Any]:
    stats, facts = about.training, about.facts
    found = [] if stats is None else [converged(stats, facts.get("seeds"), running=False)]
    encoder = facts.get("encoder")
    return [*found, separated(encoder, about.targets)] if encoder else found


def _not_measured(about: About, moves: Mapping[str, Moved]) -> list[str]:
    found = []
    if about.kind == "checkpoint":
        if about.training is None:
            found.append("Whether the training has converged: no record of a training is beside these weights.")
        elif len((about.facts.get("seeds") or {}).get("runs", ())) < 2:
            found.append("What another seed gives: one was trained.")
        if not about.facts.get("encoder"):
            found.append("How well the encoder tells the classes apart on texts that training has not seen.")
        elif about.facts["encoder"].get("correlation_interval") is None:
            found.append("An interval of the correlation: it could not be estimated from these encodings.")
        if not moves:
            found.append("What the rewrites do: no step was chosen by a measurement.")
        tried = {(one["class"], one["strengthen"]) for one in about.goals.values()}
        for name in about.targets:
            for strengthen, word in ((True, "towards"), (False, "away from")):
                if moves and (name, strengthen) not in tried:
                    found.append(f"A rewrite {word} {name}.")
        if moves and BALANCE not in moves:
            found.append("A rewrite towards neither class.")
    elif not moves:
        found.append(
            "What the rewrite changes: it was made with numbers that a person gave, or its measurement is lost."
        )
    without = [one.title for key, one in moves.items() if key not in (about.facts.get("side_effects") or {})]
    if without:
        found.append(f"Side effects of the rewrite {', '.join(without)}.")
    return found


# Metadata


def _results(about: About, moves: Mapping[str, Moved]) -> list[EvalResult]:
    """The numbers that the hub shows beside a model: the correlation, and P before and after each rewrite."""
    found: list[tuple[Texts, str, str, Any]] = []
    encoder = about.facts.get("encoder") or {}
    if about.kind == "checkpoint":
        # Only an evaluation of the test split is noted.
        found.append(
            (_splits(["test"]), "correlation", "Correlation of encoding and class", encoder.get("correlation"))
        )
    for key, one in moves.items():
        rows, neutral = _texts_of(about.goals[key])
        measured = (Texts("Texts that fit all classes"), "gap") if key == BALANCE else (rows, "probability")
        if one.step is not None:
            found.append((*measured, f"{one.measured}, before the rewrite {one.title}", one.before))
            found.append((*measured, f"{one.measured}, after the rewrite {one.title}", one.after))
            found.append((neutral, "ratio", f"{one.score} kept by the rewrite {one.title}", one.kept))
    return [
        EvalResult(
            task_type=about.task or "other", dataset_type="custom", dataset_name=texts.name,
            # The hub joins results that have the same split and config.
            dataset_config=texts.name, dataset_split=texts.split, metric_type=kind, metric_name=name,
            metric_value=round(value, 6),
        )
        for texts, kind, name, value in found
        if is_number(value)
    ]  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """The texts that a number was measured on."""

    name: str
    split: str | None = None
    """The split of the training data, if it is one split."""


def _texts_of(goal: Mapping[str, Any]) -> tuple[Texts, Texts]:
    """(the texts of P(class), the texts of the kept score) of a measured goal."""
    rows, has_neutral = _splits(goal.get("splits")), goal.get("has_neutral_texts")
    if has_neutral:
        return rows, Texts("Neutral texts")
    if has_neutral is None or rows.name == NOT_RECORDED:
        return rows, Texts(NOT_RECORDED)
    # Without neutral texts, the texts of the rows stand in for them.
    return rows, Texts(f"{rows.name}, with the words filled in", rows.split)


def _splits(names: Sequence[str] | None) -> Texts:
    if names is None:
        return Texts(NOT_RECORDED)
    if list(names) == [ALL_SPLITS]:
        return Texts("All splits of the training data")
    if len(names) > 1:
        return Texts(f"The splits {', '.join(names)} of the training data")
    return Texts(f"The {names[0]} split of the training data", names[0])


def _texts_of_moves(about: About, moves: Mapping[str, Moved]) -> str:
    """The texts of P(class), in the sentence that explains the table of the rewrites."""
    known = {_texts_of(about.goals[key])[0].name for key in moves if key != BALANCE}
    name = known.pop() if len(known) == 1 else NOT_RECORDED
    return "texts" if name == NOT_RECORDED else f"{name[0].lower()}{name[1:]}"


# Lines to run


def _use(about: About, base: str, repo_id: str | None, subfolder: str | None) -> dict[str, Any]:
    """The pieces of Python that the template puts into its lines."""
    if repo_id is None:
        arguments = place = repr(PLACES[about.kind])
    else:
        arguments = repr(repo_id) + (f", subfolder={subfolder!r}" if subfolder else "")
        place = repr(f"hf://{repo_id}" + (f"/{subfolder}" if subfolder else ""))
    usual, *others = auto_classes().values()
    known = auto_classes().get(about.task or "")
    pieces = {
        "loader": known or usual, "other": "" if known else f"  # or {', '.join(others)}", "arguments": arguments,
        "place": place, "base": repr(base),
    }  # fmt: skip
    words = [(about.facts.get("words") or {}).get(name) or [] for name in about.targets]
    if len(words) == 2 and all(words):
        pieces |= {"above": _comment(about.targets[0]), "below": _comment(about.targets[1])}
        pieces |= {"first": repr(words[0][0]), "second": repr(words[1][0])}
    return {name: Raw(piece) for name, piece in pieces.items()}


def _rewriting(about: About) -> list[str]:
    """Lines that strengthen and weaken each class, and balance both, with the steps that were chosen."""
    chosen = {(one["class"], one["strengthen"]): one for one in about.goals.values() if one["step"] is not None}
    lines: list[str] = []
    for name in about.targets:
        for strengthen, keyword in ((True, "strengthen"), (False, "weaken")):
            one = chosen.get((name, strengthen))
            if one is None:
                lines.append(_unmeasured(about, name, strengthen, chosen))
            elif about.by_name(one, name, strengthen=strengthen):
                lines.append(f"model.rewrite_base_model(learning_rate={one['step']!r}, {keyword}={name!r})")
            else:
                lines.append(_by_factor(one, f"  # {keyword} {_comment(name)}"))
    balance = about.goals.get(BALANCE)
    if balance is not None and balance["step"] is not None:
        lines.append(_by_factor(balance, "  # neither class"))
    if not lines:
        return []
    lines[0] = f"rewritten = {lines[0]}"
    return [lines[0], "rewritten.save_pretrained('rewritten')  # a plain model of transformers", "", *lines[1:]]


def _unmeasured(about: About, name: str, strengthen: bool, chosen: Mapping[tuple[str, bool], Mapping[str, Any]]) -> str:
    """A line for a goal that was not measured; what weakens one of two classes is what strengthens the other one."""
    keyword, other = ("strengthen", "weaken") if strengthen else ("weaken", "strengthen")
    others = [known for known in about.targets if known != name]
    one = chosen.get((others[0], not strengthen)) if len(others) == 1 else None
    if one is None or not about.by_name(one, name, strengthen=strengthen):
        return f"model.rewrite_base_model(learning_rate=0.1, {keyword}={name!r})  # not measured: 0.1 is a guess"
    return (
        f"model.rewrite_base_model(learning_rate={one['step']!r}, {keyword}={name!r})"
        f"  # the same as {other}={others[0]!r}: P of {_comment(name)} was not measured"
    )


def _by_factor(one: Mapping[str, Any], told: str) -> str:
    rate, factor, part = one["step"], one["factor"], one["part"]
    if part != "decoder":
        return (
            f"model.rewrite_base_model(learning_rate={rate * factor!r}, feature_factor={factor!r}, part={part!r}){told}"
        )
    return f"model.rewrite_base_model(learning_rate={rate!r}, feature_factor={factor!r}){told}"


def _comment(name: str) -> str:
    """A name in a comment of Python, in which no line may end."""
    return repr(name)[1:-1]
