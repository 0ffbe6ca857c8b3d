"""What else a rewrite moves, against full forward passes and loops; the base model stays as it was, bit by bit."""

import re

import numpy as np
import pandas as pd
import pytest
import test_decoder_only
import tiny
import tiny_data
import torch

from gradiend.evaluator import LMSThresholdPolicy, _side_effects
from gradiend.evaluator._language_score import tokenize_texts
from gradiend.objectives import objective_of
from gradiend.trainer.core.feature_definition import original_model
from gradiend.visualizer import plot_side_effects

NEUTRAL = pd.DataFrame(
    {
        "text": [
            "the old cat saw the dog and the river was near the door .",
            "the old dog saw the lamp and the cat was near the door .",
            "the old dog saw the cat and the lamp was near the door .",
            "the lamp was old , very old and the house was near the river .",
            "the cat was near the lamp and then the old house was sold !",
            "the lamp was old , very old and the house was near the river .",
            "old",
        ]
    }
)  # fmt: skip
SENTENCES = ["the nurse saw that [MASK] was old .", "then the dog and [MASK]"]
TREES = {"animals": ["cat", "dog"], "places": ["river", "house", "baker"]}
STEP = {"learning_rate": 0.7, "feature_factor": -1.0, "part": "decoder", "strengthen": True}


def saved(name, directory):
    return tiny_data.save_bert(directory) if name == "bert" else test_decoder_only.saved_family(name, directory)


ANOTHER = [pytest.param(name, marks=pytest.mark.slow) for name in ("roberta", "llama")]


@pytest.fixture(scope="module", params=["bert", "gpt2 with a head", *ANOTHER])
def trained(request, tmp_path_factory):
    path = saved(request.param.split()[0], tmp_path_factory.mktemp("base"))
    run = tiny_data.trainer(path, {"eval_batch_size": 3}, eval_neutral_data=NEUTRAL)
    if request.param.endswith("head"):
        run.train_decoder_only_mlm_head(path, str(tmp_path_factory.mktemp("head")), epochs=1, max_size=16)
    return run.train()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    path = tiny_data.save_bert(tmp_path_factory.mktemp("base"))
    arguments = {"eval_batch_size": 3, "experiment_dir": str(tmp_path_factory.mktemp("run"))}
    return tiny_data.trainer(path, arguments, eval_neutral_data=NEUTRAL).train()


def both_models(trained):
    """The base model without a head, the rewritten one, and the objective of both."""
    model = trained.get_model()
    base = original_model(model.base_model).eval()
    return base, trained.rewrite_base_model({"SG": STEP}, "SG").eval(), objective_of(base, model.tokenizer)


@torch.no_grad()
def probabilities(model, ids):
    """The probability of each token at each position of a text, from one forward pass."""
    return model(input_ids=torch.tensor([ids])).logits[0].double().softmax(-1)


def naive_positions(trained):
    """(text, number of the predicted token, p before, p after) of each position that the objective scores."""
    base, rewritten, objective = both_models(trained)
    texts = NEUTRAL["text"].tolist()
    found = []
    for number, word in objective.neutral_words(list(tokenize_texts(texts, objective, ["he", "she", "they"]))):
        p, q = probabilities(base, word.input_ids), probabilities(rewritten, word.input_ids)
        shift = 0 if trained.get_model().tokenizer.mask_token else 1
        found += [(texts[number], position + shift, p[position], q[position]) for position in word.positions]
    return found


def naive_interval(values, texts):
    """The bootstrap by a loop: texts are drawn, each with all its values."""
    names = list(dict.fromkeys(texts))
    own = [values[np.array(texts) == name] for name in names]
    draws = np.random.default_rng(0).integers(0, len(names), (1000, len(names)))
    return tuple(np.quantile([np.concatenate([own[n] for n in draw]).mean() for draw in draws], [0.025, 0.975]))


