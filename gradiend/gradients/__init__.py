"""The engine: base model → gradients and encodings."""
