"""One file for each kind of model, and a registry that finds the one of a model.

An objective (`gradiend.gradients.Objective`) owns everything in which kinds of models differ: which models are of the
kind, what a row's tokens are and what of them is scored, the logits, the language-modelling score, and what is saved
beside the GRADIEND. A new kind is a new file and a line below; outside of this package, `register` does the same.
"""

from gradiend.gradients import Objective
from gradiend.objectives.causal import Causal, is_decoder_only_model
from gradiend.objectives.causal_with_head import CausalWithHead, ModelWithHead
from gradiend.objectives.masked import Masked
from gradiend.objectives.registry import MAX_LENGTH, OBJECTIVES, kind_of, objective_of, register

# The last is asked first.
for kind in (Causal, Masked, CausalWithHead):
    register(kind)
del kind

__all__ = [
    "MAX_LENGTH",
    "OBJECTIVES",
    "Causal",
    "CausalWithHead",
    "Masked",
    "ModelWithHead",
    "Objective",
    "is_decoder_only_model",
    "kind_of",
    "objective_of",
    "register",
]
