"""Training of the auxiliary masked-LM head of a causal model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from gradiend._version import __version__
from gradiend.gradients import TokenizedWord, batches_by_length, count_batches, measurement_mode
from gradiend.model._checkpoint import refuse_other_model
from gradiend.objectives.causal import is_decoder_only_model
from gradiend.objectives.causal_with_head import CausalWithHead, DecoderModelWithMLMHead, MLMHead, stand_in_token
from gradiend.objectives.loading import load_with_tokenizer
from gradiend.objectives.registry import objective_of
from gradiend.util._cache import Cache
from gradiend.util._checks import frame_hint, require_finite, require_whole
from gradiend.util._digest import digest_frame, hash_model_weights
from gradiend.util._processes import by_first
from gradiend.util._progress import Progress
from gradiend.util.logging import get_logger
from gradiend.util.paths import OWN_BASE_MODEL

logger = get_logger(__name__)

MADE_FROM = "made_from.json"
"""The file beside a head that says what the head was trained on."""

FORWARD_BATCH_SIZE = 32
"""Texts per pass while hidden states are collected; it does not change the numbers."""


class DataFrameMLMDataset(Dataset[dict[str, Tensor]]):
    """Masked texts and their words, as an auxiliary head reads them.

    Args:
        data: A frame with the columns masked (with `[MASK]`) and label (the word).
        tokenizer: A fast tokenizer.
        labels: The head's words, in any case. Default: the distinct words of `data` in lower case, sorted.
        pooling_length: Number of positions that the head pools.
        max_length: Longest input in tokens.

    Raises TypeError for data that are no frame, and ValueError for a missing column, missing or empty entries, or fewer
    than two distinct words.
    """

    def __init__(
        self, data: pd.DataFrame, tokenizer: Any, labels: Sequence[str] | None = None, *, pooling_length: int = 3,
        max_length: int = 128,
    ) -> None:  # fmt: skip
        if not isinstance(data, pd.DataFrame):
            raise TypeError(
                f"The data of an auxiliary head must be a DataFrame of pandas; got {type(data).__name__}"
                + frame_hint(data, "pandas.DataFrame(…) makes one of a list of dicts.")
            )
        missing = [name for name in ("masked", "label") if name not in data]
        if missing:
            raise ValueError(
                f"The data of an auxiliary head lacks {', '.join(missing)}; it has {', '.join(map(str, data.columns))}."
            )
        if data[["masked", "label"]].isna().any(axis=None):
            raise ValueError("The data of an auxiliary head has empty entries in masked or label: drop these rows.")
        words = list(map(str, data["label"]))
        self.labels = tuple(dict.fromkeys(label.lower() for label in labels or sorted(set(map(str.lower, words)))))
        if len(self.labels) < 2:
            raise ValueError(f"An auxiliary head tells words apart: it needs two at least, got {list(self.labels)}.")
        self.stand_in = stand_in_token(tokenizer)
        self.objective = CausalWithHead(
            tokenizer, self.stand_in, self.labels, pooling_length=pooling_length, max_length=max_length
        )
        self.words = self.objective.tokenize(list(data["masked"]), words)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One row: input_ids, attention_mask and labels, each (L,); labels is −100 but at the placeholder."""
        return self.objective.inputs_of(self.words[index])


