"""Examples with a factual and an alternative input → (source, target) gradients, by any function that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from gradiend.model.sides import Side
from gradiend.trainer.core._kept_gradients import GradientCache, owner_of

INPUTS = ("factual", "alternative")


class GradientTrainingDataset(Dataset[dict[str, Any]]):
    """(source, target) gradients of any training data, computed when they are asked for.

    For the language models of this package, `TextPredictionTrainer` makes the same gradients faster; this class asks
    nothing of the data but a factual and an alternative input. It can be iterated, and put into a DataLoader with
    batch_size=1.

    Args:
        training_data: `len()` and `[i]` → a dict with factual and alternative. With an attribute `batch_size` above 1,
            so many consecutive items make one gradient; a last, incomplete batch is left out.
        gradient_creator: Called with an input, returns its flat gradient: a `ModelWithGradiend`, or any function. It
            gets the input of a single item as that is. Of a batch, tensors are padded and stacked, dicts of tensors
            entry by entry; anything else comes as a list.
        source: factual, alternative, diff, or None, which computes nothing for that side.
        target: Likewise.
        cache_dir: Keep gradients here, two files for each batch.
        use_cached_gradients: Whether `cache_dir` is used.
        cache_key_fields: Keys of the items that tell gradients apart, beside the inputs themselves and, where the
            creator is a `ModelWithGradiend` or module, its weights and map.
        dtype: Of the results.
        device: Of the results. Default: the GPU if there is one.
        return_metadata: Also return `metadata`, where the items have it.
        get_padding_value: Name of a tensor in an input → what it is padded with; an input that is a tensor itself is
            called factual or alternative. Default: 0.

    Raises:
        AssertionError: An invalid source or target.
        ValueError: A cache without cache_key_fields.
    """

    def __init__(
        self,
        training_data: Any,
        gradient_creator: Callable[[Any], Tensor],
        *,
        source: str | None = "factual",
        target: str | None = "diff",
        cache_dir: str | Path | None = None,
        use_cached_gradients: bool = True,
        cache_key_fields: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        return_metadata: bool = False,
        get_padding_value: Callable[[str], float] | None = None,
    ) -> None:
        self.source, self.target = _side("source", source), _side("target", target)
        caching = cache_dir is not None and use_cached_gradients
        if caching and not cache_key_fields:
            raise ValueError(
                "A cache of gradients needs cache_key_fields, the keys of an item that tell it apart from the others, "
                "e.g. ['input_text', 'label']; or set use_cached_gradients=False."
            )
        self.training_data = training_data
        self.gradient_creator = gradient_creator
        self.cache_dir = cache_dir
        self.use_cached_gradients = use_cached_gradients
        self.cache_key_fields = list(cache_key_fields or ()) if caching else []
        self.dtype = dtype
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.return_metadata = return_metadata
        self.get_padding_value = get_padding_value
        self.batch_size = getattr(training_data, "batch_size", None)  # documented: the attribute is optional
        self._size = self.batch_size or 1
        self._cache = None
        if caching:
            assert cache_dir is not None
            self._cache = GradientCache(cache_dir, owner_of(gradient_creator))

    def __len__(self) -> int:
        """Number of whole batches."""
        return len(self.training_data) // self._size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All batches, in the order of the items."""
        if self._cache is not None:
            self._cache.refresh()
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The gradients of one batch.

        Returns:
            source and target, (input_dim,) or None, and what else the items have: a list with one entry for each of the
            batch, or, where that is one item, as it is.

        Raises:
            IndexError: Past the end.
            KeyError: A cache key field, factual or alternative that an item lacks.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches; there is no number {index}.")
        items = [self.training_data[number] for number in range(index * self._size, (index + 1) * self._size)]
        gradients: dict[str, Tensor] = {}
        sides = [None if side is None else self._gradient(Side(side), items, gradients) for side in self._sides()]
        passed = [key for key in items[0] if key not in INPUTS and (key != "metadata" or self.return_metadata)]
        rest = {key: items[0][key] if self._size == 1 else [item[key] for item in items] for key in passed}
        return {**rest, "source": sides[0], "target": sides[1]}

    def _sides(self) -> tuple[str | None, str | None]:
        return self.source, self.target

    def _gradient(self, side: Side, items: Sequence[Mapping[str, Any]], known: dict[str, Tensor]) -> Tensor:
        if side is Side.DIFF:
            factual, alternative = (self._gradient(part, items, known) for part in (Side.FACTUAL, Side.ALTERNATIVE))
            return factual - alternative
        if side.value not in known:
            known[side.value] = self._created(side.value, items).to(self.device, self.dtype)
        return known[side.value]

    def _created(self, name: str, items: Sequence[Mapping[str, Any]]) -> Tensor:
        missing = [key for key in (name, *self.cache_key_fields) if any(key not in item for item in items)]
        if missing:
            raise KeyError(f"An item of the training data has no {missing[0]!r}; it has {', '.join(items[0])}.")
        inputs = [item[name] for item in items]

        def create() -> Tensor:
            gradient = self.gradient_creator(inputs[0] if self._size == 1 else self._batch(name, inputs))
            if not isinstance(gradient, Tensor) or gradient.dim() != 1:
                found = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
                raise TypeError(f"gradient_creator must return a flat gradient, one 1-D tensor; got {found}.")
            return gradient

        if self._cache is None:
            return create()
        fields = [[item[key] for key in self.cache_key_fields] for item in items]
        path = self._cache.path(name, [self.cache_key_fields, fields, inputs, str(self.dtype)])
        if path.is_file():
            return self._cache.read(path)
        gradient = create()
        self._cache.write(path, gradient)
        return gradient

    def _batch(self, name: str, inputs: Sequence[Any]) -> Any:
        if all(isinstance(value, Mapping) for value in inputs):
            return {key: self._stacked(key, [value[key] for value in inputs]) for key in inputs[0]}
        return self._stacked(name, inputs)

    def _stacked(self, key: str, tensors: Sequence[Any]) -> Any:
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            return list(tensors)
        length = max(tensor.shape[-1] if tensor.dim() else 0 for tensor in tensors)
        value = self.get_padding_value(key) if self.get_padding_value is not None else 0
        missing = [length - tensor.shape[-1] if tensor.dim() else 0 for tensor in tensors]
        padded = [pad(tensor, (0, n), value=value) if n else tensor for tensor, n in zip(tensors, missing, strict=True)]
        return torch.stack(padded)


def _side(name: str, value: str | None) -> str | None:
    valid = [None, *(side.value for side in Side)]
    value = Side.ALTERNATIVE.value if value == "counterfactual" else value
    if value not in valid:
        raise AssertionError(f"{name} must be factual, alternative, diff or None; got {value!r}.")
    return value
