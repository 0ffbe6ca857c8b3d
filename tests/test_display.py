"""What objects show in a shell and in a notebook: whole texts, escaping, and what results stay: dicts."""

import copy
import dataclasses
import html
import json
import pickle
import re
import sys

import pandas as pd
import pytest
import torch
from test_data_summary import Tags

from gradiend import (
    GradiendModel,
    LRSearchConfig,
    ModelWithGradiend,
    ParamMappedGradiendModel,
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    TrainingArguments,
)
from gradiend.demo import model_path
from gradiend.evaluator import get_encoder_metrics_from_dataframe
from gradiend.evaluator._results import DecoderResult, EncoderResult, EvaluationResult
from gradiend.experiment import Corpus, Experiment
from gradiend.model._rewrite_files import RewriteChoice, RewriteRecord
from gradiend.trainer.core._memory import MemoryEstimate, MemoryUse
from gradiend.trainer.core._rate_result import LRProbe, LRSearchResult, ProbePoint
from gradiend.trainer.core.stats import SeedReport, TrainingStats
from gradiend.util._display import Result, Shown, Table, as_text, facts

DEMO = str(model_path())
EVIL = "<script>alert('x')</script> & \x1b[2J"
MEANS = {"-1.0": -0.99, "0.0": 0.01, "1.0": 0.98}


def encodings() -> pd.DataFrame:
    kind = ["training"] * 4 + ["neutral_dataset"] * 2
    source = ["3SG", "3SG", "3PL", "3PL", "n", "n"]
    label = [1.0, 1.0, -1.0, -1.0, 0.0, 0.0]
    return pd.DataFrame({"encoded": [0.9, 1, -1, -0.8, 0.1, 0], "label": label, "type": kind, "source_id": source})


def chosen(**more) -> dict:
    ratio = {"value": 0.99071, "standard_error": 0.00114, "low": 0.98, "high": 1.0}
    one = {"value": 0.794, "base_value": 0.0743, "feature_factor": -1.0, "learning_rate": 0.0477, "strengthen": True}
    return {**one, "lms": 0.5, "base_lms": 0.5, "likelihood_ratio": ratio, "why": "It is the best.", **more}


def decoder() -> DecoderResult:
    nothing = dict.fromkeys(("value", "feature_factor", "learning_rate", "id", "lms"))
    return DecoderResult(
        {
            "3SG": chosen(value_interval=[0.7, 0.8]),
            "3PL_weaken": chosen(value_interval=None, strengthen=False, likelihood_ratio=None, note="At the edge."),
            "balance": chosen(feature_factor=(1.0, 0.5)),
            "3PL": {**nothing, "strengthen": True, "base_lms": 0.5, "base_value": 0.1, "reason": "No step is allowed."},
            "grid": {"base": {}, (1.0, 0.1): {}, (-1.0, 0.1): {}},
            "plot_path": "shifts.png",
        }
    )


def stats(**more) -> TrainingStats:
    outcome = {"convergence_metric": "correlation", "convergence_metric_value": 0.9876, "threshold": 0.5}
    training = {"global_step": 200, "mean_by_class": {"100": MEANS}, "label_value_to_class_name": {"1.0": "3SG"}}
    return TrainingStats(
        training_stats=training, best_score_checkpoint={"global_step": 100}, losses=[0.5, 0.25],
        training_args={"learning_rate": 1e-3, "seed": 7}, time={"total": 12.34},
        convergence_info={**outcome, "converged": True, **more},
    )  # fmt: skip


def seeds() -> SeedReport:
    runs = [
        {"seed": 0, "converged": False, "reason": "its loss rose", "eval_correlation": None, "selection_score": -0.1},
        {"seed": 1, "converged": True, "eval_correlation": 0.99, "selection_score": 0.99},
    ]
    return SeedReport(runs=runs, best_seed=1, convergent_count=1, early_stop_reason="1 of 2 seeds have converged")


def search() -> LRSearchResult:
    good = ProbePoint(20, 0.99, {"1": 0.9, "-1": -0.8}, 0.8, 0.5)
    bad = ProbePoint(20, None, None, None, float("inf"))
    probes = (LRProbe(0.001, "converged", (good,)), LRProbe(0.1, "diverged", (bad,)))
    return LRSearchResult("converged", 0.001, probes, "It is the fastest.", {})


