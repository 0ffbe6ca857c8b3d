"""What has no better home: files, keywords, splits, logging, metrics, hashes, the places of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.util._digest import (
        convert_tuple_keys_recursively,
        hash_it,
        hash_model_weights,
        json_loads,
        restore_tuple_keys_recursively,
        set_requires_grad_true,
    )
    from gradiend.util.logging import get_logger, setup_logging, suppress_tokenizer_length_warning
    from gradiend.util.splits import normalize_split_name

_HOMES = {
    "gradiend.util._digest": (
        "convert_tuple_keys_recursively",
        "hash_it",
        "hash_model_weights",
        "json_loads",
        "restore_tuple_keys_recursively",
        "set_requires_grad_true",
    ),
    "gradiend.util.logging": ("get_logger", "setup_logging", "suppress_tokenizer_length_warning"),
    "gradiend.util.splits": ("normalize_split_name",),
}

__all__ = [
    "convert_tuple_keys_recursively",
    "get_logger",
    "hash_it",
    "hash_model_weights",
    "json_loads",
    "normalize_split_name",
    "restore_tuple_keys_recursively",
    "set_requires_grad_true",
    "setup_logging",
    "suppress_tokenizer_length_warning",
]


# Names are found on first use, because importing the package must not import torch, which digests need.
__getattr__ = lazy_names(__name__, _HOMES)
