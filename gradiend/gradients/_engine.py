"""Base model → gradients of training batches, and encodings of many examples.

Notation (docs/method.md): L(word) = −log p(word), g_f and g_a its gradients for the factual and the alternative word,
diff = g_f − g_a, θ the mapped entries of the base model's parameters.

The engine knows no kind of model: an `Objective` says what a word's tokens are and computes the logits. A training, in
turn, does not know that its vectors are gradients. A training asks for `mapping` and `dtype` (the length and type of a
vector), `gradients` and `stream` (the vectors of a batch, whole or in pieces), and `directional_derivatives` (products
of every word's vector with a direction). A source of other vectors, such as the hidden states at a word's positions, is
a class with these members that takes its words from the same objective.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from gradiend.gradients._forward_mode import ForwardModeRules, dual_level
from gradiend.gradients._model_modes import differentiating, hand_over_gradients, layer_checkpoints, measurement_mode
from gradiend.gradients._objective import Objective
from gradiend.gradients._scorer import WordScorer
from gradiend.gradients._tokens import TokenizedWord, WordBatch, batches_by_length, collate, count_batches
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap, mapped_parameters
from gradiend.model._refusals import is_finite, refuse_undefined_weights
from gradiend.model._rewriting import temporarily_updated
from gradiend.model._shards import is_sharded
from gradiend.model.model import GradiendModel
from gradiend.util._isolation import plain_modes
from gradiend.util._processes import ONE, Processes, alone, processes
from gradiend.util._progress import Progress
from gradiend.util._unfinished import UnfinishedResult, next_result

logger = logging.getLogger(__name__)

K = TypeVar("K")

NUDGE = 1e-3
"""Share of the weights' size by which a central difference moves them."""


