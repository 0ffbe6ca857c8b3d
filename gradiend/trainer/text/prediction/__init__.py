"""Features seen in the prediction of a word at a placeholder."""
