"""What a trainer asks of its kind of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradiend.trainer.core._memory import Probe
    from gradiend.trainer.core.arguments import TrainingArguments


class Modality:
    """What a trainer asks of its kind of data, beside the six methods of `FeatureLearningDefinition`.

    The defaults know nothing of the data and are right for every kind: override what is known.
    """

    @property
    def target_classes(self) -> list[str] | None:
        """The classes that are told apart where the trainer names none; None if the data does not say them.

        Raises:
            ValueError: The data has other than two, or a name that decoder results use for something else.
        """
        return None

    @property
    def all_classes(self) -> list[str] | None:
        """All classes in the data; None: the target classes."""
        return None

    @property
    def plot_style(self) -> Mapping[str, Any]:
        """`img_format` and `dpi` of saved plots, where they are not the usual ones."""
        return {}

    def evaluation_split(self) -> str:
        """The split that trainings are evaluated on and seeds are compared on."""
        return "validation"

    def check_training_data(self, arguments: TrainingArguments) -> None:
        """Raise what is wrong with the training data, before a model is loaded or trained.

        Raises:
            ValueError: Data that cannot be trained on with these arguments.
        """

    def eval_data(
        self, model: Any, split: str, max_size: int | None = None, include_other_classes: bool = False
    ) -> Any | None:
        """The labelled rows of a split as an `EncoderData`, which is encoded faster than gradients are computed.

        Args:
            model: The `ModelWithGradiend` that will encode the rows.
            split: Which rows.
            max_size: Cap on rows per class.
            include_other_classes: Whether classes that are no target come along, with label 0.

        Returns:
            None: the rows are encoded through their gradients, see `FeatureLearningDefinition.create_eval_data`.
        """

    def memory_probe(self, trainer: Any, model: Any, arguments: TrainingArguments) -> Probe | None:
        """Trace the passes of a training over the base model; None: what these passes take is not known."""

    def data_parts(self, *splits: str, include_other_classes: bool = False) -> dict[str, Any]:
        """Name → digest or setting of the data that results depend on; a cache only notices what is named here.

        Args:
            *splits: Whose rows matter.
            include_other_classes: Whether rows of classes that are no target matter too.
        """
        del splits, include_other_classes
        return {}

    def measurement_parts(self) -> dict[str, Any]:
        """Name → digest or setting that evaluations depend on besides the rows and the class words."""
        return {}

    def head_directory(self, experiment_dir: str | None) -> str | None:
        """Directory of an auxiliary prediction head that a base model is trained with; None: without one."""
        del experiment_dir
        return None

    def with_head(self, model: Any, directory: str) -> Any:
        """What is loaded so that a base model has the auxiliary head in `directory`: by default the directory itself.

        Args:
            model: Name, path or instance of the base model.
            directory: See `head_directory`.

        Raises:
            ValueError: The head was trained for another model.
        """
        del model
        return directory
