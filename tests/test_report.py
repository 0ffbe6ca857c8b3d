"""The report: what stands on the page is what was measured, every text stays text, and nothing comes from outside."""

from __future__ import annotations

import copy
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_data
from documents import DOCS, ROOT, python_blocks

from gradiend import TextPredictionTrainer, TrainingArguments
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.experiment.run import goal_metrics
from gradiend.report import comparison_table, write_comparison, write_report
from gradiend.report._figures import Series, chart, nice_ticks
from gradiend.report._format import count, duration, interval, model_name, number, percent, probability, signed, step
from gradiend.report._importance import place_of

SG, PL = "SG <b>", "PL</script>"
EVIL = (
    "</script><script>alert(1)</script> [MASK] <img src=x onerror=alert(2)> & \"a\" 'b' {{ 7 * 7 }} \u2028 {% x %} "
    "\ud800"
)
IN_DATA = "the <old> baker was near the </lamp> & then [MASK] saw the bread ."
"""The data refuses half characters, and the tiny model knows few words."""
SHOWN = EVIL.replace("\ud800", "?")
SENTENCES = ["the nurse saw that [MASK] was <i>old</i> ."]
BALANCE_TEXTS = [
    "the dog and [MASK] saw it .",
    "then [MASK] was near <u>the</u> door .",
    "the cat saw that [MASK] was old .",
]
SECTIONS = """verdict convergence encodings examples steps balance predictions side-effects weights data seeds arguments
    reproduce""".split()
VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}
RECORD: dict[str, Any] = {
    "format": 1, "gradiend": "9.8.7", "command": "gradiend run <x>.yaml", "started": "2026-01-02T03:04:05+00:00",
    "finished": None, "experiment": {"model": "<model>", "train": {"max_steps": 4}}, "versions": {"torch": "1.2.3"},
    "platform": "Linux", "device": "cpu", "git": {"commit": "abc123", "dirty": True}, "seeds": [41, 42],
    "data": {"fingerprint": "f1ng3r", "rows": {"train": {"a": 3, "b": 4}, "test": {"a": 1, "b": 1}}},
    "phases": {"train": {"seconds": 12.5, "peak_memory_bytes": {"cpu": 3 * 2**20}, "reused": True}}, "metrics": {},
}  # fmt: skip


@dataclass
class Node:
    """An element of a page."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def walk(self) -> list[Node]:
        return [self, *(node for child in self.children if isinstance(child, Node) for node in child.walk())]

    def all(self, name: str, **attributes: str) -> list[Node]:
        named = [node for node in self.walk() if node.name == name]
        return [
            node for node in named if all(node.attributes.get(key.rstrip("_")) == v for key, v in attributes.items())
        ]

    @property
    def text(self) -> str:
        if self.name == "br":
            return " "
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return re.sub(r"[ \n]+", " ", self.text).strip(" ")


class Tree(HTMLParser):
    """A page as a tree; an end without its beginning is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open = [Node("page")]
        self.feed(page)
        self.close()
        assert [node.name for node in self.open] == ["page"], "elements are left open"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        node = Node(tag, dict(attrs))
        assert len(node.attributes) == len(attrs), f"an attribute of {tag} stands twice"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends <{self.open[-1].name}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def read(path: str | Path) -> Node:
    return Tree(Path(path).read_text(encoding="utf-8")).open[0]


def points(page: Node) -> dict[str, Any]:
    return json.loads(page.all("script", id="points")[0].text)


def section(page: Node, name: str) -> Node:
    return page.all("section", id=name)[0]


def cells(table: Node) -> list[list[str]]:
    return [[cell.words for cell in row.children if isinstance(cell, Node)] for row in table.all("tr")]


@dataclass
class Run:
    """A tiny trained trainer with all its results."""

    trainer: TextPredictionTrainer
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    effects: dict[str, pd.DataFrame]

    def results(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "decoder": self.decoder, "side_effects": self.effects}


