"""Where texts come from and where tables go: corpora, files, output folders."""
