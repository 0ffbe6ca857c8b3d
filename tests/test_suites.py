"""Suites of pairs: the same GRADIENDs as one by one, for the price of the distinct (class, word) gradients."""

from pathlib import Path

import pandas as pd
import pytest
import tiny
import tiny_data
import torch
from documents import DOCS, python_blocks

from gradiend import (
    PositiveFeatureDefinition,
    PositiveTrainerSuite,
    PrePruneConfig,
    SuitePairDefinition,
    SymmetricTrainerSuite,
    TextPredictionTrainer,
    TrainerCollection,
    TrainingArguments,
    compute_anchor_aligned_encoding_matrix,
    compute_similarity_matrix,
    compute_trainer_pair_encoding_matrix,
)
from gradiend.report import write_comparison
from gradiend.trainer.core._pruning_config import PostPruneConfig

WORDS = {"HE": ("he",), "SHE": ("she",), "THEY": ("they",), "IT": ("it",)}
PRUNED = PrePruneConfig(topk=0.2, n_samples=4)
SIDES = [("alternative", "diff"), ("factual", "alternative"), ("diff", "factual")]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def data():
    return tiny_data.rows(WORDS)


def arguments(**fields):
    return TrainingArguments(**{**tiny_data.QUICK, "pre_prune_config": PRUNED, **fields})


def suite(path, data, args=None, kind=SymmetricTrainerSuite, **fields):
    return kind(TextPredictionTrainer, model=path, data=data, args=args or arguments(), **fields)


@pytest.fixture
def passes(monkeypatch):
    """Counts backward passes."""
    counted = [0]
    backward = torch.Tensor.backward

    def count(*args, **kwargs):
        counted[0] += 1
        return backward(*args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", count)
    return counted


def weights(model):
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.gradiend.parameters()])


# Sharing


@pytest.mark.parametrize(("source", "target"), SIDES)
def test_each_pair_is_what_it_is_alone(path, data, source, target):
    args = arguments(source=source, target=target)
    found = suite(path, data, args, target_classes=["HE", "SHE", "THEY"]).train()
    assert list(found) == ["HE__SHE", "HE__THEY", "SHE__THEY"]
    for trainer in found.get_trainers():
        alone = TextPredictionTrainer(path, data=data, target_classes=trainer.target_classes, args=args)
        alone.train()
        one, other = trainer.get_model(), alone.get_model()
        assert one.gradiend.param_map_hash == other.gradiend.param_map_hash
        if "diff" in (source, target):
            assert tiny.distance(weights(one), weights(other)) < 1e-4
        else:
            assert torch.equal(weights(one), weights(other))
        curves = [one.get_training_stats()["training_stats"]["scores"] for one in (trainer, alone)]
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_each_gradient_is_computed_once(path, data, passes):
    data = data.copy()
    links = {"HE": "and then", "SHE": "and when", "THEY": "then", "IT": "when"}
    data["masked"] = [
        text.replace("and then", links[name]) for text, name in zip(data["masked"], data["label_class"], strict=True)
    ]
    counts = []
    for classes in (["HE", "SHE"], ["HE", "SHE", "THEY", "IT"]):
        passes[0] = 0
        suite(path, data, arguments(max_steps=12), target_classes=classes).train()
        counts.append(passes[0])
    # Of each of K classes: a batch of texts for pruning, and 6 batches of texts with each of the K words. Beside them,
    # the base model is asked once what it can do and what memory it takes, and once for each set of parameters.
    asked = counts[0] - 2 * (1 + 6 * 2)
    assert 0 < asked < 10
    assert 0 <= counts[1] - asked - 4 * (1 + 6 * 4) < 6


def test_little_room_costs_time_only(path, data):
    roomy, tight = (
        suite(path, data, arguments(kept_gradients_size=size), target_classes=["HE", "SHE", "IT"]).train()
        for size in (2**30, 0)
    )
    for name in roomy:
        assert tiny.distance(weights(roomy[name].get_model()), weights(tight[name].get_model())) < 1e-4


