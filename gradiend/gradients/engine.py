"""Base model → gradients of training batches and directional derivatives of many words.

Notation (docs/method.md): L(word) = −log p(word), g_f and g_a its gradients for the factual and the alternative word,
diff = g_f − g_a, θ the mapped entries of the base model's parameters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from gradiend.gradients.batch import WordBatch, batches_by_length, collate, count_batches
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import differentiating, evaluation_mode
from gradiend.gradients.words import TokenizedWord
from gradiend.model.parameter_map import MappedParameter, ParameterMap
from gradiend.model.rewriting import mapped_parameters
from gradiend.model.sides import Side

logger = logging.getLogger(__name__)


class GradientEngine:
    """Gradients of a language model on the entries of a parameter map.

    The model is in evaluation mode while it is used and left as it was found.

    Args:
        model: A masked or causal language model.
        mapping: The entries θ.
        causal: Which kind of model it is.
        pad_token_id: For padding on the right; masked out, so any id works.

    Raises:
        KeyError, ValueError: The map does not fit the model.
    """

    def __init__(self, model: nn.Module, mapping: ParameterMap, *, causal: bool, pad_token_id: int) -> None:
        self.model = model
        self.mapping = mapping
        self.pad_token_id = pad_token_id
        self.scorer = WordScorer(model, causal=causal)
        self.parameters = mapped_parameters(model, mapping)
        self._forward_mode = True

    def gradients(
        self,
        factual: Sequence[TokenizedWord],
        alternative: Sequence[TokenizedWord],
        sides: Sequence[Side],
        out: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Gradients of the mean loss over a batch, one flat vector per side.

        Words with the same input share one forward pass; each distinct side costs one backward pass (`diff` is the
        gradient of L(factual) − L(alternative), not a difference of two gradients).

        Args:
            factual: The factual word of every example.
            alternative: Its alternative.
            sides: Which gradients.
            out: Buffers of `mapping.size` float32 entries to fill, one per side. Default: new ones.

        Returns:
            One (mapping.size,) tensor per side; equal sides are the same tensor.
        """
        distinct = list(dict.fromkeys(sides))
        buffers = dict(zip(sides, out, strict=True)) if out is not None else {}
        with evaluation_mode(self.model), differentiating(self.model, list(self.parameters.values())):
            losses = self._losses(factual, alternative, distinct)
            for position, side in enumerate(distinct):
                if side not in buffers:
                    buffers[side] = torch.empty(self.mapping.size, device=self.scorer.device)
                self._backward(losses[side], buffers[side], retain_graph=position < len(distinct) - 1)
        return [buffers[side] for side in sides]

    def _losses(
        self, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], sides: Sequence[Side]
    ) -> dict[Side, Tensor]:
        needed = {
            Side.FACTUAL: factual if sides != [Side.ALTERNATIVE] else (),
            Side.ALTERNATIVE: alternative if sides != [Side.FACTUAL] else (),
        }
        batch = collate([word for words in needed.values() for word in words], self.pad_token_id)
        losses = -self.scorer.log_probs(batch.to(self.scorer.device))
        by_side = dict(zip(needed, losses.split([len(words) for words in needed.values()]), strict=True))
        if Side.DIFF in sides:
            by_side[Side.DIFF] = by_side[Side.FACTUAL] - by_side[Side.ALTERNATIVE]
        return {side: by_side[side].mean() for side in sides}

    def _backward(self, loss: Tensor, flat: Tensor, *, retain_graph: bool) -> None:
        """Run backward; each parameter's selected gradient goes straight to its place in `flat` and is freed."""
        unreached = {parameter.name: place for parameter, place in self.mapping.slices()}
        handles = []

        def store(entry: MappedParameter, place: slice) -> Any:
            def hook(parameter: Tensor) -> None:
                assert parameter.grad is not None
                flat[place] = entry.gather(parameter.grad)
                parameter.grad = None
                del unreached[entry.name]

            return hook

        for entry, place in self.mapping.slices():
            handles.append(self.parameters[entry.name].register_post_accumulate_grad_hook(store(entry, place)))
        try:
            loss.backward(retain_graph=retain_graph)
        finally:
            for handle in handles:
                handle.remove()
        for place in unreached.values():
            flat[place] = 0

    def directional_derivatives(
        self,
        words: Sequence[TokenizedWord],
        directions: Tensor,
        batch_size: int = 32,
        *,
        progress: str | None = None,
    ) -> Tensor:
        """d/dε log p(word; θ + ε · direction) at ε = 0, of every word along every direction.

        Forward-mode differentiation of a batch gives each word's own derivative without any backward pass. Where an
        operator of the model has no forward-mode rule, per-word backward passes give the same numbers.

        Args:
            words: N words.
            directions: (k, mapping.size).
            batch_size: Distinct inputs per pass.
            progress: Label of a progress bar; None shows none.

        Returns:
            (k, N) float32, on the CPU.
        """
        result = torch.zeros(len(directions), len(words))
        batches = batches_by_length(words, batch_size, self.pad_token_id)
        bar = tqdm(
            batches,
            total=count_batches(words, batch_size),
            desc=progress,
            disable=progress is None,
            leave=False,
        )
        with evaluation_mode(self.model):
            for indices, batch in bar:
                on_device = batch.to(self.scorer.device)
                for row, direction in enumerate(directions):
                    result[row, indices] = self._derivative(on_device, [words[i] for i in indices], direction)
        return result

    def _derivative(self, batch: WordBatch, words: Sequence[TokenizedWord], direction: Tensor) -> Tensor:
        if self._forward_mode:
            try:
                return self._forward_derivative(batch, direction)
            except NotImplementedError as error:
                self._forward_mode = False
                logger.info("No forward-mode rule (%s): encodings use per-word backward passes.", error)
        return torch.stack([self._backward_derivative(word, direction) for word in words])

    def _forward_derivative(self, batch: WordBatch, direction: Tensor) -> Tensor:
        tangents = {
            entry.name: entry.scatter(direction[place]).to(self.parameters[entry.name])
            for entry, place in self.mapping.slices()
        }
        primals = {name: parameter.detach() for name, parameter in self.parameters.items()}
        # Fused attention kernels have no forward-mode rule; the mathematical one does.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            jvp = torch.func.jvp(lambda values: self.scorer.log_probs(batch, values), (primals,), (tangents,))
        return jvp[1].float().cpu()

    def _backward_derivative(self, word: TokenizedWord, direction: Tensor) -> Tensor:
        gradient = self.gradients([word], [word], [Side.FACTUAL])[0]
        return -(gradient @ direction.to(gradient)).cpu()
