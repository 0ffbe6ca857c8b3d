"""The memory of the passes of a training over a language model, traced on the longest examples."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gradiend.evaluator.encoder import EncoderData
from gradiend.gradients import GradientEngine, TokenizedWord, collate, trace_memory
from gradiend.model._context import Side
from gradiend.model.core.backbone import select_parameters
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.objectives import OBJECTIVES, Objective
from gradiend.trainer.core._class_means import batches_for_class_means
from gradiend.trainer.core._layouts import Layout, ProbedPass
from gradiend.trainer.core._memory import MemoryEstimate, Probe, estimate_training
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.pruning import class_examples
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend
from gradiend.util._isolation import plain_modes

PROBED = (2, 3, 5)
"""Numbers of examples of a probe: the first one with which no activation has the shape of a gradient is taken."""

Words = Sequence[TokenizedWord]


def estimate_from_config(
    config: Any, arguments: TrainingArguments | None = None, *, n_tokens: int = 64, layout: Layout | None = None
) -> MemoryEstimate:
    """The memory of a training on a language model of which there is only a config: nothing is loaded or computed.

    Gradients are traced with tensors that have no values. Encodings are taken to hold twice what a forward pass does,
    and the directions of the mapped parameters.

    Args:
        config: A config of transformers, such as `AutoConfig.from_pretrained(name)` gives.
        arguments: The arguments of the training. Default: TrainingArguments().
        n_tokens: Tokens of the longest texts.
        layout: The devices. Default: one.

    Raises:
        ValueError: Neither a masked nor a causal language model.
    """
    args = arguments or TrainingArguments()
    assert isinstance(args.torch_dtype, torch.dtype)
    loader = next((loader for kind in OBJECTIVES.values() if (loader := kind.loader(config)) is not None), None)
    if loader is None:
        raise ValueError(f"A {type(config).__name__} is of neither a masked nor a causal language model.")
    dtype = args.base_model_dtype or torch.float32
    # Objectives of causal models switch the cache off in each call.
    config = copy.deepcopy(config)
    config.use_cache = False
    with torch.device("meta"):
        base_model = loader.from_config(config, dtype=dtype)
    mapping = select_parameters(base_model, args.params)
    gradiend = ParamMappedGradiendModel(
        mapping.size, args.latent_dim or 1, mapping, args.activation_encoder or "tanh", args.activation_decoder or "id",
        args.bias_decoder is not False, args.torch_dtype, device="meta", lazy_init=True,
    )  # fmt: skip
    with FakeTensorMode(), plain_modes():
        engine = GradientEngine(loader.from_config(config, dtype=dtype), mapping, _Numbers())
        probe = _probe_without_values(engine, args, n_tokens)
    found = estimate_training(base_model, gradiend, args, probe)
    return found.for_layout(Layout() if layout is None else layout)


def _probe_without_values(engine: GradientEngine, args: TrainingArguments, n_tokens: int) -> Probe:
    # Whether the head works on single positions, and whether padding changes numbers, takes numbers to find out.
    engine.scorer.pads = engine.scorer.narrows = True
    engine.checkpoints_layers = args.gradient_checkpointing
    words = [TokenizedWord(tuple(range(row, row + n_tokens)), (n_tokens - 1,), (0,)) for row in range(PROBED[0])]

    def probed(run: Callable[[], Any], rows: int) -> ProbedPass:
        trace = trace_memory(engine.model, run, len(words))
        return ProbedPass(dataclasses.replace(trace, moments={"meta": trace.moments["cpu"]}), rows)

    def gradients_of(sides: list[Side]) -> Callable[[], Any]:
        return lambda: engine.stream(words, words, sides, _drop)

    @torch.no_grad()
    def forward() -> None:
        engine.scorer.log_probs(collate(words, 0))

    sides = list(dict.fromkeys(Side(side) for side in (args.source, args.target) if side is not None))
    pruning = args.pre_prune_config
    importance = None
    if pruning is not None:
        rows = min(pruning.batch_size, math.ceil(pruning.n_samples / 2))
        importance = probed(gradients_of([Side(pruning.source)]), rows)
    parameters = [p for p in engine.parameters.values() if p.dtype != torch.float32]
    directions = sum(parameter.nbytes for parameter in parameters)
    once = probed(forward, 2 * args.eval_batch_size)
    moments = [(fixed + directions, scaling) for fixed, scaling in once.trace.moments["meta"]]
    encodings = ProbedPass(dataclasses.replace(once.trace, moments={"meta": moments}), once.rows)
    return Probe(probed(gradients_of(sides), args.train_batch_size), importance, encodings)


class _Numbers(Objective):
    """An objective without a tokenizer, for traces in which only the sizes of words matter."""

    name = "numbers"
    pad_token_id = 0
    arguments: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        """Make it without a tokenizer."""

    def _word(self, span: Any, word: str) -> TokenizedWord | None:
        del span, word
        return None


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
