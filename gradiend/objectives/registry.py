"""Which objective a model has, and which models have no objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from gradiend.gradients import Objective
from gradiend.model._checkpoint_files import FOLDERS
from gradiend.model._refusals import refuse_absent_weights
from gradiend.util import AUTO
from gradiend.util._keywords import one_of

OBJECTIVES: dict[str, type[Objective]] = {}
"""Name → kind, in the order in which the kinds are asked about a model."""

DOCUMENTED_NAMES = {"mlm_mask_token": "masked", "clm_next_token": "causal", "clm_mlm_head": "causal with head"}
"""Value of `prediction_objective` → name of the kind."""
ABSENT_NAMES = {
    "clm_sequence_cloze": 'A causal model scores the word after its left context: "clm_next_token"; '
    'for the right context train a head: "clm_mlm_head".',
    **dict.fromkeys(
        ("seq2seq_encoder_mlm", "seq2seq_decoder", "seq2seq_decoder_sequence_cloze"),
        "Encoder–decoder models are not supported so far.",
    ),
}
"""Value of `prediction_objective` for a kind that is not here → the reason, and what does it instead."""
DEFAULT = "causal"
"""The kind of a model whose class says nothing."""

MAX_LENGTH = 256
"""Longest input in tokens, unless the model or the tokenizer allows fewer."""

IMAGE_MARKS = ("vision_config", "image_size", "num_channels")
"""Keys in the config of a model that reads images."""
CLASSIFIER_MARKS = (
    "ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering",
    "ForNextSentencePrediction",
)  # fmt: skip
"""Ends of the class names of classifiers."""

Test = Callable[[dict[str, Any], str], bool]
UNSUPPORTED: dict[str, tuple[Test, str]] = {
    "an encoder–decoder model": (
        lambda settings, _: bool(settings.get("is_encoder_decoder")),
        "Its decoder reads a second text, which no row of the data has.",
    ),
    "a model that reads images": (
        lambda settings, _: any(mark in settings for mark in IMAGE_MARKS),
        "Rows of the data are texts.",
    ),
    "a classifier": (
        lambda _, architecture: architecture.endswith(CLASSIFIER_MARKS),
        "It predicts no word at a placeholder, but a label of the text: give the language model that it was made from.",
    ),
}
"""Kinds of models without an objective → (test of a config and a class's name, the reason). An objective for such a
kind is a file beside this one (encoder_decoder.py, classifier.py) and replaces its entry here."""


def register(kind: type[Objective]) -> type[Objective]:
    """Add a kind, which is asked before all other kinds; a kind of the same name is replaced."""
    others = {name: other for name, other in OBJECTIVES.items() if name != kind.name}
    OBJECTIVES.clear()
    OBJECTIVES.update({kind.name: kind, **others})
    if kind.folder is not None and kind.folder not in FOLDERS:
        FOLDERS.append(kind.folder)
    return kind


def parse_objective(name: str, value: Any) -> str:
    """A value of `prediction_objective`: "auto", a documented name, or the name of a kind.

    Raises TypeError or ValueError for another value; of an objective that is not here, the message says why.
    """
    if isinstance(value, str) and value in ABSENT_NAMES:
        raise ValueError(f"{name}={value!r} is not available. {ABSENT_NAMES[value]}")
    return one_of(name, value, [AUTO, *DOCUMENTED_NAMES, *OBJECTIVES])


def wanted_kind(objective: str) -> str | None:
    """The name of the kind that a `prediction_objective` asks for; None for "auto"."""
    return None if objective == AUTO else DOCUMENTED_NAMES.get(objective, objective)


def kind_of(model: Any, name: str | None = None) -> type[Objective]:
    """The kind of a model, or of a tokenizer where there is no model.

    A model is judged by its class and the classes that this class is derived from, never by `config.architectures`,
    which names the class of the checkpoint.

    Args:
        model: Any module, or a tokenizer.
        name: The name of the kind, if it is known. Default: the first kind that recognizes the model.

    Raises ValueError if no kind has this name.
    """
    if name is not None:
        return OBJECTIVES[one_of("objective", name, OBJECTIVES)]
    for kind in OBJECTIVES.values():
        if kind.fits(model):
            return kind
    # A module need not have a config.
    config = getattr(model, "config", None)
    by_class = (kind_named(cls.__name__, config) for cls in type(model).__mro__)
    return next((kind for kind in by_class if kind is not None), OBJECTIVES[DEFAULT])


def kind_named(architecture: str, config: Any) -> type[Objective] | None:
    """The kind that recognizes a class by its name and config; None if no kind does."""
    return next((kind for kind in OBJECTIVES.values() if kind.names(architecture, config)), None)


def auto_classes() -> dict[str, str]:
    """Task, as the hub names it → the name of the class of transformers that loads its models."""
    return {kind.task: kind.auto_class.__name__ for kind in OBJECTIVES.values() if kind.task and kind.auto_class}


def objective_of(model: Any, tokenizer: Any, name: str | None = None, *, max_length: int = MAX_LENGTH) -> Objective:
    """The objective of a model, within the longest input that model and tokenizer allow.

    Args:
        model: A base model.
        tokenizer: The model's fast tokenizer.
        name: See `kind_of`.
        max_length: Longest input in tokens.

    Raises:
        ValueError: An encoder–decoder model, a classifier, a model that reads images, or that has no head or two heads,
            a masked model without mask token, weights that are not in memory, or a tokenizer with tokens that the model
            has no embeddings for.
        TypeError: A slow tokenizer, or no tokenizer.
    """
    if not hasattr(tokenizer, "model_max_length"):
        raise TypeError(f"tokenizer must be a tokenizer of transformers; got {tokenizer!r:.60}.")
    kind = kind_of(model, name)
    if name is None and not kind.fits(model):
        refuse_unsupported(model.config, model.name_or_path or "The base model", type(model).__name__)
        require_language_head(model)
    refuse_absent_weights(model)
    refuse_other_vocabulary(model, tokenizer)
    limit = min(max_length, tokenizer.model_max_length, position_limit(model) or max_length)
    return kind.of_model(model, tokenizer, max_length=limit, vocabulary_size=vocabulary_size(model))


def refuse_unsupported(config: Any, name: str, architecture: str) -> None:
    """Raise ValueError for a model whose config or class name says that it has no objective."""
    for kind, (test, reason) in UNSUPPORTED.items():
        if test(config.to_dict(), architecture):
            raise ValueError(
                f"{name} ({architecture or type(config).__name__}) is {kind}; "
                f"only masked and causal (decoder-only) language models are supported so far. {reason}"
            )


def require_language_head(model: Any) -> None:
    """Raise ValueError for a model of transformers without language-modelling head, or with a second head beside it."""
    if not isinstance(model, PreTrainedModel):
        return
    name = type(model).__name__
    if model.get_output_embeddings() is None:
        raise ValueError(
            f"{name} has no language-modelling head: load the model with AutoModelForMaskedLM or AutoModelForCausalLM."
        )
    if name.endswith("ForPreTraining"):
        raise ValueError(
            f"{name} has a second head beside that for language modelling: load the model with "
            "AutoModelForMaskedLM, which leaves the second head out."
        )


def refuse_other_vocabulary(model: nn.Module, tokenizer: Any) -> None:
    """Raise ValueError for a tokenizer with tokens that the model has no embeddings for.

    Special tokens that plain texts never become, such as those for images, need no embeddings.
    """
    size = vocabulary_size(model)
    if size is None or len(tokenizer) <= size:
        return
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    # The special tokens that inputs are made with.
    special -= {getattr(tokenizer, f"{role}_token_id") for role in ("mask", "pad", "bos", "cls", "sep", "unk")}
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= size)
    if any(number not in special for number, _ in beyond):
        shown = ", ".join(repr(token) for _, token in beyond[:5])
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens, and the model ({type(model).__name__}) embeddings for {size}: "
            f"it cannot read {shown}{', …' if len(beyond) > 5 else ''}. If tokens were added, call "
            "model.resize_token_embeddings(len(tokenizer)), train the new ones, and save both; otherwise the tokenizer "
            "belongs to another model."
        )


def vocabulary_size(model: nn.Module) -> int | None:
    """The number of tokens that a model can both read and predict; None for no model of transformers."""
    embeddings: Any = model
    if hasattr(embeddings, "to_original_model"):
        embeddings = embeddings.to_original_model()
    if not isinstance(embeddings, PreTrainedModel):
        return None
    tables = (embeddings.get_input_embeddings(), embeddings.get_output_embeddings())
    # The weights of a quantized table are packed, so that their shape is another.
    sizes = [table.num_embeddings for table in tables if isinstance(table, nn.Embedding)]
    sizes += [table.out_features for table in tables if isinstance(table, nn.Linear)]
    return min(sizes, default=None)


def position_limit(base_model: Any) -> int | None:
    """The number of positions that the model has; None if its config sets no limit."""
    config = base_model.config
    limit = config.to_dict().get(config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    for name, module in base_model.named_modules():
        # RoBERTa and its relatives count positions from padding_idx + 1: with 514 of them, 512 tokens fit.
        is_table = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if is_table and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return limit
