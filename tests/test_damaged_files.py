"""Files that are cut, changed in one bit, swapped or foreign.

They give the same result or an error that names the file, or the work is done again; they never give another result.
"""

import json
import logging
import random
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from test_caching import ARGUMENTS, LRS, NEUTRAL, base, rows  # noqa: F401 - `base` is a fixture

from gradiend import ModelWithGradiend, PrePruneConfig, TextPredictionTrainer, TrainingArguments, read_delta
from gradiend.evaluator import get_model_metrics, read_decoder_stats_file
from gradiend.experiment import describe, read_experiment, read_record
from gradiend.experiment._record import RunRecord
from gradiend.model import GradiendModel, apply_delta, read_rewrite_record
from gradiend.model.utils import write_gradiend_context
from gradiend.objectives.loading import AutoModelForLM, AutoTokenizerForLM
from gradiend.trainer import load_training_stats
from gradiend.util._digest import base_model_digest, model_parts, tokenizer_digest
from gradiend.util._tensor_files import read_tensors, write_tensors

CSV = "encoded_values_split_test.csv"


def trainer_in(folder, model):
    """A trainer on the experiment in a folder, with every cache."""
    args = TrainingArguments(
        experiment_dir=str(folder), use_cache=True, use_cached_gradients=True,
        pre_prune_config=PrePruneConfig(topk=0.5, n_samples=4),
        **{**ARGUMENTS, "max_seeds": 2, "min_convergent_seeds": None, "seed": 0},
    )  # fmt: skip
    return TextPredictionTrainer(
        model, data=rows(), target_classes=["one", "many"], args=args, eval_neutral_data=NEUTRAL
    )


def all_steps(folder, model):
    """What training and evaluations give, read from the folder where it is there."""
    trainer = trainer_in(folder, model)
    trainer.train()
    encoder = trainer.evaluate_encoder()
    decoder = trainer.evaluate_decoder(lrs=LRS)
    shown = {**trainer.get_seed_report(), "runs": [run["selection_score"] for run in trainer.get_seed_report()["runs"]]}
    stats = trainer.get_training_stats()
    return repr([model_parts(trainer.get_model()), encoder, decoder, shown, stats["losses"], stats["training_stats"]])


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):  # noqa: F811
    """An experiment with everything that this package writes, and what its steps gave."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    found = all_steps(folder, base)
    trainer = trainer_in(folder, base)
    trainer.train()
    trainer.rewrite_base_model(strengthen="one", output_dir=str(folder / "rewritten"))
    trainer.export_delta(strengthen="one", path=str(folder / "delta.safetensors"))
    trainer.get_model().save_pretrained(str(folder / "binary"), use_safetensors=False)
    in_memory = ModelWithGradiend.from_pretrained(tiny.bert(seed=3), tokenizer=tiny.bert_tokenizer())
    in_memory.save_pretrained(str(folder / "in_memory"))
    record = RunRecord(read_experiment(None, {"model": base, "experiment_dir": str(folder), "data.data": "rows.csv"}))
    record.content["metrics"] = {"correlation": {"value": 0.25}, "mean_by_class": {"one": 1.0}}
    record.finish()
    return folder, found


def of_checkpoint(path):
    model = ModelWithGradiend.from_pretrained(str(path))
    return describe(path), model_parts(model), model.gradiend.kwargs, load_training_stats(path)


def of_rewritten(path):
    model, tokenizer = AutoModelForLM.from_pretrained(str(path)), AutoTokenizerForLM.from_pretrained(str(path))
    return describe(path), read_rewrite_record(path), base_model_digest(model), tokenizer_digest(tokenizer)


def of_delta(path):
    delta = read_delta(path)
    return describe(path), delta.fingerprint, delta.rewrite, delta.base_model


def of_run(path):
    return describe(path), read_record(path), read_experiment(path)


READERS = {
    "model": lambda folder, _: of_checkpoint(folder / "model"),
    "in_memory": lambda folder, _: of_checkpoint(folder / "in_memory"),
    "binary": lambda folder, _: of_checkpoint(folder / "binary"),
    "rewritten": lambda folder, _: of_rewritten(folder / "rewritten"),
    "delta.safetensors": lambda folder, _: of_delta(folder / "delta.safetensors"),
    "run.json": lambda folder, _: of_run(folder / "run.json"),
    CSV: lambda folder, _: get_model_metrics(str(folder / CSV)),
    CSV.replace(".csv", ".json"): lambda folder, _: get_model_metrics(str(folder / CSV)),
    "seeds": lambda folder, model: trainer_in(folder, model).get_seed_report(),
    "decoder_grid_cache.json": lambda folder, _: read_decoder_stats_file(folder / "decoder_grid_cache.json"),
}
"""The first part of a file's path → how what the file holds is read, besides by the steps of the experiment."""
CACHES = ("model", "encoded_values", "decoder", "cache")
"""The beginnings of the paths of files from which the steps of the experiment read what was done."""


