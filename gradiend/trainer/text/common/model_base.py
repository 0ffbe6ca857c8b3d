"""A language model with its tokenizer and its GRADIEND."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn
from typing_extensions import Self

from gradiend.gradients import unreached_parameters
from gradiend.model._adapters import ADAPTER, adapter_name, is_adapted, name_under_adapter, without_adapter
from gradiend.model._architecture import parse_dtype
from gradiend.model._base_model import BASE_REVISION, GRADIEND_ARGUMENTS, BaseDigest
from gradiend.model._checkpoint_files import FOLDERS, remove_model
from gradiend.model._parameter_map import ParameterMap
from gradiend.model._quantized import QUANTIZATION, as_config, float_dtype, quantization_of_model
from gradiend.model.core import backbone
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.objectives import (
    OBJECTIVES,
    CausalWithHead,
    Objective,
    is_decoder_only_model,
    kind_of,
    objective_of,
    wanted_kind,
)
from gradiend.objectives.loading import AutoModelForLM, AutoTokenizerForLM, load_with_tokenizer, save_base_model
from gradiend.trainer.core.feature_definition import original_model
from gradiend.trainer.text.common._instruct import InstructTokenizerWrapper
from gradiend.util import PLACEHOLDER
from gradiend.util._digest import cached_revision, tokenizer_digest
from gradiend.util._files import weights_size
from gradiend.util._isolation import exclusive
from gradiend.util._keywords import resolve_keywords
from gradiend.util._processes import by_first
from gradiend.util.logging import get_logger
from gradiend.util.paths import OWN_BASE_MODEL, OWN_TOKENIZER

logger = get_logger(__name__)

INSTRUCT = "instruct"
"""Key of a checkpoint's metadata: the roles of an `InstructTokenizerWrapper`."""
OBJECTIVE = "objective"
"""Key of a checkpoint's metadata: the objective's name, where the user has named it."""
LARGEST_STORED = 2 * 2**30
"""Bytes of a base model that a checkpoint may hold."""

T = TypeVar("T")

PROBE_TEXT = f"a {PLACEHOLDER} b"


word_tokenizer = objective_of
"""The former name of `objective_of`."""


