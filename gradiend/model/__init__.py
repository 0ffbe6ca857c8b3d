"""The GRADIEND network, the map between its input space and base-model parameters, checkpoints, rewriting."""

from gradiend.model.model import GradiendModel
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.utils import is_decoder_only_model

__all__ = ["GradiendModel", "ModelWithGradiend", "ParamMappedGradiendModel", "is_decoder_only_model"]
