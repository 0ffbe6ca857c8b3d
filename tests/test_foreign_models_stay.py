"""What the user's own folders hold, a base model above all, is never overwritten by a result."""

import functools
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny_data
from test_decoder_only import saved_family

from gradiend import GradiendModel, ModelWithGradiend, TextFilterConfig, TextPredictionDataCreator, apply_delta
from gradiend.model._rewrite_files import export_delta
from gradiend.trainer.core.training import train
from gradiend.trainer.text import DecoderModelWithMLMHead, TextPredictionModelWithGradiend, train_mlm_head


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A base model in the working folder, which must be the same at the end of each test."""
    monkeypatch.chdir(tmp_path)
    tiny_data.save_bert("base")
    before = {path.name: path.read_bytes() for path in Path("base").iterdir()}
    yield "base"
    assert {path.name: path.read_bytes() for path in Path("base").iterdir()} == before


def test_a_training_does_not_replace_the_base_model(base):
    for trainer, kwargs in (
        (tiny_data.trainer(base), {"output_dir": base}),
        (tiny_data.trainer(base, {"output_dir": "base/"}), {}),
    ):
        with pytest.raises(ValueError, match=r"base holds a model of transformers \(bert\), which a GRADIEND would"):
            trainer.train(**kwargs)


def test_a_gradiend_is_not_saved_over_a_model(base):
    with pytest.raises(ValueError, match="base holds a model of transformers"):
        ModelWithGradiend.from_pretrained(base).save_pretrained("./base")
    with pytest.raises(ValueError, match="base holds a model of transformers"):
        GradiendModel(4, 1).save_pretrained(base)


class WithItsBase(TextPredictionModelWithGradiend):
    """A kind of model that saves the base model beside the GRADIEND."""

    def _save_model(self, save_directory, **kwargs):
        self.base_model.save_pretrained(save_directory)
        super()._save_model(save_directory, **kwargs)


def test_what_the_hook_of_a_subclass_writes_is_not_refused(base):
    model = WithItsBase.from_pretrained(base)
    for _ in range(2):
        model.save_pretrained("own")
    again = ModelWithGradiend.from_pretrained("own", require_gradiend_model=True)
    assert again.gradiend.weights_digest() == model.gradiend.weights_digest()
    with pytest.raises(ValueError, match="base holds a model of transformers"):
        model.save_pretrained(base)


def test_a_head_is_not_saved_over_a_model(tmp_path):
    causal = saved_family("gpt2", tmp_path / "causal")
    before = {path.name: path.read_bytes() for path in Path(causal).iterdir()}
    for place in (causal, tmp_path / "causal" / "."):
        with pytest.raises(ValueError, match=r"a model of transformers \(gpt2\), which an auxiliary head would"):
            train_mlm_head("no/such-model", pd.DataFrame(), place)
    rows = pd.DataFrame({"masked": ["[MASK] was old", "it was [MASK]"], "label": ["he", "she"]})
    for _ in range(2):
        train_mlm_head(causal, rows, tmp_path / "head", epochs=1)
    head = DecoderModelWithMLMHead.from_pretrained(tmp_path / "head")
    with pytest.raises(ValueError, match="which an auxiliary head would overwrite"):
        head.save_pretrained(causal)
    head.save_pretrained(tmp_path / "head")
    assert {path.name: path.read_bytes() for path in Path(causal).iterdir()} == before


def test_a_rewritten_model_is_not_saved_over_its_base_model(base):
    trainer = tiny_data.trainer(base, {"experiment_dir": "run"}).train()
    results = trainer.evaluate_decoder(lrs=[0.01])
    for given in ({}, {"base_model": base}, {"base_model": trainer.get_model().base_model}):
        with pytest.raises(ValueError, match="holds the base model itself, which the rewritten model would overwrite"):
            trainer.rewrite_base_model(results, strengthen="SG", output_dir=Path("base").absolute(), **given)
    # A trainer of the checkpoint knows the base model by the checkpoint.
    later = tiny_data.trainer("run/model")
    with pytest.raises(ValueError, match="holds the base model itself"):
        later.rewrite_base_model(later.evaluate_decoder(lrs=[0.01]), strengthen="SG", output_dir=base)
    # An earlier rewrite is replaced, as before.
    for _ in range(2):
        trainer.rewrite_base_model(results, strengthen="SG", output_dir="rewritten")


def test_a_delta_is_not_written_over_weights(base):
    trainer = tiny_data.trainer(base, {"experiment_dir": "run"}).train()
    results, model = trainer.evaluate_decoder(lrs=[0.01]), trainer.get_model()
    weights = "base/model.safetensors"
    rewritten = model.rewrite_base_model(learning_rate=0.1, strengthen="SG")
    for write in (
        lambda: trainer.export_delta(results, strengthen="SG", path=weights),
        lambda: model.export_delta(weights, learning_rate=0.1, strengthen="SG"),
        lambda: export_delta(model.base_model, rewritten, weights),
    ):
        with pytest.raises(ValueError, match=r"model\.safetensors is there and is no delta"):
            write()
    for _ in range(2):
        model.export_delta("one.safetensors", learning_rate=0.1, strengthen="SG")
    with apply_delta(model.base_model, "one.safetensors"):
        pass


def test_a_folder_without_a_whole_model_may_be_taken(tmp_path, base):
    shutil.copytree(base, "notes")
    Path("notes/config.json").write_text("{")
    ModelWithGradiend.from_pretrained(base).save_pretrained("notes")
    assert ModelWithGradiend.from_pretrained("notes", require_gradiend_model=True) is not None


def test_a_file_in_place_of_a_model_says_what_it_is(base):
    tiny_data.trainer(base).train().get_model().export_delta("one.safetensors", learning_rate=0.1, strengthen="SG")
    with pytest.raises(FileNotFoundError, match=r"one\.safetensors is a file.*apply_delta"):
        ModelWithGradiend.from_pretrained("one.safetensors")


@pytest.mark.parametrize("place", [{"output_dir": "texts"}, {"output": "texts/training.csv"}])
def test_a_corpus_is_not_replaced_by_what_is_found_in_it(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    corpus = Path("texts/training.csv")
    pd.DataFrame({"text": ["he was tired", "they were old"] * 20}).to_csv(corpus, index=False)
    shutil.copy(corpus, "texts/neutral.csv")
    before = corpus.read_bytes()
    classes = [TextFilterConfig([word], id=word) for word in ("he", "they")]
    folder = {key: value for key, value in place.items() if key == "output_dir"}
    call = {key: value for key, value in place.items() if key == "output"}
    creator = TextPredictionDataCreator(corpus.absolute(), feature_targets=classes, **folder)
    with pytest.raises(ValueError, match=r"training\.csv' is where the texts are read from, and would be lost"):
        creator.generate_training_data(**call)
    with pytest.raises(ValueError, match=r"neutral\.csv' is where the texts are read from"):
        creator.generate_neutral_data(base_data="texts/neutral.csv", output="texts/neutral.csv")
    assert corpus.read_bytes() == Path("texts/neutral.csv").read_bytes() == before
    assert creator.generate_training_data(output="found.csv", min_rows_per_class_for_split=0)


@pytest.mark.parametrize(
    ("arguments", "call", "run_id"),
    [
        ({"experiment_dir": "owner/name"}, None, None),
        ({"experiment_dir": "owner/name/first"}, None, None),
        ({"experiment_dir": "owner"}, None, "name"),
        ({"output_dir": "owner/../owner/name"}, None, None),
        ({"seed_runs_dir": "owner/name"}, None, None),
        ({}, {"output_dir": "owner/name"}, None),
        ({}, {"experiment_dir": "owner/name"}, None),
        ({}, {"experiment_dir": "owner"}, "name"),
        ({}, {"model": "other", "output_dir": "other"}, None),
    ],
)
def test_an_experiment_has_another_name_than_its_model_on_a_hub(tmp_path, monkeypatch, arguments, call, run_id):
    monkeypatch.chdir(tmp_path)
    name = (call or {}).get("model", "owner/name")

    def make():
        return tiny_data.trainer("owner/name", arguments, run_id=run_id)

    # What the trainer itself has is refused when it is made.
    refused = make if call is None else functools.partial(make().train, **call)
    with pytest.raises(ValueError, match=f"would have the name of the model, {name}, and would be loaded in its place"):
        refused()
    assert not any(tmp_path.iterdir())


def test_the_way_out_of_an_experiment_with_the_name_of_its_model_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"such as runs/name\."):
        tiny_data.trainer("owner/name", {"experiment_dir": str(tmp_path / "owner/name")})


def test_a_name_that_no_file_can_have_makes_no_trainer_fail(tmp_path):
    name = "x" * 300
    assert tiny_data.trainer(name, {"experiment_dir": str(tmp_path)}).base_model_path == name


def test_an_experiment_may_be_trained_on_in_its_own_folder(base):
    tiny_data.trainer(base, {"experiment_dir": "run"}).train()
    assert tiny_data.trainer("run", {"experiment_dir": "run"}).get_model() is not None
    assert tiny_data.trainer("run/model", {"output_dir": "run/model"}).get_model() is not None


def test_a_training_of_gradients_does_not_replace_a_model_and_says_so_before_it(base):
    taken = []

    class Batches(list):
        def __iter__(self):
            taken.append(self)
            return super().__iter__()

    with pytest.raises(ValueError, match="base holds a model of transformers"):
        train(ModelWithGradiend.from_pretrained(base), Batches([{}]), output_dir=base, max_steps=1)
    assert not taken
