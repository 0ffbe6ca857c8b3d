"""Cards: what stands on them was measured, every text stays text, and what a person wrote is not touched."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import pandas as pd
import pytest
import tiny_data
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from gradiend import (
    ModelWithGradiend,
    PostPruneConfig,
    TextPredictionTrainer,
    TrainingArguments,
    apply_delta,
    read_delta,
)
from gradiend.cli._output import print_description
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.experiment import describe
from gradiend.model._checkpoint_files import add_facts, read_facts, remove_files
from gradiend.report._card import card_of
from gradiend.report._format import number
from gradiend.util._card_seal import is_unedited, remove_card, write_card

SG, PL = '</script>|x: "#', "`--- *[a](http://b)* <img src=x> {{ 7 * 7 }} $x$ www.a.b @c"
BALANCE_TEXTS = ["the dog and [MASK] saw it .", "then [MASK] was near the door .", "the cat saw that [MASK] was old ."]
STEPS = [0.1, 1.0, 4.0]


def trained(root):
    """A tiny training in `root`, around a base model in `root`/base, with all its evaluations."""
    trainer = TextPredictionTrainer(
        tiny_data.save_bert(root / "base"), data=tiny_data.rows({SG: ("he", "she"), PL: ("they",)}),
        target_classes=[SG, PL], balance_texts=BALANCE_TEXTS,
        args=TrainingArguments(**{**tiny_data.QUICK, "experiment_dir": str(root / "run"), "max_seeds": 2, "seed": 7}),
    )  # fmt: skip
    trainer.train()
    encoder = trainer.evaluate_encoder()
    lenient = LMSThresholdPolicy(ratio=0.0)
    decoder = trainer.evaluate_decoder(lrs=STEPS, selector=lenient, target_class=[SG, PL, "balance"])
    trainer.evaluate_side_effects(decoder, strengthen=SG, top_k=3)
    return trainer, encoder, decoder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    trainer, encoder, decoder = trained(root)
    rewritten = Path(trainer.rewrite_base_model(decoder, strengthen=SG, output_dir=str(root / "rewritten")))
    delta = Path(trainer.export_delta(decoder, strengthen=SG, path=root / "delta" / "gradiend_delta.safetensors"))
    return root, trainer, encoder, decoder, rewritten, delta


def folders(run):
    _, trainer, _, _, rewritten, delta = run
    return {"checkpoint": Path(trainer.model_path), "rewrite": rewritten, "delta": delta.parent}


def rendered(text):
    """The body of a card as HTML, as a hub shows it: with tables, links from bare addresses, and HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(ModelCard(text).text)


def python(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("kind", ["checkpoint", "rewrite", "delta"])
def test_the_client_of_the_hub_reads_what_the_card_says_of_it(run, kind):
    path = folders(run)[kind] / "README.md"
    data = ModelCard.load(path).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("gradiend", "fill-mask", "unknown")
    assert "gradiend" in data.tags
    # The base model is a folder of this machine, which no hub knows.
    assert data.base_model is None
    data = ModelCard(card_of(path.parent, base_model="a/b", license="mit", language="en")).data
    relation = "finetune" if kind == "rewrite" else "adapter"
    assert (data.base_model, data.base_model_relation, data.license, data.language) == ("a/b", relation, "mit", "en")


@pytest.mark.parametrize("kind", ["checkpoint", "rewrite", "delta"])
def test_words_of_classes_stay_words(run, kind):
    text = (folders(run)[kind] / "README.md").read_text(encoding="utf-8")
    page = rendered(text)
    assert set(re.findall(r"<(\w+)", page)) <= {
        "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "ul", "li", "strong", "em", "a"
    }  # fmt: skip
    assert set(re.findall(r'href="([^"]*)"', page)) == {"https://arxiv.org/abs/2502.01406"}
    shown = page.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&amp;", "&")
    assert SG in shown
    assert PL in shown
    # Each row of a table has as many cells as its head, so that no name has ended a cell.
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        rows = [len(re.findall(r"<t[hd]", row)) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)]
        assert len(set(rows)) == 1
    for block in python(text):
        compile(block, "card", "exec")


