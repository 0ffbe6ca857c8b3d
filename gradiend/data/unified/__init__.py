"""Any input format → one frame of texts, each with its factual and its alternative word."""

from gradiend.data.unified.casing import apply_factual_casing, starts_sentence
from gradiend.data.unified.columns import ColumnNames
from gradiend.data.unified.convert import RawData, classes_in, to_unified
from gradiend.data.unified.loading import resolve_dataframe
from gradiend.data.unified.merged import merged_to_unified
from gradiend.data.unified.per_class import merge_per_class_dfs, per_class_dict_to_unified
from gradiend.data.unified.schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_COLUMNS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    transition_id,
)
from gradiend.data.unified.splits import require_split
from gradiend.data.unified.validate import parse_pair, require_classes

__all__ = [
    "UNIFIED_ALTERNATIVE",
    "UNIFIED_ALTERNATIVE_CLASS",
    "UNIFIED_COLUMNS",
    "UNIFIED_FACTUAL",
    "UNIFIED_FACTUAL_CLASS",
    "UNIFIED_MASKED",
    "UNIFIED_SPLIT",
    "UNIFIED_TRANSITION",
    "ColumnNames",
    "RawData",
    "apply_factual_casing",
    "classes_in",
    "merge_per_class_dfs",
    "merged_to_unified",
    "parse_pair",
    "per_class_dict_to_unified",
    "require_classes",
    "require_split",
    "resolve_dataframe",
    "starts_sentence",
    "to_unified",
    "transition_id",
]