def test_several_seeds_and_unpruned_gradiends_share_too(path, data, tmp_path):
    args = arguments(
        max_seeds=2, min_convergent_seeds=None, pre_prune_config=None, experiment_dir=str(tmp_path),
        post_prune_config=PostPruneConfig(topk=100),
    )  # fmt: skip
    found = suite(path, data, args, run_id="trio", target_classes=["HE", "SHE", "IT"]).train()
    alone = TextPredictionTrainer(
        path, data=data, target_classes=["HE", "IT"], args=args.replace(experiment_dir=str(tmp_path / "alone"))
    )
    alone.train()
    report = found["HE__IT"].get_seed_report()
    assert report["best_seed"] == alone.get_seed_report()["best_seed"]
    assert tiny.distance(weights(found["HE__IT"].get_model()), weights(alone.get_model())) < 1e-3
    assert (tmp_path / "trio" / "HE__IT" / "seeds" / "seed_report.json").is_file()
    models = list(found.get_models().values())
    assert all(model.base_model is models[0].base_model for model in models)


def test_what_is_done_is_read(path, data, tmp_path, passes):
    args = arguments(experiment_dir=str(tmp_path), use_cache=True)
    first = suite(path, data, args, run_id="s", target_classes=["HE", "SHE", "IT"]).train()
    passes[0] = 0
    again = suite(path, data, args, run_id="s", target_classes=["HE", "SHE", "IT"]).train()
    assert passes[0] == 0
    assert all(trainer.reused for trainer in again.get_trainers())
    for name, model in again.get_models().items():
        assert torch.equal(weights(model), weights(first[name].get_model()))


# One that fails


def test_a_pair_that_cannot_be_trained_is_reported_and_the_others_go_on(path, data, caplog):
    same = data[data["label_class"] == "HE"].assign(label_class="HIM")
    found = suite(path, pd.concat([data, same]), target_classes=["HE", "HIM", "SHE"]).train()
    assert list(found.failures) == ["HE__HIM"]
    assert "also the only word of" in found.failures["HE__HIM"]
    assert "HE__HIM cannot be trained" in caplog.text
    assert list(found.evaluate_encoder()) == list(found.get_models()) == ["HE__SHE", "HIM__SHE"]
    with pytest.raises(RuntimeError, match="get_models failed for all"):
        suite(path, data, target_classes=["HE", "SHE"]).get_models()
    assert list(found.failures) == ["HE__HIM"]
    table = found.table()
    assert table["status"].to_dict() == {"HE__HIM": "failed", "HE__SHE": "trained", "HIM__SHE": "trained"}
    assert "only word" in table.loc["HE__HIM", "reason"]
    assert table.loc["HE__SHE", "correlation"] == found["HE__SHE"].evaluate_encoder()["correlation"]
    assert "HE__HIM: " in repr(found)


def test_if_all_fail_the_first_error_is_the_cause(path, data):
    with pytest.raises(RuntimeError, match="train failed for all 1 trainers") as error:
        suite(path, data, arguments(train_batch_size=25), target_classes=["HE", "SHE"]).train()
    assert "fewer than one batch" in str(error.value)
    assert isinstance(error.value.__cause__, ValueError)


# What it is asked


def test_seeds_that_are_compared_are_what_a_suite_evaluates(path, data, tmp_path):
    args = arguments(
        max_seeds=2, min_convergent_seeds=2, analyze_seed_stability=True, convergent_score_threshold=0.0,
        experiment_dir=str(tmp_path), seed_stability_topk=20, use_cache=True,
    )  # fmt: skip
    found = suite(path, data, args, run_id="s", target_classes=["HE", "SHE"]).train()
    result, decoded = found.evaluate_encoder()["HE__SHE"], found.evaluate_decoder(lrs=[0.0, 0.1])["HE__SHE"]
    view = found["HE__SHE"].multi_seed()
    expected = view.evaluate_encoder()
    assert (result["seeds"]["n"], result["correlation"]) == (2, expected["correlation"])
    row = found.table().loc["HE__SHE"]
    assert (row["seeds"], row["correlation"]) == (2, expected["correlation"])
    assert (row["low"], row["high"]) == tuple(expected["correlation_interval"][end] for end in ("low", "high"))
    assert row["HE: after"] == decoded["HE"]["value"]
    assert found.records()[0]["experiment"]["seed"] == view.seed_values()
    assert len(found.get_models()["HE__SHE"]) == 2
    # What belongs to one model is asked of the best seed.
    assert found.encode(split="test")["HE__SHE"] == found["HE__SHE"].encode(split="test")
    args = args.replace(analyze_seed_stability=False, saved_seed_runs="all_convergent")
    plain = suite(path, data, args, run_id="s", target_classes=["HE", "SHE"]).train()
    assert plain["HE__SHE"].reused
    assert "seeds" not in plain.evaluate_encoder()["HE__SHE"]
    assert plain.table().loc["HE__SHE", "seeds"] == 1