def hostile_rows() -> pd.DataFrame:
    rows = tiny_data.rows({SG: ("he", "she"), PL: ("they",)})
    test = rows.index[rows["split"] == "test"]
    rows.loc[test[0], "masked"] = IN_DATA
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("run")
    trainer = TextPredictionTrainer(
        tiny_data.save_bert(root / "base"), data=hostile_rows(), target_classes=[SG, PL], balance_texts=BALANCE_TEXTS,
        args=TrainingArguments(**{**tiny_data.QUICK, "experiment_dir": str(root / "run"), "max_seeds": 2, "seed": 7}),
    )  # fmt: skip
    trainer.train()
    encoder = trainer.evaluate_encoder(return_df=True)
    lenient = LMSThresholdPolicy(ratio=0.0)
    decoder = trainer.evaluate_decoder(lrs=[0.1, 1.0, 4.0], selector=lenient, target_class=[SG, PL, "balance"])
    decoder["balance"]["learning_rate"] or pytest.fail("the fixture needs a rewrite for balance")
    weak = trainer.evaluate_decoder(
        lrs=[0.1, 1.0, 4.0], selector=lenient, target_class=SG, increase_target_probabilities=False
    )
    decoder = {**decoder, **weak, "grid": {**weak["grid"], **decoder["grid"]}}
    other = {"animals </td>": ["cat", "dog"]}
    effects = {
        SG: trainer.evaluate_side_effects(decoder, SG, sentences=SENTENCES, other_classes=other, top_k=3),
        "balance": trainer.evaluate_side_effects(decoder, "balance", sentences=SENTENCES, top_k=3),
    }
    return Run(trainer, encoder, decoder, effects)


@pytest.fixture(scope="module")
def page(run, tmp_path_factory) -> Node:
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert write_report(path, run.trainer, record=RECORD, **run.results()) == str(path)
    return read(path)


# The page as a whole


def test_sections_stand_in_their_order_and_can_be_reached(page):
    assert [node.attributes["id"] for node in page.all("section")] == SECTIONS
    assert [node.attributes["href"] for node in page.all("nav")[0].all("a")] == [f"#{name}" for name in SECTIONS]
    ids = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert not [node for node in page.all("p", class_="missing") if "not been" in node.text]


def test_nothing_comes_from_outside(page):
    for node in page.walk():
        for name in ("src", "href", "action", "data", "srcset", "xlink:href"):
            assert (node.attributes.get(name) or "#").startswith("#"), (node.name, node.attributes)
        assert not [name for name in node.attributes if name.startswith("on")]
        assert node.name not in {"iframe", "object", "embed", "link", "base", "form", "img"}
    style = page.all("style")[0].text
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_page_s_own_script_and_nothing_else(page):
    import base64  # noqa: PLC0415
    import hashlib  # noqa: PLC0415

    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    points_of_page, script = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.split("; ")[0] == "default-src 'none'"
    assert f"script-src 'sha256-{digest}'" in policy
    assert "connect-src" not in policy
    assert points_of_page.attributes["type"] == "application/json"


def test_tables_can_be_sorted_with_the_keyboard(page):
    tables = page.all("table", class_="sortable") + page.all("table", class_="sortable stack")
    assert len(tables) > 10
    for table in tables:
        heads = table.all("thead")[0].all("th")
        assert all(head.attributes["scope"] == "col" for head in heads)
        numeric = [
            place for place, head in enumerate(heads) if head.all("button") and head.attributes.get("class") == "n"
        ]
        assert any(head.all("button") for head in heads)
        for row in table.all("tbody")[0].all("tr"):
            own = [cell for cell in row.children if isinstance(cell, Node)]
            assert len(own) == len(heads)
            assert all(re.fullmatch(r"-?[\d.e+-]+", own[place].attributes["data-v"]) for place in numeric)


def test_bands_can_be_reached_with_the_keyboard(page):
    bands = [node for node in page.all("div") if (node.attributes.get("class") or "").startswith("band k")]
    assert len(bands) == 3
    assert all(band.attributes["tabindex"] == "0" and band.attributes["aria-label"] for band in bands)
    assert page.all("div", class_="tip")[0].attributes["aria-live"] == "polite"


# Texts


def test_texts_of_others_stay_texts(run, tmp_path):
    frame = run.encoder["encoder_df"].copy()
    # Frames refuse half characters, titles and other arguments do not.
    whole = EVIL.replace(" \ud800", "")
    frame.loc[0, ["input_text", "factual"]] = whole
    encoder = {**run.encoder, "encoder_df": frame}
    written = write_report(tmp_path / "x.html", run.trainer, encoder=encoder, title=EVIL, record=RECORD)
    page = read(written)
    assert len(page.all("script")) == 2
    assert page.all("h1")[0].text == SHOWN
    assert page.all("title")[0].text == SHOWN
    assert " ".join(whole.split()) in points(page)["texts"]
    assert whole in points(page)["words"]
    assert {
        name: band["data-name"] for band in (n.attributes for n in page.all("div")) if (name := band.get("data-name"))
    }.keys() >= {SG, PL}
    assert "gradiend run <x>.yaml" in section(page, "reproduce").text
    assert "<model>" in section(page, "reproduce").text
    # Nothing was taken for a template.
    assert "{{ 7 * 7 }}" in page.all("h1")[0].text


