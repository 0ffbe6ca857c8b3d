"""A learning rate that is searched for on the gradients of the first batches."""

import itertools
import json
import logging
import math

import pytest
import tiny_data
import torch
from test_own_modality import Base, DigitTrainer
from test_training_loop import Synthetic, new_model

from gradiend import LRSearchConfig, NoConvergentLearningRate, TrainingArguments
from gradiend.model import GradiendModel
from gradiend.trainer import LRSearchResult, set_seed, train_core
from gradiend.trainer.core import _rate_sample, _rate_search
from gradiend.trainer.core._rate_result import LRProbe, ProbePoint, classify, preferred, within_window
from gradiend.trainer.core._rate_sample import ProbeData, Sample
from gradiend.trainer.core._rate_search import Probe, batches_to_read, evaluations, find_learning_rate, lattice
from gradiend.trainer.core._step import AnalyticOptimizer, SampledOptimizer, optimizer_for, training_pair

QUICK = {"max_steps": 12, "eval_steps": 12, "learning_rate": "auto", "encoder_eval_train_max_size": 4}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


def weights(trainer):
    return trainer.get_model().gradiend.state_dict()


def search_of(trainer):
    return trainer.get_training_stats()["training_stats"]["learning_rate_search"]


def same(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


# The training with a rate that was found

WAYS = {
    "kept gradients": {},
    "gradients that are not kept": {"kept_gradients_size": 0},
    "class means": {"init": "class_means", "init_samples": 8},
    "the encoder alone": {"supervised_encoder": True},
    "the decoder alone": {"supervised_decoder": True, "convergent_score_threshold": 1e9},
    "a sample of the entries": {},
}


SLOW = ("gradients that are not kept", "class means", "the decoder alone")
CASES = [pytest.param(name, ways, marks=[pytest.mark.slow] * (name in SLOW)) for name, ways in WAYS.items()]


@pytest.mark.parametrize(("name", "ways"), CASES, ids=WAYS)
def test_a_found_rate_trains_like_the_same_rate_given_as_a_number(path, name, ways, monkeypatch):
    if name == "a sample of the entries":
        monkeypatch.setattr(_rate_sample, "ENTRIES", 1000)
    found = tiny_data.trainer(path, {**QUICK, **ways}).train()
    search = search_of(found)
    given = tiny_data.trainer(path, {**QUICK, **ways, "learning_rate": search["best_lr"]}).train()
    assert same(weights(found), weights(given))
    assert found.get_training_stats()["losses"] == given.get_training_stats()["losses"]
    assert found.get_training_stats()["training_args"]["learning_rate"] == search["best_lr"]
    assert search["cost"]["entries"] < 1000 if name == "a sample of the entries" else search["cost"]["entries"] == 6304
    assert search["status"] == "converged"


def test_the_statistics_have_the_curve_of_every_rate(path, caplog):
    caplog.set_level(logging.INFO)
    search = search_of(tiny_data.trainer(path, QUICK).train())
    assert search["reason"] in caplog.text
    assert search["reason"].startswith(f"learning_rate={search['best_lr']:g}: of {len(search['probes'])} rates")
    rates = [probe["lr"] for probe in search["probes"]]
    assert rates == sorted(rates)
    low, high = search["window"]
    assert low <= search["best_lr"] <= high
    for probe in search["probes"]:
        assert {"step", "correlation", "mean_by_class", "loss", "size"} == probe["curve"][0].keys()
    chosen = next(probe for probe in search["probes"] if probe["lr"] == search["best_lr"])
    assert chosen["status"] == "converged"
    assert chosen["curve"][-1]["correlation"] > 0.95


def test_every_seed_searches_for_itself_and_a_finished_training_is_found_done(path, tmp_path):
    arguments = {**QUICK, "max_steps": 12, "experiment_dir": str(tmp_path), "use_cache": True, "max_seeds": 2}
    arguments["min_convergent_seeds"] = None
    trainer = tiny_data.trainer(path, arguments).train()
    runs = [json.loads((tmp_path / "seeds" / f"seed_{seed}" / "training.json").read_text()) for seed in (0, 1)]
    assert all("learning_rate_search" in run["training_stats"] for run in runs)
    assert runs[0]["training_stats"] != runs[1]["training_stats"]
    again = tiny_data.trainer(path, arguments).train()
    assert again.reused
    assert same(weights(trainer), weights(again))
    # "tune" is the same argument.
    assert tiny_data.trainer(path, {**arguments, "learning_rate": "tune"}).train().reused
    assert not tiny_data.trainer(path, {**arguments, "learning_rate": 1e-3}).train().reused


def test_a_training_without_steps_needs_no_rate(path, caplog):
    caplog.set_level(logging.INFO)
    trainer = tiny_data.trainer(path, {**QUICK, "max_steps": 0, "init": "class_means", "init_samples": 8}).train()
    assert "no effect on a training without steps" in caplog.text
    assert "learning_rate_search" not in trainer.get_training_stats()["training_stats"]


def test_a_modality_of_a_users_own(tmp_path):
    torch.manual_seed(0)
    Base("digits").save_pretrained(str(tmp_path / "base"))
    arguments = TrainingArguments(learning_rate="auto", max_steps=20, max_seeds=1)
    trainer = DigitTrainer(Base("digits"), target_classes=["low", "high"], args=arguments).train()
    assert search_of(trainer)["cost"]["held_out"] == 4


def test_the_loop_alone_judges_by_batches_that_it_holds_out(tmp_path):
    model = new_model()
    data = Synthetic(len(model.gradiend))
    output = train_core(model, data, learning_rate="auto", max_steps=30, output_dir=str(tmp_path / "model"))
    search = json.loads((tmp_path / "model" / "training.json").read_text())["training_stats"]["learning_rate_search"]
    assert output
    assert search["status"] == "converged"
    # A training of 30 steps, whose gradients are not kept, reads eight batches before: one of each class is held out.
    assert (search["cost"]["batches"], search["cost"]["held_out"]) == (6, 2)


# Probes


def synthetic(n=4000, batches=6):
    data = list(Synthetic(n, batches))
    held_out = [{"source": batch["source"], "label": batch["label"]} for batch in Synthetic(n, 8)]
    return data, held_out


def network(n=4000, seed=0):
    set_seed(seed)
    return GradiendModel(n, 1)


def test_a_probe_of_all_entries_takes_the_steps_of_the_training():
    arguments, (batches, held_out) = TrainingArguments(learning_rate=1e-3), synthetic()
    data = ProbeData.read(batches, lambda: held_out, network(), arguments)
    probe = Probe(1e-3, data, network(), arguments)
    trained = network()
    optimizer = optimizer_for(trained, arguments)
    losses = [optimizer.step(*training_pair(batch, arguments)).item() for batch in batches]
    for _ in batches:
        probe.step()
    probe.evaluate()
    assert probe.losses == losses
    assert same(trained.state_dict(), probe.network.state_dict())
    encoded = torch.stack([trained.forward_encoder(row["source"])[0].detach() for row in held_out])
    labels = torch.tensor([row["label"] for row in held_out])
    expected = abs(torch.corrcoef(torch.stack([encoded, labels]))[0, 1].item())
    assert probe.curve[0].correlation == pytest.approx(expected, rel=1e-4)


def test_probes_change_neither_the_network_nor_the_random_numbers():
    whole, before = network(), network().state_dict()
    batches, held_out = synthetic()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    arguments = TrainingArguments(learning_rate="auto")
    find_learning_rate(whole, batches, lambda: held_out, arguments, 20)
    Sample(torch.arange(5), torch.ones(5)).network(whole)
    assert torch.equal(torch.rand(3), expected)
    assert same(before, whole.state_dict())


def test_a_sample_of_all_entries_takes_the_analytic_step():
    arguments, (batches, _) = TrainingArguments(learning_rate=1e-3), synthetic()
    one, two = network(), network()
    whole, sampled = AnalyticOptimizer(one, arguments), SampledOptimizer(two, arguments, torch.ones(4000), 4000)
    for batch in batches:
        pair = training_pair(batch, arguments)
        torch.testing.assert_close(whole.step(*pair), sampled.step(*pair), rtol=1e-5, atol=0)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, two.state_dict()[name], rtol=1e-5, atol=1e-7)


