"""Truths about several processes, which pytest runs in each of two: see test_processes.py."""

import copy
import os
from pathlib import Path

import pytest
import tiny
import torch
from test_caching import NEUTRAL, WORDS, rows

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.gradients import GradientEngine
from gradiend.model import ParamMappedGradiendModel
from gradiend.model._context import Side
from gradiend.model._shards import Shards, is_sharded, shard, whole_state
from gradiend.model._topk import select_dimensions
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import objective_of
from gradiend.trainer.core.pruning import pre_prune
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util._files import write_json
from gradiend.util._processes import alone, processes
from gradiend.util._tensor_files import read_tensors, write_tensors

team = processes()


def setup(sharded=False):
    """An engine on a tiny BERT, one that acts for this process alone, and some words."""
    model = tiny.bert().eval()
    mapping = select_parameters(model, None)
    objective = objective_of(model, tiny.bert_tokenizer())
    text = rows()["masked"][0]
    texts = [text.replace("lamp", thing) for thing in ("lamp", "dog", "cat", "old door", "river")]
    words = [objective.tokenize(texts, [word] * len(texts)) for word in ("he", "they")]
    whole = copy.deepcopy(model)
    with alone():
        reference = GradientEngine(whole, mapping, objective)
    if sharded:
        shard(model)
        mapping = Shards.of(model).own(mapping)
    return GradientEngine(model, mapping, objective), reference, words


def close(found, expected, tolerance=1e-5):
    return float((found - expected).detach().norm() / expected.detach().norm()) <= tolerance


def own_part(engine, whole_mapping, vector):
    """This process's part of a vector of the whole input space."""
    if engine.mapping.size == whole_mapping.size:
        return vector
    shards = Shards.of(engine.model)
    return torch.cat(
        [vector[place][shards.starts[e.name] :][: shards.sizes[e.name]] for e, place in whole_mapping.slices()]
    )


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("n_words", [1, 2, 5])
def test_gradients_of_a_batch_are_those_of_one_process(sharded, n_words):
    """Also where the batch does not divide evenly, and where one process has no example."""
    engine, reference, (factual, alternative) = setup(sharded)
    sides = [Side.FACTUAL, Side.ALTERNATIVE, Side.DIFF]
    for _ in range(2):
        found = engine.gradients(factual[:n_words], alternative[:n_words], sides)
        with alone():
            expected = reference.gradients(factual[:n_words], alternative[:n_words], sides)
        for one, other in zip(found, expected, strict=True):
            assert close(one, own_part(engine, reference.mapping, other))


@pytest.mark.parametrize("sharded", [False, True])
def test_encodings_are_those_of_one_process(sharded):
    engine, reference, (factual, alternative) = setup(sharded)
    directions = torch.randn(2, reference.mapping.size, generator=torch.Generator().manual_seed(1))
    own = torch.stack([own_part(engine, reference.mapping, direction) for direction in directions])
    words = [*factual, *alternative]
    with alone():
        expected = reference.directional_derivatives(words, directions, 2)
    assert close(engine.directional_derivatives(words, own, 2), expected)


def test_derivatives_of_tokens_on_shards_are_those_of_forward_mode():
    engine, reference, (factual, _) = setup(sharded=True)
    direction = torch.randn(reference.mapping.size, generator=torch.Generator().manual_seed(1))
    with alone():
        expected = reference.token_derivatives(factual, direction)
    before = {name: tensor.clone() for name, tensor in whole_state(engine.model).items()}
    found = engine.token_derivatives(factual, own_part(engine, reference.mapping, direction))
    for one, other in zip(found, expected, strict=True):
        # Other processes, other batches: the tokens come in another order.
        assert close(one.sort().values, other.sort().values, 2e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in whole_state(engine.model).items())


def networks(**arguments):
    """A GRADIEND in one piece and this process's part of the same one, both not built yet."""
    model = tiny.bert()
    mapping = select_parameters(model, ["*layer.1*"])
    whole = ParamMappedGradiendModel(mapping.size, 1, mapping, lazy_init=True, **arguments)
    shard(model)
    return whole, whole.sharded(Shards.of(model)), mapping


def gathered(part):
    """The state of all processes in one piece, in every process."""
    found = {}
    for name, tensor in part.whole_state().items():
        if isinstance(tensor, torch.Tensor):
            found[name] = tensor
            continue
        blocks = [*tensor.blocks()]
        found[name] = torch.cat(blocks).view(tensor.shape) if team.first else torch.empty(tensor.shape)
        team.take_over([found[name]])
    return found


