"""The auxiliary masked-LM head of decoder-only models: model, training, data."""

from gradiend.objectives.causal_with_head import DecoderModelWithMLMHead
from gradiend.objectives.head_training import DataFrameMLMDataset, train_mlm_head

__all__ = ["DataFrameMLMDataset", "DecoderModelWithMLMHead", "train_mlm_head"]
