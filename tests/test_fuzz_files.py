"""Arbitrary contents for every reader, arbitrary maps, architectures and arguments: what is taken comes back, what is
not is refused by the documented error, which names the file, row or argument."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import model_cases
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from model_cases import bits, same_bits

from gradiend import TrainingArguments, read_delta
from gradiend.data.unified import resolve_dataframe
from gradiend.evaluator import get_model_metrics, read_decoder_stats_file
from gradiend.experiment import describe, read_experiment, read_record
from gradiend.model import Delta, GradiendModel, ParamMappedGradiendModel, export_delta, read_rewrite_record
from gradiend.model._activations import ACTIVATIONS
from gradiend.model.utils import read_gradiend_context, write_gradiend_context
from gradiend.objectives.causal_with_head import MLMHead
from gradiend.trainer.core.stats import load_training_stats, write_training_stats
from gradiend.util._cache import Cache
from gradiend.util._files import read_checked_json, write_checked_json

FEW = settings(
    deadline=None,
    phases=[Phase.generate],
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


# Readers of JSON


@FEW
@given(st.dictionaries(st.text(max_size=8), values, max_size=5))
def test_what_is_written_comes_back_and_nothing_more(content):
    assume(not {"checksum", "format_version"} & content.keys())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        write_checked_json(path, content)
        assert repr(read_checked_json(path)) == repr(content)
        cache = Cache(path, {"of": 1})
        cache.write({**content, "fingerprint": None})
        found, why = cache.read()
        assert (repr({key: value for key, value in content.items() if key != "fingerprint"}), why) == (repr(found), [])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One file of each kind, as an older version wrote it: no checksum keeps a wrong content from the reader."""
    folder = tmp_path_factory.mktemp("files")
    model_cases.network(model_cases.KINDS["mixed"]).save_pretrained(str(folder / "model"))
    write_gradiend_context(folder / "model", "factual", "diff", {"a": 1, "b": -1})
    stats = {"global_step": 2, "correlation": 0.5, "mean_by_class": {2: {"1": 0.5}}, "training_time": 1.0}
    outcome = {"converged": True, "convergence_metric": "correlation", "convergence_metric_value": 0.5}
    write_training_stats(
        folder / "model", stats, {"global_step": 2}, TrainingArguments(seed=1), {"train": 1.0}, [0.5, 0.25], outcome
    )
    MLMHead("base", ("he", "she"), "[M]", 3, torch.ones(2, 4), torch.ones(2)).save(folder / "head")
    tiny.without_checksums(folder / "model")
    tiny.without_checksums(folder / "head")
    rewrite = {
        "format_version": 1, "base_model": "x", "base_model_fingerprint": "f", "gradiend_fingerprint": "g",
        "param_map_hash": "h", "learning_rate": 0.1, "feature_factor": 1.0, "part": "decoder", "share_changed": 0.5,
        "choice": {"target_class": "a", "direction": "strengthen", "value": 0.5},
    }  # fmt: skip
    (folder / "rewritten").mkdir()
    entry = {"id": {"feature_factor": 1.0, "learning_rate": 0.1}, "lms": {"lms": 0.5}}
    written = {
        "rewritten/gradiend_rewrite.json": rewrite,
        "decoder.json": {"a": {"value": 0.5, "learning_rate": 0.1}, "grid": [{"id": "base", "lms": {}}, entry]},
        "run.json": {
            "format": 1, "experiment": {"model": "m", "experiment_dir": "x"}, "phases": {"train": {"seconds": 1.0}},
            "metrics": {
                "correlation": {"value": 0.5}, "mean_by_class": {"a": 1.0},
                "goals": {"a": {"learning_rate": 0.1, "base": 0.5, "value": 0.6, "reason": "x"}},
            },
        },
        "encoded.json": {
            "result": "x", "encodings": {"types": {"encoded": "float64"}, "format": 3}, "mean_by_class": {"1.0": 0.5}
        },
    }  # fmt: skip
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    rows = {"encoded": [0.5, -0.5, 0.25], "label": [1.0, -1.0, 1.0], "source_id": ["a", "b", "a"],
            "target_id": ["b", "a", "b"], "type": ["training"] * 3}  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "encoded.csv", index=False)
    return folder


READERS = {
    "model/config.json": [lambda f: GradiendModel.from_pretrained(str(f / "model")), lambda f: describe(f / "model"),
                          lambda f: ParamMappedGradiendModel.from_pretrained(str(f / "model"))],
    "model/gradiend_context.json": [lambda f: read_gradiend_context(f / "model"), lambda f: describe(f / "model")],
    "model/training.json": [lambda f: load_training_stats(f / "model"), lambda f: describe(f / "model")],
    "head/config.json": [lambda f: MLMHead.load(f / "head")],
    "rewritten/gradiend_rewrite.json": [lambda f: read_rewrite_record(f / "rewritten"),
                                        lambda f: describe(f / "rewritten")],
    "decoder.json": [lambda f: read_decoder_stats_file(f / "decoder.json")],
    "run.json": [lambda f: read_record(f / "run.json"), lambda f: describe(f / "run.json"),
                 lambda f: read_experiment(f / "run.json")],
    "encoded.json": [lambda f: get_model_metrics(str(f / "encoded.csv"))],
}  # fmt: skip
"""File → the public calls that read it."""


