"""A causal language model with an auxiliary head, which predicts a word at a placeholder with context on both sides.

Files of a head:

    config.json         type, base_model (name or path), labels, stand_in, pooling_length
    model.safetensors   weight (n_labels, hidden_size) and bias (n_labels,)
    base_model/         the base model with its tokenizer, only where the base model has no name or path
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers.modeling_outputs import MaskedLMOutput
from typing_extensions import Self

from gradiend.gradients import Objective, TokenizedWord
from gradiend.gradients._tokens import Span
from gradiend.model._base_model import BaseDigest
from gradiend.model._checkpoint import refuse_other_model
from gradiend.model._checkpoint_files import CONFIG, FORMAT_VERSION, WEIGHTS, read_config, verify_files, write_config
from gradiend.model.core.backbone import get_backbone_module
from gradiend.objectives.loading import AutoModelForLM, save_base_model
from gradiend.util._tensor_files import read_tensors, write_tensors
from gradiend.util.paths import MLM_HEAD, OWN_BASE_MODEL


class CausalWithHead(Objective):
    """The word is scored where it stands, and its one token is its number among the head's labels.

    A stand-in token is at the placeholder. Tokens after those that the head pools cannot influence a causal model at
    the placeholder, so they are cut off.

    Args:
        tokenizer, vocabulary_size: See `Objective`.
        stand_in: The token at the placeholder.
        labels: The head's words in lower case.
        pooling_length: Number of positions that the head pools.
        max_length: See `Objective`; a longer text keeps the left context that is nearest to the word.

    Raises TypeError for a slow tokenizer.
    """

    name = "causal with head"
    task = "text-generation"
    folder = MLM_HEAD

    def __init__(
        self, tokenizer: Any, stand_in: str, labels: Sequence[str], *, pooling_length: int, max_length: int,
        vocabulary_size: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tokenizer, max_length=max_length, vocabulary_size=vocabulary_size)
        self.stand_in_id = tokenizer.convert_tokens_to_ids(stand_in)
        self.pooling_length = pooling_length
        self._numbers = {label: number for number, label in enumerate(labels)}

    @classmethod
    def fits(cls, model: Any) -> bool:
        """See `Objective.fits`."""
        return isinstance(model, DecoderModelWithMLMHead)

    @classmethod
    def of_model(cls, model: Any, tokenizer: Any, *, max_length: int, vocabulary_size: int | None) -> Self:
        """See `Objective.of_model`."""
        return cls(
            tokenizer, model.stand_in, model.labels, pooling_length=model.pooling_length, max_length=max_length,
            vocabulary_size=vocabulary_size,
        )  # fmt: skip

    def save(self, model: Any, directory: Path) -> None:
        """See `Objective.save`."""
        model.head.save(directory)

    @classmethod
    def is_saved(cls, directory: str | Path) -> bool:
        """See `Objective.is_saved`."""
        config = Path(directory) / CONFIG
        return config.is_file() and read_config(Path(directory)).get("type") == MLM_HEAD

    @classmethod
    def base_of(cls, directory: str | Path) -> str:
        """See `Objective.base_of`."""
        own = Path(directory) / OWN_BASE_MODEL
        return str(own) if own.is_dir() else MLMHead.load(directory).base_model

    @classmethod
    def put_on(cls, base_model: Any, directory: str | Path) -> Any:
        """See `Objective.put_on`. Raises as `DecoderModelWithMLMHead.from_pretrained`."""
        return DecoderModelWithMLMHead.from_pretrained(directory, base_model=base_model)

    @property
    def unknown_id(self) -> None:
        """See `Objective.unknown_id`: words become numbers of labels."""

    def tokenize_known(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord]:
        """See `Objective.tokenize_known`: `tokenize` refuses every word that is no label."""
        return self.tokenize(masked_texts, words)

    def _remembered(self, masked_texts: Sequence[str], words: Sequence[str]) -> list[TokenizedWord | None]:
        unknown = sorted({word for word in words if word.lower() not in self._numbers})
        if unknown:
            raise ValueError(
                f"The auxiliary head does not know {', '.join(map(repr, unknown[:10]))}, only "
                f"{', '.join(list(self._numbers)[:10])}: train it on data that has these words."
            )
        return super()._remembered(masked_texts, words)

    def _written(self, word: str) -> str:
        """Always the same word, so that the input does not tell the word."""
        del word
        return next(iter(self._numbers))

    def _word(self, span: Span, word: str) -> TokenizedWord:
        after = [*span.ids[span.end :], *span.suffix][: self.pooling_length - 1]
        context = self._nearest([*span.prefix, *span.ids[: span.start]], self.max_length - 1 - len(after))
        return TokenizedWord((*context, self.stand_in_id, *after), (len(context),), (self._numbers[word.lower()],))

    def _nearest(self, context: list[int], room: int) -> list[int]:
        """The last `room` tokens; a leading BOS token stays in front."""
        if len(context) <= room:
            return context
        first = context[:1] if context[0] == self.tokenizer.bos_token_id else []
        return [*first, *context[len(context) - room + len(first) :]]


def stand_in_token(tokenizer: Any) -> str:
    """The token that stands for the placeholder: mask, else unknown, else end token. Raises ValueError without any."""
    for token in (tokenizer.mask_token, tokenizer.unk_token, tokenizer.eos_token):
        if token is not None:
            return str(token)
    raise ValueError(
        f"{type(tokenizer).__name__} has no mask, unknown or end token to stand at the placeholder: "
        "set tokenizer.mask_token to a token of its vocabulary."
    )


@dataclass(frozen=True)
class MLMHead:
    """A linear classifier of the word at a placeholder, on pooled hidden states of a causal model."""

    base_model: str
    """Name or path of the causal model that the head was trained on; empty if that model has neither."""
    labels: tuple[str, ...]
    """The words in lower case; logit i belongs to labels[i]."""
    stand_in: str
    """The token at the placeholder."""
    pooling_length: int
    """Number of hidden states that are averaged, from the placeholder on."""
    weight: Tensor
    """Weight of the classifier, (n_labels, hidden_size)."""
    bias: Tensor
    """Bias of the classifier, (n_labels,)."""

    def save(self, directory: str | Path) -> None:
        """Write weights and config; config.json comes last, so a directory with one is complete."""
        tensors = {"weight": self.weight, "bias": self.bias}
        write_tensors(Path(directory) / WEIGHTS, tensors)
        content: dict[str, Any] = {"format_version": FORMAT_VERSION, "type": MLM_HEAD}
        fields = [field.name for field in dataclasses.fields(self) if field.name not in tensors]
        write_config(Path(directory), {**content, **{name: vars(self)[name] for name in fields}})

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """The head that `save` wrote.

        Raises FileNotFoundError if the directory holds no head, and ValueError, which names the file, for a damaged
        file or weights that do not fit the labels.
        """
        if not CausalWithHead.is_saved(directory):
            raise FileNotFoundError(f"{directory} holds no auxiliary head: train one with train_mlm_head.")
        config, tensors = read_config(Path(directory)), read_tensors(Path(directory) / WEIGHTS)
        verify_files(Path(directory), config, [WEIGHTS])
        missing = [key for key in ("base_model", "labels", "stand_in", "pooling_length") if key not in config]
        missing += [name for name in ("weight", "bias") if name not in tensors]
        if missing:
            raise ValueError(f"The auxiliary head in {directory} lacks {', '.join(missing)}: train it again.")
        head = cls(
            config["base_model"], tuple(config["labels"]), config["stand_in"], config["pooling_length"],
            tensors["weight"], tensors["bias"],
        )  # fmt: skip
        if len(head.weight) != len(head.labels) or head.bias.shape != head.weight.shape[:1]:
            raise ValueError(
                f"{Path(directory) / WEIGHTS} holds a weight of shape {tuple(head.weight.shape)} and a bias of shape "
                f"{tuple(head.bias.shape)}, but {CONFIG} names {len(head.labels)} labels."
            )
        return head


class ModelWithHead(nn.Module):
    """A base model with another head, which an objective trains through.

    The parameters are those of the base model, shared with it and under the same names, so one parameter map fits both
    models. The weights of the head are buffers: they are neither learned from nor rewritten.

    Args:
        base_model: A model of transformers.
    """

    def __init__(self, base_model: Any) -> None:
        super().__init__()
        for name, child in base_model.named_children():
            self.add_module(name, child)
        # As a submodule, the base model would put its name before every parameter.
        object.__setattr__(self, "_original", base_model)
        # A call of train(…) would also change the modes of the base model's modules.
        self.training = base_model.training

    def to_original_model(self) -> Any:
        """The base model, which shares its parameters with this one."""
        return self.__dict__["_original"]

    @property
    def config(self) -> Any:
        """The config of the base model."""
        return self.to_original_model().config

    @property
    def name_or_path(self) -> str:
        """Name or path of the base model."""
        return str(self.to_original_model().name_or_path)

    @property
    def device(self) -> torch.device:
        """The device where inputs have to be."""
        return next(self.parameters()).device


class DecoderModelWithMLMHead(ModelWithHead):
    """A causal model with an auxiliary masked-LM head, whose gradients reach the causal model's own parameters.

    The head is linear on the mean of the last hidden states at the placeholder and the `pooling_length` − 1 positions
    after it. The state at the placeholder knows the left context only; the later states know some of the right context.

    Args:
        base_model: A causal language model of transformers.
        head: A head for hidden states of the model's width.

    Raises ValueError for a head for hidden states of another width.
    """

    mlm_head_weight: Tensor
    mlm_head_bias: Tensor

    def __init__(self, base_model: Any, head: MLMHead) -> None:
        super().__init__(base_model)
        width = base_model.get_output_embeddings().weight.shape[1]
        if head.weight.shape[1] != width:
            raise ValueError(
                f"The auxiliary head reads hidden states of width {head.weight.shape[1]}, but "
                f"{base_model.name_or_path or type(base_model).__name__} has width {width}: it was trained for "
                f"{head.base_model or 'another model'}."
            )
        self.labels = head.labels
        self.stand_in = head.stand_in
        self.pooling_length = head.pooling_length
        self.register_buffer("mlm_head_weight", head.weight)
        self.register_buffer("mlm_head_bias", head.bias)

    @property
    def head(self) -> MLMHead:
        """The head in the form that can be saved."""
        return MLMHead(
            self.name_or_path, self.labels, self.stand_in, self.pooling_length, self.mlm_head_weight,
            self.mlm_head_bias,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """The settings of the head, for `repr`."""
        return f"labels={self.labels}, stand_in={self.stand_in!r}, pooling_length={self.pooling_length}"

    def pooled(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The vector that the head reads at every position: (B, L, hidden_size), float32 or wider.

        Args:
            input_ids: The tokens, (B, L).
            attention_mask: 1 where a token is attended to, (B, L). Only attended positions are averaged.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        backbone = get_backbone_module(self.to_original_model())
        hidden = backbone(input_ids=input_ids, attention_mask=mask, use_cache=False).last_hidden_state
        # The last layer of a model on several devices may be on another one than the input.
        return mean_of_following(hidden.to(input_ids.device), mask, self.pooling_length)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> MaskedLMOutput:
        """Logits of the labels at every position, (B, L, n_labels)."""
        pooled = self.pooled(input_ids, attention_mask)
        return MaskedLMOutput(logits=linear(pooled, self.mlm_head_weight.to(pooled), self.mlm_head_bias.to(pooled)))

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save the head with the causal model's name or path; a model without either is saved in a subdirectory.

        Args:
            save_directory: The directory, which is created if it is missing.
            **kwargs: Arguments of transformers' `save_pretrained`, if the causal model is saved.

        Raises ValueError if the directory holds a model of transformers.
        """
        refuse_other_model(save_directory, "an auxiliary head")
        if not self.name_or_path:
            save_base_model(self.to_original_model(), Path(save_directory) / OWN_BASE_MODEL, **kwargs)
        BaseDigest.of(self.to_original_model()).save(save_directory)
        self.head.save(save_directory)

    @classmethod
    def from_pretrained(cls, load_directory: str | Path, *, base_model: Any = None, **kwargs: Any) -> Self:
        """The model that `save_pretrained` wrote.

        Args:
            load_directory: The directory of the head.
            base_model: The causal model. Default: the model whose name or path the head's config has.
            **kwargs: Arguments of `AutoModelForLM.from_pretrained` (torch_dtype, trust_remote_code).

        Raises:
            FileNotFoundError: The directory holds no head.
            ValueError: A head that does not fit the model, or a model with other weights than the head was trained on.
        """
        head = MLMHead.load(load_directory)
        if base_model is None:
            base_model = AutoModelForLM.from_pretrained(CausalWithHead.base_of(load_directory), **kwargs)
        trained_on = BaseDigest.load(load_directory)
        if trained_on is not None and BaseDigest.of(base_model).differences(trained_on):
            raise ValueError(
                f"The auxiliary head in {load_directory} was trained on other weights than those of "
                f"{base_model.name_or_path or type(base_model).__name__}: give the model that it was trained on as "
                "base_model=, or train it again on this one."
            )
        return cls(base_model, dataclasses.replace(head, base_model=str(base_model.name_or_path)))


