"""Choosing rewrites in ways of one's own, and evaluations on a real trainer that no other file runs."""

import pytest
import tiny_data

from gradiend.evaluator import LMSThresholdPolicy
from gradiend.evaluator._selection import BaseContext, Candidate, LMSTimesMetricPolicy
from gradiend.evaluator.encoder import encode_dataset_to_rows

LRS = [0.0, 0.1, 0.5]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny_data.trainer(tiny_data.save_bert(tmp_path_factory.mktemp("bert"))).train()


@pytest.fixture(scope="module")
def grid(trained):
    return trained.evaluate_decoder(lrs=LRS, selector=LMSThresholdPolicy(ratio=0.0))["grid"]


def candidates(grid, trained, name):
    """Entries that strengthen a class: those with the factor that does it."""
    factor = -trained.get_model().feature_class_encoding_direction[name]
    return {key[1]: entry for key, entry in grid.items() if key != "base" and key[0] == factor}


def test_the_product_of_lms_and_probability(trained, grid):
    result = trained.evaluate_decoder(lrs=LRS, selector=LMSTimesMetricPolicy())
    for name, other in (("SG", "PL"), ("PL", "SG")):
        products = {
            rate: entry["lms"]["lms"] * entry["probs_by_dataset"][other][name]
            for rate, entry in candidates(grid, trained, name).items()
            if rate
        }
        assert products[result[name]["learning_rate"]] == max(products.values())


def test_a_selector_of_ones_own(trained):
    class Largest:
        """The largest step, whatever it does."""

        def select(self, metric, candidates, ctx):
            assert ctx.base_lms is not None
            return max(candidates, key=lambda one: one.id["learning_rate"])

    result = trained.evaluate_decoder(lrs=LRS, selector=Largest())
    assert [result[name]["learning_rate"] for name in ("SG", "PL")] == [0.5, 0.5]
    weak = trained.evaluate_decoder(lrs=LRS, selector=Largest(), increase_target_probabilities=False)
    chosen = weak["SG_weaken"]
    assert (chosen["learning_rate"], chosen["strengthen"]) == (0.5, False)
    assert chosen["value"] == 1 - weak["grid"][chosen["feature_factor"], 0.5]["probs_by_dataset"]["SG"]["SG"]
    rewritten = trained.rewrite_base_model(weak, "SG", increase_target_probabilities=False)
    model = trained.get_model()
    measured = trained.evaluate_base_model(rewritten, model.tokenizer)
    assert 1 - measured["probs_factual"]["SG"] == pytest.approx(chosen["value"], abs=1e-6)


def test_metrics_and_an_extractor_of_ones_own(trained):
    lenient = LMSThresholdPolicy(ratio=0.0)

    def with_small_steps(grid):
        return {
            key: entry if key == "base" else {**entry, "small": -entry["id"]["learning_rate"]}
            for key, entry in grid.items()
        }

    asked = {"lrs": [0.1, 0.5], "selector": lenient, "summary_metrics": ["small", "SG_factual", "SG"]}
    result = trained.evaluate_decoder(summary_extractor=with_small_steps, **asked)
    assert set(result) == {"small", "SG_factual", "SG", "grid"}
    assert (result["small"]["value"], result["small"]["learning_rate"]) == (-0.1, 0.1)
    factual = [entry["probs_factual"]["SG"] for key, entry in result["grid"].items() if key != "base"]
    assert result["SG_factual"]["value"] == max(factual)
    base = result["grid"]["base"]
    assert result["SG_factual"]["base_value"] == base["probs_factual"]["SG"]
    assert result["SG"]["base_value"] == base["probs_by_dataset"]["PL"]["SG"]
    assert result["small"]["base_value"] is None
    one = trained.evaluate_decoder(**{**asked, "summary_metrics": "SG_factual"})
    assert {name: one[name] for name in one if name != "grid"} == {"SG_factual": result["SG_factual"]}

    def finished(grid):
        found = [Candidate(entry["id"], 1.0, {"SG": 0.25}) for key, entry in grid.items() if key != "base"]
        return found, BaseContext(1.0)

    result = trained.evaluate_decoder(summary_extractor=finished, lrs=[0.1], target_class="SG")
    assert (result["SG"]["value"], result["SG"]["base_lms"]) == (0.25, 1.0)
    assert result["SG"]["base_value"] is None


def test_gradients_are_encoded_item_by_item(trained):
    model = trained.get_model()
    data = trained.create_training_data(model, batch_size=2)
    items = list(trained.create_gradient_training_dataset(data, model))[:3]
    rows = encode_dataset_to_rows(model, items)
    assert [row["label"] for row in rows] == [item["label"] for item in items]
    assert [row["encoded"] for row in rows] == [model.encode(item["source"], return_float=True) for item in items]
    assert "source" not in rows[0]
    named = encode_dataset_to_rows(model, items, lambda item: {"name": item["batch_id"]})
    assert [set(row) for row in named] == [{"name", "encoded"}] * 3


def test_the_scatter_of_a_real_trainer(trained):
    pytest.importorskip("plotly")
    figure = trained.plot_encoder_scatter(show=False)
    shown = sum(len(trace.x) for trace in figure.data if trace.x is not None)
    assert shown >= len(trained.evaluate_encoder(return_df=True)["encoder_df"])
