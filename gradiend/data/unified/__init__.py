"""Any input format → one frame of texts, each with its factual and its alternative word."""

from gradiend.data.unified._casing import apply_factual_casing, starts_sentence
from gradiend.data.unified._contrast import ClassMerge
from gradiend.data.unified._convert import RawData, classes_in, documents_of, other_classes, to_unified
from gradiend.data.unified._functions import (
    all_subsets_to_mlm_df,
    apply_class_merge_to_merged_df,
    merge_per_class_dfs,
    merged_to_unified,
    per_class_dict_to_unified,
)
from gradiend.data.unified._schema import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_COLUMNS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    ColumnNames,
    parse_pair,
    require_classes,
    require_split,
    transition_id,
)
from gradiend.data.unified._source import DataSource, load_hf_per_class, resolve_dataframe

__all__ = [
    "UNIFIED_ALTERNATIVE", "UNIFIED_ALTERNATIVE_CLASS", "UNIFIED_COLUMNS", "UNIFIED_FACTUAL", "UNIFIED_FACTUAL_CLASS",
    "UNIFIED_MASKED", "UNIFIED_SPLIT", "UNIFIED_TRANSITION", "ClassMerge", "ColumnNames", "DataSource", "RawData",
    "all_subsets_to_mlm_df", "apply_class_merge_to_merged_df", "apply_factual_casing", "classes_in", "documents_of",
    "load_hf_per_class", "merge_per_class_dfs", "merged_to_unified", "other_classes", "parse_pair",
    "per_class_dict_to_unified", "require_classes", "require_split", "resolve_dataframe", "starts_sentence",
    "to_unified", "transition_id",
]  # fmt: skip