def test_numbers_are_those_that_were_measured(run):
    _, trainer, encoder, decoder, *_ = run
    text = (Path(trainer.model_path) / "README.md").read_text(encoding="utf-8")
    results = {one.metric_name: one.metric_value for one in ModelCard(text).data.eval_results}
    assert results.pop("Correlation of encoding and class") == pytest.approx(encoder["correlation"], abs=1e-6)
    expected = [one[key] for one in (decoder[SG], decoder[PL], decoder["balance"]) for key in ("base_value", "value")]
    assert [value for name, value in results.items() if "kept" not in name] == pytest.approx(expected, abs=1e-6)
    assert f"n = {encoder['training_rows']} texts" in text
    ends = encoder["correlation_interval"]
    assert f"\\[{number(ends['low'])}, {number(ends['high'])}\\]" in text
    assert "seeds converged" in text
    missing = text.partition("## Not measured")[2]
    assert "A rewrite away from" in missing
    assert "A rewrite towards neither" not in missing
    assert "Side effects of the rewrite" in missing


def test_a_factor_that_a_person_chose_stands_in_the_line(run, tmp_path):
    folder = shutil.copytree(run[1].model_path, tmp_path / "model")
    goals = read_facts(folder)["goals"]
    line = f"rewritten = model.rewrite_base_model(learning_rate={goals[SG]['step']!r}, strengthen={SG!r})"
    assert line in card_of(folder)
    factor = -goals[SG]["factor"]
    add_facts(folder, {"goals": {**goals, SG: {**goals[SG], "factor": factor}}})
    text = card_of(folder)
    assert line not in text
    assert line.partition(" strengthen")[0] + f" feature_factor={factor!r})" in text
    assert f"weaken={PL!r})  # not measured" in text


def test_no_place_host_or_time_and_equal_runs_have_equal_cards(run, tmp_path):
    root, *_, delta = run
    other, _, results = trained(tmp_path)
    place = other.rewrite_base_model(results, strengthen=SG, output_dir=str(tmp_path / "elsewhere"))
    again = Path(other.export_delta(results, strengthen=SG, path=tmp_path / "delta.safetensors"))
    texts = [(folder / "README.md").read_text(encoding="utf-8") for folder in folders(run).values()]
    found = [(Path(folder) / "README.md").read_text(encoding="utf-8") for folder in (other.model_path, place)]
    assert found == texts[:2]
    assert read_delta(again).card == read_delta(delta).card
    for text in texts:
        assert str(root) not in text
        assert socket.gethostname() not in text
        assert not re.search(r"\d\d:\d\d|20\d\d-\d\d", text.replace("2025", ""))


def test_lines_on_a_card_run(run, monkeypatch):
    root, *_ = run
    monkeypatch.chdir(root)
    shutil.rmtree(root / "rewritten-by-card", ignore_errors=True)
    places = folders(run)
    for kind, folder in places.items():
        for_folder = re.sub("path/to/this/(folder|delta)", str(folder), card_of(folder)).replace("path/to/base", "base")
        code = "\n".join(python(for_folder)).replace("'rewritten'", "'rewritten-by-card'")
        exec(code, {})
        at_hub = "\n".join(python(card_of(folder, repo_id="a/b", subfolder="c", base_model="d/e")))
        assert ("'hf://a/b/c'" if kind == "delta" else "'a/b', subfolder='c'") in at_hub
    assert (root / "rewritten-by-card" / "config.json").is_file()