def test_divergence_and_tokens_are_those_of_full_forward_passes(trained):
    before = {name: value.clone() for name, value in trained.get_model().base_model.state_dict().items()}
    frame = trained.evaluate_side_effects({"SG": STEP}, strengthen="SG", top_k=4)
    after = trained.get_model().base_model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())

    positions = naive_positions(trained)
    texts = [text for text, *_ in positions]
    divergence = np.array([float((p * (p.log() - q.log())).sum()) for *_, p, q in positions])
    row = frame[frame["kind"] == "divergence"].iloc[0]
    assert row["change"] == row["after"] == pytest.approx(divergence.mean(), rel=1e-4)
    assert (row["before"], row["n"], row["n_texts"]) == (0.0, len(positions), len(set(texts)))
    assert (row["low"], row["high"]) == pytest.approx(naive_interval(divergence, texts), rel=1e-4)

    p, q = (torch.stack([one[number] for one in positions]) for number in (2, 3))
    change = (q - p).mean(0)
    for kind, sign in (("gained", 1), ("lost", -1)):
        rows = frame[frame["kind"] == kind]
        assert rows["token_id"].tolist() == (sign * change).topk(4).indices.tolist()
        for _, row in rows.iterrows():
            token = row["token_id"]
            assert row["change"] == pytest.approx(float(change[token]), rel=1e-3)
            means = [float(x[:, token].mean()) for x in (p, q)]
            assert (row["before"], row["after"]) == pytest.approx(tuple(means), rel=1e-4)
            moved = (q - p)[:, token].numpy()
            best = int((sign * moved).argmax())
            assert row["example_after"] - row["example_before"] == pytest.approx(moved[best], rel=1e-3)
            assert row["example_before"] == pytest.approx(float(p[best, token]), rel=1e-3)
            assert_masked(trained, row["example"], *positions[best][:2])
        # The last token of its kind stands for the others, because loops take their time.
        assert (row["low"], row["high"]) == pytest.approx(naive_interval(moved, texts), rel=1e-3)


def assert_masked(trained, example, text, number):
    """The example is the text with a placeholder for one token, before which the earlier tokens stand."""
    tokenizer = trained.get_model().tokenizer
    ids = tokenizer(text)["input_ids"]
    before, _, after = example.partition("[MASK]")
    token, earlier = (
        re.sub("[ ▁]|##", "", tokenizer.decode(part, skip_special_tokens=True)) for part in (ids[number], ids[:number])
    )
    assert before + token + after == text
    assert before.replace(" ", "") == earlier


def test_classes_are_those_of_the_rewritten_copy(trained):
    frame = trained.evaluate_side_effects({"SG": STEP}, "SG", other_classes=TREES, other_gradiends={"again": trained})
    base, rewritten, _ = both_models(trained)
    rows, _ = trained._get_decoder_eval_dataframe(None)
    for name, model in (("before", base), ("after", rewritten)):
        measured = trained.evaluate_base_model(model, trained.get_model().tokenizer)["probs_by_dataset"]
        for group in ("target classes", "again"):
            own = frame[(frame["group"] == group) & frame["context"].isin(["SG", "PL"])]
            assert len(own) == 4
            for _, row in own.iterrows():
                assert row[name] == pytest.approx(measured[row["context"]][row["name"]], rel=1e-5)
                assert row["n"] == row["n_texts"] == (rows["factual_class"] == row["context"]).sum()
    objective = both_models(trained)[2]
    others = frame[frame["group"] == "other classes"]
    assert set(others["context"]) == {"SG", "PL", "neutral texts"}
    for _, row in others[others["context"] != "neutral texts"].iterrows():
        own = rows[rows["factual_class"] == row["context"]]
        pairs = []
        for text in own["masked"]:
            words = objective.tokenize([text] * len(TREES[row["name"]]), TREES[row["name"]])
            pairs.append(
                [sum(float((-tiny.naive_loss(m, w)).exp().detach()) for w in words) for m in (base, rewritten)]
            )
        old, new = np.array(pairs).T
        assert (row["before"], row["after"]) == pytest.approx((old.mean(), new.mean()), rel=1e-4)
        assert (row["low"], row["high"]) == pytest.approx(naive_interval(new - old, own["masked"].tolist()), rel=1e-3)


