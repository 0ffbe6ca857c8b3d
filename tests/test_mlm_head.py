"""The auxiliary masked-LM head of causal models: its numbers, its files, and what the trainer does with it."""

import json
import logging
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from test_decoder_only import LRS, rows, saved_family, trainer
from transformers import AutoModelForCausalLM

from gradiend import ModelWithGradiend
from gradiend.gradients import GradientEngine
from gradiend.model._context import Side
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives.causal_with_head import CausalWithHead, MLMHead, stand_in_token
from gradiend.objectives.head_training import fit_linear
from gradiend.trainer.text import DecoderModelWithMLMHead, TextPredictionModelWithGradiend, train_mlm_head
from gradiend.trainer.text.prediction.decoder_only_mlm import DataFrameMLMDataset

FAMILIES = ["gpt2", "llama", "qwen2"]
LABELS = ("he", "she", "they")
TEXTS = [
    "the baker saw the old river and then [MASK] was in the house .",
    "[MASK] was very old",
    "the lamp was old and [MASK]",
    "when the dog saw it , [MASK] saw [MASK] and the cat .",
]
FACTUAL, ALTERNATIVE = ["he", "She", "they", "he"], ["she", "he", "he", "they"]


def with_head(name, *, pooling_length=3, tied=True, dtype=torch.float32):
    """(a tiny causal model with a random head, its words)."""
    family = tiny.FAMILIES[name]
    base, tokenizer = family.build(tied=tied, dtype=dtype), family.tokenizer()
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(len(LABELS), 16, generator=generator, dtype=dtype)
    head = MLMHead(
        "", LABELS, stand_in_token(tokenizer), pooling_length, weight, torch.tensor([0.1, -0.2, 0.3], dtype=dtype)
    )
    words = CausalWithHead(tokenizer, head.stand_in, LABELS, pooling_length=pooling_length, max_length=64)
    return DecoderModelWithMLMHead(base, head), words


def naive_log_probs(model, word):
    """log p of the labels by loops, from the causal model's own last hidden states of one text."""
    output = model.to_original_model()(input_ids=torch.tensor([word.input_ids]), output_hidden_states=True)
    states = output.hidden_states[-1][0]
    (position,) = word.positions
    pooled = sum(states[position : position + model.pooling_length]) / len(
        states[position : position + model.pooling_length]
    )
    return (model.mlm_head_weight @ pooled + model.mlm_head_bias).log_softmax(-1)