def files_of(folder):
    """The files of an experiment, but for figures."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in paths if path.suffix not in {".png", ".pdf", ".html"}]


def cut(content, share):
    return content[: int(len(content) * share)]


def flipped(content, share):
    place = min(int(len(content) * share), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def damages(name, count):
    """(damage, where, as a share of the length): `count` cuts and flips in turn, other ones for each file."""
    drawn = random.Random(str(name))
    first = drawn.choice([0, 1])
    return [((cut, flipped)[(first + number) % 2], drawn.random()) for number in range(count)]


def outcome(read, folder, base):  # noqa: F811
    try:
        return repr(read(folder, base)), ""
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)


def show_that_readers_notice(whole, base, place, caplog, count):  # noqa: F811
    folder, _ = whole
    checked = 0
    for name in files_of(folder):
        read = READERS.get(name.parts[0])
        if read is None or name.name == "fingerprint.json":
            continue
        expected = outcome(read, folder, base)[0]
        assert expected is not None, name
        for damage, share in damages(name, count):
            copy = place / "copy"
            shutil.copytree(folder, copy)
            content = (folder / name).read_bytes()
            (copy / name).write_bytes(damage(content, share))
            caplog.clear()
            found, message = outcome(read, copy, base)
            where = f"{damage.__name__} {name} at {share}"
            if found is None:
                assert name.name in message, (where, message)
            elif found.replace(str(copy), str(folder)) != expected:
                assert f"{name.name} was damaged" in caplog.text, where
            shutil.rmtree(copy)
            checked += 1
    assert checked > 30 * count


def test_what_is_read_is_what_was_written(whole, base, tmp_path, caplog):  # noqa: F811
    show_that_readers_notice(whole, base, tmp_path, caplog, 1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_lengths_and_twenty_bits_of_each_file(whole, base, tmp_path, caplog):  # noqa: F811
    show_that_readers_notice(whole, base, tmp_path, caplog, 40)


@pytest.mark.parametrize("damage", [cut, flipped])
def test_damaged_caches_are_made_again(whole, base, tmp_path, damage, caplog):  # noqa: F811
    """All of them at once: the model is trained again from gradients, of which none can be read, and so on."""
    folder, expected = whole
    caplog.set_level(logging.INFO)
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    damaged = [name for name in files_of(folder) if name.as_posix().startswith(CACHES)]
    for name in damaged:
        (copy / name).write_bytes(damage((folder / name).read_bytes(), random.Random(str(name)).random()))
    assert all_steps(copy, base) == expected.replace(str(folder), str(copy))
    for beginning in CACHES:
        assert any(name.name in caplog.text for name in damaged if name.as_posix().startswith(beginning)), beginning


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_each_damaged_cache_is_made_again(whole, base, tmp_path):  # noqa: F811
    folder, expected = whole
    for name in files_of(folder):
        if not name.as_posix().startswith(CACHES):
            continue
        for damage, share in damages(name, 4):
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            (copy / name).write_bytes(damage((folder / name).read_bytes(), share))
            assert all_steps(copy, base) == expected.replace(str(folder), str(copy)), (damage.__name__, name, share)
            shutil.rmtree(copy)


# Swapped, newer, edited


@pytest.fixture
def copy(whole, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(whole[0], place)
    return place


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "gradiend_context.json", "base_model_digest.safetensors", "mapping_indices.safetensors"],
)
def test_a_file_of_another_checkpoint_is_refused(copy, name):
    model = ModelWithGradiend.from_pretrained(str(copy / "model"))
    model.invert_encoding()
    model.base_model.get_output_embeddings().bias.data += 1
    other = copy / "other"
    model.save_pretrained(str(other))
    if name == "mapping_indices.safetensors":
        swapped = {key: tensor.flip(0) for key, tensor in read_tensors(other / name).items()}
        write_tensors(other / name, swapped)
    (other / name).replace(copy / "model" / name)
    with pytest.raises(ValueError, match=rf"model.{name} is not the file that config\.json was written with"):
        ModelWithGradiend.from_pretrained(str(copy / "model"))
    if name == "gradiend_context.json":
        with pytest.raises(ValueError, match=name):
            describe(copy / "model")


def test_statistics_of_another_training_are_refused(copy):
    model = ModelWithGradiend.from_pretrained(str(copy / "model"))
    model.invert_encoding()
    model.save_pretrained(str(copy / "other"))
    (copy / "other" / "training.json").replace(copy / "model" / "training.json")
    for read in (load_training_stats, GradiendModel.from_pretrained, describe):
        with pytest.raises(ValueError, match=r"model.training\.json describes the training of other weights"):
            read(str(copy / "model"))
    (copy / "model" / "training.json").unlink()
    assert GradiendModel.from_pretrained(str(copy / "model")).is_built


def test_verify_false_reads_what_is_there(copy):
    """Huge files need not be read twice; then nobody notices a change of a weight."""
    path = copy / "model"
    whole = GradiendModel.from_pretrained(str(path)).state_dict()
    other = {name: tensor + 1 for name, tensor in whole.items()}
    write_tensors(path / "model.safetensors", other)
    for cls in (GradiendModel, ModelWithGradiend):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            cls.from_pretrained(str(path))
        model = cls.from_pretrained(str(path), verify=False)
        found = model.state_dict() if cls is GradiendModel else model.gradiend.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in other.items())
    content = bytearray((copy / "delta.safetensors").read_bytes())
    header = json.loads(content[8 : (start := 8 + int.from_bytes(content[:8], "little"))])
    content[start + next(entry["data_offsets"][0] for name, entry in header.items() if "/values" in name)] ^= 1
    (copy / "delta.safetensors").write_bytes(content)
    plain = ModelWithGradiend.from_pretrained(str(path), verify=False).base_model
    with pytest.raises(ValueError, match=r"delta\.safetensors was damaged"):
        apply_delta(plain, copy / "delta.safetensors")
    assert read_delta(copy / "delta.safetensors", verify=False).num_entries
    apply_delta(plain, copy / "delta.safetensors", verify=False).undo()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("model/config.json", '"metadata": {', '"metadata": {"mine": 1,'),
        ("model/training.json", '"losses": [', '"losses": [5.0,'),
        ("run.json", '"value": 0.25', '"value": 0.5'),
        ("rewritten/gradiend_rewrite.json", '"gradiend_version": "', '"gradiend_version": "1'),
    ],
)
def test_a_meant_edit_deletes_the_line_of_the_checksum(copy, name, old, new):
    path, read = copy / name, READERS[name.split("/")[0]]
    edited = path.read_text().replace(old, new)
    assert edited != path.read_text()
    path.write_text(edited)
    with pytest.raises(ValueError, match=rf'{path.name} was damaged, or edited.*delete the line "checksum"'):
        read(copy, None)
    path.write_text("\n".join(line for line in edited.splitlines() if '"checksum"' not in line))
    assert read(copy, None)


@pytest.mark.parametrize(
    "name", ["model/config.json", "model/training.json", "run.json", "rewritten/gradiend_rewrite.json"]
)
def test_a_newer_version_is_named(copy, name):
    path = copy / name
    content = {**json.loads(path.read_text()), "format_version": 7}
    del content["checksum"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{path.name}.*format_version.*7.*newer version"):
        READERS[name.split("/")[0]](copy, None)


@pytest.mark.parametrize(
    "content", [b"", b"[" * 100_000, b"\xff\xfe", b"[1]", b'{"a": 1'], ids=lambda text: repr(text[:6])
)
def test_files_of_another_kind_are_named(copy, content):
    names = (
        "model/config.json model/training.json model/gradiend_context.json binary/pytorch_model.bin run.json "
        "delta.safetensors decoder_grid_cache.json rewritten/gradiend_rewrite.json"
    )
    for name in names.split():
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(content)
        with pytest.raises(ValueError, match=Path(name).name):
            READERS[name.split("/")[0]](copy, None)
        (copy / name).write_bytes(before)


def test_the_context_can_be_written_again(copy):
    (copy / "model" / "gradiend_context.json").unlink()
    write_gradiend_context(copy / "model", "factual", "diff", {"one": 1, "many": -1})
    found = ModelWithGradiend.from_pretrained(str(copy / "model"))
    assert found.feature_class_encoding_direction == {"one": 1, "many": -1}


# Files of others

NOTES = (".DS_Store", "notes.txt", "Thumbs.db", "config.json~", ".model.json.swp", "plot.png", "README.md")


def test_files_of_others_spoil_no_cache_and_stay(copy, whole, base, caplog):  # noqa: F811
    caplog.set_level(logging.INFO)
    places = [copy / "model", Path(base), copy / "in_memory" / "base_model"]
    try:
        for place in places:
            for name in NOTES:
                (place / name).write_bytes(b"mine")
        assert all_steps(copy, base) == whole[1].replace(str(whole[0]), str(copy))
        assert "is used." in caplog.text
        again = trainer_in(copy, base)
        again.train(use_cache=False)
        in_memory = ModelWithGradiend.from_pretrained(str(copy / "in_memory"))
        in_memory.save_pretrained(str(copy / "in_memory"))
        assert [(place, name) for place in places for name in NOTES if not (place / name).is_file()] == []
    finally:
        for name in NOTES:
            (Path(base) / name).unlink(missing_ok=True)


def test_seeds_leave_the_files_of_others(copy, base):  # noqa: F811
    seed = copy / "seeds" / "seed_0"
    seed.mkdir(parents=True, exist_ok=True)
    (seed / "notes.txt").write_text("mine")
    trainer_in(copy, base).train(use_cache=False)
    assert sorted(path.name for path in seed.iterdir()) == ["notes.txt", "training.json"]
