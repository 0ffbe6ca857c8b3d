"""A language model with its tokenizer and its GRADIEND."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel
from typing_extensions import Self

from gradiend.gradients.probe import unreached_parameters
from gradiend.gradients.words import WordTokenizer
from gradiend.model.base_digest import BaseDigest
from gradiend.model.core.backbone import (
    as_patterns,
    build_gradiend_from_base_model,
    select_parameters,
    split_backbone_vs_head_params,
)
from gradiend.model.kinds import (
    is_decoder_only_model,
    refuse_absent_weights,
    refuse_other_vocabulary,
    refuse_undefined_weights,
    refuse_unsupported,
    vocabulary_size,
)
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.parameter_map import ParameterMap
from gradiend.trainer.text.common.instruct import InstructTokenizerWrapper
from gradiend.trainer.text.common.loading import AutoModelForLM, AutoTokenizerForLM, save_base_model
from gradiend.util._digest import tokenizer_digest
from gradiend.util.dtypes import parse_dtype
from gradiend.util.logging import get_logger
from gradiend.util.paths import OWN_BASE_MODEL, OWN_TOKENIZER
from gradiend.util.placeholder import PLACEHOLDER

logger = get_logger(__name__)

INSTRUCT = "instruct"
"""Key of a checkpoint's metadata: the roles of an `InstructTokenizerWrapper`."""
LARGEST_STORED = 2 * 2**30
"""Bytes of a base model that a checkpoint may hold."""

T = TypeVar("T")

MAX_LENGTH = 256
"""Longest input in tokens, unless the model takes less."""

PROBE_TEXT = f"a {PLACEHOLDER} b"