def train_mlm_head(
    base_model: Any, train_df: pd.DataFrame, output_path: str | Path, *, batch_size: int = 4, epochs: int = 5,
    lr: float = 1e-4, pooling_length: int = 3, max_length: int = 128, trust_remote_code: bool = False,
    tokenizer: Any = None, use_cache: bool | None = None,
) -> str:  # fmt: skip
    """Train an auxiliary masked-LM head on a frozen causal model, and save it.

    The causal model does not change, so its hidden states are computed once. The states are standardised for the
    optimizer, so that one step size fits any model, and the standardisation is folded into the saved weights.

    Args:
        base_model: Name, path or instance of a causal language model.
        train_df: A frame with the columns masked (with `[MASK]`) and label (the word at the placeholder).
        output_path: Directory of the head, see `DecoderModelWithMLMHead.from_pretrained`.
        batch_size: Rows per optimizer step.
        epochs: Passes over the rows.
        lr: Step size of Adam.
        pooling_length: Number of hidden states that are averaged, from the placeholder on.
        max_length: Longest input in tokens.
        trust_remote_code: Whether code from the hub may run.
        tokenizer: The tokenizer of the model. Default: the tokenizer that the model's name loads.
        use_cache: Whether a head in `output_path` is kept if it was trained on the same model, rows and numbers.

    Returns output_path. Raises TypeError for an argument of another type, and ValueError for a masked language model, a
    number below 1, data that cannot be trained on, or a directory that holds a model of transformers.
    """
    require_finite("lr", lr, 0)
    require_whole("max_length", max_length, 1)
    numbers = {"batch_size": batch_size, "epochs": epochs, "pooling_length": pooling_length}
    for name, value in numbers.items():
        require_whole(name, value, None)
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}.")
    refuse_other_model(output_path, "an auxiliary head")
    model, tokenizer = load_with_tokenizer(base_model, tokenizer, trust_remote_code=trust_remote_code)
    if not is_decoder_only_model(model):
        raise ValueError(
            f"{model.name_or_path or type(model).__name__} is a masked language model, which predicts words at a "
            "placeholder by itself: it needs no auxiliary head, so train on it directly."
        )
    limit = objective_of(model, tokenizer, max_length=max_length).max_length
    data = DataFrameMLMDataset(train_df, tokenizer, pooling_length=pooling_length, max_length=limit)
    rows = digest_frame(train_df[["masked", "label"]])
    made_from = {"version": __version__, "model": hash_model_weights(model), "rows": rows}
    cache = Cache(Path(output_path) / MADE_FROM, {**made_from, **numbers, "lr": lr, "max_length": limit})
    if use_cache and CausalWithHead.is_saved(output_path):
        known, other = cache.read()
        if known is not None:
            logger.info("The auxiliary head in %s was trained on the same model and rows: it is kept.", output_path)
            return str(output_path)
        logger.info("The auxiliary head is trained again: %s.", "; ".join(other) or "it does not say what it is from")
    width = model.get_output_embeddings().weight.shape[1]
    n_labels = len(data.labels)
    empty = MLMHead(
        str(model.name_or_path), data.labels, data.stand_in, pooling_length, torch.zeros(n_labels, width),
        torch.zeros(n_labels),
    )  # fmt: skip
    with_head = DecoderModelWithMLMHead(model, empty)
    features = pooled_states(with_head, data.words, data.objective.pad_token_id)
    targets = torch.tensor([word.tokens[0] for word in data.words])
    weight, bias = fit_linear(features, targets, n_labels, batch_size=batch_size, epochs=epochs, lr=lr)
    accuracy = float(((features @ weight.T + bias).argmax(1) == targets).float().mean())
    logger.info(
        "The auxiliary head predicts %.1f %% of its %d training words (%d different ones).",
        100 * accuracy, len(data), n_labels,
    )  # fmt: skip
    with_head.mlm_head_weight, with_head.mlm_head_bias = weight, bias
    # If the process ends before the last line, the new head must not be taken for one of the older head's rows.
    cache.forget()
    with_head.save_pretrained(output_path)
    cache.write({})
    if not model.name_or_path:
        by_first(tokenizer.save_pretrained)(Path(output_path) / OWN_BASE_MODEL)
    return str(output_path)


@torch.no_grad()
def pooled_states(model: DecoderModelWithMLMHead, words: Sequence[TokenizedWord], pad_token_id: int) -> Tensor:
    """The vector that the head reads at the placeholder of each word: (N, hidden_size), float32 on the CPU."""
    result = torch.empty(len(words), model.mlm_head_weight.shape[1])
    batches = batches_by_length(words, FORWARD_BATCH_SIZE, pad_token_id)
    total = count_batches(words, FORWARD_BATCH_SIZE)
    with measurement_mode(model), Progress("hidden states", total, "batch", brief=True) as bar:
        for indices, batch in bar.over(batches):
            batch = batch.to(model.device)  # noqa: PLW2901 - the same batch
            states = model.pooled(batch.input_ids, batch.attention_mask)[batch.site_rows, batch.site_positions]
            result[indices] = states[batch.score_sites].float().cpu()
    return result


@torch.enable_grad()
def fit_linear(
    features: Tensor, targets: Tensor, n_labels: int, *, batch_size: int, epochs: int, lr: float
) -> tuple[Tensor, Tensor]:
    """A linear classifier, trained by Adam on the cross entropy, always with the same order of rows.

    `features` are (N, H), `targets` (N,) numbers below `n_labels`; `lr` is for features of unit variance. The result,
    weight (n_labels, H) and bias (n_labels,), is for the features as they are given.
    """
    mean = features.mean(0)
    scale = features.std(0, correction=0).clamp(min=1e-6)
    rows = (features - mean) / scale
    layer = nn.Linear(features.shape[1], n_labels)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(0)
    with Progress("training the head", epochs, "epoch", brief=True) as bar:
        for _ in range(epochs):
            for chosen in torch.randperm(len(rows), generator=generator).split(batch_size):
                loss = nn.functional.cross_entropy(layer(rows[chosen]), targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            bar.advance(1, f"loss {loss.item():.3g}")
    weight = layer.weight.detach() / scale
    return weight, layer.bias.detach() - weight @ mean
