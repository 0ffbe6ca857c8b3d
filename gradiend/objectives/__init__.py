"""One file for each kind of model, and a registry that finds the objective of a model.

An objective (`gradiend.gradients.Objective`) owns everything in which kinds of models differ: which models are of the
kind, what a row's tokens are and which of them are scored, the logits, the language-modelling score, and what is saved
beside the GRADIEND. A new kind is a new file and a line below; outside of this package, `register` does the same.
"""

from gradiend.gradients import Objective as Objective
from gradiend.objectives.causal import Causal as Causal
from gradiend.objectives.causal import is_decoder_only_model as is_decoder_only_model
from gradiend.objectives.causal_with_head import CausalWithHead as CausalWithHead
from gradiend.objectives.causal_with_head import DecoderModelWithMLMHead as DecoderModelWithMLMHead
from gradiend.objectives.causal_with_head import ModelWithHead as ModelWithHead
from gradiend.objectives.causal_with_head import with_saved_head as with_saved_head
from gradiend.objectives.masked import Masked as Masked
from gradiend.objectives.registry import MAX_LENGTH as MAX_LENGTH
from gradiend.objectives.registry import OBJECTIVES as OBJECTIVES
from gradiend.objectives.registry import kind_of as kind_of
from gradiend.objectives.registry import objective_of as objective_of
from gradiend.objectives.registry import register as register
from gradiend.objectives.registry import wanted_kind as wanted_kind
from gradiend.util._imports import public_names

# The kind that is registered last is asked first.
for kind in (Causal, Masked, CausalWithHead):
    register(kind)
del kind

__all__ = list(public_names(__name__))