def test_texts_of_every_section_are_escaped(page):
    assert IN_DATA in points(page)["texts"]
    assert SG in section(page, "data").text
    assert "<i>old</i>" in section(page, "predictions").text
    assert "<u>the</u>" in section(page, "balance").text
    assert "animals </td>" in section(page, "side-effects").text
    assert PL in section(page, "arguments").text


# What stands on the page is what was measured


def test_the_verdict_has_the_numbers_of_the_results(run, page):
    verdict = section(page, "verdict").words
    low_high = interval(run.encoder["correlation_interval"])
    assert f"correlation {number(run.encoder['correlation'])} {low_high}" in verdict
    assert f"{percent(run.encoder['roc_auc'])} of all pairs" in verdict
    stats = run.trainer.get_seed_report()
    chosen = next(one for one in stats["runs"] if one["seed"] == stats["best_seed"])
    assert page.all("p", class_=f"big {'good' if chosen['converged'] else 'bad'}")
    rows = cells(section(page, "verdict").all("table")[0])[1:]
    for key, title in ((SG, f"towards {SG}"), (PL, f"towards {PL}"), ("balance", "towards neither")):
        found = run.decoder[key]
        row = next(row for row in rows if row[0] == title)
        assert row[2].split()[0] == number(found["base_value"])
        assert row[3].split()[0] == number(found["value"])
        assert row[5] == step(found["learning_rate"])
    assert len(rows) == 4
    ends = [found["change_interval"] for key, found in run.decoder.items() if key in (SG, PL, f"{SG}_weaken")]
    ends.append(run.decoder["balance"]["measures"]["change_interval"]["gap"])
    clear = sum(pair is not None and not pair[0] <= 0 <= pair[1] for pair in ends)
    assert f"{clear} of 4 goals moved" in verdict
    assert verdict.count("which may be chance") == 4 - clear


def test_a_change_that_may_be_chance_is_said_to_be(run, tmp_path):
    decoder = copy.deepcopy(run.decoder)
    decoder[SG]["change_interval"], decoder[PL]["change_interval"] = [-0.1, 0.2], [0.1, 0.2]
    decoder = {key: decoder[key] for key in (SG, PL, "grid")}
    page = read(write_report(tmp_path / "x.html", run.trainer, decoder=decoder))
    answer = section(page, "verdict").all("div", class_="answer")[2]
    assert answer.all("p", class_="big bad")[0].text == "1 of 2 goals moved"
    assert [("may be chance" in item.text) for item in answer.all("li")] == [True, False]


def test_weakening_is_told_as_the_probability_of_the_class(run, page):
    found = run.decoder[f"{SG}_weaken"]
    row = next(row for row in cells(section(page, "verdict").all("table")[0]) if row[0].startswith("away from"))
    assert row[1] == f"P({SG}) on texts of {SG}"
    assert (
        row[2] == f"{number(1 - found['base_value'])} {interval(sorted(1 - x for x in found['base_value_interval']))}"
    )
    assert row[3].split()[0] == number(1 - found["value"])


@pytest.mark.parametrize("strengthen", [True, False])
def test_a_metric_of_ones_own_is_not_called_a_probability(run, tmp_path, strengthen):
    found = run.decoder[SG]
    grid = {key: {**entry, "score": 0.4} for key, entry in run.decoder["grid"].items() if "balance" not in entry}
    own = {name: found[name] for name in ("learning_rate", "feature_factor", "lms", "why")}
    own |= {"strengthen": strengthen, "base_value": 0.3, "value": 0.4}
    page = read(write_report(tmp_path / "x.html", run.trainer, decoder={"score": own, "grid": grid}))
    row = cells(section(page, "verdict").all("table")[0])[1]
    assert [cell.strip() for cell in row[:4]] == ["score", "score", "0.300", "0.400"]
    assert section(page, "steps").all("figcaption")[0].text == "score"
    steps = cells(section(page, "steps").all("table")[0])[1:]
    assert {step[2] for step in steps} == {"0.4000"}


def test_a_metric_of_ones_own_without_a_step_is_not_called_a_probability(run, tmp_path):
    nothing = dict.fromkeys(("value", "feature_factor", "learning_rate", "id", "lms"))
    own = {**nothing, "strengthen": True, "base_lms": 0.5, "reason": "No step.", "base_value": 0.3}
    page = read(write_report(tmp_path / "x.html", run.trainer, decoder={"score": own, "grid": run.decoder["grid"]}))
    assert cells(section(page, "verdict").all("table")[0])[1][:2] == ["score", "score"]


