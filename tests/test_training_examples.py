"""The training examples of the documentation as written, but for names of models, classes and files."""

import json

import pytest
import tiny
import tiny_data
import torch

from gradiend import (
    GradiendModel,
    ModelWithGradiend,
    PostPruneConfig,
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionTrainer,
    TrainingArguments,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2")
    tiny.FAMILIES["gpt2"].build().save_pretrained(path)
    tiny.gpt2_tokenizer().save_pretrained(path)
    return str(path)


def test_core_classes_text_prediction_trainer(path):
    training_data = tiny_data.rows()
    neutral_data = training_data[["masked"]].assign(text="the old lamp was near the door of the house .")
    args = TrainingArguments(
        train_batch_size=4,
        max_steps=30,
        learning_rate=1e-4,
    )
    trainer = TextPredictionTrainer(
        model=path,
        data=training_data,
        eval_neutral_data=neutral_data,
        args=args,
    )
    trainer.train()
    enc_result = trainer.evaluate_encoder(plot=True)
    assert set(enc_result["mean_by_feature_class"]) >= {"SG", "PL"}


def test_trainer_basic_usage(gpt2, tmp_path):
    args = TrainingArguments(
        experiment_dir=str(tmp_path / "results"),
        train_batch_size=24,
        num_epochs=10,
        learning_rate=1e-3,
    )
    trainer = TextPredictionTrainer(
        model=gpt2,
        args=args,
        run_id="runs/experiment_gpt2",
        data=tiny_data.rows(),
        target_classes=["SG", "PL"],
    )
    trainer.train()
    directory = tmp_path / "results" / "runs" / "experiment_gpt2"
    assert trainer.experiment_dir == str(directory)
    assert trainer.model_path == str(directory / "model")
    assert trainer.base_model_path == gpt2
    enc_results = trainer.evaluate_encoder(split="test", max_size=1000)
    assert enc_results["n_samples"]
    trainer.plot_training_convergence()
    assert (directory / "training_convergence.png").is_file()
    model = trainer.get_model()
    assert trainer.get_model() is model
    model = trainer.get_model(load_directory=trainer.model_path)
    assert isinstance(model, ModelWithGradiend)
    assert trainer.cpu() is trainer


def test_trainer_multi_seed_training(path, tmp_path):
    args = TrainingArguments(
        max_seeds=5,
        min_convergent_seeds=2,
        convergent_metric="correlation",
        convergent_score_threshold=0.5,
    )
    assert args.get("max_seeds") == 5
    trainer = tiny_data.trainer(path, args)
    overrides = {"train_batch_size": 4, "max_steps": 20, "learning_rate": 0.01, "experiment_dir": str(tmp_path)}
    assert trainer.train(**overrides) is trainer
    report = json.loads((tmp_path / "seeds" / "seed_report.json").read_text())
    assert report["convergent_count"] >= 2
    assert len(report["runs"]) < 5


def test_training_can_be_overridden(path, tmp_path):
    """_train is the documented override point: called with keywords, returns the directory."""
    called = {}

    class Own(TextPredictionTrainer):
        def _train(self, output_dir, args, model, model_with_gradiend_cls, callbacks):
            called.update(output_dir=output_dir, model=model, callbacks=callbacks)
            return super()._train(
                output_dir=output_dir, args=args.replace(max_steps=1), model=model,
                model_with_gradiend_cls=model_with_gradiend_cls, callbacks=callbacks,
            )  # fmt: skip

        def post_training(self, model):
            called["trained"] = model

    args = TrainingArguments(**{**tiny_data.QUICK, "output_dir": str(tmp_path / "out")})
    trainer = Own(path, data=tiny_data.rows(), target_classes=["SG", "PL"], args=args).train()
    assert called["trained"] is trainer.get_model()
    assert called["output_dir"] == trainer.model_path == str(tmp_path / "out")
    assert len(trainer.get_training_stats()["losses"]) == 1


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    """A trainer as in the basic usage, with both directions evaluated."""
    args = TrainingArguments(
        experiment_dir=str(tmp_path_factory.mktemp("results")),
        train_batch_size=4,
        max_steps=30,
        learning_rate=1e-2,
        max_seeds=1,
        decoder_eval_lrs=[0.01, 0.1],
    )
    trainer = tiny_data.trainer(path, args)
    trainer.train()
    return trainer


def test_core_classes_training_arguments(path, tmp_path):
    args = TrainingArguments(
        train_batch_size=8,
        max_steps=200,
        learning_rate=1e-4,
        eval_steps=20,
        max_seeds=3,  # Train 3 seeds and pick best
        pre_prune_config=PrePruneConfig(keep_top_k=1000),
    )
    trainer = tiny_data.trainer(path, args)
    trainer.train(output_dir=str(tmp_path), max_steps=2, max_seeds=1)
    assert len(trainer.get_model()) == len(ModelWithGradiend.from_pretrained(str(tmp_path))) == 1000


def test_core_classes_model_with_gradiend(path, trained):
    model = ModelWithGradiend.from_pretrained(
        base_model=path,
        gradiend_model=trained.model_path,
    )
    gradient_dict = model.create_gradients("then [MASK] saw the bread .", "he", return_dict=True)
    # Encode a gradient
    feature_value = model.encode(gradient_dict)
    assert feature_value == model.encode("then [MASK] saw the bread .", label="he")
    # Rewrite the base model
    modified_model = model.rewrite_base_model(learning_rate=1e-4, feature_factor=1.0, part="decoder")
    before, after = dict(model.base_model.named_parameters()), dict(modified_model.named_parameters())
    assert {name for name in before if not before[name].equal(after[name])} <= set(model.gradiend.param_map)
    assert any(not before[name].equal(after[name]) for name in before)


def test_core_classes_strengthen_and_weaken(trained):
    dec_result = trained.evaluate_decoder()
    changed_model = trained.rewrite_base_model(decoder_results=dec_result, target_class="SG")
    assert not {"SG_weaken", "PL_weaken"} & dec_result.keys()
    dec = trained.evaluate_decoder(increase_target_probabilities=False)
    assert dec.keys() == {"SG_weaken", "PL_weaken", "grid"}
    weakened = trained.rewrite_base_model(dec, target_class="SG", increase_target_probabilities=False)
    assert type(changed_model) is type(weakened)


def test_trainer_evaluation_and_rewriting_from_the_cache(trained, tmp_path):
    enc_results = trained.evaluate_encoder(split="test", max_size=1000)
    assert {"correlation", "mean_by_class"} <= enc_results.keys()
    dec_results = trained.evaluate_decoder(use_cache=True)
    results = trained.evaluate(kwargs_decoder={"use_cache": True})
    assert results["decoder"] == dec_results
    path = trained.rewrite_base_model(target_class="PL", output_dir=str(tmp_path))
    assert path == str(tmp_path)
    trained.plot_encoder_distributions(show=False)
    trained.plot_training_convergence(show=False)
    frame = trained.evaluate_encoder(return_df=True)
    assert trained.evaluate_encoder(encoder_df=frame)["correlation"] == frame["correlation"]
    model = trained.load_model(trained.model_path)
    assert model.name_or_path == trained.get_model(load_directory=trained.model_path).name_or_path


def test_trainer_pruning(path, tmp_path):
    args = TrainingArguments(**{**tiny_data.QUICK, "experiment_dir": str(tmp_path)})
    # Pre-prune: gradient-based pruning before training
    pre_cfg = PrePruneConfig(n_samples=1000, topk=0.5, source="diff")
    args.pre_prune_config = pre_cfg
    # Post-prune: weight-based pruning after training
    post_cfg = PostPruneConfig(topk=0.3, part="decoder-weight")
    args.post_prune_config = post_cfg
    trainer = tiny_data.trainer(path, args)
    trainer.train()  # Automatically applies pre-prune and post-prune
    model = trainer.get_model()
    assert len(model) == round(round(model.unpruned_length() * 0.5) * 0.3)


# Second spellings: the same, and both at once are an error.


def test_second_spellings_mean_the_same(path, trained):
    assert TrainingArguments(num_epochs=7).to_dict() == TrainingArguments(num_train_epochs=7).to_dict()
    assert PrePruneConfig(n_samples=16, keep_top_k=1000) == PrePruneConfig(topk=1000)
    assert PrePruneConfig(topk=5, importance_metric="gradient_norm") == PrePruneConfig(topk=5)
    assert PostPruneConfig(keep_top_k=5, part="decoder-bias") == PostPruneConfig(topk=5, part="decoder-bias")
    assert PostPruneConfig(topk=5, importance_metric="weight_magnitude") == PostPruneConfig(topk=5)
    assert TextFilterConfig(target="they") == TextFilterConfig(targets=["they"])
    args = TrainingArguments(seed=3)
    data = tiny_data.rows()
    assert TextPredictionTrainer(path, data=data, training_args=args).training_args == args
    assert TextPredictionTrainer(path, data=data, args=args).training_args == args
    network = GradiendModel(input_dim=4, latent_dim=1)
    x = torch.ones(4)
    assert network.forward_decoder(network.forward_encoder(x)).equal(network.forward(x))
    both = [trained.evaluate_encoder(source=source) for source in ("counterfactual", "alternative")]
    assert both[0] == both[1]
    first, second = trained.get_model(load_directory=trained.model_path), trained.load_model(trained.model_path)
    again = ModelWithGradiend.from_pretrained(base_model=path, gradiend_model=trained.model_path)
    states = [model.gradiend.state_dict()["encoder.0.linear.weight"] for model in (first, second, again)]
    assert all(state.equal(states[0]) for state in states)


BOTH = {
    "epochs": (lambda: TrainingArguments(num_epochs=1, num_train_epochs=1), TypeError),
    "pre-pruning": (lambda: PrePruneConfig(topk=1, keep_top_k=1), TypeError),
    "post-pruning": (lambda: PostPruneConfig(topk=1, keep_top_k=1), TypeError),
    "pre-pruning importance": (lambda: PrePruneConfig(topk=1, importance_metric="weight_magnitude"), ValueError),
    "post-pruning importance": (lambda: PostPruneConfig(topk=1, importance_metric="gradient_norm"), ValueError),
    "targets": (lambda: TextFilterConfig(targets=["they"], target="they"), ValueError),
    "checkpoint": (lambda: ModelWithGradiend.from_pretrained("a", gradiend_model="b"), TypeError),
}


@pytest.mark.parametrize("case", BOTH)
def test_both_spellings_at_once_are_an_error(case):
    call, error = BOTH[case]
    with pytest.raises(error):
        call()