@pytest.mark.parametrize("bias", [True, False])
def test_a_sharded_gradiend_draws_the_weights_of_one_in_one_piece(bias):
    whole, part, _ = networks(bias_decoder=bias)
    torch.manual_seed(7)
    whole.build()
    torch.manual_seed(7)
    part.build()
    assert 0 < part.input_dim < whole.input_dim == part.total_dim
    for name, tensor in gathered(part).items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    assert part.is_untrained
    x = torch.randn(3, whole.input_dim, generator=torch.Generator().manual_seed(2))
    model_map = select_parameters(tiny.bert(), ["*layer.1*"])
    own = part.shards.own(model_map)
    places = dict(zip((e.name for e in own), (p for _, p in model_map.slices()), strict=True))
    mine = torch.cat([x[:, places[e.name]][:, part.shards.starts[e.name] :][:, : e.num_selected] for e in own], 1)
    assert close(part.forward_encoder(mine), whole.forward_encoder(x))
    assert abs(part.encoder_norm - whole.encoder_norm) < 1e-5 * whole.encoder_norm


@pytest.mark.parametrize("topk", [1, 37, 0.3, 1.0])
def test_top_k_over_shards_is_exact_with_ties(topk):
    """Half of the importances are equal, so that the cutoff has ties in both processes."""
    whole, part, mapping = networks()
    importance = torch.randint(0, 4, (mapping.size,), generator=torch.Generator().manual_seed(3)).float()
    expected, mask = whole.prune(topk=topk, importance=importance, return_mask=True)
    spots = {entry.name: place for entry, place in mapping.slices()}
    own = torch.cat([importance[spots[e.name]][part.shards.starts[e.name] :][: e.num_selected] for e in part.mapping])
    found = part.prune(topk=topk, importance=own)
    assert found.whole_map.hash == expected.mapping.hash
    assert found.total_dim == expected.input_dim == int(mask.sum())


def test_a_threshold_over_shards_counts_all_dimensions():
    _, part, _ = networks()
    with pytest.raises(ValueError, match="Pruning would keep nothing"):
        part.prune(threshold=2.0, importance=torch.ones(part.input_dim))
    selection = select_dimensions(3, torch.arange(3.0) + 3 * team.rank, topk=4, team=team)
    assert selection.mask().tolist() == ([False, False, True] if team.first else [True] * 3)


def test_a_sharded_checkpoint_is_that_of_one_process(tmp_path):
    folder = Path(team.agreed(lambda: str(tmp_path)))
    whole, part, _ = networks()
    torch.manual_seed(7)
    whole.build()
    torch.manual_seed(7)
    part.build()
    part.save_pretrained(str(folder / "part"))
    with alone():
        loaded = ParamMappedGradiendModel.from_pretrained(str(folder / "part"))
        whole.save_pretrained(str(folder / f"whole_{team.rank}"))
    written = {path.name for path in (folder / "part").iterdir()}
    assert written == {path.name for path in (folder / f"whole_{team.rank}").iterdir()}
    for name, tensor in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.param_map_hash == whole.param_map_hash == part.param_map_hash
    again = part.from_checkpoint(str(folder / "part"))
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[name]), name
    assert part.weights_hash() == whole.weights_hash()


def test_importance_and_top_k_of_a_sharded_gradiend_are_those_of_the_whole():
    whole, part, _ = networks()
    torch.manual_seed(7)
    whole.build()
    torch.manual_seed(7)
    part.build()
    assert torch.equal(part.get_weight_importance(), whole.get_weight_importance())
    assert part.get_topk_weights(topk=9) == whole.get_topk_weights(topk=9)


def test_pre_pruning_is_that_of_one_process():
    model = tiny.bert()
    trainer = trainer_on(model)
    with_gradiend = TextPredictionModelWithGradiend.from_pretrained(
        model, tokenizer=tiny.bert_tokenizer(), lazy_init=True
    )
    examples = trainer.create_training_data(with_gradiend, split="train", batch_size=1)
    config = PrePruneConfig(n_samples=7, topk=0.2, batch_size=3)
    with alone():
        expected = pre_prune(with_gradiend, examples, config, definition=trainer, inplace=False)
    found = pre_prune(with_gradiend, examples, config, definition=trainer, inplace=False)
    assert found.gradiend.param_map_hash == expected.gradiend.param_map_hash


def test_the_first_process_writes_and_all_read(tmp_path):
    folder = Path(team.agreed(lambda: str(tmp_path)))
    for number in range(3):
        write_tensors(folder / "a.safetensors", {"a": torch.tensor([10 * number + team.rank])})
        assert read_tensors(folder / "a.safetensors")["a"].item() == 10 * number
        write_json(folder / "b.json", [number, team.rank])
        assert (folder / "b.json").read_text().split() == ["[", f"{number},", "0", "]"]
    assert sorted(os.listdir(folder)) == ["a.safetensors", "b.json"]


