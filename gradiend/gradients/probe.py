"""Which parameters a word's loss never reaches: poolers, and whatever else the head does not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from gradiend.gradients.batch import collate
from gradiend.gradients.scorer import WordScorer
from gradiend.gradients.state import differentiating, hand_over_gradients, measurement_mode
from gradiend.gradients.words import TokenizedWord


def unreached_parameters(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    words: Sequence[TokenizedWord],
    *,
    causal: bool,
    pad_token_id: int,
) -> list[str]:
    """Names of the `parameters` that the loss of `words`, a small probe batch, does not depend on."""
    scorer = WordScorer(model, causal=causal)
    unreached = dict.fromkeys(parameters)
    with measurement_mode(model), differentiating(model, list(parameters.values())):
        loss = scorer.log_probs(collate(words, pad_token_id).to(scorer.device)).sum()
        hand_over_gradients(loss, parameters, lambda name, _: unreached.pop(name))
    return list(unreached)
