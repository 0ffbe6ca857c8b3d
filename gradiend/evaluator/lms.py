"""The tokens that the language-modelling score may ask for."""

from gradiend.evaluator._language_score import tokenize_texts as tokenize_texts
