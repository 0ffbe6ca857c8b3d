"""Any input format → one frame of texts, each with its factual and its alternative word."""

from gradiend.data.unified._casing import apply_factual_casing as apply_factual_casing
from gradiend.data.unified._casing import starts_sentence as starts_sentence
from gradiend.data.unified._contrast import ClassMerge as ClassMerge
from gradiend.data.unified._convert import RawData as RawData
from gradiend.data.unified._convert import classes_in as classes_in
from gradiend.data.unified._convert import documents_of as documents_of
from gradiend.data.unified._convert import other_classes as other_classes
from gradiend.data.unified._convert import to_unified as to_unified
from gradiend.data.unified._functions import all_subsets_to_mlm_df as all_subsets_to_mlm_df
from gradiend.data.unified._functions import apply_class_merge_to_merged_df as apply_class_merge_to_merged_df
from gradiend.data.unified._functions import merge_per_class_dfs as merge_per_class_dfs
from gradiend.data.unified._functions import merged_to_unified as merged_to_unified
from gradiend.data.unified._functions import per_class_dict_to_unified as per_class_dict_to_unified
from gradiend.data.unified._schema import UNIFIED_ALTERNATIVE as UNIFIED_ALTERNATIVE
from gradiend.data.unified._schema import UNIFIED_ALTERNATIVE_CLASS as UNIFIED_ALTERNATIVE_CLASS
from gradiend.data.unified._schema import UNIFIED_COLUMNS as UNIFIED_COLUMNS
from gradiend.data.unified._schema import UNIFIED_FACTUAL as UNIFIED_FACTUAL
from gradiend.data.unified._schema import UNIFIED_FACTUAL_CLASS as UNIFIED_FACTUAL_CLASS
from gradiend.data.unified._schema import UNIFIED_MASKED as UNIFIED_MASKED
from gradiend.data.unified._schema import UNIFIED_SPLIT as UNIFIED_SPLIT
from gradiend.data.unified._schema import UNIFIED_TRANSITION as UNIFIED_TRANSITION
from gradiend.data.unified._schema import ColumnNames as ColumnNames
from gradiend.data.unified._schema import parse_pair as parse_pair
from gradiend.data.unified._schema import require_classes as require_classes
from gradiend.data.unified._schema import require_split as require_split
from gradiend.data.unified._schema import transition_id as transition_id
from gradiend.data.unified._source import DataSource as DataSource
from gradiend.data.unified._source import load_hf_per_class as load_hf_per_class
from gradiend.data.unified._source import resolve_dataframe as resolve_dataframe
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