def test_weakening_is_told_alike_beside_other_runs(run, tmp_path):
    goals = goal_metrics({key: run.decoder[key] for key in (SG, f"{SG}_weaken", "balance")})
    record = {"experiment": {"name": "a"}, "metrics": {"classes": [SG, PL], "goals": goals}}
    table = comparison_table([record])
    before = run.decoder["grid"]["base"]["probs_factual"][SG]
    assert table.loc["a", f"{SG}_weaken: before"] == pytest.approx(before)
    assert table.loc["a", f"{SG}_weaken: after"] == 1 - run.decoder[f"{SG}_weaken"]["value"]
    assert table.loc["a", f"{SG}: after"] == run.decoder[SG]["value"]
    assert table.loc["a", "balance: after"] == run.decoder["balance"]["value"]
    text = read(write_comparison(tmp_path / "c.html", [record])).words
    assert f"Away from {SG} " in text
    assert f"{SG}_weaken" not in text


def test_the_kept_share_and_its_interval_have_one_unit(run, page):
    rows = cells(section(page, "verdict").all("table")[0])[1:]
    kept = [[float(one) for one in re.findall(r"[0-9.]+", row[6])] for row in rows]
    with_interval = [numbers for numbers in kept if len(numbers) > 1]
    assert with_interval
    assert all(low <= share <= high for share, low, high in with_interval)


def test_every_encoding_is_a_point_with_its_text(run, page):
    data, frame = points(page), run.encoder["encoder_df"]
    own = frame[frame["source_id"] == SG].sort_values("encoded")
    band = data["bands"][0]
    assert band["e"] == pytest.approx(own["encoded"].to_numpy(), abs=5e-4)
    assert sorted(data["texts"][i] for i in band["t"]) == sorted(own["input_text"])
    assert {data["words"][i] for i in band["w"]} == set(own["factual"])
    assert sum(len(band["e"]) for band in data["bands"]) == len(frame)
    assert f"mean {signed(own['encoded'].mean())}" in section(page, "encodings").words


def test_the_chosen_step_and_the_limit_are_drawn(run, page):
    figures = section(page, "steps").all("figure")
    assert len(figures) == 2 * 3 + 1
    assert all(figure.all("line", class_="chosen") for figure in figures)
    assert (
        figures[0].all("svg")[0].attributes["aria-label"].startswith(f"P({SG}) on texts of {PL}. P({SG}) against step")
    )
    # The policy of the fixture asks for nothing; that of the default asks for 0.99.
    assert not section(page, "steps").all("line", class_="limit")
    table = section(page, "steps").all("table")[0]
    assert [row[0] for row in cells(table)[1:]] == ["0.1", "1", "4"]


def test_the_limit_of_a_policy_is_drawn(run, tmp_path):
    decoder = run.trainer.evaluate_decoder(lrs=[1e-6], target_class=SG)
    assert decoder[SG]["least_share"] == 0.99
    page = read(write_report(tmp_path / "x.html", run.trainer, decoder=decoder))
    assert len(section(page, "steps").all("line", class_="limit")) == 1
    assert "at least 0.99" in section(page, "steps").text


def test_a_goal_without_a_rewrite_says_why(run, tmp_path):
    decoder = run.trainer.evaluate_decoder(lrs=[50.0], target_class=PL)
    assert decoder[PL]["learning_rate"] is None
    page = read(write_report(tmp_path / "x.html", run.trainer, decoder=decoder))
    assert decoder[PL]["reason"] in section(page, "verdict").text
    assert "Not at this cost" in section(page, "verdict").text


def test_misclassified_texts_are_those_on_the_wrong_side_of_zero(run, tmp_path):
    frame = run.encoder["encoder_df"].copy()
    target = frame.index[frame["label"] != 0]
    frame.loc[target, "encoded"] = frame.loc[target, "label"] * 0.5
    frame.loc[target[1], "encoded"] *= -1.5
    frame.loc[target[3], "encoded"] *= -0.5
    encoder = run.trainer.evaluate_encoder(encoder_df=frame, return_df=True)
    examples = section(read(write_report(tmp_path / "x.html", run.trainer, encoder=encoder)), "examples")
    table = cells(examples.all("table", **{"aria-label": "Misclassified texts"})[0])[1:]
    assert [row[0] for row in table] == [signed(frame.loc[target[i], "encoded"], 3) for i in (1, 3)]
    assert f"2 of {len(target)} texts" in examples.words