def test_a_card_that_a_person_edited_stays(run, tmp_path):
    _, trainer, *_ = run
    model, path = trainer.get_model(), tmp_path / "README.md"
    model.save_pretrained(tmp_path)
    first = path.read_text(encoding="utf-8")
    path.write_text(first.replace("\n", "\r\n"), encoding="utf-8")
    assert is_unedited(path), "line ends are no edit"
    for edited in (first.replace("To fill in", "Novels"), first + "And more.\n", "Another text.\n"):
        path.write_text(edited, encoding="utf-8")
        model.save_pretrained(tmp_path)
        remove_files(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
        assert path.read_text(encoding="utf-8") == edited
    path.write_text(first, encoding="utf-8")
    model.save_pretrained(tmp_path)
    remove_files(tmp_path)
    assert not list(tmp_path.iterdir())
    assert write_card(tmp_path, "half \ud800 character")
    assert is_unedited(path)
    remove_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_rewrite_saved_again_renews_its_card_unless_a_person_edited_it(run, tmp_path):
    _, trainer, _, decoder, *_ = run
    place = str(tmp_path / "out")
    trainer.rewrite_base_model(decoder, strengthen=SG, output_dir=place)
    first = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    trainer.rewrite_base_model(decoder, target_class="balance", output_dir=place)
    second = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "towards neither" in second
    assert second != first
    (tmp_path / "out" / "README.md").write_text("Mine.", encoding="utf-8")
    trainer.rewrite_base_model(decoder, strengthen=SG, output_dir=place)
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "Mine."


def test_only_usual_evaluations_of_the_trained_weights_are_noted(tmp_path):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "base"), {"experiment_dir": str(tmp_path / "run")})
    trainer.train()
    folder = Path(trainer.model_path)
    assert read_facts(folder)["rows"]["test"] == {"SG": 8, "PL": 8}
    trainer.evaluate_encoder(split="train")
    assert "encoder" not in read_facts(folder)
    assert "texts that training has not seen" in (folder / "README.md").read_text(encoding="utf-8")
    trainer.evaluate_encoder()
    measured = read_facts(folder)["encoder"]
    trainer.post_prune(PostPruneConfig(topk=0.5))
    trainer.evaluate_encoder(use_cache=False)
    assert read_facts(folder)["encoder"] == measured
    trainer.get_model().save_pretrained(folder)
    assert not (folder / "card.json").exists(), "facts of other weights"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "no record of a training" in text
    assert ModelCard(text).data.eval_results is None


def test_a_copy_of_a_loaded_checkpoint_has_its_facts_and_other_weights_have_none(run, tmp_path):
    _, trainer, *_ = run
    folder, copied, other = Path(trainer.model_path), tmp_path / "copied", tmp_path / "other"
    model = ModelWithGradiend.from_pretrained(str(folder))
    model.save_pretrained(copied)
    assert read_facts(copied) == read_facts(folder)
    assert (copied / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    model.prune_gradiend(topk=0.5).save_pretrained(other)
    assert not (other / "card.json").exists()


def test_the_size_counts_the_parameters_of_which_something_is_left(run, tmp_path):
    _, trainer, *_ = run
    pruned = trainer.get_model().prune_gradiend(topk=3)
    pruned.save_pretrained(tmp_path)
    parameters = sum(entry.num_selected > 0 for entry in pruned.gradiend.mapping)
    assert parameters <= 3
    assert f"3 weights of {parameters} parameters of the base model" in (tmp_path / "README.md").read_text("utf-8")
    assert describe(tmp_path)["parameters"] == parameters


TEST, FILLED = "The test split of the training data", "The test split of the training data, with the words filled in"


def texts_of(card):
    """Kind of number → (name, split) of the texts in the metadata of a card, which may be a folder's."""
    text = card if isinstance(card, str) else (card / "README.md").read_text("utf-8")
    return {one.metric_type: (one.dataset_name, one.dataset_split) for one in ModelCard(text).data.eval_results}


def test_the_metadata_say_on_which_texts_a_number_was_measured(run, tmp_path):
    texts = {
        "correlation": (TEST, "test"), "probability": (TEST, "test"), "ratio": (FILLED, "test"),
        "gap": ("Texts that fit all classes", None),
    }  # fmt: skip
    found = folders(run)
    assert texts_of(found["checkpoint"]) == texts
    of_a_rewrite = {kind: texts[kind] for kind in ("probability", "ratio")}
    assert texts_of(found["rewrite"]) == texts_of(found["delta"]) == of_a_rewrite
    # What an earlier version noted does not say it.
    old = shutil.copytree(found["checkpoint"], tmp_path / "old")
    goals = read_facts(old)["goals"]
    without = {key: {n: v for n, v in goals[key].items() if n not in ("splits", "has_neutral_texts")} for key in goals}
    add_facts(old, {"goals": without})
    assert texts_of(card_of(old)) == {**texts, "probability": ("Not recorded", None), "ratio": ("Not recorded", None)}


def test_the_metadata_name_other_splits_and_neutral_texts(tmp_path):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "base"), {"experiment_dir": str(tmp_path / "run")})
    folder = Path(trainer.train().model_path)
    asked = {"lrs": [1.0], "selector": LMSThresholdPolicy(ratio=0.0), "target_class": "SG"}
    neutral = pd.DataFrame({"text": BALANCE_TEXTS})
    validation = "The validation split of the training data"
    for given, rows, other in [
        ({"split": "val"}, (validation, "validation"), (f"{validation}, with the words filled in", "validation")),
        ({"split": ["test", "val"], "neutral_df": neutral},
         ("The splits test, validation of the training data", None), ("Neutral texts", None)),
        ({"split": "all", "neutral_df": neutral}, ("All splits of the training data", None), ("Neutral texts", None)),
        ({"training_like_df": trainer.modality.rows("test")}, ("Not recorded", None), ("Not recorded", None)),
    ]:  # fmt: skip
        results = trainer.evaluate_decoder(**asked, **given)
        assert texts_of(folder) == {"probability": rows, "ratio": other}
        sentence = "texts." if rows[0] == "Not recorded" else f"{rows[0][0].lower()}{rows[0][1:]}."
        assert f"as a mean over {sentence}" in (folder / "README.md").read_text("utf-8")
    other = {**results, "SG": {**results["SG"], "value": 0.5}}
    place = trainer.rewrite_base_model(other, strengthen="SG", output_dir=str(tmp_path / "out"))
    assert texts_of(Path(place)) == {"probability": ("Not recorded", None), "ratio": ("Not recorded", None)}


