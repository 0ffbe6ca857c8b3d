"""What the user's own folders hold, a base model above all, is never overwritten by a result."""

import shutil
from pathlib import Path

import pytest
import tiny_data

from gradiend import GradiendModel, ModelWithGradiend, apply_delta
from gradiend.model._rewrite_files import export_delta


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