@pytest.mark.parametrize("pooling_length", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_linear_in_the_mean_of_the_states_from_the_placeholder_on(name, pooling_length):
    model, words = with_head(name, pooling_length=pooling_length)
    model.eval()
    for word in words.tokenize(TEXTS, FACTUAL):
        logits = model(torch.tensor([word.input_ids])).logits
        assert logits.shape == (1, len(word.input_ids), len(LABELS))
        found = logits[0, word.positions[0]].log_softmax(-1)
        assert torch.allclose(found, naive_log_probs(model, word), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_and_derivatives_equal_autograd(name, tied, dtype):
    model, words = with_head(name, tied=tied, dtype=dtype)
    mapping = select_parameters(model.to_original_model())
    factual, alternative = words.tokenize(TEXTS, FACTUAL), words.tokenize(TEXTS, ALTERNATIVE)

    def loss(word):
        return -naive_log_probs(model, word)[word.tokens[0]]

    expected = tiny.naive_gradient(
        model, mapping, lambda: sum(loss(f) - loss(a) for f, a in zip(factual, alternative, strict=True)) / len(TEXTS)
    )
    engine = GradientEngine(model, mapping, words)
    found = engine.gradients(factual, alternative, [Side.DIFF], out=[torch.empty(mapping.size, dtype=dtype)])[0]
    # Rotary families compute angles and norms in float32, whatever their own dtype.
    assert tiny.distance(found, expected) <= (1e-10 if (dtype, name) == (torch.float64, "gpt2") else 1e-5)
    direction = torch.randn(mapping.size, generator=torch.Generator().manual_seed(3), dtype=dtype)
    slopes = [direction @ tiny.naive_gradient(model, mapping, lambda w=word: -loss(w)) for word in factual]
    for batch_size in (1, 4):
        derivatives = engine.directional_derivatives(factual, direction[None], batch_size)[0]
        assert tiny.distance(derivatives.to(dtype), torch.stack(slopes)) <= 2e-5


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_parameters_are_the_causal_model_s_own_under_their_own_names(tied):
    model, _ = with_head("gpt2", tied=tied)
    base = model.to_original_model()
    own = dict(base.named_parameters())
    assert list(dict(model.named_parameters())) == list(own)
    assert all(parameter is own[name] for name, parameter in model.named_parameters())
    assert {id(parameter) for parameter in model.parameters()} == {id(parameter) for parameter in own.values()}
    assert (model.config, model.device, model.name_or_path) == (base.config, base.device, "")
    assert model.double().to_original_model().dtype == torch.float64


class TestInputs:
    """The text around the placeholder, and nothing of the word."""

    def test_the_placeholder_is_one_token_whatever_the_word(self):
        _, words = with_head("gpt2")
        he, they = words.tokenize([TEXTS[0]] * 2, ["he", "They"])
        assert he.input_ids == they.input_ids
        assert (he.tokens, they.tokens) == ((0,), (2,))
        tokens = words.tokenizer.convert_ids_to_tokens(list(he.input_ids))
        assert tokens[he.positions[0] - 1 :] == ["Ġthen", "<|endoftext|>", "Ġwas", "Ġi"]

    @pytest.mark.parametrize("name", FAMILIES)
    def test_what_is_cut_off_could_not_have_changed_anything(self, name):
        model, words = with_head(name)
        model.eval()
        whole = CausalWithHead(words.tokenizer, model.stand_in, LABELS, pooling_length=60, max_length=64)
        for short, long in zip(words.tokenize(TEXTS, FACTUAL), whole.tokenize(TEXTS, FACTUAL), strict=True):
            assert long.input_ids[: len(short.input_ids)] == short.input_ids
            logits = [model(torch.tensor([word.input_ids])).logits[0, word.positions[0]] for word in (short, long)]
            assert torch.allclose(*logits, atol=1e-5)

    @pytest.mark.parametrize(("name", "first"), [("llama", "<s>"), ("gpt2", "cat")])
    def test_long_texts_keep_the_nearest_context_and_a_leading_bos_token(self, name, first):
        _, words = with_head(name)
        end = words.tokenizer.eos_token
        short = CausalWithHead(words.tokenizer, end, LABELS, pooling_length=3, max_length=8)
        (word,) = short.tokenize(["the cat saw " * 10 + "the dog and [MASK] was old ."], ["he"])
        tokens = words.tokenizer.convert_ids_to_tokens(list(word.input_ids))
        assert [token.strip("Ġ▁") for token in tokens] == [first, "saw", "the", "dog", "and", end, "was", "old"]
        assert word.positions == (5,)

    def test_words_that_the_head_does_not_know_and_texts_without_placeholder(self):
        _, words = with_head("gpt2")
        with pytest.raises(ValueError, match=r"does not know 'it', only he, she, they"):
            words.tokenize(TEXTS, ["it"] * 4)
        with pytest.raises(ValueError, match=r"No \[MASK\]"):
            words.tokenize(["the cat"], ["he"])

    def test_label_numbers_are_not_taken_for_the_mask_token(self):
        tokenizer = tiny.llama_tokenizer()
        tokenizer.mask_token = tokenizer.convert_ids_to_tokens(1)
        words = CausalWithHead(tokenizer, "<unk>", LABELS, pooling_length=3, max_length=64)
        assert [word.tokens for word in words.tokenize_known(TEXTS[:3], LABELS)] == [(0,), (1,), (2,)]

    def test_given_labels_may_have_capitals(self):
        frame = pd.DataFrame({"masked": TEXTS, "label": FACTUAL})
        data = DataFrameMLMDataset(frame, tiny.gpt2_tokenizer(), labels=["They", "SHE", "He"])
        assert data.labels == ("they", "she", "he")
        assert [word.tokens for word in data.words] == [(2,), (1,), (0,), (2,)]

    def test_a_data_set_gives_model_inputs(self):
        frame = pd.DataFrame({"masked": TEXTS, "label": FACTUAL})
        data = DataFrameMLMDataset(frame, tiny.gpt2_tokenizer())
        assert data.labels == LABELS
        assert len(data) == 4
        item = data[1]
        assert item["labels"].tolist() == [1, -100, -100]
        for bad, message in (
            (frame.rename(columns={"label": "word"}), r"lacks label; it has masked, word"),
            (frame.assign(label=[None, "he", "he", "she"]), "empty entries"),
            (frame.assign(label="he"), r"two at least, got \['he'\]"),
        ):
            with pytest.raises(ValueError, match=message):
                DataFrameMLMDataset(bad, tiny.gpt2_tokenizer())


class TestTraining:
    """train_mlm_head."""

    def test_the_right_context_is_read_as_far_as_it_is_pooled(self, tmp_path, caplog):
        base = saved_family("gpt2", tmp_path / "base")
        texts = [f"the old {noun} saw it and [MASK] {after}" for noun in "cat dog baker nurse".split() * 3
                 for after in ("was old", "saw it")]  # fmt: skip
        frame = pd.DataFrame({"masked": texts, "label": ["he", "she"] * 12})
        accuracies = []
        for pooling_length in (1, 2):
            with caplog.at_level(logging.INFO, logger="gradiend"):
                path = train_mlm_head(base, frame, tmp_path / "head", epochs=20, lr=1e-2, pooling_length=pooling_length)
            accuracies.append(float(caplog.messages[-1].split("predicts ")[1].split(" %")[0]))
            assert json.loads(Path(path, "config.json").read_text())["pooling_length"] == pooling_length
        assert accuracies == [50.0, 100.0]

    def test_the_scale_of_the_hidden_states_does_not_matter(self):
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(60, 5, generator=generator)
        targets = (features[:, 0] > 0).long()
        settings = {"batch_size": 4, "epochs": 5, "lr": 1e-2}
        weight, bias = fit_linear(features, targets, 2, **settings)
        logits = features @ weight.T + bias
        assert (logits.argmax(1) == targets).float().mean() > 0.9
        scaled, shifted = fit_linear(1000 * features + 3, targets, 2, **settings)
        assert torch.allclose((1000 * features + 3) @ scaled.T + shifted, logits, atol=1e-3)

    def test_the_causal_model_is_not_touched_and_the_same_call_gives_the_same_head(self, tmp_path):
        family = tiny.FAMILIES["gpt2"]
        base = family.build()
        before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
        frame = pd.DataFrame({"masked": TEXTS, "label": FACTUAL})
        paths = [train_mlm_head(base, frame, tmp_path / name, tokenizer=family.tokenizer()) for name in "ab"]
        assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
        assert base.training
        first, second = (MLMHead.load(path) for path in paths)
        assert torch.equal(first.weight, second.weight)
        # A model without a name is kept beside its head.
        loaded = DecoderModelWithMLMHead.from_pretrained(paths[0]).eval()
        word = CausalWithHead(family.tokenizer(), loaded.stand_in, loaded.labels, pooling_length=3, max_length=64)
        inputs = torch.tensor([word.tokenize(TEXTS, FACTUAL)[0].input_ids])
        assert torch.equal(loaded(inputs).logits, DecoderModelWithMLMHead(base.eval(), first)(inputs).logits)

    def test_what_cannot_be_trained(self, tmp_path):
        frame = pd.DataFrame({"masked": TEXTS, "label": FACTUAL})
        with pytest.raises(ValueError, match=r"masked language model.*needs no auxiliary head"):
            train_mlm_head(saved_family("bert", tmp_path / "bert"), frame, tmp_path / "head")
        with pytest.raises(ValueError, match="pooling_length must be at least 1"):
            train_mlm_head("no/such-model", frame, tmp_path / "head", pooling_length=0)
        for name, value in (("epochs", 1.5), ("batch_size", "4"), ("lr", "1e-4"), ("max_length", None)):
            with pytest.raises(TypeError, match=rf"{name} must be a .*number"):
                train_mlm_head("no/such-model", frame, tmp_path / "head", **{name: value})
        with pytest.raises(TypeError, match="must be a DataFrame of pandas; got list"):
            train_mlm_head(saved_family("gpt2", tmp_path / "gpt2"), [{"masked": TEXTS[0]}], tmp_path / "head")
        assert not (tmp_path / "head").exists()


class TestFiles:
    """save_pretrained and from_pretrained."""

    @pytest.fixture
    def saved(self, tmp_path):
        base = saved_family("gpt2", tmp_path / "base")
        frame = pd.DataFrame({"masked": TEXTS, "label": FACTUAL})
        return train_mlm_head(base, frame, tmp_path / "head", lr=0.1)

    def test_a_round_trip(self, saved, tmp_path):
        model = DecoderModelWithMLMHead.from_pretrained(saved)
        assert {path.name for path in Path(saved).iterdir()} == {
            "config.json", "made_from.json", "model.safetensors", "base_model_digest.safetensors",
        }  # fmt: skip
        model.save_pretrained(tmp_path / "again")
        again = DecoderModelWithMLMHead.from_pretrained(tmp_path / "again")
        assert torch.equal(again.mlm_head_weight, model.mlm_head_weight)
        assert (again.labels, again.stand_in, again.pooling_length) == (LABELS, "<|endoftext|>", 3)
        assert again.name_or_path == model.name_or_path == str(tmp_path / "base")

    def test_damaged_or_unfitting_heads_are_named(self, saved, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no auxiliary head"):
            DecoderModelWithMLMHead.from_pretrained(tmp_path)
        head = MLMHead.load(saved)
        narrow = tiny.Family("GPT2LMHeadModel", "GPT2Config", tiny.gpt2_tokenizer, {"n_inner": 32, "hidden_size": 8})
        other = narrow.build()
        with pytest.raises(ValueError, match=r"states of width 16, but .* has width 8"):
            DecoderModelWithMLMHead(other, head)
        tiny.without_checksums(saved)
        config = Path(saved, "config.json")
        config.write_text(json.dumps({**json.loads(config.read_text()), "labels": ["he"]}))
        with pytest.raises(ValueError, match=r"model.safetensors holds .* names 1 labels"):
            MLMHead.load(saved)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return saved_family("gpt2", tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    # With 0.001 the correlation depends on the seed: 0.82 to 0.97; with these, three seeds reach 0.993 and more.
    run = trainer(base, tmp_path_factory.mktemp("experiment"), learning_rate=3e-3, max_steps=80)
    run.get_model()
    run.train_decoder_only_mlm_head(base)
    assert isinstance(run.get_model().base_model, DecoderModelWithMLMHead)
    return run.train()


class TestTrainer:
    """The trainer uses a head that is there."""

    def test_its_data_are_the_distinct_texts_and_words_of_a_split(self, base):
        data = trainer(base).get_decoder_mlm_training_data()
        expected = rows().query("split == 'train'")
        assert list(data.columns) == ["masked", "label"]
        assert set(zip(data["masked"], data["label"], strict=True)) == set(
            zip(expected["masked"], expected["label"], strict=True)
        )
        assert len(trainer(base).get_decoder_mlm_training_data("test", max_size=5)) == 5

    def test_gradients_are_the_head_s_and_the_map_is_the_causal_model_s(self, trained, base):
        model = trained.get_model()
        plain = TextPredictionModelWithGradiend.from_pretrained(base)
        assert model.param_map_hash == plain.param_map_hash
        assert model.name_or_path == base
        assert model.is_decoder_only_model
        row = trained.combined_data.iloc[0]
        gradient = model.create_gradients(row["masked"], row["alternative"])
        word = model.objective.tokenize([row["masked"]], [row["alternative"]])[0]
        expected = tiny.naive_gradient(
            model.base_model, model.gradiend.mapping, lambda: -naive_log_probs(model.base_model, word)[word.tokens[0]]
        )
        assert tiny.distance(gradient, expected) <= 1e-5
        assert torch.allclose(model(model.create_inputs(row["masked"], row["alternative"])), gradient, atol=1e-7)

    def test_class_rows_are_encoded_with_the_head_and_neutral_rows_without(self, trained):
        result = trained.evaluate_encoder(return_df=True)
        assert result["correlation"] > 0.95
        frame, model = result["encoder_df"], trained.get_model()
        for kind, own in (("training", model), ("neutral_dataset", model.without_head())):
            for row in frame[frame["type"] == kind].head(3).itertuples():
                one = own.encode(row.input_text, row.alternative, return_float=True)
                assert row.encoded == pytest.approx(one, abs=1e-5)

    def test_the_decoder_is_measured_and_rewritten_on_the_causal_model(self, trained, base, tmp_path):
        results = trained.evaluate_decoder()
        model = trained.get_model()
        plain = AutoModelForCausalLM.from_pretrained(base)
        expected = trained.evaluate_base_model(plain, model.tokenizer)
        found = trained.evaluate_base_model(model.base_model, model.tokenizer)
        assert found == expected
        assert results["grid"]["base"]["probs_by_dataset"] == expected["probs_by_dataset"]
        factor = -float(model.feature_class_encoding_direction["feminine"])
        chosen = {"feminine": {"learning_rate": LRS[-1], "feature_factor": factor}}
        path = trained.rewrite_base_model(chosen, "feminine", output_dir=str(tmp_path / "m"))
        rewritten = AutoModelForCausalLM.from_pretrained(path)
        measured = trained.evaluate_base_model(rewritten, model.tokenizer)["probs_by_dataset"]["masculine"]
        assert measured == pytest.approx(results["grid"][factor, LRS[-1]]["probs_by_dataset"]["masculine"], abs=1e-6)
        before = plain.state_dict()
        assert all(torch.equal(t, before[n]) for n, t in model.base_model.to_original_model().state_dict().items())

    def test_a_checkpoint_brings_its_head_along(self, trained, base, tmp_path):
        moved = shutil.copytree(trained.model_path, tmp_path / "moved")
        columns = trained.combined_data.head(5)
        texts = columns["masked"], columns["factual"], columns["alternative"]
        expected = trained.get_model().encode_texts(*texts)
        for loaded in (
            ModelWithGradiend.from_pretrained(moved),
            ModelWithGradiend.from_pretrained(base_model=base, gradiend_model=moved),
            trainer(base).load_model(moved),
        ):
            assert isinstance(loaded.base_model, DecoderModelWithMLMHead)
            assert torch.equal(loaded.encode_texts(*texts), expected)

    def test_a_training_without_head_in_the_same_place_leaves_none_behind(self, base, tmp_path):
        first = trainer(base, tmp_path / "with")
        first.train_decoder_only_mlm_head(base)
        output = str(tmp_path / "model")
        first.train(output_dir=output, max_steps=2)
        assert Path(output, "decoder_mlm_head").is_dir()
        trainer(base, tmp_path / "without").train(output_dir=output, max_steps=2)
        assert not isinstance(ModelWithGradiend.from_pretrained(output).base_model, DecoderModelWithMLMHead)

    def test_label_numbers_are_not_taken_for_unknown_tokens(self, tmp_path):
        path = saved_family("llama", tmp_path / "llama")
        run = trainer(path, tmp_path / "run")
        run.train_decoder_only_mlm_head(path)
        model = run.get_model()
        assert model.tokenizer.unk_token_id == 0
        assert {word.tokens[0] for word in run.create_training_data(model).tokenized[0]} == {0, 1}

    def test_which_model_is_loaded(self, trained, base, tmp_path):
        head = str(Path(trained.experiment_dir) / "decoder_mlm_head")
        assert trained.resolve_custom_prediction_head_dir() == head
        assert trained.resolve_model_path(base) == head
        assert trained.resolve_model_path(trained.model_path) == trained.model_path
        assert trainer(base).resolve_model_path(base) == base
        assert trainer(base).resolve_custom_prediction_head_dir() is None
        instance = AutoModelForCausalLM.from_pretrained(base)
        assert trained.resolve_model_path(instance).to_original_model() is instance
        later = trainer(base, trained.experiment_dir)
        assert isinstance(later.get_model().base_model, DecoderModelWithMLMHead)
        other = trainer(saved_family("gpt2", tmp_path / "other"), trained.experiment_dir)
        with pytest.raises(ValueError, match=r"head in .* was trained for .*, not for .*other"):
            other.get_model()

    def test_a_head_in_another_directory_is_remembered(self, base, tmp_path):
        run = trainer(base)
        with pytest.raises(ValueError, match=r"needs a directory.*experiment_dir"):
            run.train_decoder_only_mlm_head(base)
        path = run.train_decoder_only_mlm_head(run.get_model(), output=str(tmp_path / "h"), max_size=20)
        assert path == str(tmp_path / "h")
        assert isinstance(run.get_model().base_model, DecoderModelWithMLMHead)

    def test_a_head_is_kept_only_where_everything_it_depends_on_is_the_same(self, base, tmp_path, caplog):
        run = trainer(base, tmp_path, model_use_cache=True)
        written = []

        def train(**kwargs):
            path = Path(run.train_decoder_only_mlm_head(base, **{"epochs": 1, **kwargs}))
            written.append((path / "model.safetensors").stat().st_mtime_ns)
            return written[-1]

        first = train()
        assert train() == first
        with caplog.at_level(logging.INFO):
            assert train(epochs=2) != first
        assert "epochs was 1 and is 2" in caplog.text
        second = written[-1]
        assert train(epochs=2, max_size=10) != second
        third = written[-1]
        assert train(epochs=2, max_size=10, use_cache=False) != third

    def test_a_masked_model_needs_none(self, base, tmp_path):
        with pytest.raises(ValueError, match="needs no auxiliary head"):
            trainer(base, tmp_path).train_decoder_only_mlm_head(saved_family("bert", tmp_path / "bert"))
