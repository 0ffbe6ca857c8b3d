"""Random generators."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_seed(seed: int | None) -> None:
    """Seed Python, NumPy and PyTorch (all devices); None leaves them as they are."""
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
