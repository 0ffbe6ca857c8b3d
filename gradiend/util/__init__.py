"""Helpers of all folders: files and their places, keywords, checks, logging, scores, digests."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.util._digest import convert_tuple_keys_recursively as convert_tuple_keys_recursively
    from gradiend.util._digest import hash_it as hash_it
    from gradiend.util._digest import hash_model_weights as hash_model_weights
    from gradiend.util._digest import json_loads as json_loads
    from gradiend.util._digest import restore_tuple_keys_recursively as restore_tuple_keys_recursively
    from gradiend.util._digest import set_requires_grad_true as set_requires_grad_true
    from gradiend.util._interruption import Interrupted as Interrupted
    from gradiend.util._keywords import normalize_split_name as normalize_split_name
    from gradiend.util._lock import ExperimentLocked as ExperimentLocked
    from gradiend.util.logging import get_logger as get_logger
    from gradiend.util.logging import setup_logging as setup_logging
    from gradiend.util.logging import suppress_tokenizer_length_warning as suppress_tokenizer_length_warning

PLACEHOLDER = "[MASK]"
"""The placeholder of the feature word, for every tokenizer; only the first placeholder of a text is scored."""

AUTO = "auto"
"""In place of numbers: a learning rate, or steps of the decoder, that are searched for."""
BALANCE = "balance"
"""The goal of no preference among the classes; in an entry of a decoder grid, the measurements of that goal."""
WEAKENED = "_weaken"
"""What follows the name of a class in the key of the goal that makes the class less likely."""

# Names are imported on first use, because importing the package must not import torch, which digests need.
__all__, __dir__, __getattr__ = lazy_names(__name__)