def memory() -> MemoryEstimate:
    uses = (MemoryUse("base model", "cpu", 2**30, held=True), MemoryUse("GRADIEND weights", "cpu", 2**29))
    return MemoryEstimate({"training steps": (*uses, MemoryUse("activations", "cpu", 2**20))}, 1234)


GOALS = {"goals": {"SG_weaken": {}}}


@pytest.mark.parametrize(
    ("choice", "told"),
    [(RewriteChoice("SG", "weaken", value=0.983), ["weaken SG", "0.017"]),
     (RewriteChoice("SG", "weaken", value=0.983, facts=GOALS), ["weaken SG", "0.017"]),
     (RewriteChoice("score", "weaken", value=0.983, facts={"goals": {}}), ["weaken score", "0.983"]),
     (RewriteChoice("balance", "balance", value=0.25), ["balance", "0.250"])],
)  # fmt: skip
def test_a_record_says_the_probability_of_a_weakened_class(choice, told):
    text = str(dataclasses.replace(record(), choice=choice))
    assert re.search(rf"goal +{told[0]}\n *value +{told[1]}\n", text)


def record() -> RewriteRecord:
    choice = RewriteChoice("3SG", "strengthen", "run/model", 0.794)
    return RewriteRecord("bert", "f" * 64, "g" * 64, "m" * 32, 0.0477, -1.0, "decoder", 0.5, choice, "1.2")


def mapped(**more) -> ParamMappedGradiendModel:
    kept = {"shape": (2, 3), "repr": "indices", "indices": torch.tensor([0, 5])}
    given = {"a.weight": {"shape": (4,), "repr": "all"}, "b.weight": kept}
    return ParamMappedGradiendModel(6, 1, given, base_model="bert", **more)