def test_calls_go_to_every_trainer(path, data, tmp_path):
    found = suite(path, data, arguments(experiment_dir=str(tmp_path)), run_id="s", target_classes=["HE", "SHE", "IT"])
    found.train(max_steps=2)
    assert all(one["training_stats"]["global_step"] == 2 for one in found.get_training_stats().values())
    results = found.evaluate_decoder(lrs=[0.0, 0.1])
    effects = found.evaluate_side_effects(strengthen="HE", show=False)
    assert list(effects) == ["HE__SHE", "HE__IT"]
    assert list(found.failures) == ["SHE__IT"]
    table = found.table(tmp_path / "table.csv")
    assert table.loc["HE__IT", "HE: step"] == results["HE__IT"]["HE"]["learning_rate"]
    assert table.loc["SHE__IT", "HE: step"] is None
    assert table.loc["HE__IT", "divergence"] >= 0
    assert pd.read_csv(tmp_path / "table.csv", index_col=0).index.tolist() == list(found)
    assert found.call("encode", split="test")["HE__IT"] == found["HE__IT"].encode(split="test")
    with pytest.raises(AttributeError, match="evaluate_encoder"):
        found.evaluate_encodr()
    with pytest.raises(TypeError, match="max_steps"):
        found.train(max_stepps=3)
    with pytest.raises(TypeError, match="max_size"):
        found.evaluate_encoder(max_sizes=3)
    assert found.train(max_steps=3).table()["correlation"].isna().all(), "results of an earlier training"
    found.clear_model_cache()
    assert list(found.get_models({"HE__IT": "it"}, gradiend_only=True)) == ["HE__SHE", "it", "SHE__IT"]
    assert found.get_models(load_missing=False).keys() == found.keys()
    with pytest.raises(KeyError, match="HE__IT"):
        found.get_trainer("HE_IT")


def test_what_the_trainers_have_learned_is_compared(path, data, tmp_path):
    found = suite(path, data, arguments(experiment_dir=str(tmp_path)), run_id="s", target_classes=["HE", "SHE", "IT"])
    found.train()
    similarity = found.compute_similarity_matrix(part="decoder-weight")
    assert similarity.row_names == ["HE <-> SHE", "HE <-> IT", "SHE <-> IT"]
    assert similarity["matrix"] == compute_similarity_matrix(found.get_models(), part="decoder-weight")["matrix"]
    assert set(found.compute_grouped_similarity_matrices(group_by="layer")) >= {"layer_0", "layer_1"}
    matrix = found.compute_anchor_aligned_encoding_matrix(["HE", "SHE", "IT"], null=None)
    assert matrix["matrix"] == compute_anchor_aligned_encoding_matrix(found, null=None)["matrix"]
    pytest.importorskip("matplotlib")
    for number, draw in enumerate(
        (found.plot_similarity_heatmap, found.plot_topk_overlap_heatmap, found.plot_cross_encoding_heatmap)
    ):
        options = {"topk": 10} if number == 1 else {}
        draw(output_path=str(tmp_path / f"{number}.png"), show=False, **options)
        assert (tmp_path / f"{number}.png").is_file()


def test_times_as_classes_give_trainers_the_names_of_their_days(path, data):
    days = {"HE": pd.Timestamp(2020, 1, 1), "SHE": pd.Timestamp(2021, 1, 1)}
    dated = data[data["label_class"].isin(days)].assign(label_class=lambda rows: rows["label_class"].map(days))
    for given in ({}, {"target_classes": list(days.values())}, {"target_pairs": [list(days.values())]}):
        assert list(suite(path, dated, **given)) == ["2020-01-01__2021-01-01"]