def heavy(n, generator):
    """Gradients of two classes with entries of very different sizes, as those of language models."""
    direction = torch.randn(n, generator=generator) * torch.rand(n, generator=generator).pow(8) / n**0.5
    return [{"source": sign * direction, "target": sign * direction, "label": sign} for sign in (1.0, -1.0)]


def test_a_sample_estimates_sums_and_trains_as_the_whole_does():
    n, arguments = 40_000, TrainingArguments(learning_rate=1e-3)
    batches = heavy(n, torch.Generator().manual_seed(1))
    sample = Sample.draw(batches, 4000)
    assert 3000 < len(sample.places) <= 4400
    torch.testing.assert_close(sample.weights.sum().item(), float(n), rtol=0.1, atol=0)
    source = batches[0]["source"]
    for power in (1, 2):
        estimate = (sample.of(source).abs() ** power * sample.weights).sum()
        torch.testing.assert_close(estimate, (source.abs() ** power).sum(), rtol=0.05, atol=0)
    whole, part = network(n), sample.network(network(n))
    assert torch.equal(part.decoder_linear.weight, whole.decoder_linear.weight[sample.places])
    assert torch.equal(part.encoder_linear.weight, whole.encoder_linear.weight[:, sample.places])
    optimizers = optimizer_for(whole, arguments), sample.optimizer(part, arguments, n)
    for step, batch in enumerate(itertools.islice(itertools.cycle(batches), 150)):
        pair = training_pair(batch, arguments)
        losses = optimizers[0].step(*pair), optimizers[1].step(*(sample.of(vector) for vector in pair))
        if not step:
            torch.testing.assert_close(*losses, rtol=0.05, atol=0)
    for batch in batches:
        source = batch["source"]
        encoded = whole.forward_encoder(source), part.forward_encoder(sample.weighted(sample.of(source)))
        # Which class encodes positive is a matter of the first steps.
        torch.testing.assert_close(*(latent.abs() for latent in encoded), rtol=0.1, atol=0)
        assert encoded[0].abs() > 0.1


