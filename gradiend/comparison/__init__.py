"""Comparisons between several GRADIENDs: of their weights, and of what they encode."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.comparison._result import ComparisonResult as ComparisonResult

__all__, __dir__, __getattr__ = lazy_names(__name__)