def test_no_trainer_overwrites_files_of_another(path, data, tmp_path):
    names = {"a": ("HE", "IT"), "b/c": ("HE", "SHE")}
    both = TrainerCollection(
        *(
            TextPredictionTrainer(path, name, data, target_classes=pair, args=arguments())
            for name, pair in names.items()
        )
    )
    both.train(output_dir=str(tmp_path / "models"))
    assert [Path(one.model_path).parent for one in both.values()] == [tmp_path / "models"] * 2
    assert len({one.model_path for one in both.values()}) == 2
    both.evaluate_decoder(lrs=[0.1])
    written = both.export_delta(strengthen="HE", path=str(tmp_path / "one.safetensors"))
    assert written["a"] == str(tmp_path / "one_a.safetensors")
    assert all(Path(file).is_file() for file in written.values())
    assert len(set(written.values())) == 2
    by_place = both.export_delta(None, "HE", True, str(tmp_path / "many.v2"))
    folders = {Path(file).parent for file in by_place.values()}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "many.v2"}
    with pytest.raises(TypeError, match="path twice"):
        both.export_delta(None, "HE", True, "x", path="y")
    published = both.push_to_hub("owner/name", base_model="owner/base", dry_run=tmp_path / "hub")
    assert len({one.subfolder for one in published.values()}) == 2
    pytest.importorskip("matplotlib")
    drawn = both.evaluate_encoder(plot=True, plot_kwargs={"show": False, "output": str(tmp_path / "x.png")})
    assert drawn["a"]["plot_path"] == str(tmp_path / "x_a.png")
    assert len({one["plot_path"] for one in drawn.values()}) == 2


def test_what_the_base_model_knows_is_asked_once_for_all_classes(path, data, tmp_path):
    found = suite(path, data, arguments(experiment_dir=str(tmp_path)), run_id="s", target_classes=["HE", "SHE", "IT"])
    rows = found.annotate_data(split="test")
    assert rows["factual_class"].value_counts().to_dict() == {"HE": 8, "SHE": 8, "IT": 8, "THEY": 8}
    assert {f"base_p_class_{name}" for name in WORDS} <= set(rows.columns)
    own = found["HE__SHE"].annotate_data(split="test")
    pair = rows[rows["factual_class"].isin(["HE", "SHE"])]
    assert pair["base_p_factual"].tolist() == pytest.approx(own["base_p_factual"].tolist(), rel=1e-5)
    assert (tmp_path / "s" / "annotated_data_split_test.csv").is_file()


def test_suites_and_trainers_are_merged_under_names_of_their_own(path, data):
    parts = [suite(path, data, run_id=name, target_classes=["HE", "SHE"]) for name in ("a", "b")]
    single = TextPredictionTrainer(path, run_id="single", data=data, target_classes=["HE", "IT"], args=arguments())
    merged = TrainerCollection.merge(*parts, TrainerCollection(single))
    assert list(merged) == ["a/HE__SHE", "b/HE__SHE", "single"]
    assert merged["b/HE__SHE"] is parts[1]["HE__SHE"]
    assert merged.train() is merged
    assert merged.table()["status"].tolist() == ["trained"] * 3
    with pytest.raises(ValueError, match="'single'"):
        TrainerCollection.merge(single, single)
    with pytest.raises(ValueError, match="run_id"):
        TrainerCollection(TextPredictionTrainer(path, data=data, target_classes=["HE", "IT"]))
    with pytest.raises(TypeError, match="takes trainers"):
        TrainerCollection(parts[0])
    with pytest.raises(TypeError, match="merge takes"):
        TrainerCollection.merge("a")
    with pytest.raises(ValueError, match="needs a run_id"):
        TrainerCollection.merge(TextPredictionTrainer(path, data=data, target_classes=["HE", "IT"]))
    with pytest.raises(ValueError, match="the name 'x'"):
        merged.get_models({"a/HE__SHE": "x", "single": "x"})
    alike = suite(path, data, target_classes=["HE", "SHE", "IT"], pair_label_fn=lambda first, second: first).train()
    with pytest.raises(ValueError, match="the name 'HE'"):
        alike.compute_similarity_matrix()


