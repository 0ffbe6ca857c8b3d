"""Rewrites, θ' = θ + update on the mapped entries, computed in float32 and rounded once to the parameter's dtype.

A float64 parameter is computed in float64, because in float32 even an update of zero would change the parameter.
"""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._adapters import as_transformers_adapter, outside_adapter
from gradiend.model._architecture import parse_rewrite_part
from gradiend.model._context import Side, moving_factor, one_goal, parse_direction
from gradiend.model._device_map import copy_of
from gradiend.model._parameter_map import MappedParameter, ParameterMap, mapped_parameters
from gradiend.model._refusals import is_finite, refuse_undefined_weights
from gradiend.model._rewrite_files import (
    RewriteChoice,
    RewriteRecord,
    delta_of,
    require_delta_place,
    write_delta,
)
from gradiend.model._saved_rewrite import require_saved
from gradiend.model._shards import is_sharded
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._checks import require_number
from gradiend.util._digest import hash_model_weights
from gradiend.util._isolation import exclusive, plain_modes
from gradiend.util._keywords import known_keywords
from gradiend.util._processes import ONE, processes

logger = logging.getLogger(__name__)

Factor = float | Sequence[float] | Tensor
"""One number for all latents, or one number for each latent."""


@torch.no_grad()
def rewritten_entries(
    base_model: nn.Module, mapping: ParameterMap, update: Tensor
) -> Iterator[tuple[MappedParameter, nn.Parameter, Tensor, Tensor]]:
    """Yield (entry, parameter, old values, new values) of each mapped parameter for an `update` (mapping.size,)."""
    parameters = mapped_parameters(base_model, mapping)
    for entry, place in mapping.slices():
        old = entry.gather(parameters[entry.name].detach())
        wide = torch.promote_types(old.dtype, torch.float32)
        yield entry, parameters[entry.name], old, (old.to(wide) + update[place].to(old.device, wide)).to(old.dtype)


