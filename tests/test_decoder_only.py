"""Causal models through the whole trainer: a tiny random GPT-2, Llama and Qwen2."""

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gradiend import ModelWithGradiend, TextPredictionTrainer, TrainingArguments
from gradiend.cli._commands import app
from gradiend.demo import model_path
from gradiend.experiment import read_record
from gradiend.trainer.text import TextPredictionModelWithGradiend

NOUNS = ["baker", "nurse", "sailor", "gardener"]
PLACES = ["river", "house", "lamp", "dog"]
ENDS = ["saw the cat .", "was very old !", "sold it ."]
FAST = {"train_batch_size": 6, "max_steps": 40, "learning_rate": 1e-3, "eval_steps": 20, "max_seeds": 1}
LRS = [0.0, 0.05, 0.5]


def rows(start=""):
    """48 texts with "he" and 48 with "she", in three splits."""
    texts = [
        f"{start}the {noun} was in the {place} and then [MASK] {end}"
        for noun, place, end in itertools.product(NOUNS, PLACES, ENDS)
    ]
    frame = pd.DataFrame({"masked": texts, "split": (["train"] * 6 + ["validation", "test"]) * (len(texts) // 8)})
    classes = [frame.assign(label=word, label_class=name) for word, name in (("he", "masculine"), ("she", "feminine"))]
    return pd.concat(classes, ignore_index=True)


NEUTRAL = pd.DataFrame({"text": [f"the old {a} and the {b} were near the door ." for a in NOUNS for b in PLACES]})


def saved_family(name, directory):
    """A tiny model with its tokenizer, on disk."""
    family = tiny.FAMILIES[name]
    family.build().save_pretrained(directory)
    family.tokenizer().save_pretrained(directory)
    return str(directory)


def trainer(model, directory=None, data=None, **arguments):
    return TextPredictionTrainer(
        model=model,
        data=rows() if data is None else data,
        eval_neutral_data=NEUTRAL,
        target_classes=["masculine", "feminine"],
        args=TrainingArguments(
            experiment_dir=str(directory) if directory else None, decoder_eval_lrs=LRS, **{**FAST, **arguments}
        ),
    )


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return saved_family("gpt2", tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def trained(gpt2, tmp_path_factory):
    return trainer(gpt2, tmp_path_factory.mktemp("experiment")).train()


@pytest.fixture(scope="module")
def results(trained):
    return trained.evaluate_decoder()


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_the_classes_are_told_apart_and_moved(name, tmp_path):
    run = trainer(saved_family(name, tmp_path / "base"), tmp_path / "run").train()
    result = run.evaluate_encoder(return_df=True)
    assert result["correlation"] > 0.95
    assert result["mean_by_feature_class"]["masculine"] > 0 > result["mean_by_feature_class"]["feminine"]
    assert set(result["encoder_df"]["type"]) == {"training", "neutral_training_masked", "neutral_dataset"}
    grid = run.evaluate_decoder(complete=True)["grid"]
    direction = run.get_model().feature_class_encoding_direction
    for name, other in (("masculine", "feminine"), ("feminine", "masculine")):
        probabilities = [grid[-direction[name], lr]["probs_by_dataset"][other][name] for lr in LRS]
        assert probabilities[0] == grid["base"]["probs_by_dataset"][other][name]
        assert probabilities[0] < probabilities[1]


def test_encodings_are_those_of_plain_autograd(trained):
    model = trained.get_model()
    frame = trained.evaluate_encoder(return_df=True)["encoder_df"].groupby("type").head(4)
    parameters = dict(model.base_model.eval().named_parameters())
    for row in frame.itertuples():
        context, _, _ = row.input_text.partition("[MASK]")
        ids = model.tokenizer(context.rstrip() + " " + row.alternative, return_tensors="pt")["input_ids"]
        n_context = len(model.tokenizer(context.rstrip())["input_ids"])
        # The model's own loss, whose labels it shifts itself: the mean over the word's tokens.
        labels = ids.clone()
        labels[:, :n_context] = -100
        loss = model.base_model(input_ids=ids, labels=labels).loss * (ids.shape[1] - n_context)
        names = list(model.gradiend.param_map)
        gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
        encoded = model.encode(dict(zip(names, gradients, strict=True)), return_float=True)
        assert row.encoded == pytest.approx(encoded, abs=1e-5)


def test_a_checkpoint_loads_with_its_model(trained):
    loaded = ModelWithGradiend.from_pretrained(trained.model_path)
    assert loaded.is_decoder_only_model
    columns = trained.combined_data.head(5)
    texts = columns["masked"], columns["factual"], columns["alternative"]
    assert torch.equal(loaded.encode_texts(*texts), trained.get_model().encode_texts(*texts))


def test_a_model_in_memory_is_used_as_it_is(gpt2):
    instance = AutoModelForCausalLM.from_pretrained(gpt2)
    assert trainer(instance).get_model().base_model is instance


def test_a_rewritten_model_is_a_causal_model_with_the_reported_probabilities(trained, results, tmp_path):
    direction = trained.get_model().feature_class_encoding_direction
    chosen = {"feminine": {"learning_rate": 0.5, "feature_factor": -float(direction["feminine"])}}
    path = trained.rewrite_base_model(chosen, "feminine", output_dir=str(tmp_path / "rewritten"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    texts = rows().query("split == 'test' and label_class == 'masculine'")["masked"]
    found = []
    with torch.no_grad():
        for text in texts:
            context = tokenizer(text.partition("[MASK]")[0].rstrip(), return_tensors="pt")
            next_token = model(**context).logits[0, -1].softmax(-1)
            (she,) = tokenizer(" she")["input_ids"]
            found.append(float(next_token[she]))
    entry = results["grid"][-float(direction["feminine"]), 0.5]
    assert np.mean(found) == pytest.approx(entry["probs_by_dataset"]["masculine"]["feminine"], abs=1e-6)
    assert np.mean(found) != pytest.approx(results["grid"]["base"]["probs_by_dataset"]["masculine"]["feminine"])


def numbers_of(model_path, run, padding_side, batch_size):
    """Every number that evaluations print, with a freshly loaded model and tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_path, padding_side=padding_side)
    model = TextPredictionModelWithGradiend.from_pretrained(run.model_path, tokenizer=tokenizer)
    assert model.tokenizer.padding_side == padding_side
    other = trainer(model_path, eval_batch_size=batch_size)
    encoded = other.evaluate_encoder(model, return_df=True)["encoder_df"]["encoded"].tolist()
    grid = other.evaluate_decoder(model_with_gradiend=model, complete=True)["grid"].values()
    probabilities = [p for entry in grid for classes in entry["probs_by_dataset"].values() for p in classes.values()]
    return [*encoded, *probabilities, *(entry["lms"]["lms"] for entry in grid)]


def test_neither_padding_side_nor_batch_size_changes_a_number(gpt2, trained):
    expected = numbers_of(gpt2, trained, "right", 32)
    assert len(set(expected)) > 20
    for side, batch_size in (("left", 32), ("right", 1), ("left", 7)):
        assert numbers_of(gpt2, trained, side, batch_size) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_inputs_may_be_padded_on_either_side(trained, side):
    model = trained.get_model()
    texts = ["the cat saw the old river and then [MASK]", "the dog and [MASK]", "when [MASK] was old"]
    inputs = [model.create_inputs(text, "she") for text in texts]
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path, padding_side=side, pad_token="<|endoftext|>")
    batch = tokenizer.pad([{key: item[key] for key in ("input_ids", "attention_mask")} for item in inputs])
    length = len(batch["input_ids"][0])
    batch["labels"] = []
    for item in inputs:
        own = item["labels"].tolist()
        ignored = [-100] * (length - len(own))
        batch["labels"].append(ignored + own if side == "left" else own + ignored)
    gradient = model({key: torch.as_tensor(value) for key, value in batch.items()})
    expected = torch.stack([model.create_gradients(text, "she") for text in texts]).mean(0)
    assert tiny.distance(gradient, expected) <= 1e-5


def test_neither_padding_side_nor_order_changes_the_training(gpt2, tmp_path):
    weights = []
    for side in ("left", "right"):
        tokenizer = AutoTokenizer.from_pretrained(gpt2, padding_side=side)
        torch.manual_seed(0)
        model = TextPredictionModelWithGradiend.from_pretrained(gpt2, tokenizer=tokenizer, source="alternative")
        run = trainer(model).train(output_dir=str(tmp_path / side), max_steps=3)
        weights.append(run.get_model().gradiend.encoder_linear.weight)
    assert torch.equal(*weights)


@pytest.fixture(scope="module")
def starting():
    """Some texts of each split and class start with the placeholder: without BOS there is nothing to predict from."""
    data = rows()
    start = data.groupby(["split", "label"]).cumcount() < 2
    data.loc[start, "masked"] = "[MASK]" + data.loc[start, "masked"].str.partition("[MASK]")[2]
    return data


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return saved_family("qwen2", tmp_path_factory.mktemp("qwen"))


def messages(caplog):
    found = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    caplog.clear()
    return [message for message in found if "placeholder" in message]


def test_texts_without_context_are_left_out_and_counted(starting, qwen, tmp_path, caplog):
    run = trainer(qwen, data=starting)
    model = run.get_model()
    sizes = {
        split: int(starting[starting["split"] == split]["masked"].str.startswith("[MASK]").sum())
        for split in ("train", "validation", "test")
    }
    assert all(sizes.values())
    with caplog.at_level(logging.INFO, logger="gradiend"):
        examples = run.create_training_data(model)
        n_train = (starting["split"] == "train").sum()
        assert len(examples.data) == n_train - sizes["train"]
        assert [m.split(" are ")[0] for m in messages(caplog)] == [f"{sizes['train']} of {n_train} rows for training"]
        assert len(run.create_eval_data(model)) == (starting["split"] == "validation").sum() - sizes["validation"]
        assert messages(caplog)[0].startswith(f"{sizes['validation']} of ")
        base = run.evaluate_base_model(model.base_model, model.tokenizer)
        assert messages(caplog)[0].startswith(f"{sizes['test']} of ")
    kept = trainer(qwen, data=starting[~starting["masked"].str.startswith("[MASK]")])
    expected = kept.evaluate_base_model(model.base_model, model.tokenizer)
    assert base["probs_by_dataset"] == expected["probs_by_dataset"]
    run.train(output_dir=str(tmp_path / "m"), max_steps=4)
    run.evaluate_encoder()
    run.evaluate_decoder(lrs=[0.1])


def test_with_a_bos_token_texts_without_context_are_kept(starting, gpt2, caplog):
    run = trainer(gpt2, data=starting)
    with caplog.at_level(logging.INFO, logger="gradiend"):
        examples = run.create_training_data(run.get_model())
    assert len(examples.data) == (starting["split"] == "train").sum()
    assert messages(caplog) == []
    first = int(examples.data["masked"].str.startswith("[MASK]").to_numpy().argmax())
    word = examples.tokenized[0][first]
    assert word.input_ids[0] == run.get_model().tokenizer.bos_token_id
    assert word.positions[0] == 0


def test_a_class_without_any_context_is_an_error(starting, qwen):
    data = starting.assign(masked=starting["masked"].where(starting["label"] == "he", "[MASK] was old"))
    run = trainer(qwen, data=data)
    with pytest.raises(ValueError, match=r"No row of feminine can be scored.*no BOS token"):
        run.evaluate_base_model(run.get_model().base_model, run.get_model().tokenizer)
    # Of the training rows, only one class would be left.
    with pytest.raises(ValueError, match=r"No row of feminine can be scored.*no BOS token"):
        run.train()


def test_of_a_class_whose_drawn_rows_have_no_context_no_more_is_said(qwen):
    data = rows()
    model = trainer(qwen, data=data).get_model()
    drawn = data["masked"].isin(trainer(qwen, data=data).create_eval_data(model, max_size=1).rows["input_text"])
    data.loc[drawn, "masked"] = "[MASK]" + data.loc[drawn, "masked"].str.partition("[MASK]")[2]
    run = trainer(qwen, data=data)
    with pytest.raises(ValueError, match=r"none of the \d rows that were drawn .* or draw more rows \(max_size\)"):
        run.create_eval_data(model, max_size=1)
    assert len(run.create_eval_data(model)) == (data["split"] == "validation").sum() - drawn.sum()


def test_rows_of_a_users_own_may_have_ids_without_labels(starting, qwen, tmp_path):
    run = trainer(qwen, data=starting).train(output_dir=str(tmp_path / "m"), max_steps=1)
    frame = run.combined_data[run.combined_data["split"] == "test"]
    expected = run.evaluate_decoder(lrs=[0.1], training_like_df=frame)
    found = run.evaluate_decoder(lrs=[0.1], training_like_df=frame.assign(source_id=frame["factual_class"]))
    assert found["grid"] == expected["grid"]


@pytest.mark.slow
def test_the_demo_runs_on_a_causal_model(tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    tokenizer.save_pretrained(tmp_path / "base")
    family = tiny.Family("GPT2LMHeadModel", "GPT2Config", lambda: tokenizer, {"n_inner": 32})
    family.build().save_pretrained(tmp_path / "base")
    words = ["demo", "--output", str(tmp_path / "demo"), "--model", str(tmp_path / "base"), "-q"]
    app.main(words, standalone_mode=False)
    metrics = read_record(tmp_path / "demo")["metrics"]
    assert metrics["correlation"]["value"] > 0.95
    printed = capsys.readouterr().out
    assert "AutoModelForMaskedLM" not in printed
    for name, entry in metrics["goals"].items():
        if entry["learning_rate"] is not None:
            path = tmp_path / "demo" / "rewritten" / name
            assert f"AutoModelForCausalLM.from_pretrained('{path}')" in printed
            AutoModelForCausalLM.from_pretrained(path)
