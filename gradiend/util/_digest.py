"""Digests of models, frames and sources, which caches and records compare.

Equal things have equal digests, and different things different digests; `gradiend.util._bits` has those of tensors and
files, on which these are built.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from gradiend.util._bits import add_bits, digest_files, digest_weights
from gradiend.util._cache import CACHE_FORMAT, SETTINGS, Fingerprint
from gradiend.util._files import digest_text, new_digest, read_json
from gradiend.util._hooks import hooks_of
from gradiend.util._isolation import exclusive, plain_modes
from gradiend.util.paths import ADAPTER_CONFIG, CONFIG_FILE, FILES, FINGERPRINT_FILE, TRAINING, model_files

_UNREAD = {TRAINING, FINGERPRINT_FILE}
"""Files of a checkpoint that do not change what the model computes."""
HOOKS = "hooks of the base model"
_UNUSED_SETTINGS = (
    "_*", "*dropout*", "*_pdrop", "initializer_*", "*_token_id", "output_*", "id2label", "label2id", "problem_type",
    "classifier_*", "summary_*", "architectures", "auto_map", "chunk_size_feed_forward", "dtype", "torch_dtype",
    "gradient_checkpointing", "name_or_path", "pretraining_tp", "quantization_config", "return_dict",
    "task_specific_params", "tie_word_embeddings", "use_cache", "vocab_size",
)  # fmt: skip
"""Settings of a config that do not change the predictions of given weights, or that the weights show."""


def digest_frame(frame: pd.DataFrame) -> str:
    """A digest of a frame: column names and all values, in their order; the index does not count."""
    digest = new_digest()
    for column, given in frame.items():
        # Mixed and unhashable values (lists) enter with their repr, so that 1 and "1" differ.
        values = given.map(repr) if given.dtype == object else given
        digest.update(f"{column}|{values.dtype}|".encode())
        digest.update(pd.util.hash_pandas_object(values, index=False).to_numpy().tobytes())
    return digest_text(digest)


def digest_json(value: Any) -> str:
    """A digest of strings, numbers, tensors, arrays and containers of these, whatever the order of keys."""
    return digest_text(new_digest(json.dumps(value, sort_keys=True, ensure_ascii=False, default=_readable).encode()))


@runtime_checkable
class WithGradiend(Protocol):
    """The attributes of a `ModelWithGradiend` that this module reads; the class itself belongs to a later step."""

    base_model: Any
    gradiend: Any
    source: Any
    target: Any
    feature_class_encoding_direction: Any


@runtime_checkable
class KnowsParameters(Protocol):
    """A base model whose weights have a digest."""

    def named_parameters(self) -> Any:
        """(name, tensor) of every parameter."""


@runtime_checkable
class Tokenizer(Protocol):
    """A tokenizer whose vocabulary has a digest."""

    def get_vocab(self) -> Mapping[str, int]:
        """Token → id."""


@runtime_checkable
class TextModel(Protocol):
    """A model with a tokenizer."""

    tokenizer: Any


def has_gradiend(model: Any) -> TypeGuard[WithGradiend]:
    """Whether a model is a base model with a GRADIEND, and not a stand-in of a test or another library."""
    return isinstance(model, WithGradiend) and isinstance(model.gradiend, nn.Module)


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model; None for a modality without one."""
    return model.tokenizer if isinstance(model, TextModel) else None


