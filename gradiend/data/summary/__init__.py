"""What is in the data: rows, words, lengths, leaks between splits, examples, and what was dropped."""

from gradiend.data.summary.result import ClassSummary, DataSummary, Lengths, Overlap, WordSummary, beside_others
from gradiend.data.summary.summarise import summarise

__all__ = ["ClassSummary", "DataSummary", "Lengths", "Overlap", "WordSummary", "beside_others", "summarise"]
