"""A trainer's rewriting: from the results of its decoder evaluation to models and deltas."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradiend.evaluator._requests import require_trained
from gradiend.model.checkpoint import is_checkpoint
from gradiend.model.context import one_goal
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.trainer.rewriting import LastResults, plan_rewrites, with_delta_files, with_model_directories
from gradiend.util.keywords import known_keywords


class TrainerWithRewriting(FeatureLearningDefinition):
    """A trainer that applies what its decoder evaluation chose."""

    _last_results: LastResults | None = None

    @property
    @abstractmethod
    def model_path(self) -> str:
        """The base model before training, the directory of the trained GRADIEND afterwards."""

    @abstractmethod
    def get_model(self, use_cache: bool | None = None, *, load_directory: Any = None, **kwargs: Any) -> Any:
        """The model in memory, or the one at `model_path`."""

    def rewrite_base_model(
        self,
        decoder_results: Mapping[str, Any] | None = None,
        target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True,
        output_dir: str | None = None,
        base_model: Any = None,
        decoder_stats_metric_name: str | None = None,
        *,
        strengthen: str | Sequence[str] | None = None,
        weaken: str | Sequence[str] | None = None,
        **decoder_stats_kwargs: Any,
    ) -> Any:
        """The base model with the rewrite applied that a decoder evaluation chose.

            trainer.rewrite_base_model(results, strengthen="feminine", output_dir="rewritten")

        Args:
            decoder_results: What `evaluate_decoder` returned. Default: those in the experiment directory; without one,
                what this trainer's last evaluations of the same model have chosen.
            target_class: A key of the results (a class, or another metric), or several for one model each.
            increase_target_probabilities: False applies the weakening rewrite, `<class>_weaken`.
            output_dir: Save there, with the tokenizer and `gradiend_rewrite.json`. Several go to
                `<experiment_dir>/<key>`.
            base_model: The `ModelWithGradiend` to rewrite. Default: the trainer's.
            decoder_stats_metric_name: In the name of the file of the results. Default: the first class.
            strengthen: Short for `target_class` (one or several).
            weaken: Short for `target_class` with `increase_target_probabilities=False`.
            **decoder_stats_kwargs: What else is in that name (feature_factors, lrs, topk, part, topk_part).

        Returns:
            One class: the model, or the path with output_dir. Several: a list.

        Raises:
            TypeError, ValueError: An argument of another kind, no results or none for a class, no directory to save
                to; before any model is loaded. Or results in the experiment directory that another model gave; or a
                GRADIEND that is not trained.
        """
        root = self.experiment_dir
        goal = _goal(target_class, increase_target_probabilities, strengthen, weaken)
        plan = plan_rewrites(
            decoder_results, *goal, root, decoder_stats_metric_name, decoder_stats_kwargs, self._last_results
        )
        return with_model_directories(plan, output_dir, root).models(*self._rewritten_model(base_model))

    @known_keywords("Trainer.export_delta")
    def export_delta(
        self,
        decoder_results: Mapping[str, Any] | None = None,
        target_class: str | Sequence[str] | None = None,
        increase_target_probabilities: bool = True,
        path: str | Path | None = None,
        base_model: Any = None,
        *,
        strengthen: str | Sequence[str] | None = None,
        weaken: str | Sequence[str] | None = None,
    ) -> Any:
        """Write the entries that `rewrite_base_model` changes; `gradiend.apply_delta` applies them to a base model.

        Args:
            decoder_results: See `rewrite_base_model`.
            target_class: See `rewrite_base_model`; several give one delta each.
            increase_target_probabilities: See `rewrite_base_model`.
            path: A .safetensors file (one class), or a directory. Default: `<experiment_dir>/deltas`.
            base_model: See `rewrite_base_model`.
            strengthen: See `rewrite_base_model`.
            weaken: See `rewrite_base_model`.

        Returns:
            One class: the path of the file. Several: a list.

        Raises:
            TypeError, ValueError: See `rewrite_base_model`.
        """
        goal = _goal(target_class, increase_target_probabilities, strengthen, weaken)
        plan = plan_rewrites(decoder_results, *goal, self.experiment_dir, last=self._last_results)
        plan = with_delta_files(plan, path, self.experiment_dir)
        return plan.deltas(self._rewritten_model(base_model)[0])

    def _rewritten_model(self, given: Any) -> tuple[Any, str | None]:
        """The model whose GRADIEND rewrites, and the checkpoint that it comes from, if known."""
        model = self.get_model() if given is None else given
        require_trained(self, model)
        return model, self.model_path if given is None and is_checkpoint(self.model_path) else None


def _goal(
    target_class: str | Sequence[str] | None,
    increase: bool,
    strengthen: str | Sequence[str] | None,
    weaken: str | Sequence[str] | None,
) -> tuple[str | Sequence[str] | None, bool]:
    """The class or classes, and whether they are strengthened.

    Raises:
        TypeError: Classes in two places.
    """
    goal = one_goal(strengthen, weaken)
    if goal is None:
        return target_class, increase
    if target_class is not None:
        raise TypeError("target_class says which class already: leave it out with strengthen=… or weaken=….")
    return goal
