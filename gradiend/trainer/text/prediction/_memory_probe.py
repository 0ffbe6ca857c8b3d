"""The memory of the passes of a training over a language model, traced on the longest examples."""

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
"""Numbers of examples of a probe: the first one with which no activation has the shape of a gradient is taken."""

Words = Sequence[TokenizedWord]


def probe_training(trainer: Any, model: TextPredictionModelWithGradiend, args: TrainingArguments) -> Probe:
    """Trace the passes of a training over the base model; the weights of the model's GRADIEND need not exist."""
    common = {"split": "train", "max_size": args.train_max_size}
    data = trainer.create_training_data(model, batch_size=args.train_batch_size, **common)
    steps = max(total_steps(data.n_turns, args), batches_for_class_means(args))
    rows = sorted(data.rows_of_steps(steps, args.seed if args.max_seeds == 1 else None))
    sides = [Side.parse("side", side) for side in (model.source, model.target) if side is not None]
    importance = None
    config = args.pre_prune_config
    if config is not None:
        classes = [rows[: config.n_samples]]
        if config.dataset is None:
            # Both have the same rows, whose numbers do not depend on the batches.
            single = trainer.create_training_data(model, batch_size=1, **common)
            examples = class_examples(single, config, trainer)
            classes = [[single.row_number(index) for index in indices] for indices in examples]
        chosen = [row for indices in classes for row in indices]
        size = min(config.batch_size, max(map(len, classes)))
        importance = probe_gradients(model, data, chosen, [Side(config.source)], size)
    evaluation = None
    if args.do_eval and args.evaluate_fn is None:
        evaluated: EncoderData = trainer.create_eval_data(
            model, split=trainer.modality.evaluation_split(), max_size=args.encoder_eval_train_max_size
        )
        by_side = {Side.FACTUAL: evaluated.factual, Side.ALTERNATIVE: evaluated.alternative}
        words = by_side.get(sides[0], [*evaluated.factual, *evaluated.alternative])
        evaluation = probe_encoding(model, words, args.eval_batch_size) if words else None
    return Probe(probe_gradients(model, data, rows, sides, args.train_batch_size), importance, evaluation)


def probe_gradients(
    model: TextPredictionModelWithGradiend, data: TextTrainingDataset, rows: Sequence[int], sides: Sequence[Side],
    size: int,
) -> ProbedPass:  # fmt: skip
    """Trace the gradients of a batch of `size` examples among `rows`; only the longest examples are run."""
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
    """Trace the encoding of a batch of `rows` distinct inputs; only the longest inputs are run."""
    longest = sorted(words, key=lambda word: -len(word.input_ids))
    longest = longest[: _probed(model, len(longest[0].input_ids))]
    engine = model.engine
    _check_head(engine, longest)
    # One number in memory stands for all entries. It is no zero, since the first word compares forward mode with a
    # backward pass: here, before a GRADIEND takes memory, and not in the pass that is traced or in training.
    direction = torch.ones(1, 1).expand(1, engine.mapping.size)
    engine.directional_derivatives(longest[:1], direction)
    distinct = len({word.input_ids for word in longest})
    trace = trace_memory(engine.model, lambda: engine.directional_derivatives(longest, direction), distinct)
    return ProbedPass(trace, min(rows, len({word.input_ids for word in words})))


def _check_head(engine: GradientEngine, words: Words) -> None:
    """Run a pass before the trace: the first pass of a model computes full logits of a few rows to check its head."""
    if engine.scorer.narrows is None:
        engine.stream(words, words, [Side.FACTUAL], _drop)


def _probed(model: TextPredictionModelWithGradiend, length: int) -> int:
    sizes = {size for parameter in model.base_model.parameters() for size in parameter.shape}
    return next((count for count in PROBED if count * length not in sizes), PROBED[0])


def _drop(side: Side, place: slice, gradient: Tensor) -> None:
    del side, place, gradient
