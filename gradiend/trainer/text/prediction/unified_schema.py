"""The documented path of the columns of the unified frame (`gradiend.data.unified`)."""

from gradiend.data.unified._schema import UNIFIED_ALTERNATIVE as UNIFIED_ALTERNATIVE
from gradiend.data.unified._schema import UNIFIED_ALTERNATIVE_CLASS as UNIFIED_ALTERNATIVE_CLASS
from gradiend.data.unified._schema import UNIFIED_FACTUAL as UNIFIED_FACTUAL
from gradiend.data.unified._schema import UNIFIED_FACTUAL_CLASS as UNIFIED_FACTUAL_CLASS
from gradiend.data.unified._schema import UNIFIED_MASKED as UNIFIED_MASKED
from gradiend.data.unified._schema import UNIFIED_SPLIT as UNIFIED_SPLIT
from gradiend.data.unified._schema import UNIFIED_TRANSITION as UNIFIED_TRANSITION
from gradiend.data.unified._schema import transition_id as transition_id
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
