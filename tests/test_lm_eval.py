"""Measurements of a language model against plain loops over single texts."""

import math
import random

import pandas as pd
import pytest
import tiny
import torch

from gradiend.objectives import Masked
from gradiend.trainer.text import (
    AutoModelForLM,
    AutoTokenizerForLM,
    InstructTokenizerWrapper,
    create_masked_pair_from_text,
)
from gradiend.trainer.text.common.lm_eval import evaluate_clm, evaluate_clm_perplexity, evaluate_mlm
from gradiend.trainer.text.prediction.decoder_eval_utils import compute_lms, evaluate_probability_shift_score

TEXTS = ["the old baker saw the river and then he was tired", "a lamp was near the door of the house", "she was old"]


@pytest.fixture(scope="module")
def masked():
    return tiny.bert().eval(), tiny.bert_tokenizer()


@pytest.fixture(scope="module")
def causal():
    family = tiny.FAMILIES["gpt2"]
    return family.build().eval(), family.tokenizer()


@torch.no_grad()
def causal_scores(model, tokenizer, text):
    """(log p of each token after the first, the predicted ids, the true ids), by one plain forward pass."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    logits = model(ids).logits[0, :-1]
    true = ids[0, 1:]
    return logits.log_softmax(-1)[torch.arange(len(true)), true], logits.argmax(-1), true


def test_perplexity(causal, tmp_path):
    model, tokenizer = causal
    found = evaluate_clm_perplexity(model, tokenizer, TEXTS, file=tmp_path / "result.json", batch_size=2)
    scores = torch.cat([causal_scores(model, tokenizer, text)[0] for text in TEXTS])
    assert found["total_tokens"] == len(scores)
    assert found["total_log_likelihood"] == pytest.approx(-float(scores.sum()), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(-float(scores.mean())), rel=1e-4)
    assert found["lms"] == pytest.approx(1 / (1 + math.log(found["perplexity"])))
    assert found["lms"] == pytest.approx(compute_lms(model, tokenizer, TEXTS)["lms"])
    assert (tmp_path / "result.json").is_file()


def test_the_last_token_of_each_text(causal, tmp_path):
    model, tokenizer = causal
    scores, frame = evaluate_clm(model, tokenizer, TEXTS, file=tmp_path / "rows.csv")
    assert frame["sentence"].tolist() == TEXTS
    for row, text in zip(frame.itertuples(), TEXTS, strict=True):
        _, predicted, true = causal_scores(model, tokenizer, text)
        assert [row.true, row.predicted] == tokenizer.convert_ids_to_tokens([int(true[-1]), int(predicted[-1])])
        assert row.token_index == len(true)
    assert scores["accuracy"] == frame["correct"].mean()
    assert len(pd.read_csv(tmp_path / "rows.csv")) == 3


@torch.no_grad()
def test_masked_tokens(masked):
    model, tokenizer = masked
    scores, frame = evaluate_mlm(model, tokenizer, TEXTS, ignore=["baker"], batch_size=2)
    assert set(scores) == {"accuracy", "precision", "recall", "f1", "lms"}
    assert list(frame.columns) == ["sentence", "token_index", "true", "predicted", "correct", "score"]
    assert "baker" not in set(frame["true"])
    # Every free token is asked for once, since there are fewer than 2 000.
    assert not frame.duplicated(["sentence", "token_index"]).any()
    assert len(frame) == sum(len(text.split()) for text in TEXTS) - 1
    assert scores["lms"] == scores["accuracy"] == frame["correct"].mean()
    assert scores["lms"] == compute_lms(model, tokenizer, TEXTS, ignore=["baker"])["lms"]
    alone = frame[frame["sentence"] == "she was old"]
    for row in alone.itertuples():
        ids = tokenizer("she was old", return_tensors="pt")["input_ids"]
        ids[0, row.token_index] = tokenizer.mask_token_id
        logits = model(ids).logits[0, row.token_index]
        assert row.score == pytest.approx(float(logits.max()), abs=1e-4)
        assert row.predicted == tokenizer.convert_ids_to_tokens(int(logits.argmax()))


def test_the_wrong_kind_of_model_is_named(masked, causal):
    with pytest.raises(ValueError, match="evaluate_clm"):
        evaluate_mlm(*causal, TEXTS)
    with pytest.raises(ValueError, match="evaluate_mlm"):
        evaluate_clm_perplexity(*masked, TEXTS)
    with pytest.raises(ValueError, match="no token"):
        evaluate_mlm(*masked, [""])


@torch.no_grad()
@pytest.mark.parametrize("column", ["label_class", "factual_id", "own"])
def test_class_probabilities(masked, column):
    model, tokenizer = masked
    frame = pd.DataFrame(
        {
            "masked": ["the baker saw [MASK] .", "[MASK] was old .", "then [MASK] sold the house ."],
            column: ["a", "b", "a"],
        }
    )
    targets = {"SG": ["he", "she"], "PL": ["they"]}
    found = evaluate_probability_shift_score(
        model, tokenizer, targets, frame, dataset_class_col="own" if column == "own" else None
    )
    for dataset, rows in frame.groupby(column):
        for name, words in targets.items():
            total = 0.0
            for text in rows["masked"]:
                ids = tokenizer(text, return_tensors="pt")["input_ids"]
                probabilities = model(ids).logits[0, ids[0] == tokenizer.mask_token_id].softmax(-1)[0]
                total += float(probabilities[tokenizer.convert_tokens_to_ids(words)].sum())
            assert found[dataset][name] == pytest.approx(total / len(rows), abs=1e-6)
    with pytest.raises(ValueError, match="text"):
        evaluate_probability_shift_score(model, tokenizer, targets, frame, key_text="text")


class TestMaskedPair:
    def test_the_word_fits_its_place(self, masked):
        tokenizer = masked[1]
        random.seed(0)
        chosen = set()
        for _ in range(30):
            text, word = create_masked_pair_from_text(TEXTS[0], tokenizer, False, excluded_tokens=["HE"])
            assert text.replace("[MASK]", word) == TEXTS[0]
            chosen.add(word)
        assert chosen == {"river", "and", "then", "was", "tired"}
        words = Masked(tokenizer, max_length=64)
        assert tokenizer.unk_token_id not in words.tokenize([text], [word])[0].tokens

    def test_a_causal_model_gets_the_left_side(self, causal):
        text, word = create_masked_pair_from_text(TEXTS[0], causal[1], True, mask_token="<here>")
        assert TEXTS[0].startswith(text.replace("<here>", word))
        assert text.endswith("<here>")

    def test_nothing_to_mask(self, masked):
        assert create_masked_pair_from_text("she was old", masked[1], False) is None


def test_prompts_for_chat_models(causal):
    tokenizer = causal[1]
    wrapped = InstructTokenizerWrapper(tokenizer, user_prompt_header="person")
    prompt = wrapped.prompt("the old")
    assert "person" in prompt
    assert prompt.index("the old") < prompt.index("assistant")
    assert wrapped("the old")["input_ids"] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert wrapped(["the old", "a"])["input_ids"][0] == wrapped("the old")["input_ids"]
    assert wrapped.tokenize("the old") == tokenizer.tokenize(prompt)
    assert wrapped.decode(wrapped.convert_tokens_to_ids(["a", "b"])) == "ab"
    assert wrapped.eos_token == tokenizer.eos_token
    tokenizer = tiny.gpt2_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}answer:"
    own = InstructTokenizerWrapper(tokenizer).prompt("the old")
    assert own.endswith("user: the old\nanswer:")


def test_a_saved_model_is_found_whatever_its_kind(masked, causal, tmp_path):
    for model, tokenizer in (masked, causal):
        path = tmp_path / type(model).__name__
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        assert type(AutoModelForLM.from_pretrained(str(path))) is type(model)
        assert AutoTokenizerForLM.from_pretrained(path).mask_token == tokenizer.mask_token
