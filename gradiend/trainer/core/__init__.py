"""Arguments, callbacks, batches, optimizers and the training loop, for data of any modality."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.trainer.core.callbacks import CheckpointCallback as CheckpointCallback
    from gradiend.trainer.core.callbacks import EvaluationCallback as EvaluationCallback
    from gradiend.trainer.core.callbacks import LoggingCallback as LoggingCallback
    from gradiend.trainer.core.callbacks import NormalizationCallback as NormalizationCallback
    from gradiend.trainer.core.callbacks import TrainingCallback as TrainingCallback
    from gradiend.trainer.core.callbacks import get_default_callbacks as get_default_callbacks
    from gradiend.trainer.core.training import train as train

__all__, __dir__, __getattr__ = lazy_names(__name__)
