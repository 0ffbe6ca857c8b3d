"""Every public call refuses a keyword that it does not know, and names the nearest: nothing is silently ignored."""

import pytest
import tiny_data

MISSPELLED = {
    "create_eval_data": (lambda t, m: t.create_eval_data(m, splt="test"), "splt", "split"),
    "create_training_data": (lambda t, m: t.create_training_data(m, splt="test"), "splt", "split"),
    "create_gradient_training_dataset": (
        lambda t, m: t.create_gradient_training_dataset(None, m, sorce="diff"),
        "sorce",
        "source",
    ),
    "evaluate_base_model": (
        lambda t, m: t.evaluate_base_model(m, m.tokenizer, cach_folder="x"),
        "cach_",
        "cache_folder",
    ),
    "evaluate_side_effects": (lambda t, m: t.evaluate_side_effects(target_clas="old"), "target_clas", "target_class"),
    "data_summary": (lambda t, m: t.data_summary(tokeniser=None), "tokeniser", "tokenizer"),
    "encode": (lambda t, m: t.encode(splt="test"), "splt", "split"),
    "evaluate_encoder": (lambda t, m: t.evaluate_encoder(splt="test"), "splt", "split"),
    "evaluate_decoder": (lambda t, m: t.evaluate_decoder(lr=[0.1]), "lr", "lrs"),
    "evaluate": (lambda t, m: t.evaluate(kwargs_encoder={"max_siz": 3}), "max_siz", "max_size"),
    "evaluator.evaluate_encoder": (lambda t, m: t.evaluator.evaluate_encoder(splt="test"), "splt", "split"),
    "evaluator.evaluate_decoder": (lambda t, m: t.evaluator.evaluate_decoder(lr=[0.1]), "lr", "lrs"),
    "get_encodings": (lambda t, m: t.get_encodings(splt="test"), "splt", "split"),
    "get_encoder_metrics": (lambda t, m: t.get_encoder_metrics(use_cache=True, splt="test"), "splt", "split"),
    "analyze_decoder_for_plotting": (lambda t, m: t.analyze_decoder_for_plotting(lr=[0.1]), "lr", "lrs"),
    "plot_encoder_distributions": (lambda t, m: t.plot_encoder_distributions(shw=False), "shw", "show"),
    "plot_training_convergence": (lambda t, m: t.plot_training_convergence(shw=False), "shw", "show"),
    "plot_encoder_scatter": (lambda t, m: t.plot_encoder_scatter(shw=False), "shw", "show"),
    "plot_encoder_by_target": (lambda t, m: t.plot_encoder_by_target(shw=False), "shw", "show"),
    "plot_encoder_strip_by_split": (lambda t, m: t.plot_encoder_strip_by_split(shw=False), "shw", "show"),
    "plot_probability_shifts": (lambda t, m: t.plot_probability_shifts(shw=False), "shw", "show"),
    "plot_kwargs": (lambda t, m: t.evaluate_encoder(plot=True, plot_kwargs={"shw": False}), "shw", "show"),
    "get_model": (
        lambda t, m: t.get_model(load_directory=t.model_path, latent_dims=2),
        "latent_dims",
        "latent_dim",
    ),
    "train": (lambda t, m: t.train(max_step=3), "max_step", "max_steps"),
    "estimate_memory": (lambda t, m: t.estimate_memory(max_step=3), "max_step", "max_steps"),
    "export_delta": (lambda t, m: t.export_delta(target_clas="old"), "target_clas", "target_class"),
    "rewrite_base_model": (lambda t, m: t.rewrite_base_model(target_clas="old"), "target_clas", "target_class"),
    "model.encode": (
        lambda t, m: m.encode("the cat was [MASK] .", "old", return_floats=True),
        "return_floats",
        "return_float",
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("doors")
    path = tiny_data.save_bert(root / "base")
    return tiny_data.trainer(path, {"experiment_dir": str(root / "run"), "max_seeds": 1, "max_steps": 2}).train()


@pytest.mark.parametrize("call", MISSPELLED)
def test_an_unknown_keyword_is_refused_and_the_nearest_named(trained, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, wrong, right = MISSPELLED[call]
    with pytest.raises(TypeError, match=wrong) as refused:
        made(trained, trained.get_model())
    assert repr(right) in str(refused.value)
    assert "DecoderEvaluator" not in str(refused.value)
    assert "_analyze_encoder" not in str(refused.value)
    assert not list(tmp_path.iterdir())
