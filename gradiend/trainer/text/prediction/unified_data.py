"""Any input format → the unified frame; see `gradiend.data.unified`."""

from gradiend.data.unified import (
    UNIFIED_ALTERNATIVE,
    UNIFIED_ALTERNATIVE_CLASS,
    UNIFIED_FACTUAL,
    UNIFIED_FACTUAL_CLASS,
    UNIFIED_MASKED,
    UNIFIED_SPLIT,
    UNIFIED_TRANSITION,
    all_subsets_to_mlm_df,
    apply_class_merge_to_merged_df,
    apply_factual_casing,
    load_hf_per_class,
    merge_per_class_dfs,
    merged_to_unified,
    per_class_dict_to_unified,
    resolve_dataframe,
    transition_id,
)

__all__ = [
    "UNIFIED_ALTERNATIVE",
    "UNIFIED_ALTERNATIVE_CLASS",
    "UNIFIED_FACTUAL",
    "UNIFIED_FACTUAL_CLASS",
    "UNIFIED_MASKED",
    "UNIFIED_SPLIT",
    "UNIFIED_TRANSITION",
    "all_subsets_to_mlm_df",
    "apply_class_merge_to_merged_df",
    "apply_factual_casing",
    "load_hf_per_class",
    "merge_per_class_dfs",
    "merged_to_unified",
    "per_class_dict_to_unified",
    "resolve_dataframe",
    "transition_id",
]
