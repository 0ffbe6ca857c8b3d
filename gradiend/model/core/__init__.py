"""The parameters of a base model that a GRADIEND maps."""

from gradiend.model.core.backbone import build_gradiend_from_base_model as build_gradiend_from_base_model
from gradiend.model.core.backbone import debug_param_overlap as debug_param_overlap
from gradiend.model.core.backbone import get_backbone_module as get_backbone_module
from gradiend.model.core.backbone import split_backbone_vs_head_params as split_backbone_vs_head_params
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
