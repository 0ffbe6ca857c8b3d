"""What an untrained GRADIEND may do: encode and be trained. Its numbers never become results."""

import logging
from pathlib import Path

import pytest
import tiny_data
import torch
from everyday import every

from gradiend import TrainingArguments
from gradiend.trainer.text import TextPredictionModelWithGradiend


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


def contents(directory):
    return {file: file.read_bytes() for file in Path(directory).rglob("*") if file.is_file()}


@pytest.fixture(scope="module", params=[1, 2], ids=["one seed", "several seeds"])
def yesterday(request, path, tmp_path_factory):
    """A trainer with all its results on disk."""
    arguments = {"experiment_dir": str(tmp_path_factory.mktemp("run")), "max_seeds": request.param}
    trainer = tiny_data.trainer(path, arguments).train()
    trainer.evaluate_encoder()
    trainer.evaluate_decoder(lrs=[0.1, 1.0])
    return trainer


def again(path, yesterday, **changes):
    arguments = yesterday.training_args
    return tiny_data.trainer(path, TrainingArguments.from_dict({**arguments.to_dict(), **changes}))


def test_a_new_trainer_on_the_same_goes_on_with_the_model_on_disk(path, yesterday, caplog):
    before = yesterday.evaluate_encoder()
    with caplog.at_level(logging.INFO):
        today = again(path, yesterday)
        assert today.has_model()
        assert today.evaluate_encoder() == before
    assert f"The model in {yesterday.model_path} was trained from the same" in caplog.text
    assert today.model_path == yesterday.model_path
    grid = today.evaluate_decoder(lrs=[0.1, 1.0])["grid"]
    assert grid.keys() == yesterday.evaluate_decoder(lrs=[0.1, 1.0])["grid"].keys()
    assert torch.equal(
        today.get_model().gradiend.encoder_linear.weight, yesterday.get_model().gradiend.encoder_linear.weight
    )
    assert again(path, yesterday).get_encodings() is not None


CALLS = {
    "evaluate_encoder": lambda t: t.evaluate_encoder(),
    "evaluate_decoder": lambda t: t.evaluate_decoder(lrs=[0.1]),
    "evaluate": lambda t: t.evaluate(),
    "encode": lambda t: t.encode(),
    "evaluator.evaluate_encoder": lambda t: t.evaluator.evaluate_encoder(),
    "evaluator.evaluate_decoder": lambda t: t.evaluator.evaluate_decoder(),
    "analyze_decoder_for_plotting": lambda t: t.analyze_decoder_for_plotting(lrs=[0.1]),
    "rewrite_base_model": lambda t: t.rewrite_base_model(CHOICE, "SG"),
    "export_delta": lambda t: t.export_delta(CHOICE, "SG", path="delta.safetensors"),
    "plot_encoder_distributions": lambda t: t.plot_encoder_distributions(show=False),
    "plot_encoder_scatter": lambda t: t.plot_encoder_scatter(show=False),
}
CHOICE = {"SG": {"learning_rate": 0.1, "feature_factor": 1.0}}


@pytest.mark.parametrize("call", every(3, CALLS.values()), ids=CALLS)
def test_a_trainer_of_something_else_gives_no_numbers_and_overwrites_nothing(path, yesterday, call):
    files = contents(yesterday.experiment_dir)
    today = again(path, yesterday, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"not trained.*learning_rate was 0.001 and is 0.5.*load_directory='"):
        call(today)
    assert contents(yesterday.experiment_dir) == files
    today.get_model(load_directory=yesterday.model_path)
    assert len(today.encode()) == 16


def test_a_model_that_does_not_say_what_it_was_made_from_is_not_taken(path, tmp_path):
    first = tiny_data.trainer(path, {"experiment_dir": str(tmp_path)}).train()
    (Path(first.model_path) / "fingerprint.json").unlink()
    with pytest.raises(ValueError, match="does not say what it was made from"):
        again(path, first).evaluate_encoder()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("given", ["name", "model"])
def test_without_a_training_there_are_no_numbers(path, call, given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = path if given == "name" else TextPredictionModelWithGradiend.from_pretrained(path)
    trainer = tiny_data.trainer(model)
    with pytest.raises(ValueError, match=r"not trained.*train\(\) first, or get_model\(load_directory=…\)"):
        call(trainer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("evaluate", ["evaluate_encoder", "evaluate_decoder"])
def test_fresh_weights_given_to_an_evaluation_are_refused(path, yesterday, evaluate):
    fresh = TextPredictionModelWithGradiend.from_pretrained(path)
    for owner in (yesterday, yesterday.evaluator):
        with pytest.raises(ValueError, match="not trained"):
            getattr(owner, evaluate)(model_with_gradiend=fresh)
    with pytest.raises(ValueError, match="not trained"):
        yesterday.rewrite_base_model(CHOICE, "SG", base_model=fresh)


def test_a_fresh_model_can_encode_and_be_trained(path):
    trainer = tiny_data.trainer(path)
    fresh = trainer.get_model()
    assert fresh.gradiend.is_untrained
    assert fresh.encode("the cat was old and [MASK] saw it .", "he").shape == (1,)
    assert not trainer.train(model=fresh).get_model().gradiend.is_untrained
    assert len(trainer.encode()) == 16


def halve(model):
    with torch.no_grad():
        model.gradiend.decoder_linear.weight[0] *= 0.5


BY_HAND = {
    "one entry": halve,
    "inverted": lambda model: model.invert_encoding(),
    "loaded tensors": lambda model: model.gradiend.load_state_dict(
        {name: torch.ones_like(tensor) for name, tensor in model.gradiend.state_dict().items()}
    ),
    "without autograd's knowledge": lambda model: model.gradiend.encoder_linear.weight.data.fill_(1),
}


@pytest.mark.parametrize("change", BY_HAND.values(), ids=BY_HAND)
def test_weights_set_by_hand_are_not_random(path, change):
    model = TextPredictionModelWithGradiend.from_pretrained(path)
    change(model)
    assert not model.gradiend.is_untrained
    assert len(tiny_data.trainer(model).encode()) == 16


def test_pruning_and_copying_leave_it_untrained_and_loading_does_not(path, tmp_path):
    model = TextPredictionModelWithGradiend.from_pretrained(path)
    assert model.prune_gradiend(topk=0.5, inplace=False).gradiend.is_untrained
    model.prune_gradiend(topk=100)
    assert model.gradiend.is_untrained
    assert model.with_original_base_model(model.base_model).gradiend.is_untrained
    assert TextPredictionModelWithGradiend.from_pretrained(path, lazy_init=True).gradiend.build().is_untrained
    model.save_pretrained(str(tmp_path))
    assert not TextPredictionModelWithGradiend.from_pretrained(str(tmp_path)).gradiend.is_untrained
    halve(model)
    assert not model.prune_gradiend(topk=10, inplace=False).gradiend.is_untrained


@pytest.mark.parametrize(
    "arguments", [{"learning_rate": 0.0}, {"init": "class_means", "init_samples": 4, "max_steps": 0}]
)
@pytest.mark.parametrize("save", ["best", "no"])
def test_a_training_that_leaves_the_weights_and_the_closed_form_are_trainings(path, arguments, save):
    trainer = tiny_data.trainer(path, {**arguments, "save_strategy": save}).train()
    assert not trainer.get_model().gradiend.is_untrained
    assert trainer.evaluate_encoder()["n_samples"] > 0
