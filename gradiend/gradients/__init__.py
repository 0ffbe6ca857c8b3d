"""The engine: words → batches → log p, gradients and encodings. It knows no kind of model, only the `Objective`."""

from typing import TYPE_CHECKING

from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.gradients._engine import GradientEngine, encode_words, unreached_parameters
    from gradiend.gradients._memory import MemoryTrace, trace_memory
    from gradiend.gradients._objective import Objective
    from gradiend.gradients._scorer import WordScorer
    from gradiend.gradients._state import checkpointable_layers, fast_matrix_products, measurement_mode
    from gradiend.gradients._words import (
        TokenizedWord,
        WordBatch,
        batches_by_length,
        collate,
        count_batches,
        name_of_tokenizer,
        tokenize,
    )

__all__ = [
    "GradientEngine",
    "MemoryTrace",
    "Objective",
    "TokenizedWord",
    "WordBatch",
    "WordScorer",
    "batches_by_length",
    "checkpointable_layers",
    "collate",
    "count_batches",
    "encode_words",
    "fast_matrix_products",
    "measurement_mode",
    "name_of_tokenizer",
    "tokenize",
    "trace_memory",
    "unreached_parameters",
]

# Data are tokenized without the model libraries that the engine needs.
__getattr__ = lazy_names(
    __name__,
    {
        "gradiend.gradients._engine": ["GradientEngine", "encode_words", "unreached_parameters"],
        "gradiend.gradients._memory": ["MemoryTrace", "trace_memory"],
        "gradiend.gradients._objective": ["Objective"],
        "gradiend.gradients._scorer": ["WordScorer"],
        "gradiend.gradients._state": ["checkpointable_layers", "fast_matrix_products", "measurement_mode"],
        "gradiend.gradients._words": [
            "TokenizedWord",
            "WordBatch",
            "batches_by_length",
            "collate",
            "count_batches",
            "name_of_tokenizer",
            "tokenize",
        ],
    },
)