class TextModelWithGradiend(ModelWithGradiend):
    """`ModelWithGradiend` of a masked or causal language model.

    Args:
        base_model: The language model, with its head.
        gradiend: Its GRADIEND.
        tokenizer: The model's fast tokenizer.
        gradient_creator: See `ModelWithGradiend`.
        source: See `ModelWithGradiend`.
        target: See `ModelWithGradiend`.
        **kwargs: Devices, see `ModelWithGradiend`.

    Raises:
        ValueError: A masked model with a tokenizer that has no mask token.
        TypeError: A slow tokenizer.
    """

    def __init__(
        self,
        base_model: Any,
        gradiend: ParamMappedGradiendModel,
        tokenizer: Any,
        gradient_creator: Any = None,
        source: str = "factual",
        target: str | None = "diff",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            base_model, gradiend, gradient_creator=gradient_creator, source=source, target=target, **kwargs
        )
        self.tokenizer = tokenizer
        self.words = word_tokenizer(base_model, tokenizer)

    @property
    def is_decoder_only_model(self) -> bool:
        """Whether the base model predicts from the left context only."""
        return is_decoder_only_model(self.base_model)

    @property
    def pad_token_id(self) -> int:
        """For padding on the right, which is masked out: any id does where the tokenizer has none."""
        return padding_id(self.tokenizer)

    def base_arguments(self) -> dict[str, Any]:
        """See `ModelWithGradiend.base_arguments`; the tokenizer is this model's too."""
        return {**super().base_arguments(), "tokenizer": self.tokenizer}

    def _save_model(self, save_directory: str, **kwargs: Any) -> None:
        """Name the base model where its name loads it and the tokenizer again, and store what differs."""
        del kwargs
        own, own_tokenizer = Path(save_directory) / OWN_BASE_MODEL, Path(save_directory) / OWN_TOKENIZER
        for path in (own, own_tokenizer):
            # That of an earlier model in the same place is not this one's.
            shutil.rmtree(path, ignore_errors=True)
        tokenizer = unwrapped(self.tokenizer)
        if self._stores_base():
            save_base_model(self.base_model, own)
            tokenizer.save_pretrained(own)
        elif self._loads(f"tokenizer of {self._recorded_base}", self._tokenizer_by_name) != tokenizer_digest(tokenizer):
            tokenizer.save_pretrained(own_tokenizer)
        recorded = self.gradiend.kwargs
        recorded["tokenizer"] = tokenizer.name_or_path
        recorded["base_model_dtype"] = str(next(self.base_model.parameters()).dtype).removeprefix("torch.")
        recorded.pop(INSTRUCT, None)
        if tokenizer is not self.tokenizer:
            recorded[INSTRUCT] = [self.tokenizer.user_prompt_header, self.tokenizer.assistant_prompt_header]

    def _stores_base(self) -> bool:
        """Whether a checkpoint needs the base model's weights: no name loads them, and they are not too large."""
        name, now = self._recorded_base, self._base_digest()
        size = sum(parameter.numel() * parameter.element_size() for parameter in self.base_model.parameters())
        if size <= LARGEST_STORED:
            there = self._loads(name, self._base_by_name) if name else None
            return there is None or bool(now.differences(there))
        # Another model of this size is not loaded for a comparison: loading the checkpoint compares.
        there = self._loaded.get(name)
        if not name or (there is not None and now.differences(there)):
            logger.warning(
                "The base model in memory is not what %s loads, and with %.1f GiB it is too large to be kept beside a "
                "GRADIEND: save it yourself, and load the GRADIEND with base_model=<its place>.",
                name or "a name", size / 2**30,
            )  # fmt: skip
        return False

    def _base_by_name(self) -> BaseDigest:
        dtype = next(self.base_model.parameters()).dtype
        return BaseDigest.of(
            AutoModelForLM.from_pretrained(self._recorded_base, torch_dtype=dtype, local_files_only=True)
        )

    def _tokenizer_by_name(self) -> str:
        """Of the base model's name, not of the tokenizer's own: that may be a folder of another checkpoint's."""
        return tokenizer_digest(AutoTokenizerForLM.from_pretrained(self._recorded_base, local_files_only=True))

    def _loads(self, name: str, load: Callable[[], T]) -> T | None:
        """What a name or path gives, asked once; None where it gives nothing on this machine."""
        if name not in self._loaded:
            try:
                self._loaded[name] = load()
            except (OSError, ValueError, RuntimeError):
                self._loaded[name] = None
        return self._loaded[name]

    @classmethod
    def _from_checkpoint(
        cls, directory: Path, base_model: Any, shape: Mapping[str, Any], load_arguments: Mapping[str, Any]
    ) -> Self:
        own = [directory / name for name in (OWN_TOKENIZER, OWN_BASE_MODEL) if (directory / name).is_dir()]
        if own and load_arguments.get("tokenizer") is None:
            load_arguments = {**load_arguments, "tokenizer": own[0]}
        return super()._from_checkpoint(directory, base_model, shape, load_arguments)

    @classmethod
    def _load_model(
        cls,
        load_directory: Any,
        base_model_id: str | None = None,
        gradiend_kwargs: Mapping[str, Any] | None = None,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """(base model, tokenizer) of a checkpoint, a name or path, or a model that is already loaded."""
        recorded = gradiend_kwargs or {}
        wanted = kwargs.pop("base_model_dtype", None)
        if wanted is None and not isinstance(load_directory, nn.Module):
            wanted = recorded.get("base_model_dtype")
        if wanted is not None:
            kwargs["torch_dtype"] = parse_dtype("base_model_dtype", wanted)
        if isinstance(load_directory, nn.Module):
            model, name = load_directory, str(load_directory.name_or_path)
            dtype = next(model.parameters()).dtype
            if dtype != kwargs.get("torch_dtype", dtype):
                raise ValueError(
                    f"base_model_dtype={kwargs['torch_dtype']} is for models that are loaded, and this one is here "
                    f"already, in {dtype}: convert it with model.to({kwargs['torch_dtype']}), or give its name or path."
                )
        else:
            own = Path(load_directory) / OWN_BASE_MODEL
            name = str(own) if own.is_dir() else (base_model_id or str(load_directory))
            model = AutoModelForLM.from_pretrained(name, trust_remote_code=trust_remote_code, **kwargs)
        refuse_absent_weights(model)
        refuse_undefined_weights(model)
        if tokenizer is None or isinstance(tokenizer, (str, Path)):
            saved = recorded.get("tokenizer")
            place = tokenizer or (saved if saved and Path(saved).exists() else name)
            try:
                tokenizer = AutoTokenizerForLM.from_pretrained(place, trust_remote_code=trust_remote_code)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"No tokenizer of the {type(model).__name__} can be loaded from {str(place)!r}: {error} "
                    "Or give it: ModelWithGradiend.from_pretrained(model, tokenizer=tokenizer), and for a training "
                    "what that returns."
                ) from error
            if INSTRUCT in recorded:
                tokenizer = InstructTokenizerWrapper(tokenizer, *recorded[INSTRUCT])
        return model, tokenizer

    @classmethod
    def _gradiend_arguments(cls, shape: Mapping[str, Any], extra: Sequence[Any]) -> dict[str, Any]:
        return {**shape, "tokenizer": extra[0]}

    @classmethod
    def _create_gradiend(
        cls, base_model: Any, load_directory: str, tokenizer: Any = None, **kwargs: Any
    ) -> ParamMappedGradiendModel:
        """A new GRADIEND over what a loss of the base model can reach (see `reachable_map`)."""
        if not isinstance(kwargs.get("param_map"), (Mapping, ParameterMap)):
            named = kwargs.pop("param_map", None)
            kwargs["param_map"] = reachable_map(
                base_model, tokenizer, params=kwargs.pop("params", None), param_map=named
            )
        return build_gradiend_from_base_model(base_model, load_directory, **kwargs)