def test_the_gradients_of_evaluation_rows_are_what_the_encoder_reads(path):
    trainer = tiny_data.trainer(path, {"max_steps": 2, "learning_rate": 1e-3}).train()
    model = trainer.get_model()
    few = trainer.create_eval_data(model, split="validation").few(3)
    encoded = [model.encode(row["source"]).item() for row in few.gradients(model)]
    assert encoded == pytest.approx(few.encode(model)["encoded"].tolist(), abs=1e-5)
    assert [row["label"] for row in few.gradients(model)] == few.rows["label"].tolist()


# Classes of probes, and the choice


def at(step, correlation, first, second, size=0.5, loss=0.9):
    return ProbePoint(step, correlation, {"1": first, "-1": second}, size, loss)


NAN = float("nan")
CURVES = {
    "converged": [at(2, 0.5, 0.1, 0.0), at(10, 0.99, 0.9, -0.9)],
    "slow": [at(2, 0.2, 0.1, 0.0), at(10, 0.8, 0.3, -0.2)],
    "frozen": [at(2, 0.2, 0.001, 0.0), at(10, 0.4, 0.01, -0.01)],
    "degrading": [at(2, 0.97, 0.9, -0.9), at(10, 0.7, 0.9, -0.4)],
    "collapsed": [at(2, 0.6, 0.9, 0.5), at(10, 0.5, 1.0, 0.8)],
    "diverged": [at(2, 0.6, 0.9, -0.5), at(10, 0.0, NAN, NAN, NAN, math.inf)],
}


@pytest.mark.parametrize(("status", "curve"), CURVES.items(), ids=CURVES)
def test_a_probe_is_classified_by_its_curve(status, curve):
    assert classify(curve, [1.0] * 10, [1.0] * 10) == status


def test_an_encoder_that_sits_at_the_ends_without_telling_the_classes_apart_has_collapsed():
    assert classify([at(10, 0.85, 1.0, -0.6, size=0.99)], [1.0], [1.0]) == "collapsed"


@pytest.mark.parametrize("losses", [[1.0, *[9.0] * 9], [1.0, NAN]])
def test_a_loss_that_grows_is_a_divergence_whatever_the_correlation(losses):
    assert classify([at(10, 1.0, 1.0, -1.0)], losses, [1.0] * len(losses)) == "diverged"


def probe(lr, status="converged", step=10, correlation=1.0, means=1.0, loss=0.9):
    curve = (at(step - 1, 0.0, 0.0, 0.0), at(step, 0.96, 0.5, -0.5), at(100, correlation, means, -means, loss=loss))
    return LRProbe(lr, status, curve)


