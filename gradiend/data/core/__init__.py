"""Where texts come from and where tables go: corpora, files, output folders."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.data.core.base_loader import resolve_base_data as resolve_base_data

__all__, __dir__, __getattr__ = lazy_names(__name__)
