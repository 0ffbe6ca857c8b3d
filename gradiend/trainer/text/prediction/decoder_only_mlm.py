"""The auxiliary masked-LM head of decoder-only models: the model, its training and its data."""

from gradiend.objectives import DecoderModelWithMLMHead
from gradiend.objectives.head_training import DataFrameMLMDataset, train_mlm_head

__all__ = ["DataFrameMLMDataset", "DecoderModelWithMLMHead", "train_mlm_head"]
