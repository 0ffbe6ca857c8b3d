"""Which feature factor moves a class: the sign of the step along the decoded direction."""

from __future__ import annotations

from typing import Any

from gradiend.model.sides import Side
from gradiend.util.keywords import nearest, nearest_first


def derive_feature_factor_for_class(
    trainer: Any, model_with_gradiend: Any = None, class_name: str | None = None, *, strengthen: bool = True
) -> float:
    """The feature factor that strengthens (or weakens) a class: −label of the class, +label for target="alternative".

    With target diff or factual, decoding the label of a class gives the gradient that makes its word less likely
    (docs/method.md). Several latents all get it, though training gives none of them its sign.

    Raises:
        ValueError: No or an unknown class, or a model that does not know its encoding direction.
    """
    model = trainer.get_model() if model_with_gradiend is None else model_with_gradiend
    direction = model.feature_class_encoding_direction
    if not direction:
        raise ValueError("The model does not know which class it encodes positive: train it, or set the direction.")
    targets = [name for name, sign in direction.items() if sign]
    if class_name not in targets:
        raise ValueError(
            f"{class_name!r} is no target class of this model; they are "
            f"{', '.join(nearest_first(str(class_name), targets))}.{nearest(str(class_name), targets)}"
        )
    sign = float(direction[str(class_name)])
    return sign if (model.target == Side.ALTERNATIVE.value) == strengthen else -sign


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