def creator(**more) -> TextPredictionDataCreator:
    targets = [TextFilterConfig(["he", "she"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    return TextPredictionDataCreator(["He went."], feature_targets=targets, **more)


SHOWN = {
    "trainer": (
        lambda: TextPredictionTrainer(
            "/nowhere/model",
            data="/nowhere/rows.csv",
            target_classes=["3SG", "3PL"],
            args=TrainingArguments(max_steps=5, max_seeds=2, experiment_dir="/nowhere/run"),
            run_id="first",
        ),
        """\
TextPredictionTrainer
  model      /nowhere/model
  classes    3SG (+1), 3PL (-1)
  data       not read yet
  run        first
  state      not trained
  seeds      0 and up to 1 more, until 1 converged
  arguments  experiment_dir='/nowhere/run', max_steps=5, max_seeds=2""",
    ),
    "model": (
        lambda: ModelWithGradiend.from_pretrained(DEMO, params=["*layer.0.attention.self*"]),
        f"""\
TextPredictionModelWithGradiend
  base model  BertForMaskedLM {DEMO!r}
  reads       factual gradients
  reproduces  diff gradients

ParamMappedGradiendModel: 49,536 entries → 1 → 49,536 entries
  covers      all 49,536 entries of 6 parameters
  activation  tanh, decoder id with bias
  weights     random, not trained; float32 on cpu
  base model  {DEMO}""",
    ),
    "network": (
        lambda: GradiendModel(20, 2, bias_decoder=False, lazy_init=True, torch_dtype=torch.bfloat16),
        """\
GradiendModel: 20 entries → 2 → 20 entries
  activation  tanh, decoder id without bias
  weights     not made yet; bfloat16 on cpu""",
    ),
    "pruned network": (
        mapped,
        """\
ParamMappedGradiendModel: 6 entries → 1 → 6 entries
  covers      6 of 10 entries (60 %) in 2 of 2 parameters
  activation  tanh, decoder id with bias
  weights     random, not trained; float32 on cpu
  base model  bert""",
    ),
    "encoder": (
        lambda: get_encoder_metrics_from_dataframe(encodings(), n_resamples=0),
        """\
Encoder: 6 rows encoded
  correlation                 0.996
  AUC                         1.000
  accuracy on target classes  1.000
  mean of neutral texts       neutral_dataset +0.05
  class  label  rows  mean encoding
  -----  -----  ----  -------------
  3SG    +1        2  +0.95
  3PL    -1        2  -0.90""",
    ),
    "no encodings": (lambda: EncoderResult(n_samples=0, correlation=None), "Encoder\n  no rows were encoded."),
    "decoder": (
        decoder,
        """\
Decoder: the chosen rewrites
  goal        measured            before  after  step    factor  likelihood kept
  ----------  ------------------  ------  -----  ------  ------  ---------------
  3SG         P(3SG)              0.074   0.794  0.0477  -1      0.9907 ± 0.0011
  3PL_weaken  1 - P(3PL)          0.074   0.794  0.0477  -1      1.0000
  balance     gap of the classes  0.074   0.794  0.0477  1, 0.5  0.9907 ± 0.0011
  3PL         –                   0.100   –      –       –       –
  3SG: It is the best.
  3PL_weaken: It is the best.
  3PL_weaken: At the edge.
  balance: It is the best.
  3PL: No step is allowed.
  grid  2 measured rewrites
  plot  shifts.png""",
    ),
    "evaluation": (
        lambda: EvaluationResult(
            encoder=EncoderResult(n_samples=0, correlation=None), decoder=DecoderResult(grid={"base": {}})
        ),
        """\
Evaluation

Encoder: no rows were encoded.

Decoder: the chosen rewrites: none.
  grid  0 measured rewrites""",
    ),
    "training": (
        stats,
        """\
Training: 200 steps
  converged      yes; correlation 0.988, at least 0.5 is asked for
  kept           step 100
  class means    3SG +0.98, -1.0 -0.99
  loss           0.5 → 0.25
  learning rate  0.001
  seed           7
  time           total 12.3 s""",
    ),
    "seeds": (
        seeds,
        """\
Seeds: 1 of 2 have converged
  seed      converged          validation correlation  score
  --------  -----------------  ----------------------  ------
  0         no: its loss rose  –                       -0.100
  1 (kept)  yes                0.990                   0.990
  No further seeds were tried: 1 of 2 seeds have converged.""",
    ),
    "search": (
        search,
        """\
Search for a learning rate: converged
  rate          outcome    steps to 0.95  correlation  class means    loss / that of zeros
  ------------  ---------  -------------  -----------  -------------  --------------------
  0.001 (best)  converged  19             0.990        +0.90 / -0.80  0.5
  0.1           diverged   –              –            –              inf
  It is the fastest.""",
    ),
    "memory": (
        memory,
        """\
Memory of a training of 1,234 entries: about 0.50 GiB on cpu
  device  phase           memory    for
  ------  --------------  --------  --------------------------------------------
  cpu     training steps  0.50 GiB  GRADIEND weights 0.50 GiB, activations 1 MiB""",
    ),
    "record": (
        record,
        """\
RewriteRecord
  base model       bert
  goal             strengthen 3SG
  value            0.794
  step             0.0477
  feature factor   -1.0
  part             decoder
  entries changed  50.0%
  GRADIEND         run/model
  made by          gradiend 1.2""",
    ),
    "creator": (
        creator,
        """\
TextPredictionDataCreator
  texts  list
  seed   42
  class  words
  -----  -------
  3SG    he, she
  3PL    they""",
    ),
    "pruning": (lambda: PrePruneConfig(topk=0.1), "PrePruneConfig(topk=0.1)"),
    "searching": (LRSearchConfig, "LRSearchConfig()"),
    "experiment": (
        lambda: Experiment("bert", "run", Corpus("a.txt", {"a": ["he"], "b": ["they"]})),
        "Experiment(model='bert', experiment_dir='run', corpus=Corpus(base_data='a.txt', feature_targets={'a': ['he'], "
        "'b': ['they']}), train=TrainingArguments(experiment_dir='run', use_cache=True))",
    ),
    "cutting": (lambda: TextPreprocessConfig(min_chars=3), "TextPreprocessConfig(min_chars=3)"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_objects_speak(name):
    make, text = SHOWN[name]
    thing = make()
    assert repr(thing) == text
    assert repr(copy.deepcopy(thing)) == text
    page = Tags(thing._repr_html_())
    assert page.seen <= {"div", "p", "h4", "table", "thead", "tbody", "tr", "th", "td"}
    # Both forms are made from the same rows.
    cells = [
        html.escape(str(cell)) for _, table in [thing._tables()] for one in table for row in one.rows for cell in row
    ]
    assert all(cell in thing._repr_html_() for cell in cells)


def evil_things():
    frame = encodings().replace({"3SG": EVIL})
    named = {"1.0": EVIL}
    evil = stats()
    evil["training_stats"]["label_value_to_class_name"] = named
    return [
        TextPredictionTrainer(EVIL, data="x.csv", target_classes=[EVIL, "b"], run_id=EVIL),
        TextPredictionTrainer(EVIL, data="x.csv", target_classes=[EVIL, "b"]).config,
        get_encoder_metrics_from_dataframe(frame, n_resamples=0),
        DecoderResult({EVIL: chosen(why=EVIL), "grid": {"base": {}}}),
        evil,
        stats(converged=False, reason=EVIL),
        GradiendModel(2, 1, base_model=EVIL),
        TrainingArguments(experiment_dir=EVIL, metadata={EVIL: EVIL}),
        TextPredictionDataCreator(["a"], feature_targets=[TextFilterConfig([EVIL])]),
    ]


@pytest.mark.parametrize("thing", evil_things(), ids=lambda thing: type(thing).__name__)
def test_names_stay_text(thing):
    page = thing._repr_html_()
    assert "script" not in Tags(page).seen
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + repr(thing)


@pytest.mark.parametrize("make", [decoder, stats, seeds, lambda: get_encoder_metrics_from_dataframe(encodings())])
def test_results_stay_dicts(make):
    result = make()
    plain = dict(result)
    assert result == plain
    assert isinstance(result, dict)
    restored = pickle.loads(pickle.dumps(result))
    assert restored == plain
    assert type(restored) is dict  # a pickle can be read without this package
    written = {**plain, "grid": list(plain.get("grid", {}).values())}
    assert json.dumps({**result, "grid": written["grid"]}) == json.dumps(written)
    for copied in (copy.copy(result), copy.deepcopy(result), result.copy()):
        assert type(copied) is type(result)
        assert copied == plain
        copied.clear()
    assert result == plain
    inner = next(name for name, value in plain.items() if isinstance(value, (dict, list)))
    assert copy.deepcopy(result)[inner] is not plain[inner]
    assert list(result) == list(plain)
    result |= {"more": 1}
    assert type(result) is type(make())


def all_of(cls):
    return [cls, *(own for one in cls.__subclasses__() for own in all_of(one))]


def test_what_is_not_whole_is_shown_as_it_is():
    classes = [cls for cls in dict.fromkeys(all_of(Shown)) if cls.__module__.startswith("gradiend")]
    assert len(classes) > 20
    for cls in classes:
        half_made = cls.__new__(cls) if not getattr(cls, "__abstractmethods__", None) else None
        assert repr(half_made)
        assert half_made is None or half_made._repr_html_() is None or "<div" in half_made._repr_html_()
    for cls in (own for own in classes if issubclass(own, Result) and own is not Result):
        for broken in ({"n_samples": 3}, {"grid": None}, {"runs": [{}]}, {1: 2}):
            assert repr(cls(broken)) == repr(broken)
            assert cls(broken)._repr_html_() is None
    damaged = decoder()
    damaged["3SG"] = {"learning_rate": "much"}
    assert repr(damaged) == repr(dict(damaged))


def test_showing_loads_nothing():
    """No model, no data (there are none at these places), and no package that only work needs."""
    trainer = TextPredictionTrainer("no/model", data="no.csv", target_classes=["a", "b"])
    before = set(sys.modules)
    for thing in (trainer, trainer.config, trainer.training_args):
        assert "object at" not in repr(thing)
        assert "<div" in thing._repr_html_()
    assert set(sys.modules) == before
    assert trainer.current.model is None
    with pytest.raises(OSError, match="no"):
        trainer.train()


def test_help_says_which_fields_are_required():
    assert "    base_data (required): The text" in Corpus.__doc__
    assert "    split (default 'train'): Split" in Corpus.__doc__


def test_tables():
    long = "word " * 40
    table = Table("T", ["n", "x"], [[1, "a"], [22, "b\nc"]], f"note {long}")
    lines = as_text(table).splitlines()
    assert lines[:5] == ["T", "   n  x", "  --  ---", "   1  a", "  22  b c"]
    assert max(map(len, lines)) <= 80
    assert lines[6].startswith("    word")
    wide = as_text(Table("", ["단어", "n"], [["의사", 1], ["ab", 20]])).splitlines()
    assert wide == ["  단어   n", "  ----  --", "  의사   1", "  ab    20"]
    told = as_text(facts("", {"name": long, "none": None, "zero": 0}))
    assert max(map(len, told.splitlines())) <= 80
    assert told.count("word") == 40
    assert "none" not in told
    assert "zero  0" in told
