"""The mark of the feature word in a text."""

PLACEHOLDER = "[MASK]"
"""Stands for the feature word, whatever the tokenizer calls its mask; only the first of a text is scored."""