def test_predictions_and_side_effects_are_those_of_the_frame(run, page):
    frame = run.effects[SG]
    rows = frame[frame["kind"] == "prediction"]
    best = rows.sort_values("before", ascending=False).iloc[0]
    columns = section(page, "predictions").all("div", class_="columns")[0]
    titles = [node.words for node in columns.all("h4")]
    assert titles == ["before", f"towards {SG}", "towards neither"]
    assert columns.all("li")[0].words.startswith(f"{best['name']}{probability(best['before'])}")
    effects = section(page, "side-effects")
    assert number(float(frame[frame["kind"] == "divergence"]["after"].iloc[0]), 4) in effects.words
    gained = frame[frame["kind"] == "gained"].iloc[0]
    assert cells(effects.all("table")[0])[1][0] == str(gained["name"])


def test_importance_adds_up_and_is_that_of_the_weights(run, page):
    gradiend = run.trainer.get_model().gradiend
    importance = gradiend.get_weight_importance("decoder-weight").double()
    table = next(table for table in section(page, "weights").all("table") if "in the top" in table.all("thead")[0].text)
    found = {row[0]: row for row in cells(table)[1:]}
    checked = 0
    for parameter, place in gradiend.mapping.slices():
        if parameter.name in found:
            assert found[parameter.name][2] == percent(float(importance[place].sum() / importance.sum()))
            checked += 1
    assert checked == len(found) >= 10
    heat = section(page, "weights").all("table", class_="heat")[0]
    shares = [float(cell.split()[0].rstrip("\u202f%")) for row in cells(heat)[1:] for cell in row[-1:]]
    outside = cells(section(page, "weights").all("table")[1])[1:]
    shares += [float(row[2].rstrip("\u202f%")) for row in outside]
    assert sum(shares) == pytest.approx(100.0, abs=0.5)
    assert [row[0] for row in cells(heat)[1:]] == ["0", "1"]


def test_a_pruned_map_names_the_entries_of_the_base_model(run):
    from gradiend.report._importance import importance_of  # noqa: PLC0415

    gradiend = run.trainer.get_model().gradiend.prune(topk=7)
    found = importance_of(gradiend, run.trainer)
    full = run.trainer.get_model().gradiend
    weights = full.mapping.unflatten(full.get_weight_importance("decoder-weight"))
    assert found.size == 7
    assert [entry.rank for entry in found.entries] == list(range(1, 8))
    total = sum(float(weights[e.name][tuple(map(int, e.place.split(", ")))]) for e in found.entries)
    tokens = run.trainer.get_model().tokenizer
    embeddings = next(tensor for name, tensor in weights.items() if "word_embeddings" in name)
    for entry in found.entries:
        if "word_embeddings" in entry.name:
            assert entry.token == tokens.convert_ids_to_tokens(int(entry.place.split(", ")[0]))
        own = float(weights[entry.name][tuple(map(int, entry.place.split(", ")))])
        assert entry.share == pytest.approx(own / total)
    whole = importance_of(full, run.trainer)
    rows = embeddings.double().sum(1)
    expected = {tokens.convert_ids_to_tokens(int(i)): float(rows[i]) for i in rows.topk(12).indices}
    assert dict(whole.tokens) == pytest.approx(
        {t: x / float(sum(w.double().sum() for w in weights.values())) for t, x in expected.items()}
    )
    kept = {entry.token for entry in found.entries if entry.token}
    assert {token for token, _ in found.tokens} == kept
    ordered = full.get_weight_importance("decoder-weight").double().sort(descending=True).values.cumsum(0)
    naive = int((ordered < ordered[-1] / 2).sum()) + 1
    assert whole.half == pytest.approx(naive, abs=2)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("bert.encoder.layer.3.attention.self.query.weight", ("bert.encoder.layer.3", "attention.self.query")),
        ("transformer.h.11.mlp.c_fc.bias", ("transformer.h.11", "mlp.c_fc")),
        ("model.layers.0.mlp.experts.5.w1.weight", ("model.layers.0", "mlp.experts.*.w1")),
        ("bert.embeddings.word_embeddings.weight", (None, "bert.embeddings.word_embeddings")),
        ("layer_norm.1", (None, "layer_norm.1")),
    ],
)
def test_the_place_of_a_parameter(name, place):
    assert place_of(name) == place


