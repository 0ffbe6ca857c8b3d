"""The GRADIEND network, the map between its input space and base-model parameters, checkpoints, rewriting, deltas."""

from typing import TYPE_CHECKING

from gradiend.model.delta import AppliedDelta, apply_delta, export_delta
from gradiend.model.delta_file import Delta, read_delta
from gradiend.model.model import GradiendModel
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.rewrite_record import read_rewrite_record
from gradiend.util.lazy import lazy_names

if TYPE_CHECKING:
    from gradiend.objectives import is_decoder_only_model

__all__ = [
    "AppliedDelta",
    "Delta",
    "GradiendModel",
    "ModelWithGradiend",
    "ParamMappedGradiendModel",
    "apply_delta",
    "export_delta",
    "is_decoder_only_model",
    "read_delta",
    "read_rewrite_record",
]

# Of a later step: kinds of models are told apart by their objectives.
__getattr__ = lazy_names(__name__, {"gradiend.objectives": ["is_decoder_only_model"]})
