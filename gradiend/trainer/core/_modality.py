"""The protocol of a modality: what a trainer asks of its kind of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradiend.trainer.core._memory import Probe
    from gradiend.trainer.core.arguments import TrainingArguments


class Modality:
    """What a trainer asks of its kind of data, beside the six methods of `FeatureLearningDefinition`.

    The defaults know nothing of the data and are right for every kind of data: override what is known.
    """

    @property
    def target_classes(self) -> list[str] | None:
        """The classes that are told apart if the trainer names none; None if the data does not say them.

        Raises:
            ValueError: The data does not have two classes, or a class has a name that decoder results use already.
        """
        return None

    @property
    def all_classes(self) -> list[str] | None:
        """All classes in the data; None means that these are the target classes."""
        return None

    @property
    def plot_style(self) -> Mapping[str, Any]:
        """`img_format` and `dpi` of saved plots, if they differ from the defaults."""
        return {}

    def described(self) -> str | None:
        """What is known of the data, such as its rows in each split; None if nothing is. No data is read for this."""
        return None

    def card_facts(self) -> dict[str, Any]:
        """What a model's card says of the data: `words` and `n_words` of each class, `rows` of each split and class."""
        return {}

    def has_neutral_texts(self) -> bool | None:
        """Whether there are texts beside the rows that measure what a rewrite costs; None if that is not known."""
        return None

    def evaluation_split(self) -> str:
        """The split that trainings are evaluated on and seeds are compared on."""
        return "validation"

    def for_seed(self, index: int | None, strategy: str = "random") -> Modality:
        """The same data with the splits of the seed number `index` of several; None: with those of a single training.

        Raises:
            ValueError: The splits are not drawn, so that there is nothing to draw anew.
        """
        del strategy
        if index is None:
            return self
        raise ValueError("split_resplit_per_seed draws splits anew, and this kind of data draws none: leave it off.")

    @property
    def cycle_length(self) -> int:
        """After how many seeds a balanced cycle of splits begins again."""
        return 1

    def check_training_data(self, arguments: TrainingArguments) -> None:
        """Check the training data before a model is loaded or trained.

        Raises:
            ValueError: Data that cannot be trained on with these arguments.
        """

    def check_model(self, model: Any, arguments: TrainingArguments) -> None:
        """Check that a loaded model is of the kind that the arguments ask for.

        Raises:
            ValueError: It is of another kind.
        """

    def eval_data(
        self, model: Any, split: str | Sequence[str], max_size: int | None = None, include_other_classes: bool = False
    ) -> Any | None:
        """The labelled rows of a split as an `EncoderData`, which is encoded faster than gradients are computed.

        Args:
            model: The `ModelWithGradiend` that will encode the rows.
            split: Name of a split, a list of names, or "all".
            max_size: Cap on rows per class and split.
            include_other_classes: Whether rows of classes that are no target are added, with label 0.

        Returns:
            The rows; None if they are encoded by their gradients, see `FeatureLearningDefinition.create_eval_data`.
        """

    def memory_probe(self, trainer: Any, model: Any, arguments: TrainingArguments) -> Probe | None:
        """The traced passes of a training over the base model; None if their memory is not known."""

    def data_parts(
        self, *splits: str, include_other_classes: bool = False, transitions: Sequence[tuple[str, str]] | None = None
    ) -> dict[str, Any]:
        """Name → digest or setting of the data that results depend on; a cache only notices changes of these.

        Args:
            *splits: Names of the splits whose rows matter; "all" for every split.
            include_other_classes: Whether rows of classes that are no target matter too.
            transitions: The (factual class, alternative class) whose rows matter too.
        """
        del splits, include_other_classes, transitions
        return {}

    def measurement_parts(self) -> dict[str, Any]:
        """Name → digest or setting that evaluations depend on besides the rows and the class words."""
        return {}

    def head_directory(self, experiment_dir: str | None) -> str | None:
        """Directory of the auxiliary prediction head that a base model is trained with; None without a head."""
        del experiment_dir
        return None

    def with_head(self, model: Any, directory: str) -> Any:
        """What is loaded to give a base model the auxiliary head in `directory`: by default the directory itself.

        Args:
            model: Name, path or instance of the base model.
            directory: See `head_directory`.

        Raises:
            ValueError: The head was trained for another model.
        """
        del model
        return directory