class TextModelWithGradiend(ModelWithGradiend):
    """`ModelWithGradiend` of a language model.

    The base model may exist for training only; such a model has `to_original_model`, as a `DecoderModelWithMLMHead`
    does. Its loss then gives the gradients and encodings, while the original model is what is rewritten. A checkpoint
    names the original model and keeps what the objective needs beside it.

    Args:
        base_model: The language model, with its head, or a model with an objective of its own (`gradiend.objectives`).
        gradiend: The GRADIEND of the model; its metadata may name the objective.
        tokenizer: The model's fast tokenizer.
        gradient_creator, source, target: See `ModelWithGradiend`.
        **kwargs: Devices of the parts, see `ModelWithGradiend`.

    Raises:
        ValueError: A masked model with a tokenizer that has no mask token.
        TypeError: A slow tokenizer.
    """

    def __init__(
        self, base_model: Any, gradiend: ParamMappedGradiendModel, tokenizer: Any, gradient_creator: Any = None,
        source: str = "factual", target: str | None = "diff", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            base_model, gradiend, gradient_creator=gradient_creator, source=source, target=target, **kwargs
        )
        self.tokenizer = tokenizer
        self.objective = objective_of(base_model, tokenizer, gradiend.kwargs.get(OBJECTIVE))

    @property
    def words(self) -> Objective:
        """A second name of `objective`; called with masked texts and words, it gives their tokens."""
        return self.objective

    @property
    def task(self) -> str | None:
        """See `ModelWithGradiend.task`."""
        return self.objective.task

    @property
    def is_decoder_only_model(self) -> bool:
        """Whether the base model predicts from the left context only."""
        return is_decoder_only_model(self.base_model)

    def without_head(self) -> Self:
        """A copy around the original model with the same GRADIEND, or this model if its base model is the original."""
        plain = original_model(self.base_model)
        return self if plain is self.base_model else self._sharing(plain, self.gradiend)

    def _sharing(self, base_model: Any, gradiend: ParamMappedGradiendModel) -> Self:
        model = super()._sharing(base_model, gradiend)
        if base_model is not self.base_model:
            # The name that the user gave belongs to this kind of model, and not to the model without its head.
            named = gradiend.kwargs.get(OBJECTIVE) if type(base_model) is type(self.base_model) else None
            model.objective = objective_of(base_model, self.tokenizer, named)
        return model

    def _for_rewriting(self) -> Self:
        return self.without_head()

    def base_arguments(self) -> dict[str, Any]:
        """See `ModelWithGradiend.base_arguments`; another checkpoint also gets this model's tokenizer."""
        return {**super().base_arguments(), "tokenizer": self.tokenizer}

    def _save_model(self, save_directory: str, **kwargs: Any) -> None:
        """Record the name of the base model, and store the base model or tokenizer if the name loads others."""
        del kwargs
        own, own_tokenizer = Path(save_directory) / OWN_BASE_MODEL, Path(save_directory) / OWN_TOKENIZER
        for name in FOLDERS:
            # These folders may belong to an earlier model in the same place.
            remove_model(Path(save_directory) / name)
        if self.objective.folder is not None:
            self.objective.save(self.base_model, Path(save_directory) / self.objective.folder)
        wrapped = isinstance(self.tokenizer, InstructTokenizerWrapper)
        tokenizer = self.tokenizer.tokenizer if wrapped else self.tokenizer
        plain = original_model(self.base_model)
        if self._stores_base():
            save_base_model(plain, own, base=self._name_under_adapter(plain))
            by_first(tokenizer.save_pretrained)(own)
        elif self._loads(f"tokenizer of {self._recorded_base}", self._tokenizer_by_name) != tokenizer_digest(tokenizer):
            by_first(tokenizer.save_pretrained)(own_tokenizer)
        recorded = self.gradiend.kwargs
        recorded["tokenizer"] = tokenizer.name_or_path
        recorded["base_model_dtype"] = str(float_dtype(self.base_model)).removeprefix("torch.")
        quantization, adapter = quantization_of_model(plain), adapter_name(plain) if is_adapted(plain) else None
        revision = None if own.is_dir() else self._base_revision()
        roles = [self.tokenizer.user_prompt_header, self.tokenizer.assistant_prompt_header] if wrapped else None
        own_facts = {QUANTIZATION: quantization, ADAPTER: adapter, BASE_REVISION: revision, INSTRUCT: roles}
        for name, value in own_facts.items():
            recorded.pop(name, None)
            if value is not None:
                recorded[name] = value

    def _stores_base(self) -> bool:
        """Whether a checkpoint must hold the base model's weights: no name loads them, and they are not too large."""
        name, now = self._recorded_base, self._base_digest()
        size = weights_size(self.base_model)
        if size <= LARGEST_STORED:
            there = self._loads(name, lambda: self._digest_by_name(name)) if name else None
            return there is None or bool(now.differences(there))
        # A model of this size is not loaded again for a comparison; loading the checkpoint compares the weights.
        there = self._loaded.get(name)
        differs = there is not None and bool(now.differences(there))
        if self._name_under_adapter(original_model(self.base_model)) is not None:
            # Of a model with an adapter, only the adapter is stored, which is small.
            return there is None or differs
        if not name or differs:
            logger.warning(
                "The base model in memory is not what %s loads, and with %.1f GiB it is too large to be kept beside a "
                "GRADIEND: save the base model yourself, and load the GRADIEND with base_model=<its place>.",
                name or "a name", size / 2**30,
            )  # fmt: skip
        return False

    def _name_under_adapter(self, plain: Any) -> str | None:
        """The name or path that loads the model under an adapter (PEFT); None if none does, or without an adapter."""
        name = name_under_adapter(plain) if is_adapted(plain) else None
        if name is None:
            return None
        if weights_size(plain) > LARGEST_STORED:
            return name
        there = self._loads(f"model under the adapter: {name}", lambda: self._digest_by_name(name))
        return name if there is not None and not BaseDigest.of(without_adapter(plain)).differences(there) else None

    def _base_revision(self) -> str | None:
        """The commit of the hub that the base model, or its adapter, is loaded from; None for one from elsewhere.

        Of a model that was given as an instance, only the name is known: then the commit of that name in the cache.
        """
        name = self._recorded_base
        return None if Path(name).exists() else self._recorded_revision or cached_revision(name)

    def _digest_by_name(self, name: str) -> BaseDigest:
        plain = original_model(self.base_model)
        given: dict[str, Any] = {"torch_dtype": float_dtype(plain), "local_files_only": True}
        if (quantization := quantization_of_model(plain)) is not None:
            given["quantization_config"] = as_config(quantization)
        if is_adapted(plain):
            given["adapter_name"] = adapter_name(plain)
        if name == self._recorded_base and (revision := self._base_revision()) is not None:
            given["revision"] = revision
        return BaseDigest.of(AutoModelForLM.from_pretrained(name, **given))

    def _tokenizer_by_name(self) -> str:
        """The digest of the tokenizer that the base model's name loads."""
        name, revision = self._recorded_base, self._base_revision()
        return tokenizer_digest(AutoTokenizerForLM.from_pretrained(name, local_files_only=True, revision=revision))

    def _loads(self, name: str, load: Callable[[], T]) -> T | None:
        """What `load` gives for a name or path, called once; None if nothing of this name is on this machine."""
        if name not in self._loaded:
            try:
                self._loaded[name] = load()
            except (OSError, ValueError, RuntimeError):
                self._loaded[name] = None
        return self._loaded[name]

    @classmethod
    def _from_checkpoint(
        cls, directory: Path, base_model: Any, shape: Mapping[str, Any], load_arguments: Mapping[str, Any], *,
        verify: bool,
    ) -> Self:  # fmt: skip
        own = [directory / name for name in (OWN_TOKENIZER, OWN_BASE_MODEL) if (directory / name).is_dir()]
        if own and load_arguments.get("tokenizer") is None:
            load_arguments = {**load_arguments, "tokenizer": own[0]}
        for kind in OBJECTIVES.values():
            if kind.folder is not None and kind.is_saved(directory / kind.folder):
                load_arguments = {**load_arguments, "beside": directory / kind.folder}
        return super()._from_checkpoint(directory, base_model, shape, load_arguments, verify=verify)

    @classmethod
    def _load_model(
        cls, load_directory: Any, base_model_id: str | None = None, gradiend_kwargs: Mapping[str, Any] | None = None,
        tokenizer: Any = None, trust_remote_code: bool = False, beside: str | Path | None = None,
        objective: str | None = None, **kwargs: Any,
    ) -> tuple[Any, ...]:  # fmt: skip
        """(base model, tokenizer) of a checkpoint, a name or path, or a model that is already loaded.

        `load_directory` may be what an objective saved, such as an auxiliary head; `beside` is put on the base model.
        """
        recorded = gradiend_kwargs or {}
        known = recorded.get(OBJECTIVE, objective)
        wanted = kwargs.pop("base_model_dtype", None)
        mapped = {name: kwargs.pop(name, None) for name in ("base_model_device_map", "base_model_max_memory")}
        place = load_directory
        if isinstance(place, nn.Module):
            resolve_keywords("ModelWithGradiend.from_pretrained", kwargs, ["torch_dtype"], named=GRADIEND_ARGUMENTS)
        else:
            if (kind := kind_saved_in(place)) is not None:
                place, beside = kind.base_of(place), place
            if not (Path(place) / OWN_BASE_MODEL).is_dir():
                place = base_model_id or place
                if recorded.get(BASE_REVISION) is not None and not Path(place).exists():
                    kwargs["revision"] = recorded[BASE_REVISION]
            wanted = recorded.get("base_model_dtype") if wanted is None else wanted
            kwargs["objective"] = known
            if recorded.get(QUANTIZATION) is not None:
                kwargs.setdefault("quantization_config", as_config(recorded[QUANTIZATION]))
            if recorded.get(ADAPTER) is not None:
                kwargs["adapter_name"] = recorded[ADAPTER]
        if wanted is not None:
            kwargs["torch_dtype"] = parse_dtype("base_model_dtype", wanted)
        saved = recorded.get("tokenizer")
        model, loaded = load_with_tokenizer(
            place, tokenizer, saved if saved and Path(saved).exists() else None, trust_remote_code=trust_remote_code,
            **mapped, **kwargs,
        )  # fmt: skip
        if loaded is not tokenizer and INSTRUCT in recorded:
            loaded = InstructTokenizerWrapper(loaded, *recorded[INSTRUCT])
        if beside is not None:
            kind = kind_saved_in(beside)
            assert kind is not None
            model = kind.put_on(original_model(model), beside)
        if objective is not None and gradiend_kwargs is not None and objective != (own := kind_of(model, known).name):
            raise ValueError(
                f"The GRADIEND of this checkpoint has the objective {own!r}, not {objective!r}: leave objective out, "
                "or train a new GRADIEND with the other one."
            )
        return model, loaded

    @classmethod
    def _gradiend_arguments(
        cls, shape: Mapping[str, Any], extra: Sequence[Any], load_arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {**shape, "tokenizer": extra[0], "objective": load_arguments.get("objective")}

    @classmethod
    def _create_gradiend(
        cls, base_model: Any, load_directory: str, tokenizer: Any = None, objective: str | None = None, **kwargs: Any
    ) -> ParamMappedGradiendModel:
        """A new GRADIEND over what a loss of the base model can reach (see `reachable_map`)."""
        plain, named = original_model(base_model), objective
        if plain is not base_model:
            # The map and the name are those of the original model, which is what gets rewritten.
            base_model, load_directory, named = plain, str(plain.name_or_path), None
        if not isinstance(kwargs.get("param_map"), (Mapping, ParameterMap)):
            asked = kwargs.pop("params", None), kwargs.pop("param_map", None)
            kwargs["param_map"] = reachable_map(base_model, objective_of(base_model, tokenizer, named), *asked)
        gradiend = backbone.build_gradiend_from_base_model(base_model, load_directory, **kwargs)
        if objective is not None:
            gradiend.kwargs[OBJECTIVE] = objective
        return gradiend


def kind_saved_in(directory: str | Path) -> type[Objective] | None:
    """The objective that has written a directory; None if none has."""
    return next((kind for kind in OBJECTIVES.values() if kind.is_saved(directory)), None)


def reachable_map(base_model: Any, objective: Objective, params: Any = None, param_map: Any = None) -> ParameterMap:
    """The map of the backbone parameters, or of those asked for, without any that no gradient reaches.

    Raises:
        ValueError: No gradient reaches any parameter, or one that was asked for without a wildcard.
    """
    with exclusive(base_model):
        mapping = backbone.select_parameters(base_model, params, param_map)
        parameters, _ = backbone.split_backbone_vs_head_params(base_model)
        unreached = unreached_parameters(
            base_model,
            {entry.name: parameters[entry.name] for entry in mapping},
            objective.tokenize([PROBE_TEXT], ["c"]),
            objective,
        )
    given = [patterns for patterns in (params, param_map) if patterns is not None]
    asked = {name for patterns in given for name in backbone.as_patterns(patterns)}
    if asked & set(unreached) or len(unreached) == len(mapping):
        bad = sorted(asked & set(unreached)) or unreached
        raise ValueError(f"No gradient ever reaches {', '.join(bad)}: leave it out of params and param_map.")
    if unreached:
        logger.info("Left out of the map, since no gradient reaches them: %s", ", ".join(unreached))
    return ParameterMap([entry for entry in mapping if entry.name not in unreached])


def require_objective(model: Any, prediction_objective: str) -> None:
    """Raise ValueError for a text model whose objective is not the one that `prediction_objective` asks for."""
    wanted = wanted_kind(prediction_objective)
    if wanted is None or not isinstance(model, TextModelWithGradiend) or model.objective.name == wanted:
        return
    head = wanted == CausalWithHead.name
    raise ValueError(
        f"prediction_objective={prediction_objective!r} needs a {wanted} model, but the objective of "
        f"{type(original_model(model.base_model)).__name__} is {model.objective.name}: "
        + ("call train_decoder_only_mlm_head first." if head else 'give "auto", or another model.')
    )
