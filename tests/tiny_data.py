"""A tiny saved BERT and texts about he/she (singular) and they (plural) in its vocabulary, for whole trainings."""

from __future__ import annotations

import itertools

import pandas as pd
import tiny

from gradiend import TextPredictionTrainer, TrainingArguments

WHO = ("baker", "nurse", "sailor", "cat", "dog")
WHERE = ("house", "river", "door", "lamp")
WORDS = {"SG": ("he", "she"), "PL": ("they",)}
QUICK = {"train_batch_size": 4, "max_steps": 4, "eval_steps": 2, "learning_rate": 1e-3, "max_seeds": 1}


def rows(words=WORDS) -> pd.DataFrame:
    """40 rows a class: 24 for training, 8 each for validation and test."""
    found = []
    for name, forms in words.items():
        for number, (who, where, old) in enumerate(itertools.product(WHO, WHERE, ("old", "new"))):
            found.append(
                {
                    "masked": f"the {old} {who} was near the {where} and then [MASK] saw the bread .",
                    "label": forms[number % len(forms)],
                    "label_class": name,
                    "split": ("train", "train", "train", "validation", "test")[number % 5],
                }
            )
    return pd.DataFrame(found)


def save_bert(directory) -> str:
    """A tiny BERT with its tokenizer, loadable by name."""
    tiny.bert().save_pretrained(directory)
    tiny.bert_tokenizer().save_pretrained(directory)
    return str(directory)


def trainer(path, args=None, data=None, **kwargs) -> TextPredictionTrainer:
    """A trainer that takes four steps."""
    arguments = args if isinstance(args, TrainingArguments) else TrainingArguments(**{**QUICK, **(args or {})})
    return TextPredictionTrainer(
        path, data=rows() if data is None else data, target_classes=["SG", "PL"], args=arguments, **kwargs
    )