def test_pairs_are_named_chosen_and_filtered(path, data):
    assert list(suite(path, data)) == ["HE__IT", "HE__SHE", "HE__THEY", "IT__SHE", "IT__THEY", "SHE__THEY"]
    chosen = suite(path, data, target_pairs=[("THEY", "HE"), ("IT", "SHE")])
    assert [trainer.target_classes for trainer in chosen.get_trainers()] == [["HE", "THEY"], ["IT", "SHE"]]
    assert list(suite(path, data, target_pairs=zip(("HE", "IT"), ("SHE", "THEY"), strict=True))) == [
        "HE__SHE",
        "IT__THEY",
    ]
    definition = SuitePairDefinition(("THEY", "HE"), child_id="number", label="Number")
    named = suite(path, data, pair_definitions=[definition, {"target_classes": ("SHE", "HE")}])
    assert named.labels == {"number": "Number", "SHE__HE": "SHE <-> HE"}
    assert named.get_pair_definition("number").target_classes == ("THEY", "HE")
    assert named["number"].target_classes == ["THEY", "HE"]
    filtered = suite(path, data, pair_filter=lambda first, second: "IT" in (first, second), pair_id_fn="{}-{}".format)
    assert list(filtered) == ["HE-IT", "IT-SHE", "IT-THEY"]
    odd = data.replace({"label_class": {"HE": "a/b c"}})
    assert list(suite(path, odd, target_classes=["a/b c", "IT"])) == ["a_b_c__IT"]


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"target_classes": ["HE"]}, ValueError, "at least two classes"),
        ({"target_classes": ["HE", "HE"]}, ValueError, "distinct"),
        ({"target_classes": ["HE", "SHE"], "target_pairs": [("HE", "SHEE")]}, ValueError, "unknown class 'SHEE'.*SHE"),
        ({"target_pairs": [("HE", "HE"), ("HE", "IT")]}, ValueError, "two distinct"),
        ({"target_pairs": [("HE", "IT"), ("IT", "HE")]}, ValueError, "the id 'HE__IT'"),
        ({"pair_filter": lambda first, second: False}, ValueError, "leaves out all 6"),
        ({"run_id": 3}, TypeError, "run_id"),
        ({"model_device": "tpu"}, ValueError, "model_device"),
        ({"pair_definitions": [{"classes": ("HE", "IT")}]}, TypeError, "target_classes"),
        ({"args": TrainingArguments(output_dir="x")}, ValueError, "experiment_dir"),
    ],
)
def test_a_suite_that_makes_no_sense_is_refused(path, data, fields, error, match):
    with pytest.raises(error, match=match):
        suite(path, data, **fields)