def test_data_seeds_arguments_and_record(run, page):
    data = cells(section(page, "data").all("table")[0])
    assert data[0][:5] == ["class", "train", "validation", "test", "all"]
    assert data[1][1:5] == ["24", "8", "8", "40"]
    report = run.trainer.get_seed_report()
    seeds = cells(section(page, "seeds").all("table")[0])[1:]
    assert [row[0] for row in seeds] == [str(one["seed"]) for one in report["runs"]]
    assert [row[4] for row in seeds].count("✓ kept") == 1
    first, second = section(page, "arguments").all("table")
    given = {row[0]: row[1:3] for row in cells(first)[1:]}
    assert given["max_steps"] == ["4", "-1"]
    assert given["train_batch_size"] == ["4", "32"]
    names = [row[0] for row in cells(first)[1:] + cells(second)[1:]]
    assert set(TrainingArguments.names()) < set(names)
    assert len(names) == len(set(names))
    told = section(page, "reproduce").words
    for text in (
        "gradiend run <x>.yaml",
        "f1ng3r",
        "abc123 with changes",
        "torch 1.2.3",
        "9.8.7",
        "seeds41, 42",
        "3\u202fMiB (cpu)",
        "found done",
    ):
        assert text in told


# What is missing


def test_a_new_trainer_has_a_page_and_stays_as_it_is(run, tmp_path):
    trainer = tiny_data.trainer(run.trainer.base_model_path)
    page = read(write_report(tmp_path / "x.html", trainer))
    assert [node.attributes["id"] for node in page.all("section")] == [name for name in SECTIONS if name != "balance"]
    for name in ("convergence", "encodings", "examples", "steps", "predictions", "side-effects", "weights", "seeds"):
        assert len(section(page, name).all("p", class_="missing")) == 1, name
    assert "Not trained" in section(page, "verdict").text
    assert points(page) == {}
    # The base model was not loaded.
    assert trainer.current.model is None


def test_the_weights_are_read_without_the_base_model(run, tmp_path, monkeypatch):
    trainer = TextPredictionTrainer(
        run.trainer.base_model_path, data=hostile_rows(), target_classes=[SG, PL], balance_texts=BALANCE_TEXTS,
        args=run.trainer.training_args,
    )  # fmt: skip
    monkeypatch.setattr(trainer, "get_model", lambda: pytest.fail("the base model was loaded"))
    page = read(write_report(tmp_path / "x.html", trainer))
    assert section(page, "weights").all("table", class_="heat")
    assert section(page, "convergence").all("figure")


def test_a_running_training_is_shown_without_its_model(run, tmp_path):
    stats = {
        "training_stats": {"scores": {2: 0.25, 4: 0.75}, "mean_by_class": {2: {1.0: 0.1, -1.0: -0.2}}},
        "best_score_checkpoint": None, "losses": [3.0, 2.0, 1.0, 0.5], "convergence_info": None,
    }  # fmt: skip
    page = read(write_report(tmp_path / "x.html", run.trainer, training=stats, refresh=3))
    assert page.all("body")[0].attributes["data-refresh"] == "3"
    assert "Still running" in section(page, "verdict").text
    titles = [figure.all("figcaption")[0].text for figure in section(page, "convergence").all("figure")]
    assert titles == ["Correlation on validation texts", "Mean encoding of each class", "Training loss"]
    assert "when the training has ended" in section(page, "weights").text
    with pytest.raises(ValueError, match=r"refresh must be a finite number of at least 0\.1"):
        write_report(tmp_path / "x.html", run.trainer, refresh=0)


def test_encodings_without_texts_and_with_other_classes(run, tmp_path):
    frame = pd.DataFrame({"encoded": [0.5, -0.5, 0.1, 2.0], "label": [1.0, -1.0, 0.0, 1.0], "type": "training"})
    encoder = run.trainer.evaluate_encoder(encoder_df=frame, return_df=True)
    page = read(write_report(tmp_path / "x.html", run.trainer, encoder=encoder))
    names = [node.attributes["data-name"] for node in page.all("div") if "data-name" in node.attributes]
    assert names == ["label 1", "label 0", "label −1"]
    # A class may have the name of a kind of neutral texts.
    frame = frame.assign(
        source_id=["neutral texts", "b", "b", None], type=["training", "training", "training", "neutral_dataset"]
    )
    encoder = run.trainer.evaluate_encoder(encoder_df=frame, return_df=True)
    page = read(write_report(tmp_path / "x.html", run.trainer, encoder=encoder))
    assert [len(band["e"]) for band in points(page)["bands"]] == [1, 2, 1]
    with pytest.raises(ValueError, match="return_df=True"):
        write_report(tmp_path / "y.html", run.trainer, encoder={"correlation": 1.0})
    assert not (tmp_path / "y.html").exists()


