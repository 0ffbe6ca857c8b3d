"""From decoder results to rewritten models on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradiend.util.keywords import nearest


@dataclass(frozen=True)
class Rewrite:
    """The rewrite that an evaluation chose for a class."""

    target_class: str
    learning_rate: float
    feature_factor: float
    part: str

    def arguments(self) -> dict[str, Any]:
        """Keywords of `ModelWithGradiend.rewrite_base_model`; parts other than decoder take the factor in the step."""
        if self.part == "decoder":
            return {"learning_rate": self.learning_rate, "feature_factor": self.feature_factor}
        step = self.learning_rate * self.feature_factor
        return {"learning_rate": step, "feature_factor": self.feature_factor, "part": self.part}


def find_rewrites(
    decoder_results: Mapping[str, Any], target_class: str | Sequence[str], strengthen: bool
) -> list[Rewrite]:
    """The chosen rewrite of each class.

    Raises:
        ValueError: No class, or one without a result.
    """
    if not isinstance(decoder_results, Mapping):
        kind = type(decoder_results).__name__
        raise TypeError(f"decoder_results must be what evaluate_decoder() returned; got {kind}.")
    if not isinstance(target_class, (str, list, tuple)):
        raise TypeError(f"target_class must be a class name or a list of them; got {target_class!r}.")
    classes = [target_class] if isinstance(target_class, str) else list(target_class or ())
    if not classes:
        raise ValueError("rewrite_base_model needs target_class, the class to strengthen or weaken.")
    rewrites = []
    for name in classes:
        key = name if strengthen else f"{name}_weaken"
        known = [item for item in decoder_results if item not in {"grid", "plot_path", "plot_paths"}]
        if key not in known:
            call = "evaluate_decoder()" if strengthen else "evaluate_decoder(increase_target_probabilities=False)"
            raise ValueError(
                f"The decoder results have {', '.join(known) or 'the grid'} but no {key!r}. Either it was not measured "
                f"(run {call}), or no step kept the LMS (give smaller lrs).{nearest(key, known)}"
            )
        summary = decoder_results[key]
        rewrites.append(
            Rewrite(name, summary["learning_rate"], summary["feature_factor"], summary.get("part", "decoder"))
        )
    return rewrites


def save_rewritten(rewritten: Any, model: Any, directory: str) -> str:
    """Save a rewritten base model, and the tokenizer beside it, so that plain transformers loads both."""
    rewritten.save_pretrained(directory)
    model.tokenizer.save_pretrained(directory)
    return directory