CHOICES = {
    "the fastest": ([probe(1, step=30), probe(2, step=9), probe(3, step=20)], 2),
    "the middle one of equals": ([probe(1), probe(2), probe(3)], 2),
    "the lower of two": ([probe(1), probe(2)], 1),
    "not a fast one with a lower correlation": ([probe(1, step=30), probe(2, step=5, correlation=0.98)], 1),
    "not a fast one with smaller means": ([probe(1, step=30), probe(2, step=5, means=0.8)], 1),
    "none above a failing one": ([probe(1, step=30), probe(2, "collapsed"), probe(3, step=2)], 1),
    "none above a slow one": ([probe(0.5, "slow"), probe(1, step=30), probe(2, "slow"), probe(3, step=2)], 1),
    "the best that is not too large": ([probe(1, "slow", correlation=0.6), probe(2, "slow", correlation=0.8)], 2),
    "never a diverged one": ([probe(1, "frozen", correlation=0.1), probe(2, "diverged", correlation=1.0)], 1),
    "the lowest of failures": ([probe(1, "diverged"), probe(2, "diverged")], 1),
}


@pytest.mark.parametrize(("probes", "lr"), CHOICES.values(), ids=CHOICES)
def test_the_choice(probes, lr):
    assert preferred(probes).lr == lr


def test_steps_are_counted_until_the_correlation_stays():
    assert probe(1, step=11).steps_to_reach == pytest.approx(10 + 0.95 / 0.96)
    curve = [at(2, 0.99, 1, -1), at(4, 0.5, 1, -1), at(8, 1.0, 1, -1)]
    assert LRProbe(1, "converged", tuple(curve)).steps_to_reach == pytest.approx(4 + 4 * 0.9)
    assert math.isinf(LRProbe(1, "slow", tuple(curve[:2])).steps_to_reach)


def test_the_window_and_what_brackets_it():
    probes = (probe(1, "slow"), probe(2), probe(3), probe(4, "collapsed"), probe(5))
    result = LRSearchResult("converged", 2, probes, "why", {})
    assert [one.lr for one in within_window(probes)] == [2, 3]
    assert (result.window, result.bracket) == ((2, 3), (1, 4))
    none = LRSearchResult("no_convergent_lr", 1, (probe(1, "slow"), probe(2, "diverged")), "why", {})
    assert (none.window, none.bracket) == ((None, None), (1, 2))


