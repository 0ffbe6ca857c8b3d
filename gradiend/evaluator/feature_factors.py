"""Which feature factor moves a class: the sign of the step along the decoded direction."""

from __future__ import annotations

from typing import Any

from gradiend.model.context import moving_factor


def derive_feature_factor_for_class(
    trainer: Any, model_with_gradiend: Any = None, class_name: str | None = None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class, see `moving_factor` in `gradiend.model.context`.

    Several latents all get it, though training gives none of them its sign.

    Raises:
        ValueError: No or an unknown class, or a model that does not know its encoding direction.
    """
    model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
    return moving_factor(model.feature_class_encoding_direction, model.target, class_name, strengthen=strengthen)


derive_default_feature_factor = derive_feature_factor_for_class


def default_decoder_feature_factors(trainer: Any, model_with_gradiend: Any = None) -> list[float]:
    """The strengthening factor of each target class, in their order.

    Raises:
        ValueError: No target classes, or no encoding direction.
    """
    classes = trainer.target_classes or trainer.config.target_classes
    if not classes:
        raise ValueError(
            "The trainer has no target_classes, so there is no default feature factor: pass feature_factors."
        )
    return [derive_feature_factor_for_class(trainer, model_with_gradiend, name) for name in classes]