def test_without_jinja_one_sentence_says_how_to_get_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    hint = re.escape(
        'A report needs jinja2: pip install jinja2 (or, in a clone of this project, pip install ".[report]")'
    )
    calls: list[Callable[[], Any]] = [
        lambda: write_report(tmp_path / "x.html", run.trainer),
        lambda: write_comparison(tmp_path / "x.html", [RECORD]),
    ]
    for call in calls:
        with pytest.raises(ImportError, match=f"^{hint}$"):
            call()


# Size


def test_many_long_texts_stay_small(run, tmp_path):
    rng = np.random.default_rng(0)
    n = 12_000
    label = rng.choice([1.0, -1.0], n)
    frame = pd.DataFrame(
        {
            "encoded": np.tanh(label + rng.normal(size=n)), "label": label, "type": "training",
            "source_id": np.where(label > 0, SG, PL), "factual": "he", "alternative": "they",
            "input_text": [f"{number} [MASK] " + "雨" * 400 for number in range(n)],
        }
    )  # fmt: skip
    path = Path(write_report(tmp_path / "x.html", run.trainer, encoder={"encoder_df": frame}))
    assert path.stat().st_size < 3_000_000
    page = read(path)
    data = points(page)
    assert sum(len(band["e"]) for band in data["bands"]) == 5_000
    assert all("[MASK]" in text for text in data["texts"])
    assert f"{count(5000)} of {count(n)} texts are drawn" in section(page, "encodings").text


# Parts


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.9885, 1.0005), (0.0, 0.00134), (1.0, 100_000.0), (0.02, 0.031)]
)
def test_ticks_are_round_numbers_and_written_in_full(low, high):
    ticks = nice_ticks(low, high)
    values = [tick for tick, _ in ticks]
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in values)
    assert [float(label.replace("−", "-")) for _, label in ticks] == pytest.approx(values, rel=1e-9, abs=1e-15)


def test_a_chart_places_numbers_in_proportion():
    series = [Series("a", [(1.0, 0.0), (10.0, 0.5), (100.0, 1.0)], 0), Series("b", [(1.0, 1.0), (100.0, 1.0)], 1)]
    found = chart("t", series, x_name="x", y_name="y", log_x=True, y_range=(0.0, 1.0))
    assert found is not None
    one, two, three = found.lines[0].marks
    assert two.x - one.x == pytest.approx(three.x - two.x, abs=0.2)
    assert (one.y, three.y) == (found.bottom, found.top)
    assert two.y == pytest.approx((one.y + three.y) / 2, abs=0.1)
    # Labels of lines that end at one place do not cover each other.
    assert abs(found.lines[0].label_y - found.lines[1].label_y) >= 12
    assert chart("t", [Series("a", [], 0)], x_name="x", y_name="y") is None
    flat = chart("t", [Series("a", [(3.0, 7.0)], 0)], x_name="x", y_name="y")
    assert flat is not None
    assert found.left < flat.lines[0].marks[0].x < found.right


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(-0.12345), "−0.123"), (number(-0.0001), "0.000"), (number(None), "–"), (number(float("nan")), "–"),
        (number(np.float64(0.5), 1), "0.5"), (signed(0.001), "0.00"), (signed(0.5), "+0.50"), (signed(-0.5), "−0.50"),
        (probability(0.0004), "<0.001"), (probability(0.0), "0.000"), (probability(0.25), "0.250"),
        (step(1e-05), "1 × 10⁻⁵"), (step(0.0316), "0.0316"), (step(-250_000), "−2.5 × 10⁵"), (step(True), "–"),
        (percent(1.0), "100\u202f%"), (percent(0.9996), "100.0\u202f%"), (percent(0.5), "50.0\u202f%"),
        (count(1234567), "1\u202f234\u202f567"), (interval((0.1, None)), ""),
        (interval({"low": 0, "high": 1}, 1), "[0.0, 1.0]"), (duration(9000), "2\u202fh\u202f30\u202fmin"),
        (duration(3.21), "3.2\u202fs"), (duration(75), "75\u202fs"), (duration(600), "10\u202fmin"),
        (model_name("org/name"), "org/name"), (model_name("/a/demo/model"), "demo/model"), (model_name("/a/b"), "b"),
    ],
)  # fmt: skip
def test_numbers_and_names_are_written_for_people(written, expected):
    assert written == expected


# Comparison


def record(name: str, **train: Any) -> dict[str, Any]:
    found = copy.deepcopy(RECORD)
    found["experiment"] = {"model": "/x/models/<m>", "experiment_dir": f"/x/{name}", "train": {"max_steps": 4, **train}}
    found["metrics"] = {
        "classes": ["a", PL], "converged": True, "entries": 1234,
        "correlation": {"value": 0.9, "low": 0.8, "high": 0.95}, "mean_by_class": {"a": 0.7, PL: -0.6},
        "goals": {PL: {"base": 0.1, "value": 0.6, "learning_rate": 0.02, "likelihood_ratio": {"value": 0.991}}},
    }  # fmt: skip
    return found