@pytest.mark.parametrize(
    ("one", "match"),
    [
        (
            {"positive_feature": "rude", "negative_feature_class": "non_rude"},
            "'positive_feature'.*positive_feature_class",
        ),
        ("rude", "positive_feature_definitions takes PositiveFeatureDefinition"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(path, one, match):
    with pytest.raises(TypeError, match=match):
        suite(path, tiny_data.rows(TONES), kind=PositiveTrainerSuite, positive_feature_definitions=[one])


def test_a_trainer_class_is_asked_for(path, data):
    with pytest.raises(TypeError, match="trainer_cls"):
        SymmetricTrainerSuite(path, data=data)


# Features that are present or absent

TONES = {"rude": ("he",), "non_rude": ("she",), "formal": ("they",), "non_formal": ("it",)}


def test_features_are_trained_against_their_absence_and_the_others_are_neutral(path):
    data = tiny_data.rows(TONES)
    found = suite(path, data, kind=PositiveTrainerSuite)
    assert {name: one.target_classes for name, one in found.items()} == {
        "rude__non_rude": ["rude", "non_rude"], "formal__non_formal": ["formal", "non_formal"]
    }  # fmt: skip
    assert found.get_pair_definition("rude__non_rude").positive_class == "rude"
    found.train()
    means = found.evaluate_encoder()["rude__non_rude"]["mean_by_feature_class"]
    assert set(means) == set(TONES)
    matrix = found.compute_trainer_pair_encoding_matrix(null=None)
    assert matrix.row_names == list(found)
    assert matrix["matrix"] == compute_trainer_pair_encoding_matrix(dict(found), null=None)["matrix"]
    turned = suite(path, data, kind=PositiveTrainerSuite, target_pairs=[("non_rude", "rude")])
    assert turned["rude__non_rude"].target_classes == ["rude", "non_rude"]


def test_all_features_but_one_are_trained_together(path):
    data = tiny_data.rows({**TONES, "new": ("who",), "non_new": ("was",)})
    features = [PositiveFeatureDefinition(name, f"non_{name}") for name in ("rude", "formal", "new")]
    found = suite(path, data, kind=PositiveTrainerSuite, positive_feature_definitions=features, mode="all_but_one")
    assert list(found) == ["holdout__rude__non_rude", "holdout__formal__non_formal", "holdout__new__non_new"]
    assert found.labels["holdout__rude__non_rude"] == "All But rude"
    rows = found["holdout__rude__non_rude"].combined_data
    assert set(rows["factual"]) == {"they", "it", "who", "was"}
    assert set(rows["factual_class"]) == {"positive", "negative"}
    grouped = [PositiveFeatureDefinition(one.positive_feature_class, one.negative_feature_class, group)
               for one, group in zip(features, ("tone", "tone", "age"), strict=True)]  # fmt: skip
    found = suite(path, data, kind=PositiveTrainerSuite, positive_feature_definitions=grouped, mode="all_but_one")
    assert list(found) == ["holdout_group__tone", "holdout_group__age"]
    with pytest.raises(ValueError, match="some have none"):
        suite(path, data, kind=PositiveTrainerSuite, positive_feature_definitions=[grouped[0], features[1]],
              mode="all_but_one")  # fmt: skip
    with pytest.raises(ValueError, match="at least two features"):
        suite(path, data, kind=PositiveTrainerSuite, positive_feature_definitions=features[:1], mode="all_but_one")
    with pytest.raises(ValueError, match="positive_feature_definitions"):
        suite(path, tiny_data.rows(WORDS), kind=PositiveTrainerSuite)


# The guide


def test_the_guide_runs(path, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = arguments(experiment_dir="run", decoder_eval_max_size_training_like=4, decoder_eval_max_size_neutral=4)
    names = {"model": path, "rows": data, "args": args}
    exec("\n".join(python_blocks(DOCS / "suites.md")), names)
    assert pd.read_csv("pronouns.csv")["status"].tolist() == ["trained"] * 3
    assert (tmp_path / "run" / "pronouns" / "HE__SHE" / "model" / "model.safetensors").is_file()
    pytest.importorskip("jinja2")
    page = write_comparison("suite.html", names["suite"].records())
    assert all(name in (tmp_path / page).read_text(encoding="utf-8") for name in names["suite"])


# The closed form


def test_all_directions_follow_from_one_mean_gradient_of_each_class(path, data, passes):
    found = suite(path, data, arguments(pre_prune_config=None))
    model = found["HE__SHE"].get_model()
    found.closed_form(max_size=1)
    passes[0] = 0
    form = found.closed_form(batch_size=5)
    assert passes[0] == 4 * 5
    assert form.classes == ("HE", "IT", "SHE", "THEY")
    for name, (word,) in WORDS.items():
        own = data[(data["label_class"] == name) & (data["split"] == "train")]
        naive = torch.stack([model.create_gradients(text, word) for text in own["masked"]]).mean(0)
        assert tiny.distance(form.means[form.classes.index(name)], naive) < 1e-5
    pairs = [("HE", "SHE"), ("HE", "IT"), ("THEY", "IT")]
    directions = torch.stack([form.direction(*pair) for pair in pairs])
    naive = torch.nn.functional.cosine_similarity(directions[:, None], directions[None], dim=-1)
    result = form.similarity(pairs)
    assert torch.allclose(torch.tensor(result["matrix"]), naive, atol=1e-5)
    assert result.row_names == ["HE <-> SHE", "HE <-> IT", "THEY <-> IT"]
    assert len(form.similarity()["matrix"]) == 6
    with pytest.raises(KeyError, match="HE"):
        form.direction("HEE", "IT")
    with pytest.raises(ValueError, match="'dev' has no rows"):
        found.closed_form(split="dev")
