"""Results → one self-contained HTML page, and runs side by side. jinja2 is needed only when a page is written."""

from gradiend.report._comparison import comparison_table as comparison_table
from gradiend.report._comparison import write_comparison as write_comparison
from gradiend.report._page import write_report as write_report
from gradiend.util._imports import public_names

__all__ = list(public_names(__name__))
