"""The engine: words → batches → log p, gradients and encodings. It knows no kind of model, only the `Objective`."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

# Data are tokenized without the model libraries that the engine needs.
if TYPE_CHECKING:
    from gradiend.gradients._engine import GradientEngine as GradientEngine
    from gradiend.gradients._engine import UndefinedGradientError as UndefinedGradientError
    from gradiend.gradients._engine import encode_words as encode_words
    from gradiend.gradients._engine import undefined_gradient as undefined_gradient
    from gradiend.gradients._engine import unreached_parameters as unreached_parameters
    from gradiend.gradients._memory import MemoryTrace as MemoryTrace
    from gradiend.gradients._memory import trace_memory as trace_memory
    from gradiend.gradients._model_modes import checkpointable_layers as checkpointable_layers
    from gradiend.gradients._model_modes import fast_matrix_products as fast_matrix_products
    from gradiend.gradients._model_modes import measurement_mode as measurement_mode
    from gradiend.gradients._objective import Objective as Objective
    from gradiend.gradients._scorer import WordScorer as WordScorer
    from gradiend.gradients._tokens import TokenizedWord as TokenizedWord
    from gradiend.gradients._tokens import WordBatch as WordBatch
    from gradiend.gradients._tokens import batches_by_length as batches_by_length
    from gradiend.gradients._tokens import collate as collate
    from gradiend.gradients._tokens import count_batches as count_batches
    from gradiend.gradients._tokens import name_of_tokenizer as name_of_tokenizer
    from gradiend.gradients._tokens import tokenize as tokenize

__all__, __dir__, __getattr__ = lazy_names(__name__)
