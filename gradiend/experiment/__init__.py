"""A whole experiment from one file, or from Python: data, training, evaluations, rewritten models, report."""

from typing import TYPE_CHECKING

from gradiend.util._imports import lazy_names

if TYPE_CHECKING:
    from gradiend.experiment._fields import ExperimentError as ExperimentError
    from gradiend.experiment._fields import experiment_schema as experiment_schema
    from gradiend.experiment._info import describe as describe
    from gradiend.experiment._plan import Plan as Plan
    from gradiend.experiment._plan import plan_run as plan_run
    from gradiend.experiment._reading import read_experiment as read_experiment
    from gradiend.experiment._record import read_record as read_record
    from gradiend.experiment.run import ExperimentRun as ExperimentRun
    from gradiend.experiment.run import run_experiment as run_experiment
    from gradiend.experiment.sections import AuxiliaryHead as AuxiliaryHead
    from gradiend.experiment.sections import Corpus as Corpus
    from gradiend.experiment.sections import DecoderEvaluation as DecoderEvaluation
    from gradiend.experiment.sections import Delta as Delta
    from gradiend.experiment.sections import EncoderEvaluation as EncoderEvaluation
    from gradiend.experiment.sections import Evaluation as Evaluation
    from gradiend.experiment.sections import Experiment as Experiment
    from gradiend.experiment.sections import FeatureClass as FeatureClass
    from gradiend.experiment.sections import Report as Report
    from gradiend.experiment.sections import Rewrite as Rewrite
    from gradiend.experiment.sections import SideEffects as SideEffects

# On first use: the command shows its help, and completes flags, without PyTorch.
__all__, __dir__, __getattr__ = lazy_names(__name__)