def test_predictions_are_the_first_of_both_models(trained):
    frame = trained.evaluate_side_effects({"SG": STEP}, strengthen="SG", sentences=SENTENCES)
    base, rewritten, _ = both_models(trained)
    tokenizer = trained.get_model().tokenizer
    for sentence in SENTENCES:
        if tokenizer.mask_token:
            ids = tokenizer(sentence.replace("[MASK]", tokenizer.mask_token))["input_ids"]
            position = ids.index(tokenizer.mask_token_id)
        else:
            ids = tokenizer(sentence.partition("[MASK]")[0].rstrip())["input_ids"]
            position = -1
        p, q = (probabilities(model, ids)[position] for model in (base, rewritten))
        rows = frame[(frame["kind"] == "prediction") & (frame["context"] == sentence)]
        assert set(rows["token_id"]) == {*p.topk(5).indices.tolist(), *q.topk(5).indices.tolist()}
        assert rows["token_id"].tolist()[:5] == q.topk(5).indices.tolist()
        for _, row in rows.iterrows():
            expected = (float(p[row["token_id"]]), float(q[row["token_id"]]))
            assert (row["before"], row["after"]) == pytest.approx(expected, rel=1e-4)
            name = tokenizer.convert_ids_to_tokens(int(row["token_id"]))
            assert row["name"].strip("Ġ▁ ") == name.strip("Ġ▁")
            assert row["name"].startswith(" ") == (name[0] in "Ġ▁" and len(name) > 1)


def test_the_parts_are_joined_whatever_their_size(bert, monkeypatch):
    whole = bert.evaluate_side_effects({"SG": STEP}, "SG", sentences=SENTENCES)
    monkeypatch.setattr(_side_effects, "_KEPT_LOGITS", 200)
    monkeypatch.setattr(_side_effects, "_COMPARED_LOGITS", 1)
    parts = bert.evaluate_side_effects({"SG": STEP}, "SG", sentences=SENTENCES, eval_batch_size=2)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4, atol=1e-7)


def test_one_text_and_an_own_placeholder(bert):
    one = pd.DataFrame({"text": ["the lamp and [MASK] were old , very old ."]})
    frame = bert.evaluate_side_effects({"SG": STEP}, "SG", neutral_df=one)
    assert np.isnan(frame.loc[frame["kind"].isin(["divergence", "gained"]), ["low", "high"]]).all(axis=None)
    neutral = frame[frame["context"] == "neutral texts"]
    assert (neutral.loc[neutral["kind"] == "class", "n"] == 1).all()
    figure, _ = plot_side_effects(frame, show=False, return_fig_ax=True)
    assert "not estimable" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"target_class": ["SG", "PL"]}, ValueError, "one rewrite"),
        ({"strengthen": "SG", "weaken": "PL"}, TypeError, "two rewrites"),
        ({}, ValueError, "needs the class"),
        ({"strengthen": "XX"}, ValueError, "no 'XX'"),
        ({"strengthen": "SG", "top_k": 0}, ValueError, "top_k"),
        ({"strengthen": "SG", "max_size_neutral": 1.5}, TypeError, "max_size_neutral"),
        ({"strengthen": "SG", "neutral_df": pd.DataFrame({"text": ["he they"]})}, ValueError, "no token to score"),
        ({"strengthen": "SG", "neutral_df": pd.DataFrame({"text": []})}, ValueError, "no token to score"),
        ({"strengthen": "SG", "neutral_df": pd.DataFrame({"txt": ["a"]})}, ValueError, "column 'text'"),
        ({"strengthen": "SG", "sentences": "the [MASK]"}, TypeError, "sentences must be a list"),
        ({"strengthen": "SG", "sentences": ["the cat"]}, ValueError, r"\[MASK\]; got 'the cat'"),
        ({"strengthen": "SG", "other_classes": ["cat"]}, TypeError, "other_classes must be a dict"),
        ({"strengthen": "SG", "other_classes": {"a": "cat"}}, TypeError, "list of strings"),
        ({"strengthen": "SG", "other_classes": {"SG": ["cat"]}}, ValueError, "a class of this trainer already"),
        ({"strengthen": "SG", "other_classes": {"a": ["zebra7"]}}, ValueError, "does not know 'zebra7'"),
        ({"strengthen": "SG", "other_gradiends": {"a": "model"}}, TypeError, "TextPredictionTrainer"),
        ({"strengthen": "SG", "output": "figure.xyz"}, ValueError, "image format"),
    ],
)
def test_mistakes_are_told_before_the_work(bert, given, error, message, monkeypatch):
    def never(*args, **kwargs):
        pytest.fail("measured before the arguments were checked")

    monkeypatch.setattr(_side_effects.SideEffects, "measure", never)
    with pytest.raises(error, match=message):
        bert.evaluate_side_effects({"SG": STEP, "PL": STEP}, **given)