def named_weights(base_model: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter, and of the scales of quantized weights; shared tensors come once."""
    # Scales are neither parameters nor buffers. Reading the state also puts packed weights into their usual layout.
    state = base_model.state_dict() if isinstance(base_model, nn.Module) else {}
    yield from base_model.named_parameters()
    if state:
        named = (base_model.named_parameters(remove_duplicate=False), base_model.named_buffers(remove_duplicate=False))
        known = {name for tensors in named for name, _ in tensors}
        yield from (
            (name, tensor) for name, tensor in state.items() if name not in known and isinstance(tensor, Tensor)
        )


@runtime_checkable
class WithConfig(Protocol):
    """A base model of transformers: equal weights give other predictions with another config."""

    config: Any


def settings_of(base_model: Any) -> dict[str, Any]:
    """The class of a base model and the settings of its config that its predictions depend on; {} without a config.

    Models of equal weights may differ in these: `is_decoder=True`, other attention heads, a scaled rotation.
    """
    config = base_model.config if isinstance(base_model, WithConfig) else None
    if not isinstance(config, PreTrainedConfig):
        return {}
    # FSDP makes a class of its own from that of a model that it shards.
    kind = next(one.__name__ for one in type(base_model).__mro__ if not one.__name__.startswith("FSDP"))
    used = {"class": kind, **_used_settings(config.to_dict())}
    return dict(json.loads(json.dumps(used, sort_keys=True, default=repr)))


def _used_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config, and of the configs in it, without `_UNUSED_SETTINGS`."""
    return {
        name: _used_settings(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if not any(fnmatchcase(str(name), unused) for unused in _UNUSED_SETTINGS)
    }


def settings_part(base_model: Any) -> Fingerprint:
    """`settings_of` a base model in memory, and its hooks if it has any, as parts of a fingerprint; {} for a name."""
    if has_gradiend(base_model):
        base_model = base_model.base_model
    settings, hooks = settings_of(base_model), hooks_of(base_model)
    return {**({SETTINGS: digest_json(settings)} if settings else {}), **({HOOKS: hooks} if hooks else {})}


def base_model_digest(base_model: Any) -> str:
    """A digest of a base model's class and of its weights in memory; shared tensors count once."""
    tensors = named_weights(base_model)
    if isinstance(base_model, nn.Module):
        tensors = itertools.chain(tensors, base_model.named_buffers())
    return digest_json([type(base_model).__name__, digest_weights(tensors)])


def gradiend_digest(model: WithGradiend) -> str:
    """A digest of a GRADIEND: its architecture, weights, map, source, target and encoding direction."""
    gradiend = model.gradiend
    architecture = [gradiend.activation_encoder, gradiend.activation_decoder, gradiend.bias_decoder]
    weights = [gradiend.weights_digest(), gradiend.param_map_hash]
    return digest_json([architecture, *weights, model.source, model.target, model.feature_class_encoding_direction])


def source_digest(source: Any) -> str:
    """A digest of the source of a model: files of a directory, name on a hub and revision, or an instance in memory.

    Of a directory, only those files count that a model is loaded from; an adapter's directory names a model that counts
    too.
    """
    if isinstance(source, (str, Path)):
        folder = Path(source)
        if folder.is_dir():
            files = digest_files((path for path in _read_from(folder) if path.name not in _UNREAD), folder)
            base = _base_of_adapter(folder)
            return files if base is None else digest_json([files, source_digest(base)])
        return f"{source}@{cached_revision(str(source))}"
    if has_gradiend(source):
        return digest_json([base_model_digest(source.base_model), gradiend_digest(source)])
    return base_model_digest(source)


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of how a tokenizer cuts texts: vocabulary, normalisation, special tokens, chat template.

    Padding and truncation of the tokenizer do not count, because this package sets both itself.
    """
    kind = type(tokenizer).__name__
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        state = {**json.loads(tokenizer.backend_tokenizer.to_str()), "padding": None, "truncation": None}
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        return digest_json([kind, state, tokenizer.chat_template, special])
    return digest_json([kind, tokenizer.get_vocab()]) if isinstance(tokenizer, Tokenizer) else kind


def frame_part(frame: Any) -> str | None:
    """The digest of a frame; None for another object."""
    return digest_frame(frame) if isinstance(frame, pd.DataFrame) else None


def language_model_parts(base_model: Any, tokenizer: Any) -> Fingerprint:
    """The parts of a language model that its measurements depend on."""
    known = isinstance(base_model, KnowsParameters)
    return {
        "format": CACHE_FORMAT,
        "base model": base_model_digest(base_model) if known else type(base_model).__name__,
        "tokenizer": tokenizer_digest(tokenizer),
        **settings_part(base_model),
    }


def model_parts(model: Any) -> Fingerprint:
    """The parts of a `ModelWithGradiend`: base model, tokenizer, and the GRADIEND with its map."""
    if not has_gradiend(model):
        return {"format": CACHE_FORMAT, "model": type(model).__name__}
    # Another thread may measure rewrites of the same base model.
    with exclusive(model.base_model), plain_modes():
        return {**language_model_parts(model.base_model, tokenizer_of(model)), "GRADIEND": gradiend_digest(model)}


def hash_model_weights(model: nn.Module) -> str:
    """SHA-256 of the parameters and buffers in a module's state: names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        add_bits(digest, name, tensor)
    return digest.hexdigest()


def set_requires_grad_true(module: nn.Module) -> None:
    """Let every parameter of a module require a gradient."""
    for parameter in module.parameters():
        parameter.requires_grad_(True)


def hash_it(value: Any, return_num: bool = False) -> Any:
    """SHA-256 of a value's JSON form, the same in every process; the order of dict keys does not matter.

    Args:
        value: Text, number, or a list, tuple, set or dict of such values; another object enters with its repr.
        return_num: Whether to return a number instead of hexadecimal digits.
    """

    def readable(other: Any) -> Any:
        return sorted(other, key=repr) if isinstance(other, (set, frozenset)) else repr(other)

    text = json.dumps(convert_tuple_keys_recursively(value), sort_keys=True, default=readable)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return int(digest, 16) if return_num else digest


def json_loads(text: str) -> Any:
    """Parse JSON; a text that is no JSON gives a list with that text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [text]


def convert_tuple_keys_recursively(value: Any) -> Any:
    """A copy in which tuples that are dict keys are their JSON texts: `(1.0, 0.1)` becomes `"[1.0, 0.1]"`."""
    if isinstance(value, Mapping):
        return {
            json.dumps(key) if isinstance(key, tuple) else key: convert_tuple_keys_recursively(item)
            for key, item in value.items()
        }
    return [convert_tuple_keys_recursively(item) for item in value] if isinstance(value, (list, tuple)) else value


def restore_tuple_keys_recursively(value: Any) -> Any:
    """Undo `convert_tuple_keys_recursively`: a key that is the text of a JSON list becomes a tuple."""
    if isinstance(value, Mapping):
        return {_restored(key): restore_tuple_keys_recursively(item) for key, item in value.items()}
    return [restore_tuple_keys_recursively(item) for item in value] if isinstance(value, list) else value


def _readable(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": digest_weights([("", value)])}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, bytes):
        return repr(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(
        f"A cached gradient is found by what it was computed from, and a {type(value).__name__} cannot be compared "
        "across runs: use tensors, strings and numbers, or turn use_cached_gradients off."
    )


def _read_from(folder: Path) -> list[Path]:
    """The files that a model is loaded from: those that the config.json of a checkpoint lists, else `model_files`."""
    config = folder / CONFIG_FILE
    try:
        content = read_json(config) if config.is_file() else None
    except ValueError:
        content = None
    listed = content.get(FILES) if isinstance(content, dict) else None
    if not isinstance(listed, dict):
        return model_files(folder)
    return [path for path in [config, *(folder / name for name in listed)] if path.is_file()]


def _base_of_adapter(folder: Path) -> str | None:
    """The model that an adapter's folder (PEFT) names; None for the folder of a model."""
    config = folder / ADAPTER_CONFIG
    if not config.is_file() or (folder / CONFIG_FILE).is_file():
        return None
    base = read_json(config).get("base_model_name_or_path")
    return str(base) if base and Path(base).resolve() != folder.resolve() else None


def cached_revision(name: str, revision: str | None = None) -> str | None:
    """The commit of a hub model, or of an adapter, in the local cache: the name of the folder with its config."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import, and only needed here
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415

    try:
        found = [try_to_load_from_cache(name, file, revision=revision) for file in (CONFIG_FILE, ADAPTER_CONFIG)]
    except HFValidationError:
        return None
    return next((Path(file).parent.name for file in found if isinstance(file, str)), None)


def _restored(key: Any) -> Any:
    if isinstance(key, str) and key.startswith("["):
        try:
            parsed = json.loads(key)
        except json.JSONDecodeError:
            return key
        return tuple(parsed) if isinstance(parsed, list) else key
    return key
