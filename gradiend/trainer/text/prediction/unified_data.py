"""The documented path of the functions that turn any input format into the unified frame (`gradiend.data.unified`)."""

from gradiend.data.unified import UNIFIED_ALTERNATIVE as UNIFIED_ALTERNATIVE
from gradiend.data.unified import UNIFIED_ALTERNATIVE_CLASS as UNIFIED_ALTERNATIVE_CLASS
from gradiend.data.unified import UNIFIED_FACTUAL as UNIFIED_FACTUAL
from gradiend.data.unified import UNIFIED_FACTUAL_CLASS as UNIFIED_FACTUAL_CLASS
from gradiend.data.unified import UNIFIED_MASKED as UNIFIED_MASKED
from gradiend.data.unified import UNIFIED_SPLIT as UNIFIED_SPLIT
from gradiend.data.unified import UNIFIED_TRANSITION as UNIFIED_TRANSITION
from gradiend.data.unified import all_subsets_to_mlm_df as all_subsets_to_mlm_df
from gradiend.data.unified import apply_class_merge_to_merged_df as apply_class_merge_to_merged_df
from gradiend.data.unified import apply_factual_casing as apply_factual_casing
from gradiend.data.unified import load_hf_per_class as load_hf_per_class
from gradiend.data.unified import merge_per_class_dfs as merge_per_class_dfs
from gradiend.data.unified import merged_to_unified as merged_to_unified
from gradiend.data.unified import per_class_dict_to_unified as per_class_dict_to_unified
from gradiend.data.unified import resolve_dataframe as resolve_dataframe
from gradiend.data.unified import transition_id as transition_id
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