def test_rates_and_steps():
    assert lattice(1e-4, 1e-2, "coarse") == [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
    assert lattice(1e-3, 1e-2, "fine") == [1.5e-3, 2e-3, 3e-3, 5e-3, 7e-3]
    assert evaluations(1) == [1]
    assert evaluations(8) == [2, 4, 6, 8]
    assert evaluations(150)[-1] == 150
    assert len(evaluations(150)) < 40
    assert batches_to_read(250, read_again=True) == 48
    assert batches_to_read(250, read_again=False) == 25
    assert batches_to_read(40, read_again=False) == 8
    assert batches_to_read(5, read_again=False) == 4


def test_a_search_where_everything_diverges_says_so(path):
    config = LRSearchConfig(lr_bounds=(1e3, 1e6))
    with pytest.raises(NoConvergentLearningRate, match="No learning rate separates the classes") as error:
        tiny_data.trainer(path, {**QUICK, "lr_search_config": config}).tune_learning_rate(initial_lr=1e5)
    assert error.value.result.best_lr is None
    assert {one.status for one in error.value.result.probes} <= {"diverged", "collapsed", "degrading"}


@pytest.mark.parametrize("bounds", [(1e2, 1e3), (1e-11, 1e-10), (1.2345e-3, 1.2346e-3)], ids=str)
def test_bounds_without_the_usual_rates_hold_the_search(bounds):
    batches, held_out = synthetic()
    arguments = TrainingArguments(learning_rate="auto", lr_search_config=LRSearchConfig(lr_bounds=bounds, max_probes=3))
    try:
        result = find_learning_rate(network(), batches, lambda: held_out, arguments, 10)
    except NoConvergentLearningRate as error:
        result = error.result
    assert result.probes
    assert all(bounds[0] <= one.lr <= bounds[1] for one in result.probes)


def test_probes_that_were_ended_for_nothing_are_tried_to_the_end(monkeypatch):
    batches, held_out = synthetic()
    # The same gradients under both labels: nothing tells these classes apart.
    same_for_both = [{**row, "label": label} for row in held_out for label in (1.0, -1.0)]
    monkeypatch.setattr(Probe, "is_over", lambda self, fastest: True)
    arguments = TrainingArguments(learning_rate="auto", lr_search_config=LRSearchConfig(lr_bounds=(1e-6, 1e-5)))
    result = find_learning_rate(network(), batches, lambda: same_for_both, arguments, 40, initial_lr=1e-6)
    assert result.status == "no_convergent_lr"
    assert {one.last.step for one in result.probes} == {40}


def test_probes_one_after_the_other_are_those_in_lockstep(monkeypatch):
    batches, held_out = synthetic()
    arguments = TrainingArguments(learning_rate="auto", criterion=torch.nn.L1Loss())
    found = []
    for entries in (100, 10**6):
        for module in (_rate_sample, _rate_search):
            monkeypatch.setattr(module, "ENTRIES", entries)
        found.append(find_learning_rate(network(), batches, lambda: held_out, arguments, 20))
    assert found[0].probes == found[1].probes


# The door


def test_tune_learning_rate_keeps_its_result(path, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = tiny_data.trainer(path, {**QUICK, "learning_rate": 1e-5, "experiment_dir": str(tmp_path)})
    result = trainer.tune_learning_rate()
    content = json.loads((tmp_path / "lr_search.json").read_text())
    assert content["best_lr"] == result.best_lr
    assert LRSearchResult.from_dict(content) == result
    assert not (tmp_path / "model").exists()
    assert trainer.training_args.learning_rate == 1e-5
    caplog.clear()
    assert trainer.tune_learning_rate() == result
    assert "has the result of the same search" in caplog.text
    caplog.clear()
    other = trainer.tune_learning_rate(seed=3)
    assert "seed was 0 and is 3" in caplog.text
    assert trainer.tune_learning_rate(seed=3, force=True).probes == other.probes
    # The search of a training is the same search.
    found = search_of(trainer.train(learning_rate="auto"))
    assert found["best_lr"] == result.best_lr
    assert [one["curve"] for one in found["probes"]] == [one["curve"] for one in result.to_dict()["probes"]]


def test_a_search_can_be_shaped(path, caplog):
    caplog.set_level(logging.INFO)
    config = LRSearchConfig(
        probe_steps=8, probe_eval_steps=4, factor=3, max_probes=6, lr_bounds=(1e-4, 1e-2), resolution="fine",
        verbose=True, confirm=False, probe_seeds=3,
    )  # fmt: skip
    try:
        result = tiny_data.trainer(path, QUICK).tune_learning_rate(initial_lr=1e-3, config=config)
    except NoConvergentLearningRate as error:
        result = error.result
    assert len(result.probes) <= 6
    assert {0.00033, 1e-3, 3e-3} <= {one.lr for one in result.probes}
    assert all(1e-4 <= one.lr <= 1e-2 for one in result.probes)
    assert all([point.step for point in one.curve] in ([4, 8], [4]) for one in result.probes)
    assert "confirm, probe_seeds of LRSearchConfig has no effect" in caplog.text
    assert f"learning rate {result.probes[0].lr:g}: " in caplog.text


def test_the_figure(path, tmp_path):
    pytest.importorskip("matplotlib")
    result = tiny_data.trainer(path, {**QUICK, "max_steps": 8}).tune_learning_rate()
    assert result.plot(tmp_path / "search.png", show=False) == str(tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="show=False without a path"):
        result.plot(show=False)


def test_arguments():
    arguments = TrainingArguments(learning_rate="tune", lr_search_config={"max_probes": 5})
    assert arguments.learning_rate == "auto"
    assert arguments.searches_rate
    assert TrainingArguments.from_dict(json.loads(json.dumps(arguments.to_dict()))).to_dict() == arguments.to_dict()
    assert arguments.lr_search_config == LRSearchConfig(max_probes=5)
    assert not TrainingArguments(learning_rate=1e-3).searches_rate
    for wrong in ("fast", "1e-3", None, -1.0, True, math.inf):
        with pytest.raises(ValueError, match="learning_rate must be a finite number of at least 0"):
            TrainingArguments(learning_rate=wrong)


WRONG = [
    {"probe_steps": 0}, {"probe_eval_steps": 0}, {"max_probes": 0}, {"resolution": "finer"}, {"factor": 1},
    {"lr_bounds": (1, 0.1)}, {"lr_bounds": (0, 1)}, {"lr_bounds": 3}, {"max_window_probes": -1}, {"early_stop": 1},
]  # fmt: skip


@pytest.mark.parametrize("fields", WRONG, ids=",".join)
def test_a_wrong_configuration_is_refused(fields):
    with pytest.raises((TypeError, ValueError), match=next(iter(fields))):
        LRSearchConfig(**fields)


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, "auto"])
def test_a_wrong_first_rate_is_refused(path, rate):
    with pytest.raises((TypeError, ValueError), match="initial_lr"):
        tiny_data.trainer(path, QUICK).tune_learning_rate(initial_lr=rate)
