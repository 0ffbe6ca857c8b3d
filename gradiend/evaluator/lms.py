"""The tokens that the language-modelling score may ask for."""

from gradiend.evaluator._measurements import tokenize_texts as tokenize_texts