def test_runs_stand_side_by_side():
    one, other, empty = record("one"), record("other", max_steps=50), record("one")
    empty["metrics"], empty["data"] = {}, None
    del other["metrics"]["goals"][PL]["likelihood_ratio"]
    other["metrics"]["goals"][PL] |= {"lms": 0.45, "base_lms": 0.5}
    table = comparison_table([one, other, empty])
    assert list(table.index) == ["one (1)", "other", "one (3)"]
    assert table.loc["one (1)"].to_dict() == {
        "model": "<m>", "classes": f"a / {PL}", "entries": 1234, "rows train": 7, "rows test": 2, "converged": True,
        "correlation": 0.9, "correlation low": 0.8, "correlation high": 0.95, "mean of a": 0.7, f"mean of {PL}": -0.6,
        f"{PL}: before": 0.1, f"{PL}: after": 0.6, f"{PL}: step": 0.02, f"{PL}: kept": 0.991, "seconds": 12.5,
    }  # fmt: skip
    assert table.loc["other", f"{PL}: kept"] == pytest.approx(0.9)
    assert table.loc["one (3)"].dropna().to_dict() == {"model": "<m>", "seconds": 12.5}


def test_a_page_of_runs_names_the_arguments_that_differ(tmp_path):
    path = write_comparison(tmp_path / "c.html", [record("one"), record("<two>", max_steps=50)], title=EVIL)
    page = read(path)
    assert page.all("h1")[0].text == SHOWN
    differences = cells(section(page, "differences").all("table")[0])
    assert differences == [["argument", "one", "<two>"], ["train.max_steps", "4", "50"]]
    assert f"Towards {PL}" in section(page, "rewrites").text
    same = read(write_comparison(tmp_path / "d.html", [record("a"), record("b")]))
    assert "the same arguments" in section(same, "differences").text


@pytest.mark.parametrize("records", [[], [{}], ["run.json"], [{"experiment": {}}]])
def test_what_is_no_record_is_refused(records, tmp_path):
    with pytest.raises((TypeError, ValueError), match=r"run\.json"):
        comparison_table(records)
    with pytest.raises((TypeError, ValueError), match=r"run\.json"):
        write_comparison(tmp_path / "c.html", records)


# The guide, the browser, the package


def test_the_guide_to_the_report(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("small", "large"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(record(name)), encoding="utf-8")
    for code in python_blocks(DOCS / "report.md"):
        exec(compile(code, "guide", "exec"), {"trainer": run.trainer})
    assert section(read("report.html"), "verdict")
    assert section(read("comparison.html"), "runs").all("table")


def browser_check(path: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "check_report.py"
    if runpy.run_path(str(script))["find_browser"]() is None:
        pytest.skip("there is no Chromium on this machine")
    return subprocess.run([sys.executable, script, path], capture_output=True, text=True, timeout=120, check=False)


def test_a_browser_opens_it_without_a_request_or_an_error(run, tmp_path):
    path = write_report(tmp_path / "x.html", run.trainer, record=RECORD, **run.results())
    done = browser_check(Path(path))
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("tables sort    yes", "pointer shows", "keys show", "requests       0", "errors         0"):
        assert line in done.stdout


@pytest.mark.slow
def test_the_check_in_the_browser_finds_what_is_wrong(run, tmp_path):
    path = Path(write_report(tmp_path / "x.html", run.trainer, **run.results()))
    page = path.read_text(encoding="utf-8")
    path.write_text(
        page.replace("</main>", '<img src="http://127.0.0.1:9/x.png"><div style="width: 3000px">x</div></main>'),
        encoding="utf-8",
    )
    done = browser_check(path)
    assert done.returncode == 1
    assert "px too wide" in done.stdout
    assert "WRONG: the page logs" in done.stdout


def test_the_templates_are_part_of_the_package():
    from gradiend.report._render import TEMPLATES  # noqa: PLC0415

    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    patterns = re.search(r"\[tool\.setuptools\.package-data\]\ngradiend = \[(.*)\]", project)
    assert patterns is not None
    shipped = {path for pattern in re.findall(r'"(.*?)"', patterns[1]) for path in (ROOT / "gradiend").glob(pattern)}
    assert set(TEMPLATES.iterdir()) <= shipped
