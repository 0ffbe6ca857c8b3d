"""Pruning before and after training: what is kept, what it costs, and what a trainer makes of it."""

import json

import pandas as pd
import pytest
import tiny
import torch
from model_cases import KINDS, model_with_gradiend

from gradiend import ModelWithGradiend, PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path, sentences
from gradiend.gradients import GradientEngine
from gradiend.model.core.backbone import build_gradiend_from_base_model
from gradiend.trainer.core._kept_gradients import GradientCache
from gradiend.trainer.core.pruning import post_prune, pre_prune
from gradiend.trainer.text import TextPredictionModelWithGradiend, TextTrainingDataset
from gradiend.trainer.text.prediction.dataset import TextGradientBatches

ROWS = [
    ("the nurse saw the dog and [MASK] was tired .", "she", "he"),
    ("the baker sold bread when [MASK] was old .", "he", "she"),
    ("then [MASK] saw the lamp near the river .", "she", "he"),
    ("the sailor and the cat : [MASK] was new .", "he", "she"),
    ("a gardener was in the house , and [MASK] sold it .", "he", "she"),
    ("[MASK] was very tired .", "she", "he"),
    ("the old door was where [MASK] sold the bread .", "he", "she"),
]


def examples(model, rows=ROWS):
    frame = pd.DataFrame(rows, columns=["masked", "factual", "alternative"])
    number = frame["factual"].map({"he": 0, "she": 1})
    frame = frame.assign(label=1.0 - 2 * number, feature_class_id=number)
    return TextTrainingDataset(frame, model.tokenizer, 1, objective=model.objective)


def text_model(lazy=False, dtype=torch.float32):
    base = tiny.bert(dtype=dtype)
    base.name_or_path = "tiny"
    gradiend = build_gradiend_from_base_model(base, "tiny", param_map=["*layer*", "*word_embeddings*"], lazy_init=lazy)
    return TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer())


def naive_importance(model, source, rows=ROWS):
    """The definition, example by example, with plain autograd."""
    classes = {}
    for masked, factual, alternative in rows:
        gradients = {
            side: tiny.naive_gradient(
                model.base_model,
                model.gradiend.mapping,
                lambda word=word, masked=masked: tiny.naive_loss(
                    model.base_model, model.objective.tokenize([masked], [word])[0]
                ),
            )
            for side, word in (("factual", factual), ("alternative", alternative))
        }
        gradients["diff"] = gradients["factual"] - gradients["alternative"]
        classes.setdefault(factual, []).append(gradients[source])
    return torch.stack([torch.stack(found).mean(0).abs() for found in classes.values()]).mean(0)


def largest(importance, count):
    """Bool mask of the `count` largest, ties to the lower index, by a stable sort."""
    mask = torch.zeros(len(importance), dtype=torch.bool)
    mask[torch.sort(importance, descending=True, stable=True).indices[:count]] = True
    return mask


