"""What the trainings of a suite share: the base model, the gradients for pruning, and those of their batches.

Two trainings that have a class in common have the same batches of it. Their gradients differ in the word that is put
into the texts and in the entries that are kept, so a batch has one forward pass for all words, and one backward pass
for each.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gradiend.evaluator.encoder import EncoderData, latent_column
from gradiend.gradients import GradientEngine
from gradiend.model._context import Side, encoding_direction
from gradiend.model._parameter_map import ParameterMap
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer._models import is_new
from gradiend.trainer._preparation import Preparation, TrainingPlan, training_gradients
from gradiend.trainer._saved_training import saved_choice
from gradiend.trainer._seed_training import plan_training
from gradiend.trainer.core._class_means import batches_for_class_means
from gradiend.trainer.core._kept_gradients import GradientStore
from gradiend.trainer.core._memory import MemoryEstimate
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.callbacks import glance_every
from gradiend.trainer.core.training import total_steps
from gradiend.trainer.text.prediction.dataset import TextGradientBatches, Words
from gradiend.util._argument_fields import plain
from gradiend.util._digest import digest_json
from gradiend.util._isolation import plain_modes
from gradiend.util._leftovers import temporary_folder
from gradiend.util._processes import processes
from gradiend.util._progress import Progress
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

GLANCES_SHARE = 4
"""In memory, the rows of glances may take `kept_gradients_size` divided by this number."""
MOST_BYTES = 2**29
"""Largest size in bytes of the gradients of one pass; the other words of a batch take further passes."""


class SharedWork:
    """What several trainers on one base model need only once. Each trainer has it as `trainer.current.shared`."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        """The number of distinct classes of all trainers."""
        self.estimate: MemoryEstimate | None = None
        """The memory that the first training takes; the others take the same."""
        self._start: tuple[str, ModelWithGradiend] | None = None
        self._ready: dict[int, Preparation] = {}
        self._batches: dict[int, TextGradientBatches] = {}

    @cached_property
    def directory(self) -> str:
        """A temporary folder of the gradients that pruning reads; it goes with this object or with the process."""
        made = temporary_folder(tempfile.gettempdir())
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return str(made)

    @property
    def any_model(self) -> ModelWithGradiend | None:
        """A model around the base model that trainings share; None before the first."""
        return None if self._start is None else self._start[1]

    def gradient_directory(self, model: ModelWithGradiend, args: TrainingArguments) -> str | None:
        """The folder for the gradients by which models are pruned; None if those of all classes are too large."""
        size = self.n_classes * len(model) * 4
        kept = size <= args.kept_gradients_size and processes().count == 1
        if not kept and processes().count == 1:
            logger.info(
                "Each training is pruned by gradients of its own: those of %d classes take %.1f GiB, more than "
                "kept_gradients_size.", self.n_classes, size / 2**30,
            )  # fmt: skip
        return self.directory if kept else None

    def model(self, trainer: Any, plan: TrainingPlan, make: Callable[[], ModelWithGradiend]) -> ModelWithGradiend:
        """The model that a training starts from, what `make` gives; trainings that start alike share its base model."""
        if not is_new(plan.source) or trainer.resolve_custom_prediction_head_dir() is not None:
            return make()
        shape = {name: plan.args.get(name) for name in plan.args.names("training")}
        # Values that JSON cannot hold are compared by their repr.
        plain_kinds = (str, int, float, type(None))
        shape = {name: one if isinstance(one, plain_kinds) else repr(one) for name, one in shape.items()}
        start = plan.source if isinstance(plan.source, str) else f"{type(plan.source).__name__} {id(plan.source)}"
        key = digest_json(plain({"start": start, "class": str(plan.model_class), **shape}))
        if self._start is None or self._start[0] != key:
            self._start = key, make().untrained()
        shared = self._start[1].untrained()
        shared.set_feature_class_encoding_direction(encoding_direction(trainer))
        return shared

    def prepare(self, trainer: Any, overrides: Mapping[str, Any]) -> None:
        """Load, check and prune what a training with these overrides needs, unless it is found done.

        Raises:
            ValueError: Data or arguments that cannot be trained on.
        """
        plan = plan_training(trainer, None, None, None, None, overrides)
        saved = saved_choice(trainer, plan)
        if plan.splits or (plan.reuses and saved.is_current()):
            # Seeds with splits of their own prepare their rows themselves.
            return
        ready = Preparation(trainer, plan, gradients=GradientStore(0), shared=self)
        with plain_modes():
            gradients = training_gradients(trainer, ready.model, plan.args, ready)
        self.estimate = ready.estimate
        self._ready[id(trainer)] = ready
        if isinstance(gradients, TextGradientBatches) and gradients.store is not None and processes().count == 1:
            self._batches[id(trainer)] = gradients

    def compute_gradients(self) -> int:
        """Compute the gradients of all prepared trainings, each once. Returns the number of backward passes."""
        requests: list[Request] = []
        n_trainings = len(self._batches)
        for key, gradients in self._batches.items():
            args = self._ready[key].plan.args
            assert gradients.store is not None
            gradients.store.limit = args.kept_gradients_size // n_trainings
            steps = max(total_steps(len(gradients), args), batches_for_class_means(args))
            requests += requests_of(gradients, gradients.first_turns(steps, args.seed))
            if args.do_eval and args.evaluate_fn is None and glance_every(steps, args.eval_steps) is not None:
                limit = args.kept_gradients_size // GLANCES_SHARE // n_trainings
                requests += self._glances(self._ready[key], gradients.model, limit)
        one = next(iter(self._batches.values()), None)
        self._batches.clear()
        return 0 if one is None else answer(requests, one.model.engine, bf16=one.bf16)

    @staticmethod
    def _glances(ready: Preparation, model: Any, limit: int) -> list[Request]:
        """The requests for the rows of which glances see the encodings, if their gradients are not too large."""
        mapping, dtype = model.engine.mapping, model.engine.dtype
        if not isinstance(ready.evaluation_rows, EncoderData) or not ready.plan.args.trains_encoder:
            return []
        if not 0 < len(ready.glance_rows) * mapping.size * dtype.itemsize <= limit:
            return []
        ready.glance_rows, requests = kept_rows(ready.glance_rows, mapping, model.source, dtype)
        return requests

    def take(self, trainer: Any, plan: TrainingPlan) -> Preparation | None:
        """What was prepared for this training; None if nothing was."""
        ready = self._ready.pop(id(trainer), None)
        return ready if ready is not None and ready.plan == plan else None

    def drop(self) -> None:
        """Drop what was prepared and not taken."""
        for ready in self._ready.values():
            if ready.gradients is not None:
                ready.gradients.close()
        self._ready.clear()
        self._batches.clear()


@dataclass(frozen=True)
class Request:
    """The gradients that one training needs of one batch of texts."""

    texts: tuple[str, ...]
    """The texts, with a placeholder."""
    factual: Words
    """The factual words of the texts."""
    alternative: Words
    """The alternative words of the texts."""
    mapping: ParameterMap
    """The entries that the training keeps."""
    keep: Callable[[Mapping[Side, Tensor]], None]
    """Takes the gradient of each side, (mapping.size,)."""


@dataclass(frozen=True)
class KeptRows(EncoderData):
    """Rows to encode whose gradients are kept, so that encoding them takes no pass over the base model."""

    kept: Tensor = field(default_factory=lambda: torch.empty(0))
    """The source gradient of each row, (rows, input_dim)."""

    def keep(self, number: int, side: Side, gradients: Mapping[Side, Tensor]) -> None:
        """Keep the gradient of one side for a row."""
        self.kept[number] = gradients[side]

    @torch.no_grad()
    def encode(
        self, model: Any, *, source: str | None = None, batch_size: int = 32, progress: str | None = None
    ) -> pd.DataFrame:
        """See `EncoderData.encode`; the source is that of the kept gradients."""
        del source, batch_size, progress
        linear = model.gradiend.encoder_linear
        latents = model.gradiend.encoder(self.kept.to(linear.weight)).cpu()
        return self.rows.assign(**{latent_column(i): column.numpy() for i, column in enumerate(latents.T)})


def kept_rows(
    data: EncoderData, mapping: ParameterMap, source: str, dtype: torch.dtype
) -> tuple[KeptRows, list[Request]]:
    """Rows whose gradients are kept once the requests are answered."""
    side = Side.parse("source", source)
    rows = KeptRows(data.rows, data.factual, data.alternative, torch.empty(len(data), mapping.size, dtype=dtype))
    words = zip(data.rows["input_text"], data.factual, data.alternative, strict=True)
    requests = [
        Request((text,), (factual,), (alternative,), mapping, partial(rows.keep, number, side))
        for number, (text, factual, alternative) in enumerate(words)
    ]
    return rows, requests


def requests_of(training: TextGradientBatches, turns: Sequence[tuple[int, int]]) -> Iterator[Request]:
    """The requests of a training for its first batches, as many as its `GradientStore` has room for."""
    engine, store, data = training.model.engine, training.store, training.training_data
    assert store is not None
    texts = data.data["masked"]

    def keep(key: Any, gradients: Mapping[Side, Tensor]) -> None:
        store.keep(key, [gradients[side] for side in training.sides.values()])

    for turn in turns[: store.capacity(len(training.sides), engine.mapping.size, engine.dtype)]:
        rows = data.batches[turn[0]][turn[1]]
        yield Request(tuple(texts.iloc[rows]), *training.words(turn), engine.mapping, partial(keep, training.key(turn)))


@plain_modes()
def answer(requests: Iterable[Request], like: GradientEngine, *, bf16: bool = False) -> int:
    """Compute each gradient that several requests need once, for all of them; returns the number of backward passes.

    The gradient of the difference of two losses is the difference of their gradients here, which a training alone
    computes in one pass: the two differ by rounding. `like` is an engine of the base model, whose settings hold.
    """
    batches: dict[tuple[str, ...], list[Request]] = {}
    for one in requests:
        batches.setdefault(one.texts, []).append(one)
    maps = {one.mapping.hash: one.mapping for some in batches.values() for one in some}
    if not maps:
        return 0
    union = ParameterMap.union(list(maps.values()))
    places = {key: union.places(one) for key, one in maps.items()}
    engine = GradientEngine(like.model, union, like.objective)
    engine.checkpoints_layers = like.checkpoints_layers
    passes = 0
    with Progress("gradients of all trainings", len(batches), "batch") as bar:
        for some in bar.over(list(batches.values())):
            for part in _parts(some, union.size * engine.dtype.itemsize):
                words = list(dict.fromkeys(words for one in part for words in (one.factual, one.alternative)))
                passes += len(words)
                gradients = dict(zip(words, _of_words(engine, words, bf16=bf16), strict=True))
                for one in part:
                    place = places[one.mapping.hash]
                    sides = {Side.FACTUAL: gradients[one.factual], Side.ALTERNATIVE: gradients[one.alternative]}
                    if place is not None:
                        sides = {side: gradient[place] for side, gradient in sides.items()}
                    one.keep({**sides, Side.DIFF: sides[Side.FACTUAL] - sides[Side.ALTERNATIVE]})
    return passes


def _parts(requests: Sequence[Request], nbytes: int) -> Iterator[list[Request]]:
    """The requests of one batch in parts whose gradients take at most `MOST_BYTES`, or are two."""
    most, words, part = max(2, MOST_BYTES // nbytes), set[Words](), list[Request]()
    for one in requests:
        needed = {one.factual, one.alternative}
        if len(words | needed) > most:
            yield part
            words, part = set(), []
        words |= needed
        part.append(one)
    yield part


def _of_words(engine: GradientEngine, words: Sequence[Words], *, bf16: bool) -> list[Tensor]:
    """The gradient of the mean loss of each of the words, (size,)."""
    made = [torch.zeros(engine.mapping.size, dtype=engine.dtype, device=engine.scorer.device) for _ in words]

    def store(number: int, place: slice, gradient: Tensor) -> None:
        made[number][place] = gradient

    engine.stream_each(words, store, bf16=bf16)
    return made
