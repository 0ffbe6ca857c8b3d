"""Features that show in the prediction of a word at a placeholder."""