class TestImportance:
    """Which dimensions are the important ones."""

    @pytest.mark.parametrize("source", ["factual", "alternative", "diff"])
    @pytest.mark.parametrize("batch_size", [1, 3, 16])
    def test_it_is_the_mean_over_classes_of_the_absolute_mean_gradient(self, source, batch_size):
        model = text_model()
        expected = naive_importance(model, source)
        config = PrePruneConfig(n_samples=16, topk=0.1, source=source, batch_size=batch_size)
        pruned, mask = pre_prune(model, examples(model), config, inplace=False, return_mask=True)
        kept = round(0.1 * len(model))
        assert len(pruned) == int(mask.sum()) == kept
        # The values just above and below the cut may change places by rounding.
        assert int((mask & largest(expected, kept)).sum()) >= kept - 2
        threshold = float(expected.sort().values[len(expected) // 2])
        config = PrePruneConfig(n_samples=16, threshold=threshold, source=source, batch_size=batch_size)
        _, mask = pre_prune(model, examples(model), config, inplace=False, return_mask=True)
        close = (expected - threshold).abs() < 1e-5 * threshold
        assert torch.equal(mask | close, (expected >= threshold) | close)

    def test_opposite_classes_do_not_cancel(self):
        model = model_with_gradiend(KINDS["all"])
        n = len(model)
        direction = torch.zeros(n)
        direction[:3] = 1.0
        shared = torch.zeros(n)
        shared[3:6] = 0.5
        gradients = {"+": direction + shared, "-": -direction + shared, "0": torch.zeros(n)}
        model._gradient_creator = gradients.__getitem__
        items = [{"factual": sign, "alternative": "0", "feature_class_id": sign} for sign in "+-" * 4]
        _, mask = pre_prune(model, items, PrePruneConfig(topk=3, source="diff"), return_mask=True)
        assert mask.nonzero().squeeze(1).tolist() == [0, 1, 2]

    @pytest.mark.parametrize("source", ["factual", "diff"])
    def test_kept_gradients_are_read_and_give_the_same_bits(self, source, tmp_path, monkeypatch):
        options = {"n_samples": 6, "source": source, "batch_size": 2, "threshold": 1e-4}
        config = PrePruneConfig(**options, use_cached_gradients=True)
        model = text_model()
        _, expected = pre_prune(model, examples(model), PrePruneConfig(**options), inplace=False, return_mask=True)

        def mask():
            return pre_prune(
                model, examples(model), config, inplace=False, return_mask=True, cache_dir=tmp_path
            )[1]  # fmt: skip

        assert torch.equal(mask(), expected)
        with monkeypatch.context() as patch:
            patch.setattr(GradientEngine, "stream", None)
            assert torch.equal(mask(), expected)
            # Of other weights, none is known.
            with torch.no_grad():
                next(model.base_model.parameters()).add_(0.1)
            with pytest.raises(TypeError):
                mask()

    def test_training_reads_what_pruning_has_kept(self, tmp_path, monkeypatch):
        model = text_model()
        data = examples(model)
        keep_all = {"topk": 1.0, "use_cached_gradients": True, "batch_size": 1}
        pre_prune(model, data, PrePruneConfig(n_samples=len(ROWS), **keep_all), cache_dir=tmp_path)
        monkeypatch.setattr(GradientEngine, "gradients", None)
        batches = TextGradientBatches(data, model, source="factual", target=None, kept=GradientCache(tmp_path, model))
        assert sum(1 for _ in batches.epoch(0, 0)) == len(batches)

    def test_nothing_is_kept_of_another_gradient_creator(self, tmp_path):
        model = model_with_gradiend(KINDS["all"])
        model._gradient_creator = lambda number: torch.full((len(model),), float(number))
        items = [{"factual": number, "alternative": 0, "feature_class_id": number % 2} for number in range(4)]
        pre_prune(model, items, PrePruneConfig(topk=3, use_cached_gradients=True), cache_dir=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_any_gradient_creator_gives_what_the_engine_gives(self):
        fast, slow = text_model(), text_model()
        items = [{"factual": f"{f}|{text}", "alternative": f"{a}|{text}", "feature_class_id": f} for text, f, a in ROWS]
        slow._gradient_creator = lambda line: slow.create_gradients(*reversed(line.split("|")))
        masks = [
            pre_prune(model, data, PrePruneConfig(topk=0.05, source="diff", batch_size=4), return_mask=True)[1]
            for model, data in ((fast, examples(fast)), (slow, items))
        ]
        assert int((masks[0] ^ masks[1]).sum()) <= 2

    def test_only_the_target_classes_count(self):
        model = text_model()
        identity = [("the dog saw [MASK] .", "it", "it")] * 3
        frame = pd.DataFrame([*ROWS, *identity], columns=["masked", "factual", "alternative"])
        number = frame["factual"].map({"he": 0, "she": 1, "it": 2})
        frame = frame.assign(label=number.map({0: 1.0, 1: -1.0, 2: 0.0}), feature_class_id=number)
        data = TextTrainingDataset(frame, model.tokenizer, 1, objective=model.objective)
        with pytest.raises(ValueError, match="target_feature_class_ids"):
            pre_prune(model, data, PrePruneConfig(topk=10))
        config = PrePruneConfig(topk=10, target_feature_class_ids=[1, 0])
        _, mask = pre_prune(model, data, config, inplace=False, return_mask=True)
        _, expected = pre_prune(model, examples(model), PrePruneConfig(topk=10), inplace=False, return_mask=True)
        assert torch.equal(mask, expected)
        config = PrePruneConfig(topk=10, dataset=examples(model))
        assert torch.equal(pre_prune(model, data, config, return_mask=True)[1], expected)

    def test_a_smaller_type_keeps_nearly_the_same(self):
        model = text_model()
        masks = [
            pre_prune(model, examples(model), PrePruneConfig(topk=0.1, importance_dtype=dtype), inplace=False,
                      return_mask=True)[1]
            for dtype in (None, "bfloat16")
        ]  # fmt: skip
        assert masks[0].sum() == masks[1].sum()
        assert (masks[0] & masks[1]).sum() >= 0.97 * masks[0].sum()

    def test_the_base_model_is_left_as_it_was(self):
        model = text_model()
        pre_prune(model, examples(model), PrePruneConfig(topk=5))
        assert model.base_model.training
        assert all(p.requires_grad and p.grad is None for p in model.base_model.parameters())


class TestLazy:
    """The unpruned GRADIEND never exists."""

    def test_weights_are_made_at_the_pruned_size(self):
        model = text_model(lazy=True)
        assert model.gradiend.encoder is None
        reference = text_model()
        _, mask = pre_prune(reference, examples(reference), PrePruneConfig(topk=0.02), return_mask=True)
        assert pre_prune(model, examples(model), PrePruneConfig(topk=0.02)) is model
        assert model.gradiend.mapping.hash == reference.gradiend.mapping.hash
        assert len(model) == int(mask.sum())
        weights = [parameter.detach() for parameter in model.gradiend.parameters()]
        bound = len(model) ** -0.5
        assert all(float(weight.abs().max()) <= bound for weight in weights)
        # Uniform within ±bound: the mean of |w| is half the bound.
        assert float(torch.cat([weight.flatten() for weight in weights]).abs().mean()) == pytest.approx(
            bound / 2, rel=0.1
        )

    def test_from_pretrained_with_a_configuration_makes_none(self):
        model = ModelWithGradiend.from_pretrained(str(model_path()), pre_prune_config=PrePruneConfig(topk=0.01))
        with pytest.raises(RuntimeError, match="no weights yet"):
            model.encode(torch.zeros(len(model)))
        with pytest.raises(RuntimeError, match="no weights yet"):
            post_prune(model, PostPruneConfig(topk=3))

    def test_gradients_of_the_pruned_map_are_selected_gradients(self):
        model = text_model()
        text, word = ROWS[0][0], "he"
        whole = model.create_gradients(text, word)
        _, mask = pre_prune(model, examples(model), PrePruneConfig(topk=0.03), return_mask=True)
        assert torch.equal(model.create_gradients(text, word), whole[mask])


class TestPostPruning:
    """Pruning by weights."""

    @pytest.mark.parametrize("part", ["encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum"])
    def test_a_fraction_shrinks_the_model_to_the_largest_weights(self, part):
        model = text_model()
        importance = model.get_weight_importance(part)
        pruned, mask = post_prune(model, PostPruneConfig(topk=0.25, part=part, return_mask=True))
        assert pruned is model
        assert len(model) == round(0.25 * len(importance))
        assert torch.equal(mask, largest(importance, len(model)))

    def test_a_copy_leaves_the_model_alone(self):
        model = text_model()
        before = len(model)
        pruned = post_prune(model, PostPruneConfig(topk=7, inplace=False))
        assert (len(pruned), len(model)) == (7, before)
        assert pruned.base_model is model.base_model


BAD = {
    "nothing to go by": (PrePruneConfig, {}, ValueError, "topk or threshold"),
    "nothing to go by afterwards": (PostPruneConfig, {}, ValueError, "topk, threshold or mask"),
    "no samples": (PrePruneConfig, {"topk": 1, "n_samples": 0}, ValueError, "n_samples"),
    "half a sample": (PrePruneConfig, {"topk": 1, "n_samples": 1.5}, TypeError, "n_samples must be a whole number"),
    "no batch": (PrePruneConfig, {"topk": 1, "batch_size": 0}, ValueError, "batch_size"),
    "batch of a string": (PrePruneConfig, {"topk": 1, "batch_size": "8"}, TypeError, "batch_size must be a whole"),
    "more than all": (PrePruneConfig, {"topk": 1.5}, ValueError, r"\(0, 1\]"),
    "fewer than none": (PostPruneConfig, {"topk": -1}, ValueError, "negative"),
    "another source": (PrePruneConfig, {"topk": 1, "source": "factuals"}, ValueError, "Did you mean 'factual'"),
    "a source that is no string": (PrePruneConfig, {"topk": 1, "source": 3}, TypeError, "source"),
    "a key that is no string": (PrePruneConfig, {"topk": 1, "feature_class_key": 3}, TypeError, "feature_class_key"),
    "a cache that is no bool": (PrePruneConfig, {"topk": 1, "use_cached_gradients": 1}, TypeError, "True or False"),
    "ids in a string": (PrePruneConfig, {"topk": 1, "target_feature_class_ids": "01"}, ValueError, "list of distinct"),
    "an integer type": (PrePruneConfig, {"topk": 1, "importance_dtype": torch.int8}, ValueError, "floating-point"),
    "a misspelt type": (PrePruneConfig, {"topk": 1, "importance_dtype": "bfloat61"}, ValueError, "'bfloat16'"),
    "the decoder as a part": (PostPruneConfig, {"topk": 1, "part": "decoder"}, ValueError, "part must be one of"),
    "a mask of numbers": (PostPruneConfig, {"mask": torch.ones(3)}, ValueError, "bool tensor"),
    "both spellings": (PrePruneConfig, {"topk": 1, "keep_top_k": 2}, TypeError, "mean the same"),
    "another metric": (PrePruneConfig, {"topk": 1, "importance_metric": "fisher"}, ValueError, "gradient_norm"),
    "the other one's metric": (
        PostPruneConfig, {"topk": 1, "importance_metric": "gradient_norm"}, ValueError, "weight_magnitude"
    ),
    "a misspelt field": (PrePruneConfig, {"top_k": 1}, TypeError, "Did you mean"),
}  # fmt: skip


class TestConfigurations:
    """What they accept, and how they are written down."""

    @pytest.mark.parametrize("case", BAD)
    def test_bad_values_are_refused(self, case):
        kind, arguments, error, words = BAD[case]
        with pytest.raises(error, match=words):
            kind(**arguments)

    def test_second_spellings(self):
        assert PrePruneConfig(keep_top_k=1000, importance_metric="gradient_norm") == PrePruneConfig(topk=1000)
        assert PostPruneConfig(keep_top_k=5, importance_metric="weight_magnitude") == PostPruneConfig(topk=5)
        assert PrePruneConfig(topk=1).n_samples == 16

    def test_the_text_shows_what_decides(self):
        shown = str(PrePruneConfig(n_samples=100, topk=0.5, source="diff"))
        assert all(part in shown for part in ("100", "0.5", "threshold=None", "diff"))

    def test_arguments_keep_them_through_json(self):
        pre = PrePruneConfig(topk=0.01, n_samples=32, source="diff", importance_dtype=torch.bfloat16)
        post = PostPruneConfig(mask=torch.tensor([True, False, True]), topk=1)
        content = json.loads(json.dumps(TrainingArguments(pre_prune_config=pre, post_prune_config=post).to_dict()))
        again = TrainingArguments.from_dict(content)
        assert again.pre_prune_config == pre
        assert torch.equal(again.post_prune_config.mask, post.mask)
        assert TrainingArguments.from_dict(TrainingArguments().to_dict()).pre_prune_config is None
        with pytest.raises(TypeError, match="PrePruneConfig"):
            TrainingArguments(pre_prune_config=0.01)

    def test_data_that_does_not_fit_is_refused(self):
        model = text_model()
        data = examples(model)
        cases = [
            ([], {}, ValueError, "empty"),
            (None, {}, ValueError, "pass dataset"),
            (data, {"n_samples": 1}, ValueError, "fewer than one for each"),
            (data, {"target_feature_class_ids": [0, 7]}, ValueError, "no items with feature_class_id 7"),
            ([{"factual": "", "alternative": ""}], {}, KeyError, "feature_class_key"),
        ]
        for dataset, arguments, error, words in cases:
            with pytest.raises(error, match=words):
                pre_prune(model, dataset, PrePruneConfig(topk=1, **arguments))


def demo_data():
    words = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
    frames = []
    for split, seed in (("train", 0), ("validation", 1), ("test", 2)):
        texts = sentences(400, seed=seed)
        for name, forms in words.items():
            found = [(text, form) for text in texts for form in forms if f" {form} " in text]
            masked = [text.replace(f" {form} ", " [MASK] ", 1) for text, form in found]
            frame = pd.DataFrame({"masked": masked, "label": [form for _, form in found]})
            frames.append(frame.assign(label_class=name, split=split).head(40))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def data():
    return demo_data()


FAST = {"train_batch_size": 8, "max_steps": 20, "learning_rate": 3e-3, "eval_steps": 20}


def trainer(data, model=None, **arguments):
    args = TrainingArguments(**{**FAST, **arguments})
    return TextPredictionTrainer(model or str(model_path()), data=data, target_classes=["3SG", "3PL"], args=args)


class TestTrainer:
    """Through TrainingArguments and by call."""

    def test_pruning_before_and_after_is_what_is_saved_and_still_works(self, data, tmp_path):
        pre, post = PrePruneConfig(topk=0.01, source="diff"), PostPruneConfig(topk=0.1)
        trained = trainer(
            data, experiment_dir=str(tmp_path), pre_prune_config=pre, post_prune_config=post, max_seeds=2,
            min_convergent_seeds=None, keep_seed_runs=True,
        )  # fmt: skip
        models = trained.train()
        whole = trained.get_model().unpruned_length()
        expected = round(0.1 * round(0.01 * whole))
        assert len(trained.get_model()) == expected
        assert len(ModelWithGradiend.from_pretrained(trained.model_path)) == expected
        assert trained.evaluate_encoder()["correlation"] > 0.9
        saved = json.loads((tmp_path / "model" / "training.json").read_text())
        assert saved["training_args"]["pre_prune_config"]["topk"] == 0.01
        # One importance for all seeds, each with weights of its own.
        assert [len(model) for model in models.values()] == [expected, expected]
        assert not torch.equal(models[0].gradiend.encoder_linear.weight, models[1].gradiend.encoder_linear.weight)

    def test_gradients_are_kept_in_the_experiment(self, data, tmp_path):
        config = PrePruneConfig(topk=100, use_cached_gradients=True)
        kept = tmp_path / "run" / "cache" / "gradients"
        trainer(data, experiment_dir=str(tmp_path / "run"), params=["*layer.0*"]).pre_prune(config)
        assert len(list(kept.glob("factual_*.safetensors"))) == 2
        nowhere = trainer(data, params=["*layer.0*"]).pre_prune(config)
        assert len(nowhere.get_model()) == 100

    def test_a_seed_starts_from_its_own_weights_on_the_shared_map(self, data, tmp_path):
        arguments = {"pre_prune_config": PrePruneConfig(topk=200), "save_strategy": "no", "do_eval": False}
        both = trainer(
            data, experiment_dir=str(tmp_path / "both"), max_seeds=2, min_convergent_seeds=None, keep_seed_runs=True,
            **arguments,
        ).train()  # fmt: skip
        # Whatever was drawn before, the seed alone says what is drawn.
        torch.manual_seed(12345)
        alone = trainer(data, experiment_dir=str(tmp_path / "alone"), max_seeds=1, seed=1, **arguments).train()
        assert not torch.equal(both[0].gradiend.encoder_linear.weight, both[1].gradiend.encoder_linear.weight)
        assert both[0].gradiend.mapping.hash == both[1].gradiend.mapping.hash
        for parameter, other in zip(
            both[1].gradiend.parameters(), alone.get_model().gradiend.parameters(), strict=True
        ):
            assert torch.equal(parameter, other)

    def test_pruning_by_call(self, data, tmp_path):
        config = PrePruneConfig(topk=300)
        called = trainer(data, experiment_dir=str(tmp_path / "called"), max_seeds=1)
        assert called.pre_prune(config) is called
        assert len(called.get_model()) == 300
        called.train()
        assert len(called.get_model()) == 300
        automatic = trainer(data, experiment_dir=str(tmp_path / "auto"), max_seeds=1, pre_prune_config=config).train()
        for parameter, other in zip(
            called.get_model().gradiend.parameters(), automatic.get_model().gradiend.parameters(), strict=True
        ):
            assert torch.equal(parameter, other)
        assert called.post_prune(PostPruneConfig(topk=30)) is called
        assert len(called.get_model()) == 30
        assert len(ModelWithGradiend.from_pretrained(called.model_path)) == 300

    def test_pruning_by_call_after_a_training_prunes_what_was_trained(self, data, tmp_path):
        pruned = []
        for unloads in (False, True):
            one = trainer(data, experiment_dir=str(tmp_path / str(unloads)), max_seeds=1).train()
            if unloads:
                one.unload_model()
            pruned.append(one.pre_prune(PrePruneConfig(topk=300)).get_model().gradiend)
        assert not pruned[1].is_untrained
        assert torch.equal(pruned[0].encoder_linear.weight, pruned[1].encoder_linear.weight)

    def test_a_model_of_the_user_is_changed_by_call_only(self, data, tmp_path):
        model = trainer(data).get_model()
        whole = len(model)
        own = trainer(data, model, experiment_dir=str(tmp_path), max_seeds=1, pre_prune_config=PrePruneConfig(topk=50))
        own.train()
        assert (len(model), len(own.get_model())) == (whole, 50)
        copied = trainer(data, model).pre_prune(PrePruneConfig(topk=40), inplace=False)
        assert (len(model), len(copied.get_model())) == (whole, 40)
        trainer(data, model).pre_prune(PrePruneConfig(topk=40))
        assert len(model) == 40

    def test_without_a_configuration_there_is_an_error(self, data):
        for name in ("pre_prune", "post_prune"):
            with pytest.raises(ValueError, match=f"{name}_config"):
                getattr(trainer(data), name)()
        with pytest.raises(TypeError, match="PostPruneConfig"):
            trainer(data).post_prune(PrePruneConfig(topk=1))
