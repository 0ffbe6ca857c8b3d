"""The input dimensions of a GRADIEND: by importance, with the names of their weights in the base model, and pruned."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._topk import ranking, topk_count
from gradiend.model.core.backbone import matching_names
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._checks import require_path
from gradiend.util._files import write_csv, write_json
from gradiend.util._keywords import known_keywords
from gradiend.util._processes import by_first


class WeighsEntries(nn.Module):
    """The part of `ModelWithGradiend` that ranks, names and prunes the input dimensions of its GRADIEND.

    A pruning that is not in place makes a copy of the model, which shares the base model.
    """

    base_model: Any
    gradiend: ParamMappedGradiendModel

    def _sharing(self, base_model: Any, gradiend: ParamMappedGradiendModel) -> Self:
        # A shallow copy would share the dict in which nn.Module keeps submodules.
        model = copy.copy(self)
        model._modules = dict(self._modules)
        model.base_model, model.gradiend = base_model, gradiend
        return model

    @known_keywords("ModelWithGradiend.prune_gradiend", suggest=False)
    def prune_gradiend(
        self, *, topk: int | float | None = None, threshold: float | None = None, mask: Tensor | None = None,
        part: str = "decoder-weight", importance: Tensor | None = None, inplace: bool = True, return_mask: bool = False,
        keep_idx: Sequence[int] | Tensor | None = None,
    ) -> Any:  # fmt: skip
        """Prune the GRADIEND, see `GradiendModel.prune`; in place by default.

        `keep_idx` has the input dimensions that may stay, and does what a `mask` does: give one of the two.

        Returns this model, or a copy that shares the base model if `inplace` is False; or (model, mask).
        """
        if keep_idx is not None:
            mask = _mask_of_indices(keep_idx, self.gradiend.input_dim, mask)
        pruned = self.gradiend.prune(
            topk=topk, threshold=threshold, mask=mask, part=part, importance=importance, inplace=inplace,
            return_mask=return_mask,
        )  # fmt: skip
        gradiend, *kept = pruned if return_mask else (pruned,)
        model = self if inplace else self._sharing(self.base_model, gradiend)
        return (model, *kept) if return_mask else model

    @known_keywords("ModelWithGradiend.get_weight_importance", suggest=False)
    def get_weight_importance(self, part: str = "decoder-weight") -> Tensor:
        """The importance of each input dimension, see `GradiendModel.get_weight_importance`."""
        return self.gradiend.get_weight_importance(part)

    @known_keywords("ModelWithGradiend.get_topk_weights", suggest=False)
    def get_topk_weights(self, part: str = "decoder-weight", topk: int | float = 1000) -> list[int]:
        """The most important dimensions as indices into the *unpruned* space, which all prunings of a model share.

        Arguments and errors are those of `GradiendModel.get_topk_weights`.
        """
        local = self.gradiend.get_topk_weights(part, topk)
        return self.gradiend.whole_map.base_indices()[torch.tensor(local)].tolist()

    @known_keywords("ModelWithGradiend.get_enhancer_mask", suggest=False)
    def get_enhancer_mask(self, topk: int | float, part: str = "decoder-weight") -> Tensor:
        """A bool mask (input_dim,) that is True at the top-k dimensions."""
        mask = torch.zeros(self.gradiend.total_dim, dtype=torch.bool)
        mask[torch.tensor(self.gradiend.get_topk_weights(part, topk))] = True
        return mask

    @known_keywords("ModelWithGradiend.get_topk_feature_metadata", suggest=False)
    def get_topk_feature_metadata(self, part: str = "decoder-weight", topk: int | float = 1000) -> list[dict[str, Any]]:
        """Name the most important dimensions: which weight of which parameter of the base model each is.

        Arguments and errors are those of `GradiendModel.get_topk_weights`.

        Returns:
            By falling importance, {rank (from 1), part, importance, local_input_index (in the GRADIEND),
            base_global_index (in the unpruned space, as in `get_topk_weights`), param_name, flat_index_in_param,
            param_row and param_col (of a matrix, else None), coords, param_shape, param_numel}.
        """
        importance = self.gradiend.get_weight_importance(part)
        return named_entries(self.gradiend, part, importance, ranking(importance, topk_count(topk, len(importance))))

    @known_keywords("ModelWithGradiend.export_topk_features", suggest=False)
    def export_topk_features(self, path: str | Path, part: str = "decoder-weight", topk: int | float = 1000) -> str:
        """Write what `get_topk_feature_metadata` gives to a file, whole or not at all. Returns the path.

        Args:
            path: A .json file (a list of objects) or a .csv file.
            part, topk: See `get_topk_feature_metadata`.

        Raises:
            ValueError: The path ends with neither; or an argument is out of range.
        """
        require_path("path", path)
        if Path(path).suffix.lower() not in (".json", ".csv"):
            raise ValueError(f"The weights are written as .json or .csv; got {str(path)!r}.")
        _write_features(Path(path), self.get_topk_feature_metadata(part, topk))
        return str(path)


M = TypeVar("M", bound=WeighsEntries)


def without_parameters(model: M, patterns: Sequence[str]) -> M:
    """A copy that shares the base model, and whose encoder does not read gradients of parameters with these names.

    The biases stay, so all encodings are shifted by the same amount before the activation. Raises ValueError for a
    pattern that matches no parameter of the map, and if no parameter is left.
    """
    mapping = model.gradiend.mapping
    excluded = set(matching_names([entry.name for entry in mapping], patterns))
    keep = torch.ones(mapping.size, dtype=torch.bool)
    for entry, place in mapping.slices():
        if entry.name in excluded:
            keep[place] = False
    if not keep.any():
        raise ValueError(f"exclude_params={list(patterns)} leaves nothing to encode: the map has no other parameters.")
    return model.prune_gradiend(mask=keep, inplace=False)


def _mask_of_indices(indices: Sequence[int] | Tensor, size: int, mask: Tensor | None) -> Tensor:
    """The mask (size,) of the dimensions to keep. Raises TypeError or ValueError for indices that are none."""
    if mask is not None:
        raise ValueError("keep_idx and mask both say which dimensions may stay: give one of them.")
    try:
        found = torch.as_tensor(indices)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"keep_idx must be a list of input dimensions; got {indices!r:.60}.") from error
    if found.numel() and (found.dim() != 1 or found.is_floating_point() or found.dtype == torch.bool):
        raise TypeError(
            f"keep_idx must be a list of input dimensions; got {found.dtype} of shape {tuple(found.shape)}."
        )
    if found.numel() and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise ValueError(
            f"keep_idx must lie in [0, {size}), the input dimensions; got {int(found.min())} to {int(found.max())}."
        )
    keep = torch.zeros(size, dtype=torch.bool)
    keep[found.long()] = True
    return keep


@by_first
def _write_features(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows to a .json or .csv file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".json":
        write_json(path, rows)
        return
    # Whole numbers, also in a column with gaps: a parameter that is no matrix has no row and column.
    write_csv(path, pd.DataFrame(rows).astype({"param_row": "Int64", "param_col": "Int64"}))


def named_entries(
    gradiend: ParamMappedGradiendModel, part: str, importance: Tensor, chosen: Tensor
) -> list[dict[str, Any]]:
    """The rows of `get_topk_feature_metadata` for the `chosen` dimensions, (k,), by falling importance."""
    rising, order = chosen.sort()
    rows: list[dict[str, Any]] = [{} for _ in range(len(chosen))]
    start = 0
    for entry, place in gradiend.whole_map.slices():
        low, high = torch.searchsorted(rising, torch.tensor([place.start, place.stop])).tolist()
        if low < high:
            inside = rising[low:high] - place.start
            flat = (inside if entry.selection is None else entry.indices()[inside]).numpy()
            coordinates = np.stack(np.unravel_index(flat, entry.shape), axis=1).tolist()
            numbers = (order[low:high].tolist(), rising[low:high].tolist(), flat.tolist())
            for rank, dimension, index, coords in zip(*numbers, coordinates, strict=True):
                row, column = coords if len(coords) == 2 else (None, None)
                rows[rank] = {
                    "rank": rank + 1,
                    "part": part,
                    "importance": float(importance[dimension]),
                    "local_input_index": dimension,
                    "base_global_index": start + index,
                    "param_name": entry.name,
                    "flat_index_in_param": index,
                    "param_row": row,
                    "param_col": column,
                    "coords": coords,
                    "param_shape": list(entry.shape),
                    "param_numel": entry.numel,
                }
        start += entry.numel
    return rows
