"""Cutting texts into sentences: time is linear in the length of any run."""

from __future__ import annotations

import time

import pytest

from gradiend import TextFilterConfig, TextPreprocessConfig, preprocess_texts
from gradiend.data.text._preprocess import split_sentences
from gradiend.data.text.prediction import filter_sentences
from gradiend.data.unified._casing import capitalised_by_place

N = 20_000
RUNS = """. !? ?! … " ' ." .') .) ( » [ J. a.b. he' ’a _ <extra_id_ <mask 。 。」 他。""".split()
RUNS += [" ", "\t", "\u00a0", "\n", ". ", ".\t", ".. a ", ".. ", "! ", "Mr. ", "J. ", "\u0301", "\u00ad"]
RUNS += ["he ", "he\u0301 ", "at  "]


@pytest.mark.parametrize("run", RUNS)
def test_long_runs_take_linear_time(run: str) -> None:
    for text in (run * N, f"He left{run * N}", f"{run * N}He left.", f"He{run * N}she left. He came."):
        start = time.process_time()
        sentences = preprocess_texts([text], TextPreprocessConfig(split_to_sentences=True))
        assert "".join("".join(sentences).split()) == "".join(text.split())
        filter_sentences([text], TextFilterConfig(["he", "at least", "n't"]))
        capitalised_by_place(f"{text}[MASK]", "He")
        # Quadratic time would be minutes.
        assert time.process_time() - start < 5


def test_what_a_run_of_stops_ends() -> None:
    assert list(split_sentences("So..... He left!?!? She came.")) == ["So.....", "He left!?!?", "She came."]
    assert list(split_sentences("Mr. J. Smith left... he said. Then.")) == ["Mr. J. Smith left... he said.", "Then."]
    assert list(split_sentences("我爱他。我爱她！“真的？”他说。")) == ["我爱他。", "我爱她！", "“真的？”", "他说。"]
    assert list(split_sentences("彼は来た。「本当？」と彼女は言った")) == ["彼は来た。", "「本当？」", "と彼女は言った"]
