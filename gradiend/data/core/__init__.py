"""Where texts come from and where tables go: corpora, files, output folders."""

from __future__ import annotations

from gradiend.data.core.base_loader import resolve_base_data

__all__ = ["resolve_base_data"]
