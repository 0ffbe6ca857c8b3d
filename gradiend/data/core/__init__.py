"""Where texts come from and where tables go: corpora, files, data sets, output folders, and the door to spaCy."""
