"""What the passes of a training over a language model take, traced on its two longest examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gradiend.evaluator.encoder import EncoderData
from gradiend.gradients import GradientEngine, TokenizedWord, trace_memory
from gradiend.model._context import Side
from gradiend.trainer.core._class_means import batches_for_class_means
from gradiend.trainer.core._memory import Probe, ProbedPass
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.pruning import class_examples
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend

PROBED = (2, 3, 5)
"""Examples of a probe: the first number for which no activation can be taken for a gradient by its shape."""

Words = Sequence[TokenizedWord]


def probe_training(trainer: Any, model: TextPredictionModelWithGradiend, args: TrainingArguments) -> Probe:
    """Trace what a training of a text trainer will run on the base model.

    The weights of the model's GRADIEND need not exist.
    """
    common = {"split": "train", "max_size": args.train_max_size}
    batches = trainer.create_training_data(model, batch_size=args.train_batch_size, **common)
    single = trainer.create_training_data(model, batch_size=1, **common)
    steps = max(total_steps(batches.n_turns, args), batches_for_class_means(args))
    rows = sorted(batches.rows_of_steps(steps, args.seed if args.max_seeds == 1 else None))
    sides = [Side.parse("side", side) for side in (model.source, model.target) if side is not None]
    importance = None
    config = args.pre_prune_config
    if config is not None:
        classes = [rows[: config.n_samples]]
        if config.dataset is None:
            examples = class_examples(single, config, trainer)
            classes = [[single.row_number(index) for index in indices] for indices in examples]
        chosen = [row for indices in classes for row in indices]
        size = min(config.batch_size, max(map(len, classes)))
        importance = probe_gradients(model, single, chosen, [Side(config.source)], size)
    evaluation = None
    if args.do_eval and args.evaluate_fn is None:
        data = trainer.create_eval_data(
            model, split=trainer.modality.evaluation_split(), max_size=args.encoder_eval_train_max_size
        )
        words = [*data.factual, *data.alternative] if Side.DIFF is sides[0] else _side(data, sides[0])
        evaluation = probe_encoding(model, words, args.eval_batch_size) if words else None
    return Probe(probe_gradients(model, single, rows, sides, args.train_batch_size), importance, evaluation)


def _side(data: EncoderData, side: Side) -> Words:
    return data.factual if side is Side.FACTUAL else data.alternative


def probe_gradients(
    model: TextPredictionModelWithGradiend,
    data: TextTrainingDataset,
    rows: Sequence[int],
    sides: Sequence[Side],
    size: int,
) -> ProbedPass:
    """Trace the gradients of a batch, of whose examples the longest ones are run.

    Args:
        model: The model.
        data: The examples.
        rows: Row numbers of those that the batch may have.
        sides: Which gradients.
        size: Examples in the batch.
    """
    factual, alternative = data.tokenized
    lengths = {row: max(len(factual[row].input_ids), len(alternative[row].input_ids)) for row in rows}
    longest = sorted(rows, key=lambda row: -lengths[row])[: _probed(model, max(lengths.values()))]
    words = [factual[row] for row in longest], [alternative[row] for row in longest]
    engine = model.engine
    distinct = list(dict.fromkeys(sides))
    _check_head(engine, words[0])
    trace = trace_memory(engine.model, lambda: engine.stream(*words, distinct, _drop), len(longest))
    return ProbedPass(trace, size)


def probe_encoding(model: TextPredictionModelWithGradiend, words: Words, rows: int) -> ProbedPass:
    """Trace the encoding of a batch of `rows` distinct inputs."""
    longest = sorted(words, key=lambda word: -len(word.input_ids))
    longest = longest[: _probed(model, len(longest[0].input_ids))]
    _check_head(model.engine, longest)
    # Memory that is never written to takes none.
    direction = torch.empty(1, model.engine.mapping.size)
    distinct = len({word.input_ids for word in longest})
    trace = trace_memory(model.engine.model, lambda: model.engine.directional_derivatives(longest, direction), distinct)
    return ProbedPass(trace, min(rows, len({word.input_ids for word in words})))


def _check_head(engine: GradientEngine, words: Words) -> None:
    """The first pass of a model also checks how its head works, on full logits of a few rows."""
    if engine.scorer.narrows is None:
        engine.stream(words, words, [Side.FACTUAL], _drop)


def _probed(model: TextPredictionModelWithGradiend, length: int) -> int:
    sizes = {size for parameter in model.base_model.parameters() for size in parameter.shape}
    return next((count for count in PROBED if count * length not in sizes), PROBED[0])


def _drop(side: Side, place: slice, gradient: Tensor) -> None:
    del side, place, gradient