@torch.no_grad()
def add_update(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> float:
    """Add `update` to the mapped entries of `base_model`, in place, and return the share of entries that changed."""
    changed = 0
    for entry, parameter, old, new in rewritten_entries(base_model, mapping, update):
        changed += int((new != old).sum())
        entry.put(parameter, new)
    return _share(changed, base_model, mapping)


def _share(changed: int, base_model: nn.Module, mapping: ParameterMap) -> float:
    """The share of the mapped entries, of all processes that have some of them, that changed."""
    team = processes() if is_sharded(base_model) else ONE
    return sum(team.exchanged(changed)) / sum(team.exchanged(mapping.size))


@torch.no_grad()
def updated_parameters(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield name and new, finite values of each mapped parameter, as after `add_update`; nothing is changed."""
    for entry, parameter, _, new in rewritten_entries(base_model, mapping, update):
        whole = parameter.detach().clone()
        entry.put(whole, new)
        _require_range(entry.name, whole)
        yield entry.name, whole


def refuse_overflow(base_model: nn.Module, mapping: ParameterMap) -> None:
    """Raise ValueError for a rewritten model with mapped weights that are infinite or undefined."""
    for name, parameter in mapped_parameters(base_model, mapping).items():
        _require_range(name, parameter)


def _require_range(name: str, values: Tensor) -> None:
    if not is_finite(values):
        raise ValueError(
            f"The update drives weights of {name} out of the range of {values.dtype}: use a smaller learning_rate, or "
            "load the base model in float32."
        )


def refuse_no_change(share: float, update: Tensor) -> None:
    """Raise ValueError for an update that changes no entry, because the step is 0 or rounding undoes the step."""
    if share:
        return
    if not bool(update.any()):
        raise ValueError(
            "A step of 0 changes nothing: there is no rewritten model, and no delta to export. Use another "
            "learning_rate."
        )
    raise ValueError(
        "The update is too small for the base model's dtype: rounding leaves every entry as it was. "
        "Use a larger learning_rate, or load the base model in float32."
    )


@contextmanager
def temporarily_updated(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[float]:
    """Apply `add_update` in a block, for this thread alone; yield the share of changed entries, restore the bits."""
    with exclusive(base_model):
        parameters = mapped_parameters(base_model, mapping)
        saved = {entry.name: entry.gather(parameters[entry.name].detach()).clone() for entry in mapping}
        try:
            yield add_update(base_model, mapping, update)
        finally:
            with torch.no_grad():
                for entry in mapping:
                    entry.put(parameters[entry.name], saved[entry.name])


class RewritesBaseModel(nn.Module, ABC):
    """The part of `ModelWithGradiend` that rewrites: it makes a changed copy, a delta, or a record of a rewrite."""

    base_model: Any
    gradiend: ParamMappedGradiendModel
    _target: Side | None
    _direction: dict[str, int] | None
    _recorded_base: str
    """The name or path by which a checkpoint finds the base model again; empty if there is none."""

    @property
    def target(self) -> str | None:
        """The gradient that the decoder reproduces: factual, alternative, diff, or None if it is not trained."""
        return None if self._target is None else self._target.value

    def set_target(self, target: str | None) -> None:
        """Set what the decoder reproduces (see `target`). Raises ValueError for another name."""
        self._target = None if target is None else Side.parse("target", target)

    @property
    def param_map_hash(self) -> str:
        """The digest of the map, see `ParamMappedGradiendModel.param_map_hash`."""
        return self.gradiend.param_map_hash

    @property
    def name_or_path(self) -> str:
        """The name or path of the base model: the name in the checkpoint, else the name in the base model itself."""
        return self._recorded_base or self.base_model.name_or_path

    @property
    def name(self) -> str:
        """The last part of `name_or_path`."""
        return Path(self.name_or_path).name

    @property
    def feature_class_encoding_direction(self) -> dict[str, int] | None:
        """Class → the label that the class is encoded as: +1, −1 or 0; None if the labels are unknown."""
        return None if self._direction is None else dict(self._direction)

    def set_feature_class_encoding_direction(self, direction: Mapping[str, int]) -> None:
        """Set the encoding direction, which cannot be replaced by another direction later.

        Raises ValueError if another direction is set already, or for a label that is not +1, −1 or 0.
        """
        parsed = parse_direction(direction)
        if self._direction is not None and self._direction != parsed:
            raise ValueError(
                f"This model already encodes {self._direction}; {parsed} contradicts it. "
                "Train a new GRADIEND for other classes."
            )
        self._direction = parsed

    @plain_modes()
    @torch.no_grad()
    def update_vector(self, feature_factor: Factor, part: str = "decoder") -> Tensor:
        """The direction of a rewrite in the input space: decoder(feature_factor), or the weights called `part`.

        Args:
            feature_factor: The latent that `part="decoder"` decodes: a scalar for all latents, or latent_dim entries.
            part: decoder, decoder-weight, decoder-bias, decoder-sum or encoder-weight.

        Returns:
            A vector (input_dim,), on the device of the decoder.

        Raises ValueError for another part or number of factors, or a part that is a matrix because of several latents.
        """
        part = parse_rewrite_part(part)
        if part == "decoder":
            try:
                factor = torch.as_tensor(feature_factor, dtype=torch.float64).reshape(-1)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"feature_factor must be a number, or one for each of the {self.gradiend.latent_dim} latents; got "
                    f"{feature_factor!r:.60}. To name a class, use strengthen='<class>' or weaken='<class>'."
                ) from error
            if factor.numel() == 1:
                factor = factor.expand(self.gradiend.latent_dim)
            return self.gradiend.forward_decoder(factor)
        update = self.gradiend.get_update_vector(part)
        if update.numel() != len(self.gradiend):
            raise ValueError(
                f"part={part!r} is one direction only for latent_dim 1; use part='decoder' with a factor each."
            )
        return update

    @known_keywords("ModelWithGradiend.rewrite_base_model")
    @plain_modes()
    def rewrite_base_model(
        self, learning_rate: float, feature_factor: Factor | None = None, part: str = "decoder", *,
        strengthen: str | None = None, weaken: str | None = None,
    ) -> Any:  # fmt: skip
        """A changed copy of the base model: θ' = θ + learning_rate · decoder(feature_factor) on the mapped entries.

            model.rewrite_base_model(learning_rate=0.1, strengthen="feminine")

        The new values are computed in float32 (float64 for a float64 model) and rounded once; a tensor that backbone
        and head share changes in both. Of a model with an adapter (PEFT), the copy is one to which transformers has
        attached the adapter: its `save_pretrained` writes the adapter's folder.

        Args:
            learning_rate: The step size.
            feature_factor: The latent to decode (see `update_vector`), which only `part="decoder"` uses.
            part: The part to add (see `update_vector`).
            strengthen: The class to make more likely, instead of a factor. The model knows the factor, ±1; with
                another part than decoder the step has the sign of that factor, as in the decoder evaluation.
            weaken: The class to make less likely, instead of a factor.

        Returns:
            The changed copy; the base model of this model stays as it is.

        Raises:
            TypeError: None or several of feature_factor, strengthen and weaken are given.
            ValueError: A bad part, a class that is no target class, a base model with undefined weights, an update
                that is not finite or drives weights out of the range of their dtype, or an update that changes no
                entry, because the update is 0 or rounding to the parameters' dtype undoes the update.
        """
        learning_rate, feature_factor = self._size_and_factor(learning_rate, feature_factor, part, strengthen, weaken)
        model, step = self._for_rewriting(), self._step(learning_rate, feature_factor, part)
        refuse_undefined_weights(model.base_model)
        with exclusive(model.base_model):
            rewritten = copy_of(model.base_model)
        share = add_update(rewritten, model.gradiend.mapping, step)
        refuse_no_change(share, step)
        refuse_overflow(rewritten, model.gradiend.mapping)
        as_transformers_adapter(rewritten)
        if outside := outside_adapter(
            rewritten, [entry.name for entry in model.gradiend.mapping if entry.num_selected]
        ):
            logger.warning(
                "The rewrite also changes parameters outside of the adapter (%s), which save_pretrained of a model "
                "with an adapter leaves out: save it with a trainer (output_dir=), or use a delta (export_delta).",
                outside[0],
            )
        logger.info("The rewrite changed %.1f %% of the mapped entries.", 100 * share)
        return rewritten

    @contextmanager
    def temporarily_rewritten(
        self, learning_rate: float, feature_factor: Factor, part: str = "decoder"
    ) -> Iterator[Any]:
        """Change the base model in place in a with-block, as `rewrite_base_model` changes a copy; yield the base model.

        Afterwards the base model has the same bits as before. Arguments and errors are those of `rewrite_base_model`.
        """
        model, step = self._for_rewriting(), self._step(learning_rate, feature_factor, part)
        with temporarily_updated(model.base_model, model.gradiend.mapping, step) as share:
            refuse_no_change(share, step)
            refuse_overflow(model.base_model, model.gradiend.mapping)
            yield model.base_model

    @known_keywords("ModelWithGradiend.export_delta")
    @plain_modes()
    def export_delta(
        self, path: str | Path, learning_rate: float, feature_factor: Factor | None = None, part: str = "decoder", *,
        choice: RewriteChoice | None = None, strengthen: str | None = None, weaken: str | None = None,
    ) -> str:  # fmt: skip
        """Write the entries that `rewrite_base_model` changes, without a copy of the base model; see `apply_delta`.

        Args:
            path: A file that ends in .safetensors, or a directory for gradiend_delta.safetensors.
            learning_rate, feature_factor, part, strengthen, weaken: See `rewrite_base_model`.
            choice: The choice of a decoder evaluation, which the file keeps.

        Returns the path of the file; errors are those of `rewrite_base_model`.
        """
        require_delta_place(path)
        learning_rate, feature_factor = self._size_and_factor(learning_rate, feature_factor, part, strengthen, weaken)
        with self._rewritten_parameters(learning_rate, feature_factor, part) as (base_model, changed):
            record = self.rewrite_record(learning_rate, feature_factor, part, choice=choice)
            delta = delta_of(base_model, changed, record)
        return write_delta(path, delta)

    @plain_modes()
    def require_saved(
        self, directory: Path, rewritten: Any, learning_rate: float, feature_factor: Factor, part: str = "decoder"
    ) -> None:
        """Check that a folder holds the model that `rewrite_base_model` makes; raises `SavedRewriteError`."""
        with self._rewritten_parameters(learning_rate, feature_factor, part) as (base_model, changed):
            require_saved(directory, base_model, changed, rewritten)

    @contextmanager
    def _rewritten_parameters(
        self, learning_rate: float, feature_factor: Factor, part: str
    ) -> Iterator[tuple[Any, Iterator[tuple[str, Tensor]]]]:
        """The base model, and name and new values of each parameter of a rewrite; no other thread uses the model."""
        base_model, step = self._for_rewriting().base_model, self._step(learning_rate, feature_factor, part)
        with exclusive(base_model):
            refuse_undefined_weights(base_model)
            yield base_model, updated_parameters(base_model, self.gradiend.mapping, step)

    @plain_modes()
    def rewrite_record(
        self, learning_rate: float, feature_factor: Factor, part: str = "decoder", *,
        choice: RewriteChoice | None = None,
    ) -> RewriteRecord:  # fmt: skip
        """The record of a model that `rewrite_base_model` makes; arguments and errors are those of `export_delta`."""
        if choice is not None and not isinstance(choice, RewriteChoice):
            raise TypeError(f"choice must be a RewriteChoice; got {choice!r:.60}.")
        base_model, step = self._for_rewriting().base_model, self._step(learning_rate, feature_factor, part)
        with exclusive(base_model):
            entries = rewritten_entries(base_model, self.gradiend.mapping, step)
            changed = sum(int((new != old).sum()) for *_, old, new in entries)
            share = _share(changed, base_model, self.gradiend.mapping)
            fingerprint = hash_model_weights(base_model)
        refuse_no_change(share, step)
        factors = torch.as_tensor(feature_factor, dtype=torch.float64).squeeze().tolist()
        hashes = fingerprint, self.gradiend.weights_hash(), self.param_map_hash
        return RewriteRecord(self.name_or_path, *hashes, float(learning_rate), factors, part, share, choice)

    def _size_and_factor(
        self, learning_rate: float, factor: Factor | None, part: str, strengthen: str | None, weaken: str | None
    ) -> tuple[float, Factor]:
        """The step size and feature factor of a rewrite that may name a class instead of a factor."""
        goal = one_goal(strengthen, weaken)
        if (goal is None) == (factor is None):
            raise TypeError(
                "A rewrite needs one of feature_factor=…, strengthen='<class>' and weaken='<class>'; got "
                + ("none." if goal is None else "a feature_factor and a class.")
            )
        if goal is None:
            return learning_rate, factor if factor is not None else 0.0
        name, up = goal
        require_number("learning_rate", learning_rate)
        if learning_rate < 0:
            verb, other = ("strengthen", "weaken") if up else ("weaken", "strengthen")
            raise ValueError(
                f"A negative learning_rate ({learning_rate}) would turn {verb}={name!r} round: use a step above 0, or "
                f"{other}={name!r}."
            )
        factor = moving_factor(self.feature_class_encoding_direction, self.target, name, strengthen=up)
        # Only the decoder takes a feature factor; the sign of the step gives the direction of the other parts.
        return (learning_rate if parse_rewrite_part(part) == "decoder" else learning_rate * factor), factor

    def _step(self, learning_rate: float, feature_factor: Factor, part: str) -> Tensor:
        require_number("learning_rate", learning_rate)
        update = self.update_vector(feature_factor, part)
        step = float(learning_rate) * update.to(torch.promote_types(update.dtype, torch.float32))
        if not step.isfinite().all():
            raise ValueError(
                f"The update has infinite or undefined entries (learning_rate={learning_rate}): use smaller factors, "
                "or check the GRADIEND's weights."
            )
        return step

    def _for_rewriting(self) -> Self:
        """This model, or a copy around the base model that a rewrite changes, if another model makes the gradients."""
        return self