def unwrapped(tokenizer: Any) -> Any:
    """The tokenizer inside an `InstructTokenizerWrapper`; any other as it is."""
    return tokenizer.tokenizer if isinstance(tokenizer, InstructTokenizerWrapper) else tokenizer


def padding_id(tokenizer: Any) -> int:
    """The tokenizer's padding id, or 0: padded positions are masked out, so any id gives the same numbers."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0


def word_tokenizer(base_model: Any, tokenizer: Any, max_length: int = MAX_LENGTH) -> WordTokenizer:
    """The `WordTokenizer` of a language model, within the longest input that model and tokenizer allow.

    Raises:
        ValueError: An encoder–decoder model, one that reads images or has no head, or two, a masked one without mask
            token, weights that are not in memory, or a tokenizer with tokens that the model has no embeddings for.
        TypeError: A slow tokenizer.
    """
    if isinstance(base_model, PreTrainedModel):
        name = type(base_model).__name__
        if base_model.get_output_embeddings() is None:
            raise ValueError(
                f"{name} has no language-modelling head: load the model with AutoModelForMaskedLM or "
                "AutoModelForCausalLM."
            )
        if name.endswith("ForPreTraining"):
            raise ValueError(
                f"{name} has a second head beside that for language modelling: load the model with "
                "AutoModelForMaskedLM, which leaves that out."
            )
    refuse_unsupported(base_model.config, base_model.name_or_path or "The base model", type(base_model).__name__)
    refuse_absent_weights(base_model)
    refuse_other_vocabulary(base_model, tokenizer)
    causal = is_decoder_only_model(base_model)
    if not causal and base_model.config.to_dict().get("is_decoder"):
        raise ValueError(
            f"{type(base_model).__name__} is a masked model that attends to the left only, since its config says "
            "is_decoder=True: load it with is_decoder=False, or with AutoModelForCausalLM if it was trained so."
        )
    limit = min(max_length, tokenizer.model_max_length, position_limit(base_model) or max_length)
    return WordTokenizer(tokenizer, causal=causal, max_length=limit, vocabulary_size=vocabulary_size(base_model))


def position_limit(base_model: Any) -> int | None:
    """The most tokens that the model has positions for; None if its config sets no limit."""
    config = base_model.config
    limit = config.to_dict().get(config.attribute_map.get("max_position_embeddings", "max_position_embeddings"))
    for name, module in base_model.named_modules():
        # RoBERTa and its relatives count positions from padding_idx + 1: with 514 of them, 512 tokens fit.
        is_table = name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
        if is_table and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return limit


def reachable_map(base_model: Any, tokenizer: Any, *, params: Any = None, param_map: Any = None) -> ParameterMap:
    """The map of the backbone parameters, or of those asked for, without any that no gradient reaches.

    Raises:
        ValueError: A parameter that was asked for without a wildcard is one that no gradient reaches, or all are.
    """
    mapping = select_parameters(base_model, params, param_map)
    backbone, _ = split_backbone_vs_head_params(base_model)
    probe = word_tokenizer(base_model, tokenizer)([PROBE_TEXT], ["c"])
    unreached = unreached_parameters(
        base_model,
        {entry.name: backbone[entry.name] for entry in mapping},
        probe,
        causal=is_decoder_only_model(base_model),
        pad_token_id=padding_id(tokenizer),
    )
    asked = {name for patterns in (params, param_map) if patterns is not None for name in as_patterns(patterns)}
    if asked & set(unreached) or len(unreached) == len(mapping):
        bad = sorted(asked & set(unreached)) or unreached
        raise ValueError(f"No gradient ever reaches {', '.join(bad)}: leave it out of params and param_map.")
    if unreached:
        logger.info("Left out of the map, since no gradient reaches them: %s", ", ".join(unreached))
    return ParameterMap([entry for entry in mapping if entry.name not in unreached])