def test_a_card_that_cannot_be_written_costs_nothing(tmp_path, caplog):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "base"), {"experiment_dir": str(tmp_path / "run")})
    folder = tmp_path / "run" / "model"
    for name in ("README.md", "card.json"):
        (folder / name).mkdir(parents=True)
    trainer.train()
    assert trainer.evaluate_encoder()["correlation"] is not None
    assert trainer.has_model()
    assert "is not kept" in caplog.text


def test_without_jinja2_there_is_no_card_and_everything_else(run, tmp_path, monkeypatch):
    _, trainer, _, decoder, *_ = run
    monkeypatch.setattr("gradiend.util._imports.find_spec", lambda name: None)
    trainer.get_model().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "README.md").exists()
    assert ModelWithGradiend.from_pretrained(str(tmp_path / "model")).task == "fill-mask"
    path = trainer.export_delta(decoder, strengthen=SG, path=tmp_path / "d.safetensors")
    assert read_delta(path).card is None


def test_a_delta_is_one_file_with_its_card_and_checksums(run, tmp_path, capsys):
    *_, delta = run
    path = shutil.copy(delta, tmp_path / "one.safetensors")
    found = read_delta(path)
    assert found.card == card_of(found)
    print_description(describe(path))
    assert found.card in capsys.readouterr().out
    assert describe(delta.parent)["kind"] == "delta"
    content = bytearray(Path(path).read_bytes())
    content[content.index(b"Not measured")] ^= 1
    Path(path).write_bytes(content)
    with pytest.raises(ValueError, match=r"one\.safetensors was damaged or changed"):
        read_delta(path)


def test_a_delta_with_numbers_of_a_person_says_what_is_not_known(run, tmp_path):
    _, trainer, *_ = run
    model = trainer.get_model()
    path = model.export_delta(tmp_path, 0.1, strengthen=PL)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "numbers that a person gave" in text
    assert ModelCard(text).data.eval_results is None
    with apply_delta(model.base_model, path):
        pass