def mean_of_following(hidden: Tensor, mask: Tensor, length: int) -> Tensor:
    """The mean of `hidden` (B, L, H) over the attended positions (`mask`) i, …, i + length − 1; float32 or wider."""
    hidden = hidden.float() if hidden.dtype.itemsize < 4 else hidden
    weights = mask.to(hidden).unsqueeze(-1)
    n_positions = hidden.shape[1]
    ahead = (0, 0, 0, length - 1)
    states, counts = pad(hidden * weights, ahead), pad(weights, ahead)
    total = torch.stack([states[:, i : i + n_positions] for i in range(length)]).sum(0)
    number = torch.stack([counts[:, i : i + n_positions] for i in range(length)]).sum(0)
    return total / number.clamp(min=1)


def with_saved_head(model: Any, directory: str) -> Any:
    """The object or place that a training loads in place of a base model for which `directory` holds a head.

    For an instance, the result is the instance with the head; for a name or path, it is the directory. Raises
    ValueError if the head was trained for another model.
    """
    if not isinstance(model, (str, Path)):
        plain = model.to_original_model() if CausalWithHead.fits(model) else model
        return CausalWithHead.put_on(plain, directory)
    trained_for = CausalWithHead.base_of(directory)
    # A relative path and an absolute path may mean the same folder.
    if str(model) != trained_for and Path(model).resolve() != Path(trained_for).resolve():
        raise ValueError(
            f"The auxiliary head in {directory} was trained for {trained_for}, not for {model}: train it again "
            "(train_decoder_only_mlm_head), remove it, or use another experiment_dir."
        )
    return directory
