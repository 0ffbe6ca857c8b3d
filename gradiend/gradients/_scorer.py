"""log p(word) of a batch, from head logits at the scored positions only."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradiend.gradients._objective import Objective, equal_logits
from gradiend.gradients._tokens import WordBatch
from gradiend.model._shards import is_sharded
from gradiend.model.core.backbone import get_backbone_module
from gradiend.util._isolation import exclusive
from gradiend.util._processes import ONE, processes

logger = logging.getLogger(__name__)

CHECKED_ROWS = 2
"""The number of rows of the first batch for which narrow and full logits are compared."""
T = TypeVar("T")
U = TypeVar("U")
_HOLDS: WeakKeyDictionary[nn.Module, set[tuple[Any, ...]]] = WeakKeyDictionary()
"""Model → the checks that it has passed, so that each check is made once and not by every scorer. A check that fails is
not kept, because weights that are not finite for a moment must not slow down later passes."""


def _word_log_probs(logits: Tensor, batch: WordBatch) -> Tensor:
    logits = logits.float() if logits.dtype.itemsize < 4 else logits
    token_scores = logits[batch.score_sites, batch.score_tokens] - logits.logsumexp(-1)[batch.score_sites]
    return token_scores.new_zeros(batch.n_words).index_add(0, batch.score_words, token_scores)


class WordScorer:
    """Runs a language model on word batches.

    A hook narrows the backbone's last hidden state to the scored sites, so the model's own head runs on U vectors
    instead of B · L. The first batch compares the result with full logits; where they differ, full logits are computed
    from then on, and one log line says so. The first batch also shows whether padding changes the model's numbers
    although it is masked out (some models mix positions without a mask); rows of equal length are then computed
    together.

    Args:
        model: A language model of transformers.
        objective: The model's objective, which computes the logits and, at the first batch, refuses a model of another
            kind.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self.model = model
        self.objective = objective
        self.backbone = get_backbone_module(model)
        # The heads of OPT and of BART's decoder read the one module inside the backbone, not the backbone.
        while self.backbone is not model and len(inside := list(self.backbone.children())) == 1:
            self.backbone = inside[0]
        self.pads: bool | None = None
        """Whether rows of different lengths may share a pass; None before the first one."""
        self.narrows: bool | None = None if self.backbone is not model else False
        self._sharded = is_sharded(model)

    def once(self, check: Callable[..., bool], *given: Any, of: tuple[Any, ...] = ()) -> bool:
        """Whether `check(*given)` is true; not called again if it was true of the same modules and `of` before."""
        known = _HOLDS.setdefault(self.model, set())
        dtype = next(self.model.parameters()).dtype
        fact = (check.__qualname__, type(self.objective), dtype, *map(type, self.model.modules()), *of)
        if fact not in known and check(*given):
            known.add(fact)
        return fact in known

    @property
    def device(self) -> torch.device:
        """The device where inputs have to be, which is where their logits are."""
        return next(self.model.parameters()).device

    def compute(self, items: Sequence[T], function: Callable[[T], U]) -> list[U]:
        """The results of a function that makes one pass for an item; the processes of a run divide the items."""
        # Without padding, the number of passes depends on the item, and a sharded model needs all processes in a pass.
        team = processes() if not self._sharded or self.pads else ONE
        return team.compute(items, function, in_step=self._sharded)

    def log_probs(self, batch: WordBatch, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """log p(word) of every word, float32 or wider, (N,).

        Args:
            batch: The words, on the model's device.
            parameters: Name → values to use instead of the model's own parameter.

        Raises:
            ValueError: See `Objective.check`.
        """
        return _word_log_probs(self.site_logits(batch, parameters), batch)

    def log_probs_and_hits(self, batch: WordBatch) -> tuple[Tensor, Tensor]:
        """log p(word), and how many of the word's tokens are the model's first prediction; both (N,).

        Raises as `log_probs`.
        """
        logits = self.site_logits(batch)
        hits = (logits.argmax(-1)[batch.score_sites] == batch.score_tokens).long()
        return _word_log_probs(logits, batch), hits.new_zeros(batch.n_words).index_add(0, batch.score_words, hits)

    def site_logits(self, batch: WordBatch, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Head logits at the sites, (U, vocabulary). Raises as `log_probs`."""
        # The hook that narrows a pass would narrow the pass of another thread too.
        with exclusive(self.model):
            return self._site_logits(batch, parameters)

    def _site_logits(self, batch: WordBatch, parameters: Mapping[str, Tensor] | None) -> Tensor:
        if self.pads is None:
            self.pads = self.once(self._padding_is_masked, batch.input_ids[0, : int(batch.attention_mask[0].sum())])
        lengths = batch.attention_mask.sum(1)
        if self.pads or bool((lengths == lengths[0]).all()):
            return self._padded_logits(batch, parameters)
        parts, places = [], []
        for length in lengths.unique().tolist():
            own = lengths[batch.site_rows] == length
            if own.any():
                parts.append(self._padded_logits(batch.of_length(length), parameters))
                places.append(own.nonzero().squeeze(1))
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _padded_logits(self, batch: WordBatch, parameters: Mapping[str, Tensor] | None) -> Tensor:
        if self.narrows is None:
            self.narrows = self.once(self._narrowing_holds, batch)
        if not self.narrows:
            return self._forward(batch, parameters)[batch.site_rows, batch.site_positions]
        with self._narrowed(batch.site_rows, batch.site_positions):
            return self._forward(batch, parameters)[0]

    def _forward(self, batch: WordBatch, parameters: Mapping[str, Tensor] | None) -> Tensor:
        with warnings.catch_warnings() if self._sharded else nullcontext():
            # FSDP2 warns of outputs that are changed in place, which nobody does here.
            if self._sharded:
                warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
            return self.objective.logits(self.model, batch.input_ids, batch.attention_mask, parameters)

    @contextmanager
    def _narrowed(self, rows: Tensor, positions: Tensor) -> Iterator[None]:
        def at_sites(hidden: Tensor) -> Tensor:
            return hidden[rows.to(hidden.device), positions.to(hidden.device)].unsqueeze(0)

        def narrow(module: nn.Module, inputs: Any, output: Any) -> Any:
            del module, inputs
            if isinstance(output, tuple):
                return (at_sites(output[0]), *output[1:])
            output = copy.copy(output)
            output["last_hidden_state"] = at_sites(output["last_hidden_state"])
            return output

        handle = self.backbone.register_forward_hook(narrow)
        try:
            yield
        finally:
            handle.remove()

    @torch.no_grad()
    def _padding_is_masked(self, ids: Tensor) -> bool:
        """Refuse a model of another kind, and find out whether padding changes the model's numbers, with one row."""
        ids = ids if len(ids) > 1 else ids.repeat(2)
        full, less = torch.ones_like(ids), len(ids) - 1
        whole = self._logits_of(ids, full)
        self.objective.check(self.model, ids, whole, lambda other: self._logits_of(other, full))
        try:
            alone = self._logits_of(ids[:less], full[:less])
            padded = self._logits_of(ids, (torch.arange(len(ids), device=ids.device) < less) * full)
            pads = equal_logits(alone, padded[:less])
        except (RuntimeError, IndexError, ValueError):
            # Some models take no input as short as `less`.
            pads = False
        if not pads:
            logger.info(
                "The numbers of %s change with padding: texts of different lengths are computed apart.",
                type(self.model).__name__,
            )
        return pads

    def _logits_of(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.objective.logits(self.model, ids[None], mask[None], None)[0]

    @torch.no_grad()
    def _narrowing_holds(self, batch: WordBatch) -> bool:
        few = batch.site_rows < CHECKED_ROWS
        rows, positions = batch.site_rows[few], batch.site_positions[few]
        small = replace(
            batch, input_ids=batch.input_ids[:CHECKED_ROWS], attention_mask=batch.attention_mask[:CHECKED_ROWS]
        )
        full = self._forward(small, None)[rows, positions]
        try:
            with self._narrowed(rows, positions):
                narrow = self._forward(small, None)
        except (RuntimeError, IndexError, KeyError, ValueError, TypeError) as error:
            reason = str(error)
        else:
            if narrow.shape == (1, *full.shape) and equal_logits(narrow[0], full):
                return True
            reason = "its logits differ"
        logger.info(
            "The head of %s does not work on single positions (%s): full logits are computed.",
            type(self.model).__name__,
            reason,
        )
        return False