class GradientEngine:
    """Gradients of a language model on the entries of a parameter map, θ.

    The model is in evaluation mode while the engine uses it, and is left as it was found. Raises KeyError or ValueError
    for a map that does not fit the model.
    """

    def __init__(self, model: nn.Module, mapping: ParameterMap, objective: Objective) -> None:
        self.model = model
        self.mapping = mapping
        self.objective = objective
        self.scorer = WordScorer(model, objective)
        parameters = mapped_parameters(model, mapping)
        self._sharded = is_sharded(model)
        # Where pruning left no entry of a parameter, backward may stop above it and its tangent is zero. The processes
        # of a sharded model must reduce the same gradients, and the shards of the others may have entries.
        self._places = {
            entry.name: (entry, place) for entry, place in mapping.slices() if entry.num_selected or self._sharded
        }
        self.parameters = {name: parameters[name] for name in self._places}
        # A pass that puts other values in the place of shards has no layers to gather.
        self._forward_mode = not self._sharded
        self._forward_mode_agrees: bool | None = None
        self.checkpoints_layers = False
        """Whether layers run again in the backward pass instead of keeping what they computed."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the results: float64 for a model with float64 weights, float32 for every other model."""
        return functools.reduce(
            torch.promote_types, {parameter.dtype for parameter in self.parameters.values()}, torch.float32
        )

    @plain_modes()
    def gradients(
        self, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], sides: Sequence[Side],
        out: Sequence[Tensor] | None = None, *, bf16: bool = False,
    ) -> list[Tensor]:  # fmt: skip
        """Gradients of the mean loss over a batch: one (mapping.size,) tensor per side; equal sides share a tensor.

        Words with the same input share one forward pass; each distinct side costs one backward pass (`diff` is the
        gradient of L(factual) − L(alternative), not a difference of two gradients). Several processes of a run each
        compute a share of a batch, and all get the sum. `out` has a buffer to fill for each side; with `bf16` the model
        runs under bfloat16 autocast, with matrix products in bfloat16, and sums and norms in float32.
        """
        buffers = dict(zip(sides, out, strict=True)) if out is not None else {}
        for side in sides:
            if side not in buffers:
                buffers[side] = torch.empty(self.mapping.size, dtype=self.dtype, device=self.scorer.device)
        places = [place for entry, place in self._places.values() if entry.num_selected]
        unreached = {(side, place.start): place for side in buffers for place in places}
        team = self._team(len(factual))
        own, other = team.share(factual), team.share(alternative)
        # The processes of a sharded model get the mean of all gradients, and otherwise their own.
        weight = len(own) / len(factual) * (team.count if self._sharded else 1)

        def store(side: Side, place: slice, gradient: Tensor) -> None:
            buffers[side][place] = gradient
            del unreached[side, place.start]

        if own:
            self.stream(own, other, list(buffers), store, bf16=bf16, weight=weight)
        for (side, _), place in unreached.items():
            buffers[side][place] = 0
        for buffer in () if self._sharded else buffers.values():
            team.sum_(buffer)
        return [buffers[side] for side in sides]

    def _team(self, n_words: int) -> Processes:
        """The processes that divide a batch; those of a sharded model must each make the same passes."""
        divides = n_words > 1 and (not self._sharded or (self.scorer.pads is True and n_words >= processes().count))
        return processes() if divides else ONE

    def stream(
        self, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], sides: Sequence[Side],
        receive: Callable[[Side, slice, Tensor], None], *, bf16: bool = False, weight: float = 1.0,
    ) -> None:  # fmt: skip
        """The gradients of `gradients`, each side once, parameter by parameter, so that no whole gradient ever exists.

        `receive` gets a side, a range of the input space and the entries of this range, which `receive` may overwrite.
        For a parameter that the loss does not reach, `receive` is not called. `weight` is a factor of the loss.
        """
        # The gathered layers of a forward pass of shards serve one backward pass.
        passes = [[side] for side in sides] if self._sharded else [list(sides)]
        with self._differentiating():
            for some in passes:
                losses = self._losses(factual, alternative, some, bf16=bf16)
                if weight != 1:
                    losses = {side: weight * loss for side, loss in losses.items()}
                self._hand_over(losses, receive)

    def stream_each(
        self, variants: Sequence[Sequence[TokenizedWord]], receive: Callable[[int, slice, Tensor], None], *, bf16: bool
    ) -> None:
        """The gradient of each variant's mean loss, parameter by parameter, such as those of several words in a text.

        Variants are batches of words; they share a forward pass where their inputs are equal, and each costs one
        backward pass. `receive` gets the number of a variant, a range of the input space and the entries of this
        range. For a parameter that the loss does not reach, `receive` is not called. For `bf16` see `gradients`.
        """
        with self._differentiating():
            losses = {number: each.mean() for number, each in enumerate(self._each_loss(variants, bf16=bf16))}
            self._hand_over(losses, receive)

    @contextmanager
    def _differentiating(self) -> Iterator[None]:
        with (
            measurement_mode(self.model),
            differentiating(self.model, list(self.parameters.values())),
            layer_checkpoints(self.model, self.checkpoints_layers),
        ):
            yield

    def _hand_over(self, losses: dict[K, Tensor], receive: Callable[[K, slice, Tensor], None]) -> None:
        """Backpropagate each of the losses of one forward pass, which is freed by the last one."""
        for key in list(losses):

            def hand_on(name: str, gradient: Tensor, key: K = key) -> None:
                entry, place = self._places[name]
                if entry.num_selected:
                    receive(key, place, entry.gather(gradient))

            loss = losses.pop(key)
            hand_over_gradients(loss, self.parameters, hand_on, retain_graph=bool(losses))

    def _losses(
        self, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], sides: Sequence[Side], *,
        bf16: bool = False,
    ) -> dict[Side, Tensor]:  # fmt: skip
        needed = {
            Side.FACTUAL: factual if sides != [Side.ALTERNATIVE] else (),
            Side.ALTERNATIVE: alternative if sides != [Side.FACTUAL] else (),
        }
        by_side = dict(zip(needed, self._each_loss(list(needed.values()), bf16=bf16), strict=True))
        if Side.DIFF in sides:
            by_side[Side.DIFF] = by_side[Side.FACTUAL] - by_side[Side.ALTERNATIVE]
        return {side: by_side[side].mean() for side in sides}

    def _each_loss(self, variants: Sequence[Sequence[TokenizedWord]], *, bf16: bool) -> Sequence[Tensor]:
        """The losses of the words of each variant, from one forward pass over their distinct inputs."""
        batch = collate([word for words in variants for word in words], self.objective.pad_token_id)
        device = self.scorer.device
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            losses = -self.scorer.log_probs(batch.to(device))
        return losses.split([len(words) for words in variants])

    def directional_derivatives(
        self, words: Sequence[TokenizedWord], directions: Tensor, batch_size: int = 32, *, progress: str | None = None
    ) -> Tensor:
        """d/dε log p(word; θ + ε · direction) at ε = 0, of every word along every direction.

        Forward-mode differentiation of a batch gives each word's own derivative without any backward pass. A backward
        pass for each word replaces it where an operator of the model has no forward-mode rule, or where a module stops
        gradients only on their way back (`torch.no_grad`; one word is compared once to find this out). From N words and
        directions (k, mapping.size), the result is (k, N) of type `dtype`, on the CPU. `batch_size` counts distinct
        inputs; `progress` is the label of a bar.
        """
        kept = next_result()
        with measurement_mode(self.model):
            if self._forward_mode:
                try:
                    if self._forward_mode_agrees is None and len(words) and len(directions):
                        short = min(words, key=lambda word: len(word.input_ids))
                        self._forward_mode_agrees = self.scorer.once(
                            self._agrees, short, directions[0], of=tuple(self.parameters)
                        )
                    if self._forward_mode_agrees is not False:
                        return self._forward_derivatives(words, directions, batch_size, progress, kept)
                except NotImplementedError as error:
                    self._forward_mode = False
                    logger.info("No forward-mode rule (%s): encodings use per-word backward passes.", error)
            return self._backward_derivatives(words, directions, progress, kept)

    def _agrees(self, word: TokenizedWord, direction: Tensor) -> bool:
        """Whether a backward pass of a word gives the derivative of the forward mode."""
        slope = size = 0.0

        def add(side: Side, place: slice, gradient: Tensor) -> None:
            nonlocal slope, size
            del side
            moved = direction[place].to(gradient.device, torch.float64) * gradient.double()
            slope, size = slope - float(moved.sum()), size + float(moved.abs().sum())

        self.stream([word], [word], [Side.FACTUAL], add)
        with alone():
            # Each process makes the first pass alone, so that none waits for the slow first pass of another.
            found = float(self._forward_derivatives([word], direction[None], 1, None, UnfinishedResult()))
        # An adapter may be more precise than the model around it.
        precise = all(weight.dtype.itemsize >= 4 for weight in self.model.parameters() if weight.is_floating_point())
        # Where the terms of a sum cancel, the sum is as imprecise as its terms.
        agrees = abs(found - slope) <= (1e-3 * abs(slope) + 1e-5 * size if precise else 0.1 * abs(slope) + 0.05 * size)
        if not agrees:
            logger.info(
                "%s stops gradients inside, which forward mode does not see: encodings use per-word backward passes.",
                type(self.model).__name__,
            )
        return agrees

    def _forward_derivatives(
        self, words: Sequence[TokenizedWord], directions: Tensor, batch_size: int, progress: str | None,
        kept: UnfinishedResult,
    ) -> Tensor:  # fmt: skip
        result = torch.zeros(len(directions), len(words), dtype=self.dtype)
        n_batches, team = count_batches(words, batch_size), processes()
        done = kept.begin(result, "forward", batch_size, n_batches, words)
        with _bar(len(directions) * n_batches, "batch", progress, done) as bar, _forward_mode():
            for row, direction in enumerate(directions):
                tangents = self._tangents(direction)
                batches = batches_by_length(words, batch_size, self.objective.pad_token_id)

                def slopes(batch: WordBatch, tangents: Mapping[str, Tensor] = tangents) -> Tensor | int:
                    with dual_level():
                        log_probs = self.scorer.log_probs(batch.to(self.scorer.device), self._moving(tangents))
                        found = forward_ad.unpack_dual(log_probs).tangent
                    # None means that no mapped parameter has an influence.
                    return 0 if found is None else found.cpu()

                left = itertools.islice(batches, max(0, done - row * n_batches), None)
                while some := list(itertools.islice(left, team.round_size)):
                    found = team.compute([batch for _, batch in some], slopes, bar.advance)
                    for (indices, _), values in zip(some, found, strict=True):
                        result[row, indices] = values if isinstance(values, int) else values.to(result)
                    done += len(some)
                    kept.keep(result, done)
        return result

    def token_derivatives(
        self, words: Sequence[TokenizedWord], direction: Tensor, batch_size: int = 32
    ) -> tuple[Tensor, Tensor] | None:
        """The slope and the curvature of the loss along a direction (mapping.size,), for every scored token.

        With the derivative d of a site's logits along θ + ε · direction, and p the model's prediction there, these are
        d/dε log p(token) = d[token] − E_p d, and Var_p d, which is the second derivative of KL(p ‖ p_ε) at ε = 0: both
        (S,) for S tokens, on the CPU, batch by batch. None if an operator of the model has no forward-mode rule.
        """
        parts = []
        by_length = batches_by_length(words, batch_size, self.objective.pad_token_id)
        batches = [batch.to(self.scorer.device) for _, batch in by_length]
        try:
            with measurement_mode(self.model), torch.no_grad():
                for batch, (logits, moved) in zip(batches, self._moved_logits(batches, direction), strict=True):
                    predicted = logits.softmax(-1)
                    mean = (predicted * moved).sum(-1)
                    variance = (predicted * (moved - mean[:, None]).square()).sum(-1)
                    sites = batch.score_sites
                    parts.append(((moved[sites, batch.score_tokens] - mean[sites]).cpu(), variance[sites].cpu()))
        except NotImplementedError as error:
            logger.info("No forward-mode rule (%s): the curvature of the loss is not known.", error)
            return None
        slopes, curvatures = (torch.cat(some) for some in zip(*parts, strict=True))
        return slopes, curvatures

    def _moved_logits(self, batches: Sequence[WordBatch], direction: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch, the logits at its sites and their derivatives along a direction, both (U, vocabulary)."""
        if not self._sharded:
            with _forward_mode():
                tangents = self._tangents(direction)
                for batch in batches:
                    with dual_level():
                        logits = forward_ad.unpack_dual(self.scorer.site_logits(batch, self._moving(tangents)))
                    primal = logits.primal.float()
                    yield primal, torch.zeros_like(primal) if logits.tangent is None else logits.tangent.float()
            return
        # Shards cannot be replaced by dual numbers: a central difference.
        weights = (entry.gather(self.parameters[name].detach()) for name, (entry, _) in self._places.items())
        squares = [sum(float(part.double().square().sum()) for part in some) for some in (weights, [direction])]
        size, length = processes().sum_(torch.tensor(squares, dtype=torch.float64)).sqrt().tolist()
        step, ends = NUDGE * size / max(length, 1e-30), []
        for sign in (1, -1):
            with temporarily_updated(self.model, self.mapping, sign * step * direction):
                ends.append([self.scorer.site_logits(batch).float() for batch in batches])
        for plus, minus in zip(*ends, strict=True):
            yield (plus + minus) / 2, (plus - minus) / (2 * step)

    def _tangents(self, direction: Tensor) -> dict[str, Tensor]:
        return {
            name: entry.scatter(direction[place].to(self.parameters[name].detach()))
            for name, (entry, place) in self._places.items()
        }

    def _moving(self, tangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters as dual numbers, inside a dual level."""
        return {n: forward_ad.make_dual(self.parameters[n].detach(), tangent) for n, tangent in tangents.items()}

    def _backward_derivatives(
        self, words: Sequence[TokenizedWord], directions: Tensor, progress: str | None, kept: UnfinishedResult
    ) -> Tensor:
        result = torch.zeros(len(directions), len(words), dtype=self.dtype)
        done = kept.begin(result, "backward", words)
        team = ONE if self._sharded else processes()

        def slope(word: TokenizedWord) -> Tensor:
            gradient = self.gradients([word], [word], [Side.FACTUAL])[0]
            moved = -(directions.to(gradient) @ gradient)
            return (processes().sum_(moved) if self._sharded else moved).cpu()

        with _bar(len(words), "word", progress, done) as bar:
            while some := words[done : done + team.round_size]:
                found = team.compute(some, slope, bar.advance)
                result[:, done : done + len(some)] = torch.stack(found, 1)
                done += len(some)
                kept.keep(result, done)
        return result


class UndefinedGradientError(FloatingPointError):
    """The gradient of the word of an example, the example number `row`, is infinite or undefined."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def undefined_gradient(engine: GradientEngine, word: TokenizedWord, row: int = 0) -> UndefinedGradientError:
    """The error for a word whose gradient is not finite. Raises ValueError if weights of the model are not finite."""
    refuse_undefined_weights(engine.model)
    decode = engine.objective.tokenizer.decode
    return UndefinedGradientError(
        f"The gradient of {decode(list(word.tokens))!r} in {decode(list(word.input_ids))!r:.300} is infinite or "
        f"undefined: the model's {next(iter(engine.parameters.values())).dtype} has no such numbers. Load the model in "
        "float32, or leave this text out.",
        row,
    )


@contextmanager
def _forward_mode() -> Iterator[None]:
    with torch.no_grad(), ForwardModeRules():
        yield


def _bar(total: int, unit: str, label: str | None, done: int) -> Progress:
    return Progress(label or "", total, unit, brief=True, shown=label is not None, done=done)


@plain_modes()
@torch.no_grad()
def encode_words(
    engine: GradientEngine, gradiend: GradiendModel, factual: Sequence[TokenizedWord],
    alternative: Sequence[TokenizedWord], side: Side, *, batch_size: int = 32, progress: str | None = None,
) -> Tensor:  # fmt: skip
    """Each example's own latent, as if its gradient had been computed alone and encoded: (N, latent_dim), on the CPU.

    The encoder's pre-activation is a directional derivative: W_e · ∇L(θ) = d/dε L(θ + ε · W_e) at ε = 0. The type is
    float64 if the base model or the GRADIEND is float64, else float32. Raises UndefinedGradientError for a gradient
    that is infinite or undefined.
    """
    by_side = {Side.FACTUAL: factual, Side.ALTERNATIVE: alternative, Side.DIFF: [*factual, *alternative]}
    linear = gradiend.encoder_linear
    words = by_side[side]
    slopes = -engine.directional_derivatives(words, linear.weight.detach(), batch_size, progress=progress)
    if not is_finite(slopes):
        bad = int((~slopes.isfinite()).any(0).nonzero()[0])
        raise undefined_gradient(engine, words[bad], bad % len(factual))
    if side is Side.DIFF:
        slopes = slopes[:, : len(factual)] - slopes[:, len(factual) :]
    assert linear.bias is not None
    assert gradiend.encoder is not None
    pre_activation = slopes.T.to(linear.bias.device) + linear.bias
    return gradiend.encoder[1](pre_activation).cpu()


def unreached_parameters(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], words: Sequence[TokenizedWord], objective: Objective
) -> list[str]:
    """Names of those `parameters`, such as a pooler's, that the loss of `words`, a small batch, does not depend on."""
    scorer = WordScorer(model, objective)
    unreached = dict.fromkeys(parameters)
    with measurement_mode(model), differentiating(model, list(parameters.values())):
        loss = scorer.log_probs(collate(words, objective.pad_token_id).to(scorer.device)).sum()
        hand_over_gradients(loss, parameters, lambda name, _: unreached.pop(name))
    return list(unreached)
