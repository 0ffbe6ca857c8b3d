"""The GRADIEND network, the map between its input space and base-model parameters, checkpoints, rewriting, deltas."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.model._delta import AppliedDelta as AppliedDelta
    from gradiend.model._delta import apply_delta as apply_delta
    from gradiend.model._hub_listing import GradiendList as GradiendList
    from gradiend.model._hub_listing import ListedGradiend as ListedGradiend
    from gradiend.model._hub_listing import list_gradiends as list_gradiends
    from gradiend.model._rewrite_files import Delta as Delta
    from gradiend.model._rewrite_files import export_delta as export_delta
    from gradiend.model._rewrite_files import read_delta as read_delta
    from gradiend.model._rewrite_files import read_rewrite_record as read_rewrite_record
    from gradiend.model.model import GradiendModel as GradiendModel
    from gradiend.model.model_with_gradiend import ModelWithGradiend as ModelWithGradiend
    from gradiend.model.param_mapped import ParamMappedGradiendModel as ParamMappedGradiendModel
    from gradiend.model.utils import is_decoder_only_model as is_decoder_only_model

__all__, __dir__, __getattr__ = lazy_names(__name__)
