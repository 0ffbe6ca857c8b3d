"""Gradients that are kept are the gradients that would be computed."""

import pytest
import torch

from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path, sentences
from gradiend.gradients import GradientEngine
from gradiend.trainer.core.dataset import WINDOW, take_turns
from gradiend.trainer.core.gradient_store import FEWEST, GradientStore


def test_what_is_read_back_has_the_same_bits(tmp_path):
    store = GradientStore(10**6, tmp_path)
    kept = {number: torch.randn(2, 100) for number in range(5)}
    for number, pair in kept.items():
        store.keep(number, tuple(pair))
    for number, pair in kept.items():
        source, target = store.get(number)
        assert torch.equal(source, pair[0])
        assert torch.equal(target, pair[1])
    assert store.get("unknown") is None


def test_a_store_keeps_what_fits_and_leaves_nothing_behind(tmp_path):
    store = GradientStore(2 * 100 * 4 * FEWEST + 50, tmp_path)
    for number in range(FEWEST + 2):
        store.keep(number, tuple(torch.full((2, 100), float(number))))
    assert [store.get(number) is not None for number in range(FEWEST + 2)] == [*[True] * FEWEST, False, False]
    assert len(store) == FEWEST
    store.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, 3 * 4 * FEWEST - 1])
def test_nothing_is_kept_without_room(tmp_path, limit):
    store = GradientStore(limit, tmp_path)
    store.keep("a", (torch.ones(3),))
    assert store.get("a") is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_other_gradients_are_refused(tmp_path):
    store = GradientStore(10**4, tmp_path)
    store.keep("a", (torch.ones(3), torch.ones(3)))
    for strange in [(torch.ones(3),), (torch.ones(4), torch.ones(4)), (torch.ones(3).double(), torch.ones(3).double())]:
        with pytest.raises(ValueError, match="This store holds"):
            store.keep("b", strange)


def test_seeds_use_nearly_the_same_batches():
    """After any number of steps, two seeds differ by less than a window per class in what they have used."""
    groups = [range(100), range(60)]
    first, second = (list(take_turns(groups, 0, seed)) for seed in (0, 1))
    assert first != second
    assert set(first) == set(second)
    for steps in range(len(first)):
        assert len(set(first[:steps]) - set(second[:steps])) <= 2 * WINDOW


@pytest.fixture(scope="module")
def data():
    targets = [TextFilterConfig(["he", "she", "it"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    return TextPredictionDataCreator(sentences(600), feature_targets=targets).generate_training_data(60)


def test_seeds_that_share_gradients_are_the_seeds_one_after_the_other(data, tmp_path, monkeypatch):
    """The same bits for every seed; and three seeds of several epochs cost the gradients of one epoch."""
    plain, calls = GradientEngine.gradients, []
    monkeypatch.setattr(GradientEngine, "gradients", lambda self, *a, **k: calls.append(1) or plain(self, *a, **k))
    results, counts = {}, {}
    for limit in (0, 10**9):
        calls.clear()
        args = TrainingArguments(
            experiment_dir=str(tmp_path / str(limit)), train_batch_size=8, max_steps=20, learning_rate=1e-3,
            params=["*layer.1*"], max_seeds=3, min_convergent_seeds=None, keep_seed_runs=True, do_eval=False,
            kept_gradients_size=limit,
        )  # fmt: skip
        trainer = TextPredictionTrainer(str(model_path()), data=data, target_classes=["3SG", "3PL"], args=args)
        results[limit] = trainer.train()
        counts[limit] = len(calls)
    for seed, model in results[0].items():
        for name, tensor in model.gradiend.state_dict().items():
            assert torch.equal(tensor, results[10**9][seed].gradiend.state_dict()[name]), (seed, name)
    n_batches = 2 * 6  # 48 training rows of each class, in batches of 8
    assert counts[10**9] <= n_batches < counts[0]