def mutated(data, content):
    """The content with another value, or without a value, at one place, drawn level by level."""
    if data.draw(st.integers(0, 3)) and isinstance(content, (dict, list)) and content:
        key = data.draw(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
        result = content.copy()
        if isinstance(content, dict) and data.draw(st.integers(0, 5)) == 0:
            del result[key]
        else:
            result[key] = mutated(data, content[key])
        return result
    return data.draw(values)


@pytest.mark.parametrize("name", READERS)
@FEW
@given(st.data())
def test_readers_take_a_file_or_name_it(files, name, data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "files"
        shutil.copytree(files, folder)
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(mutated(data, content)), encoding="utf-8")
        for read in READERS[name]:
            try:
                read(folder)
            except (ValueError, FileNotFoundError) as error:
                # A checkpoint's error may be about the file that no longer fits.
                assert str(folder) in str(error)  # noqa: PT017 - the other outcome is a fine one too


@FEW
@given(st.data())
def test_a_delta_with_another_header_is_named(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("delta")
    base, changed = model_cases.TinyBase(), model_cases.TinyBase()
    changed.load_state_dict({name: tensor + 1 for name, tensor in base.state_dict().items()})
    path = Path(export_delta(base, changed, folder / "d.safetensors"))
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    from gradiend.util._tensor_files import read_header  # noqa: PLC0415

    content = mutated(data, json.loads(read_header(path)["gradiend_delta"]))
    save_file(load_file(path), path, metadata={"gradiend_delta": json.dumps(content)})
    try:
        assert isinstance(read_delta(path), Delta)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - the other outcome is a fine one too


# Tables of users

cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@FEW
@given(
    st.lists(st.fixed_dictionaries({"masked": cells, "label": cells}), min_size=1, max_size=5),
    st.sampled_from(["csv", "tsv", "jsonl"]),
)
def test_texts_of_a_table_come_back_or_the_place_is_named(rows, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table.{suffix}"
        frame = pd.DataFrame(rows)
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        else:
            frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",", encoding="utf-8")
        try:
            found = resolve_dataframe(path)
        except ValueError as error:
            assert "line" in str(error)  # noqa: PT017 - the other outcome is a fine one too
            assert path.name in str(error)  # noqa: PT017
        else:
            assert found.fillna("").to_dict("records") == rows


# Maps


@FEW
@given(model_cases.specs(), st.data())
def test_the_algebra_of_maps(specs, data):
    mapping = model_cases.network(specs).mapping
    ends = [(place.start, place.stop) for _, place in mapping.slices()]
    assert [start for start, _ in ends] == [0, *(stop for _, stop in ends[:-1])]
    assert ends[-1][1] == mapping.size
    for entry in mapping:
        numbers = torch.arange(entry.num_selected, dtype=torch.float32)
        tensor = torch.full(entry.shape, -1.0)
        entry.put(tensor, numbers)
        assert torch.equal(entry.gather(tensor), numbers)
        assert int((tensor == -1).sum()) == entry.numel - entry.num_selected
        assert torch.equal(entry.compact().gather(tensor), numbers)
    first = torch.tensor(data.draw(st.lists(st.booleans(), min_size=mapping.size, max_size=mapping.size)))
    second = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=int(first.sum()), max_size=int(first.sum()))), dtype=torch.bool
    )
    both = first.clone()
    both[first] = second
    assert mapping.narrow(first).narrow(second).hash == mapping.narrow(both).hash


# Checkpoints


@FEW
@given(
    st.integers(1, 9), st.integers(1, 3), st.sampled_from(sorted(ACTIVATIONS)), st.sampled_from(sorted(ACTIVATIONS)),
    st.booleans(), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), st.booleans(),
    st.dictionaries(st.text(st.characters(categories=["Ll"]), min_size=3, max_size=6), leaves, max_size=3),
)  # fmt: skip
def test_every_network_comes_back(width, latents, encoder, decoder, bias, dtype, binary, metadata):
    shape = {"activation_encoder": encoder, "activation_decoder": decoder, "bias_decoder": bias, "torch_dtype": dtype}
    model = GradiendModel(width, latents, **shape)
    # Python itself takes no second self.
    assume(not {"self", "training", *shape} & metadata.keys())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, use_safetensors=not binary, **metadata)
        again = GradiendModel.from_pretrained(folder)
        assert same_bits(bits(again), bits(model))
        assert again._architecture() == model._architecture()
        assert repr(again.kwargs) == repr(metadata)


# Arguments

SAID = {
    "activation_encoder": "activation", "activation_decoder": "activation", "lr_search_config": "SearchConfig",
    "pre_prune_config": "PruneConfig", "post_prune_config": "PruneConfig", "supervised_decoder": "convergent_metric",
}  # fmt: skip
"""Arguments that errors call by another name: their kind, or the argument that has to go with them."""
NAMES = [field.name for field in dataclasses.fields(TrainingArguments)]
arguments = values | st.sampled_from(
    ["auto", "tanh", "factual", "diff", "adamw", "loss", 0.5, -1, [], "float32", 10**30]
)


@settings(FEW, max_examples=300)
@given(st.sampled_from(NAMES), arguments)
def test_an_argument_is_taken_or_refused_by_name(name, value):
    try:
        taken = TrainingArguments(**{name: value})
    except (TypeError, ValueError) as error:
        assert any(said in str(error) for said in (name, SAID.get(name, name)))  # noqa: PT017 - or it is taken
        return
    saved = json.loads(json.dumps(taken.to_dict()))
    again = TrainingArguments.from_dict(saved)
    assert repr(again.to_dict()) == repr(taken.to_dict())
