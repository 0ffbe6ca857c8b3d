"""Similarity of weights: equality with a naive implementation over dense vectors, chance levels, seeds, bad input."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import tiny
import tiny_data
import torch
from model_cases import model_with_gradiend, network, spec

from gradiend.comparison import compute_grouped_similarity_matrices, compute_similarity_matrix
from gradiend.comparison._measures import MEASURES, OF_VECTORS, random_cosines
from gradiend.comparison.similarity import component_of, layer_of
from gradiend.model._parameter_map import ParameterMap
from gradiend.model.seed_group import SeedModelGroup

PARTS = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")
SHAPES = {"embeddings.w": (5, 4), "layer.0.query.w": (4, 4), "layer.0.b": (4,), "layer.1.output.dense.w": (3, 4)}


def pruned(seed: int, latents: int = 1, kinds: str = "all mask indices mask", names=tuple(SHAPES), **kwargs):
    """A network over some of `SHAPES`, whose parameters are selected in several ways."""
    generator = np.random.default_rng(seed)
    specs = {}
    for name, kind in zip(names, itertools.cycle(kinds.split()), strict=False):
        size = math.prod(SHAPES[name])
        flat = generator.permutation(size)[: size // 2 + 1]
        specs[name] = spec(SHAPES[name], kind, (flat if kind == "indices" else np.sort(flat)).tolist())
    return network(specs, latents, seed, **kwargs)


def with_ties(seed: int, **kwargs):
    """A network whose weights have few values, some of them zero."""
    made = pruned(seed, **kwargs)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_((2 * parameter).round() / 2)
    return made


def dense(model, part: str, names=tuple(SHAPES), importance=False) -> np.ndarray:
    """The weights, or their importance, in the space of all parameters, (entries, latents), zeros elsewhere."""
    W_e, W_d = model.encoder_linear.weight.detach().double(), model.decoder_linear.weight.detach().double()
    b_d = model.decoder_linear.bias.detach().double()
    own = {
        "encoder-weight": W_e.T, "decoder-weight": W_d, "decoder-bias": b_d[:, None],
        "decoder-sum": (W_d.sum(1) + b_d)[:, None],
    }[part].numpy()  # fmt: skip
    own = np.abs(own).sum(1, keepdims=True) if importance else own
    parts = {name: np.zeros((math.prod(SHAPES[name]), own.shape[1])) for name in SHAPES}
    for entry, place in model.mapping.slices():
        parts[entry.name][entry.indices().numpy()] = own[place]
    return np.concatenate([parts[name] for name in names])


def ranks(values: np.ndarray) -> np.ndarray:
    """Average ranks, by comparing each value with all."""
    return (values[:, None] > values).sum(1) + ((values[:, None] == values).sum(1) + 1) / 2


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / scale) if scale else 0.0


def naive(measure: str, one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel(), other.ravel()
    if measure.startswith("spearman"):
        one, other = ranks(one), ranks(other)
        one, other = one - one.mean(), other - other.mean()
    found = correlation(one, other)
    return found if measure.endswith("signed") else abs(found)


def top(model, part: str, topk: int) -> dict[int, float]:
    """Entry → importance, of the most important entries."""
    importance = dense(model, part, importance=True).ravel()
    have = np.concatenate([entry.indices().numpy() + start for entry, start in starts(model)])
    chosen = sorted(have.tolist(), key=lambda entry: (-importance[entry], list(have).index(entry)))[:topk]
    return {entry: importance[entry] for entry in chosen}


def starts(model):
    offsets = dict(zip(SHAPES, np.cumsum([0, *map(math.prod, SHAPES.values())]), strict=False))
    return [(entry, offsets[entry.name]) for entry in model.mapping]


def models(latents: int = 1):
    """Networks that were pruned differently; the last one has other parameters, in another order."""
    return {
        "whole": pruned(1, latents, "all"),
        "mixed": pruned(2, latents),
        "ties": with_ties(3, latents=latents, kinds="indices mask"),
        "fewer": pruned(4, latents, "mask all", names=("layer.1.output.dense.w", "embeddings.w")),
    }


@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("measure", OF_VECTORS)
def test_of_vectors_as_a_naive_implementation(measure: str, part: str, latents: int) -> None:
    given = models(latents)
    found = compute_similarity_matrix(given, measure=measure, part=part)
    expected = [[naive(measure, dense(a, part), dense(b, part)) for b in given.values()] for a in given.values()]
    np.testing.assert_allclose(found["matrix"], expected, rtol=2e-6, atol=2e-7)
    assert found["model_ids"] == list(given)
    assert found["block_dim"] == 52 * (latents if part.endswith("weight") else 1)
    assert found["part"] == part


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    given = {"a": pruned(1, torch_dtype=dtype), "b": pruned(5, torch_dtype=dtype)}
    for measure in OF_VECTORS:
        matrix = compute_similarity_matrix(given, measure=measure)["matrix"]
        expected = naive(measure, *(dense(one, "encoder-weight") for one in given.values()))
        assert matrix[0][1] == pytest.approx(expected, rel=1e-10 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("topk", [1, 7, 0.5, 1.0, 10_000])
@pytest.mark.parametrize("part", PARTS)
def test_overlaps_as_a_naive_implementation(part: str, topk: float) -> None:
    given = models(2)
    sets = {}
    for name, model in given.items():
        count = max(1, round(topk * model.input_dim)) if isinstance(topk, float) else topk
        sets[name] = top(model, part, count)
    pairs = [[(one, other) for other in sets.values()] for one in sets.values()]
    counts = [[len(one.keys() & other.keys()) for one, other in row] for row in pairs]
    found = compute_similarity_matrix(given, measure="topk_overlap", part=part, topk=topk, value="intersection")
    assert found["matrix"] == counts
    assert found["per_model"] == {name: sorted(own) for name, own in sets.items()}
    share = compute_similarity_matrix(given, measure="topk_overlap", part=part, topk=topk)
    assert share["value"] == "intersection_frac"
    assert share["matrix"] == [[len(a.keys() & b.keys()) / min(len(a), len(b)) for a, b in row] for row in pairs]

    def mass(one, other):
        held = [one[entry] for entry in one.keys() & other.keys()]
        return np.linalg.norm(held) / np.linalg.norm([*one.values()])

    masses = compute_similarity_matrix(given, measure="mass_overlap", part=part, topk=topk)
    expected = [[(mass(a, b) + mass(b, a)) / 2 for a, b in row] for row in pairs]
    np.testing.assert_allclose(masses["matrix"], expected, rtol=1e-6)


@pytest.mark.parametrize("measure", OF_VECTORS)
@pytest.mark.parametrize("group_by", ["param", "layer", "component"])
def test_groups_as_a_naive_implementation(measure: str, group_by: str) -> None:
    given = models()
    found = compute_grouped_similarity_matrices(given, measure=measure, group_by=group_by)
    name_of = {"param": str, "layer": layer_of, "component": component_of}[group_by]
    assert list(found) == list(dict.fromkeys(name_of(name) for name in SHAPES))
    for group, payload in found.items():
        names = [name for name in SHAPES if name_of(name) == group]
        vectors = [dense(model, "encoder-weight", names) for model in given.values()]
        expected = [[naive(measure, one, other) for other in vectors] for one in vectors]
        np.testing.assert_allclose(payload["matrix"], expected, rtol=2e-6, atol=2e-7)
        assert payload["block_dim"] == sum(math.prod(SHAPES[name]) for name in names)
        assert payload["group"] == group


def test_groups_by_dict_and_function() -> None:
    given = models()
    by_group = compute_grouped_similarity_matrices(given, group_by={"first": ["embeddings.w", "layer.0.b"]})
    by_parameter = compute_grouped_similarity_matrices(given, group_by={"embeddings.w": "first", "layer.0.b": "first"})
    by_function = compute_grouped_similarity_matrices(
        given, group_by=lambda name: "first" if name in ("embeddings.w", "layer.0.b") else "other"
    )
    assert by_group == by_parameter == by_function
    assert list(by_group) == ["first", "other"]
    one = compute_grouped_similarity_matrices(given, measure="spearman", group_by=lambda name: "all")["all"]
    assert one["matrix"] == compute_similarity_matrix(given, measure="spearman")["matrix"]


COMPONENTS = {
    "bert": {
        "embeddings.word_embeddings.weight": "embeddings",
        "embeddings.LayerNorm.weight": "normalization",
        "encoder.layer.1.attention.self.query.weight": "attention_query",
        "encoder.layer.1.attention.self.key.bias": "attention_key",
        "encoder.layer.1.attention.self.value.weight": "attention_value",
        "encoder.layer.1.attention.output.dense.weight": "attention_output",
        "encoder.layer.1.intermediate.dense.weight": "mlp_up",
        "encoder.layer.1.output.dense.weight": "mlp_down",
        "encoder.layer.1.output.LayerNorm.weight": "normalization",
    },
    "llama": {
        "model.embed_tokens.weight": "embeddings",
        "model.layers.1.self_attn.q_proj.weight": "attention_query",
        "model.layers.1.self_attn.k_proj.weight": "attention_key",
        "model.layers.1.self_attn.v_proj.weight": "attention_value",
        "model.layers.1.self_attn.o_proj.weight": "attention_output",
        "model.layers.1.mlp.gate_proj.weight": "mlp_up",
        "model.layers.1.mlp.down_proj.weight": "mlp_down",
        "model.layers.1.post_attention_layernorm.weight": "normalization",
        "model.norm.weight": "normalization",
        "lm_head.weight": "head",
    },
    "gpt2": {
        "transformer.wte.weight": "embeddings",
        "transformer.h.1.ln_1.weight": "normalization",
        "transformer.h.1.attn.c_attn.weight": "other",
        "transformer.h.1.attn.c_proj.weight": "attention_output",
        "transformer.h.1.mlp.c_fc.weight": "mlp_up",
        "transformer.h.1.mlp.c_proj.weight": "mlp_down",
    },
}


@pytest.mark.parametrize("family", COMPONENTS)
def test_components_and_layers_of_families(family: str) -> None:
    names = dict(tiny.FAMILIES[family].build(tied=False).named_parameters()).keys()
    for name, component in COMPONENTS[family].items():
        assert any(own.endswith(name) for own in names)
        assert component_of(name) == component
        assert layer_of(name) == ("layer_1" if ".1." in name else "other")


@pytest.mark.parametrize("family", [name for name in tiny.FAMILIES if name not in ("bert", "llama", "gpt2")])
def test_most_weights_of_every_family_have_a_layer_and_a_component(family: str) -> None:
    names = [name for name, _ in tiny.FAMILIES[family].build().named_parameters()]
    assert {"layer_0", "layer_1"} <= {layer_of(name) for name in names}
    found = {component_of(name) for name in names}
    assert {"embeddings", "attention_output", "mlp_up", "mlp_down", "normalization"} <= found


class TestChance:
    def test_the_closed_form_is_the_mean_of_random_directions(self) -> None:
        generator = np.random.default_rng(0)
        common = np.array([[5, 3], [3, 8]])
        one, other = generator.standard_normal((2, 200_000, 10))
        one[:, 5:] = 0
        other[:, :2] = 0
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        measured = np.abs((one * other).sum(1) / norms).mean()
        assert random_cosines(common)[0, 1] == pytest.approx(measured, rel=0.01)

    def test_it_is_continuous_where_the_formula_changes(self) -> None:
        few, many = (random_cosines(np.full((1, 1), n))[0, 0] for n in (10_000, 10_001))
        assert many / few == pytest.approx(math.sqrt(10_000 / 10_001), rel=1e-8)
        assert random_cosines(np.full((1, 1), 86_000_000))[0, 0] == pytest.approx(math.sqrt(2 / math.pi / 86e6))

    @pytest.mark.parametrize("measure", ["cosine", "spearman"])
    def test_random_models_have_the_similarity_of_chance(self, measure: str) -> None:
        mapping = ParameterMap.from_specs({"w": spec((40, 25), "all")})
        made = {str(seed): network(mapping, seed=seed) for seed in range(60)}
        found = compute_similarity_matrix(made, measure=measure)
        places = np.triu_indices(60, 1)
        assert np.array(found["matrix"])[places].mean() == pytest.approx(found["null_level"][0][1], rel=0.06)

    def test_random_sets_have_the_overlap_of_chance(self) -> None:
        mapping = ParameterMap.from_specs({"w": spec((40, 25), "all")})
        made = {str(seed): network(mapping, seed=seed) for seed in range(30)}
        for value, expected in (("intersection", 40.0), ("intersection_frac", 0.2)):
            found = compute_similarity_matrix(made, measure="topk_overlap", topk=200, value=value)
            assert found["null_level"][0][1] == pytest.approx(expected)
            assert np.array(found["matrix"])[np.triu_indices(30, 1)].mean() == pytest.approx(expected, rel=0.05)
        mass = compute_similarity_matrix(made, measure="mass_overlap", topk=200)
        assert np.array(mass["matrix"])[np.triu_indices(30, 1)].mean() <= mass["null_level"][0][1] < 0.5

    def test_models_without_common_entries_cannot_be_similar(self) -> None:
        halves = [
            network(
                {"embeddings.w": spec((5, 4), "indices", flat), "layer.0.b": spec((4,), "indices", [place])}, seed=1
            )
            for place, flat in enumerate(([0, 1, 2], [3, 4]))
        ]
        for measure in MEASURES:
            found = compute_similarity_matrix(halves, measure=measure, topk=2)
            assert found["null_level"][0][1] == 0.0
            assert found["n_matrix"][0][1] == 0


def test_a_vector_of_zeros_is_similar_to_nothing() -> None:
    empty = pruned(1, bias_decoder=False)
    given = {"zero": empty, "other": pruned(1)}
    for measure in OF_VECTORS:
        assert compute_similarity_matrix(given, measure=measure, part="decoder-bias")["matrix"] == [[0, 0], [0, 1]]
    mass = compute_similarity_matrix(given, measure="mass_overlap", part="decoder-bias", topk=3)["matrix"]
    assert mass[0][0] == 0
    assert mass[1][1] == 1


def test_topk_leaves_out_all_other_weights_of_a_vector() -> None:
    given = models()
    found = compute_similarity_matrix(given, measure="spearman_signed", part="decoder-weight", topk=5)
    kept = []
    for model in given.values():
        vector = dense(model, "decoder-weight").ravel()
        vector[[entry for entry in range(len(vector)) if entry not in top(model, "decoder-weight", 5)]] = 0
        kept.append(vector)
    expected = [[naive("spearman_signed", one, other) for other in kept] for one in kept]
    np.testing.assert_allclose(found["matrix"], expected, rtol=1e-6, atol=1e-7)
    assert (found["topk"], found["resolved_topk"]) == (5, 5)
    share = compute_similarity_matrix(given, topk=0.5)
    assert share["resolved_topk"] == {name: round(0.5 * model.input_dim) for name, model in given.items()}


class TestSeeds:
    def groups(self, second=(7, 8, 9)):
        return {
            "a": SeedModelGroup(tuple(pruned(seed) for seed in (1, 2, 3)), seed_values=(5, 3, 4)),
            "b": SeedModelGroup(tuple(pruned(seed) for seed in second), seed_values=(3, 4, 5)[: len(second)]),
        }

    def scores(self, groups, pairs) -> list[float]:
        a, b = (group.models for group in groups.values())
        return [naive("cosine", dense(a[i], "encoder-weight"), dense(b[j], "encoder-weight")) for i, j in pairs]

    def test_matched_seeds_are_those_with_the_same_number(self) -> None:
        groups = self.groups()
        found = compute_similarity_matrix(groups, dispersion="std")
        expected = self.scores(groups, [(0, 2), (1, 0), (2, 1)])
        cell = found["cell_stats"][0][1]
        np.testing.assert_allclose(cell["scores"], expected, rtol=1e-6)
        assert cell == {
            "aggregate": found["matrix"][0][1], "n": 3, "min": min(cell["scores"]), "max": max(cell["scores"]),
            "scores": cell["scores"], "std": pytest.approx(np.std(expected), rel=1e-5),
        }  # fmt: skip
        assert found["matrix"][0][1] == pytest.approx(np.mean(expected))
        assert found["interval"][0][1] == [min(cell["scores"]), max(cell["scores"])]
        assert (found["multi_seed"], found["seed_aggregate"], found["global_n"]) == (True, "mean", 3)
        assert found["seed_selection"] == "all_convergent"

    def test_all_pairs_need_no_equal_numbers_and_every_aggregate_is_taken(self) -> None:
        groups = self.groups((7, 8))
        expected = self.scores(groups, itertools.product(range(3), range(2)))
        for name, function in {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}.items():
            found = compute_similarity_matrix(groups, seed_aggregate=name, seed_pairing_mode="all_pairs")
            assert found["matrix"][0][1] == pytest.approx(function(expected), rel=1e-6)
        assert found["global_n_range"] == [1, 6]
        assert found["interval"][1][1] is None
        with pytest.raises(ValueError, match=r"matched.*'a' has 3, 'b' has 2.*all_pairs"):
            compute_similarity_matrix(groups)

    def test_the_diagonal_shows_stability_and_never_a_seed_with_itself(self) -> None:
        groups = self.groups()
        for mode in ("matched", "all_pairs"):
            found = compute_similarity_matrix(groups, seed_pairing_mode=mode)
            a = [dense(model, "encoder-weight") for model in groups["a"]]
            expected = [naive("cosine", one, other) for one, other in itertools.combinations(a, 2)]
            np.testing.assert_allclose(found["cell_stats"][0][0]["scores"], expected, rtol=1e-6)
            assert found["diagonal"] == "pairs of different seeds"

    def test_one_group_alone_is_a_matrix_over_its_seeds(self) -> None:
        group = self.groups()["a"]
        found = compute_similarity_matrix(group)
        assert found["model_ids"] == ["seed 5", "seed 3", "seed 4"]
        assert found["matrix"] == compute_similarity_matrix(list(group))["matrix"]
        assert found["diagonal"] == "each model with itself"
        assert found["interval"] == [[None] * 3] * 3
        assert "one score" in found["interval_note"]
        assert "multi_seed" not in found
        twice = compute_similarity_matrix(SeedModelGroup(group.models, seed_values=(5, 5, 4)))
        assert twice["model_ids"] == ["seed 5", "seed 5, model 2", "seed 4"]
        nameless = compute_similarity_matrix(SeedModelGroup(group.models))
        assert nameless["model_ids"] == ["model 1", "model 2", "model 3"]

    def test_a_single_model_beside_a_group(self) -> None:
        groups = self.groups()
        found = compute_similarity_matrix({"a": groups["a"], "one": pruned(7)}, seed_pairing_mode="all_pairs")
        assert found["cell_stats"][0][1]["n"] == 3
        assert found["matrix"][1][1] == 1

    def test_minmax_and_range(self) -> None:
        cell = compute_similarity_matrix(self.groups(), dispersion="minmax")["cell_stats"][0][1]
        assert cell["minmax"] == [cell["min"], cell["max"]]
        cell = compute_similarity_matrix(self.groups(), dispersion="range")["cell_stats"][0][1]
        assert cell["range_half_width"] == (cell["max"] - cell["min"]) / 2
        with pytest.raises(ValueError, match="minmax"):
            compute_similarity_matrix(self.groups(), dispersion="range", seed_aggregate="max")


def test_shared_initial_weights_are_told_from_what_was_learned(tmp_path) -> None:
    path = tiny_data.save_bert(tmp_path / "base")

    def model(name: str, **arguments):
        words = {"SG": ("it",), "PL": ("they",)} if name == "other" else tiny_data.WORDS
        arguments = {"experiment_dir": str(tmp_path / name), "learning_rate": 1e-4, **arguments}
        trained = tiny_data.trainer(path, arguments, tiny_data.rows(words)).train()
        return trained.load_model(trained.model_path)

    given = {
        "one": model("one", seed=3), "other": model("other", seed=3), "elsewhere": model("elsewhere", seed=4),
        "pruned": model("pruned", seed=3, post_prune_config={"topk": 0.5}),
    }  # fmt: skip
    state = torch.random.get_rng_state()
    for measure in OF_VECTORS:
        found = compute_similarity_matrix(given, measure=measure)
        level = found["same_seed_null"]
        # After four small steps, two features with one seed are nearly equal, and their initial weights say why.
        assert found["matrix"][0][1] == pytest.approx(level[0][1], abs=0.02)
        assert abs(level[0][1]) > 0.9
        assert abs(found["initial_weights_left"]["one"]) > 0.95
        assert level[0][0] is level[0][2] is level[2][1] is level[0][3] is None
        assert abs(found["matrix"][0][2]) < 0.1
    assert torch.equal(torch.random.get_rng_state(), state)
    grouped = compute_grouped_similarity_matrices(given, group_by="layer")
    assert all(payload["same_seed_null"][0][1] > 0.8 for payload in grouped.values())
    assert "same_seed_null" not in compute_similarity_matrix({"one": given["one"], "elsewhere": given["elsewhere"]})
    groups = {"one": ("one", "elsewhere"), "other": ("other", "pruned")}
    pairs = {name: SeedModelGroup(tuple(given[model] for model in own)) for name, own in groups.items()}
    both = compute_similarity_matrix(pairs)
    assert both["same_seed_null"][0][1] == pytest.approx(compute_similarity_matrix(given)["same_seed_null"][0][1])


def test_a_payload_is_json_and_a_frame_and_a_model_with_gradiend_is_its_gradiend(tmp_path) -> None:
    specs = {"body.dense.weight": spec((4, 4), "all")}
    given = [model_with_gradiend(specs, seed=seed) for seed in (1, 2)]
    for measure in MEASURES:
        found = compute_similarity_matrix(given, measure=measure, topk=6)
        assert json.loads(json.dumps(found)) == found
        assert found == compute_similarity_matrix([one.gradiend for one in given], measure=measure, topk=6)
    frame = found.to_frame()
    assert list(frame.index) == list(frame.columns) == ["model 1", "model 2"]
    assert found["part"] == "encoder-weight"
    assert compute_similarity_matrix(given, measure="topk_overlap", topk=6)["part"] == "decoder-weight"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": 7}, TypeError, "dict"),
        ({"models": {"a": pruned(1)}}, ValueError, "at least two"),
        ({"models": SeedModelGroup((pruned(1),))}, ValueError, "at least two"),
        ({"models": {"a": pruned(1), "b": 7}}, TypeError, "'b' is a int"),
        ({"models": {"a": pruned(1), "b": pruned(1, 2)}}, ValueError, r"equally many latents.*'b': 2"),
        ({"models": [pruned(1), network({"else": spec((2,), "all")})]}, ValueError, "no parameter in common"),
        (
            {"models": [pruned(1), network({"embeddings.w": spec((4, 5), "all")})]},
            ValueError,
            r"shape \(4, 5\) for 'model 2' and \(5, 4\) for 'model 1'",
        ),
        ({"measure": "cosin"}, ValueError, "Did you mean 'cosine'"),
        ({"metric": "cosine"}, TypeError, "unknown argument 'metric'"),
        ({"measure": "topk_overlap"}, ValueError, "needs topk"),
        ({"measure": "mass_overlap", "topk": 0}, ValueError, "positive"),
        ({"topk": 1.5}, ValueError, "proportion"),
        ({"topk": "many"}, TypeError, "topk must be"),
        ({"part": "decoder"}, ValueError, "part must be one of"),
        ({"value": "frac"}, ValueError, "value must be one of"),
        ({"seed_aggregate": "sum"}, ValueError, "seed_aggregate must be one of"),
        ({"dispersion": "sem"}, ValueError, "dispersion must be one of"),
        ({"seed_pairing_mode": "all"}, ValueError, "seed_pairing_mode must be one of"),
    ],
)
def test_bad_input(change: dict, error: type[Exception], message: str) -> None:
    options = {"models": [pruned(1), pruned(2)], **change}
    with pytest.raises(error, match=message):
        compute_similarity_matrix(options.pop("models"), **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"measure": "topk_overlap"}, ValueError, "no groups"),
        ({"group_by": "layers"}, ValueError, "Did you mean 'layer'"),
        ({"group_by": 7}, TypeError, "a dict or a function"),
        ({"group_by": lambda name: None}, TypeError, "must give the name of a group"),
        ({"group_by": {"x": ["layer.0.bb"]}}, ValueError, "Did you mean 'layer.0.b'"),
        ({"group_by": {"x": ["layer.0.b"], "y": ["layer.0.b"]}}, ValueError, "in two groups"),
        ({"groupby": "layer"}, TypeError, "Did you mean 'group_by'"),
    ],
)
def test_bad_groups(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        compute_grouped_similarity_matrices([pruned(1), pruned(2)], **change)


def test_undefined_weights_are_an_error() -> None:
    broken = pruned(1)
    with torch.no_grad():
        broken.encoder_linear.weight[0, 3] = math.nan
    with pytest.raises(ValueError, match=r"'b'.*undefined"):
        compute_similarity_matrix({"a": pruned(2), "b": broken})