def test_a_sentence_that_begins_with_the_placeholder_needs_a_beginning(tmp_path):
    run = tiny_data.trainer(saved("qwen2", tmp_path / "base"), eval_neutral_data=NEUTRAL).train()
    with pytest.raises(ValueError, match=re.escape("put a word before the placeholder of '[MASK] was old'")):
        run.evaluate_side_effects({"SG": STEP}, "SG", sentences=["[MASK] was old"])


def test_a_rewrite_that_changes_nothing_or_gives_no_numbers_is_an_error(bert):
    before = {name: value.clone() for name, value in bert.get_model().base_model.state_dict().items()}
    for step, message in ((0.0, "changes nothing"), (1e38, "no numbers"), (1e45, "infinite or undefined")):
        with pytest.raises(ValueError, match=message):
            bert.evaluate_side_effects({"SG": STEP | {"learning_rate": step}}, "SG")
    after = bert.get_model().base_model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_several_trainers_may_have_one_name_and_their_errors_say_which(bert):
    again = bert.evaluate_side_effects({"SG": STEP}, "SG", other_gradiends={"again": (bert, bert)})
    assert (again["group"] == "again").sum() == 8
    untested = tiny_data.trainer(bert.base_model_path, data=tiny_data.rows().query("split != 'test'"))
    with pytest.raises(ValueError, match=r"other_gradiends\['number'\]: .*test"):
        bert.evaluate_side_effects({"SG": STEP}, "SG", other_gradiends={"number": untested})


def test_the_rewrite_is_found_like_that_of_rewrite_base_model(bert):
    with pytest.raises(ValueError, match="no decoder results"):
        bert.evaluate_side_effects(strengthen="SG")
    results = bert.evaluate_decoder(lrs=[0.1], selector=LMSThresholdPolicy(ratio=0.0), target_class="SG")
    found = bert.evaluate_side_effects(strengthen="SG")
    pd.testing.assert_frame_equal(found, bert.evaluate_side_effects(results, "SG"))


def test_the_figure_has_every_row_and_shows_odd_names_as_they_are(bert, tmp_path):
    pytest.importorskip("matplotlib")
    frame = bert.evaluate_side_effects(
        {"SG": STEP},
        "SG",
        plot=True,
        show=False,
        other_classes={"$x_1$ <b>&amp; % \N{CAT FACE}": ["cat"], "_a": ["dog"]},
    )
    assert (tmp_path.__class__(bert.experiment_dir) / "side_effects.png").is_file()
    frame.loc[frame["kind"] == "gained", "name"] = [
        "$\\frac{1}$",
        "_",
        " he",
        "\n\t",
        "<script>",
        "\x07",
        "%s",
        "{",
        "\\",
        "ŋ",
    ][: int((frame["kind"] == "gained").sum())]
    figure, axes = plot_side_effects(frame, output=tmp_path / "figure.svg", show=False, return_fig_ax=True)
    assert (tmp_path / "figure.svg").is_file()
    tokens, classes = axes
    assert len(tokens.patches) == frame["kind"].isin(["gained", "lost"]).sum()
    widths = [bar.get_width() for bar in tokens.patches]
    assert widths == pytest.approx(frame.loc[frame["kind"].isin(["gained", "lost"]), "change"].tolist())
    assert len(classes.get_yticks()) == (frame["kind"] == "class").sum()
    assert f"{frame['after'].iloc[0]:.3g} nats" in figure.get_suptitle()
    for broken, error in ((None, TypeError), (frame.drop(columns="low"), ValueError), (frame[:0], ValueError)):
        with pytest.raises(error, match="evaluate_side_effects"):
            plot_side_effects(broken, show=False, output=tmp_path / "no.png")
