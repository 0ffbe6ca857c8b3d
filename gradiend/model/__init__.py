"""The GRADIEND network, the map between its input space and base-model parameters, checkpoints, rewriting, deltas."""

from gradiend.model._delta import AppliedDelta, apply_delta
from gradiend.model._rewrite_files import Delta, export_delta, read_delta, read_rewrite_record
from gradiend.model.kinds import is_decoder_only_model
from gradiend.model.model import GradiendModel
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel

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
