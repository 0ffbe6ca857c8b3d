"""Any input format → one frame of texts, each with its factual and its alternative word."""

from gradiend.data.unified.casing import apply_factual_casing, starts_sentence
from gradiend.data.unified.columns import ColumnNames
from gradiend.data.unified.contrast import ClassMerge
from gradiend.data.unified.convert import RawData, classes_in, documents_of, other_classes, to_unified
from gradiend.data.unified.hub_tables import load_hf_per_class
from gradiend.data.unified.loading import resolve_dataframe
from gradiend.data.unified.merged import apply_class_merge_to_merged_df, merged_to_unified
from gradiend.data.unified.per_class import all_subsets_to_mlm_df, merge_per_class_dfs, per_class_dict_to_unified
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
from gradiend.data.unified.source import DataSource
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
    "ClassMerge",
    "ColumnNames",
    "DataSource",
    "RawData",
    "all_subsets_to_mlm_df",
    "apply_class_merge_to_merged_df",
    "apply_factual_casing",
    "classes_in",
    "documents_of",
    "load_hf_per_class",
    "merge_per_class_dfs",
    "merged_to_unified",
    "other_classes",
    "parse_pair",
    "per_class_dict_to_unified",
    "require_classes",
    "require_split",
    "resolve_dataframe",
    "starts_sentence",
    "to_unified",
    "transition_id",
]
