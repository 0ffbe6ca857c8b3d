"""Comparisons between several GRADIENDs: of their weights, and of what they encode."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.comparison._result import ComparisonResult as ComparisonResult
    from gradiend.comparison.closed_form import ClosedForm as ClosedForm
    from gradiend.comparison.closed_form import closed_form as closed_form

__all__, __dir__, __getattr__ = lazy_names(__name__)