def test_an_error_of_one_process_is_raised_in_all():
    with pytest.raises(ZeroDivisionError):
        team.agreed(lambda: 1 / 0)

    class LocalError(Exception):
        """An error that no other process can make."""

    def fails_in_one(error):
        with team.together():
            if team.rank == 1:
                raise error

    with pytest.raises(OSError, match="full"):
        fails_in_one(OSError(28, "full"))
    with pytest.raises(RuntimeError if team.first else LocalError, match="of one process"):
        fails_in_one(LocalError("of one process"))


@pytest.mark.parametrize("n_items", [0, 1, 5, 6])
@pytest.mark.parametrize("in_step", [False, True])
def test_computed_items_are_in_their_order(n_items, in_step):
    done, calls = [], []
    found = team.compute(list(range(n_items)), lambda n: calls.append(n) or n * n, done.append, in_step=in_step)
    assert found == [n * n for n in range(n_items)]
    assert not team.first or sum(done) == n_items
    if in_step:
        assert len(set(team.exchanged(len(calls)))) == 1


def trainer_on(model, **arguments):
    """A trainer on a model in memory."""
    with_gradiend = TextPredictionModelWithGradiend.from_pretrained(
        model, tokenizer=tiny.bert_tokenizer(), params=["*layer.1*"]
    )
    args = TrainingArguments(**{"max_steps": 2, "max_seeds": 1, "train_batch_size": 4, **arguments})
    return TextPredictionTrainer(model=with_gradiend, data=rows(), target_classes=list(WORDS), args=args)


def test_base_models_that_differ_are_refused():
    with pytest.raises(ValueError, match="base model of process 1 is not that of process 0"):
        trainer_on(tiny.bert(seed=team.rank)).train()


def test_random_weights_are_those_of_the_first_process():
    """A GRADIEND that each process has drawn before the training."""
    torch.manual_seed(team.rank)
    trainer = trainer_on(tiny.bert()).train()
    assert len(set(team.exchanged(trainer.get_model().gradiend.weights_digest()))) == 1


def test_the_users_model_is_not_sharded():
    model = tiny.bert()
    trainer = trainer_on(model, fsdp=True).train()
    assert is_sharded(trainer.get_model().base_model)
    assert not is_sharded(model)


def test_a_sharded_model_is_taken_as_it_is():
    model = tiny.bert()
    with_gradiend = trainer_on(model).current.given
    shard(model)
    trainer = TextPredictionTrainer(
        model=with_gradiend.on_shards(model), data=rows(), target_classes=list(WORDS),
        args=TrainingArguments(max_steps=2, max_seeds=1, train_batch_size=4),
    )  # fmt: skip
    assert trainer.train().get_model().base_model is model
    with pytest.raises(ValueError, match="A sharded model has no copy in memory: give output_dir"):
        trainer.rewrite_base_model(
            trainer.evaluate_decoder(lrs=[0.1], plot=False, neutral_df=NEUTRAL), target_class="one"
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": "auto"}, 'fsdp=True has no gradient in one piece, which learning_rate="auto" needs'),
        ({"use_cached_gradients": True}, "fsdp=True has no gradient in one piece, which use_cached_gradients keeps"),
        ({"criterion": torch.nn.L1Loss()}, "fsdp=True trains both halves of a GRADIEND with one latent"),
        ({"supervised_encoder": True}, "fsdp=True trains both halves of a GRADIEND with one latent"),
    ],
)
def test_what_needs_whole_gradients_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trainer_on(tiny.bert(), fsdp=True, **arguments).train()


@pytest.mark.parametrize("topk", [2, 40])
def test_a_process_without_entries_trains_along(topk):
    """Pruning that leaves a process no entry of some parameters, or none at all."""
    arguments = {"pre_prune_config": PrePruneConfig(n_samples=4, topk=topk, batch_size=2), "seed": 1}
    with alone():
        expected = trainer_on(tiny.bert(), **arguments).train().get_model().gradiend
    found = trainer_on(tiny.bert(), fsdp=True, **arguments).train().get_model().gradiend
    assert found.param_map_hash == expected.param_map_hash
    for name, tensor in gathered(found).items():
        assert close(tensor, expected.state_dict()[name], 1e-4), name


def test_a_device_map_is_for_one_process():
    with pytest.raises(ValueError, match="base_model_device_map divides a model in one process"):
        trainer_on(tiny.bert(), base_model_device_map="auto").train()


def test_class_means_over_shards_are_those_of_one_process():
    arguments = {"init": "class_means", "init_samples": 4, "seed": 1, "train_batch_size": 2}
    with alone():
        expected = trainer_on(tiny.bert(), **arguments).train().get_model().gradiend.state_dict()
    found = trainer_on(tiny.bert(), fsdp=True, **arguments).train().get_model().gradiend
    for name, tensor in gathered(found).items():
        assert close(tensor, expected[name], 1e-4), name
