"""Gradients as a dataset: the generic class, its cache on disk, and the trainer's."""

import logging
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import tiny
import tiny_data
import torch
from torch.utils.data import DataLoader

from gradiend import GradientTrainingDataset, TextGradientTrainingDataset, TrainingArguments
from gradiend.model.core.backbone import build_gradiend_from_base_model
from gradiend.trainer import train_core
from gradiend.trainer.text import TextBatchedDatasetBase, TextPredictionModelWithGradiend
from gradiend.trainer.text.prediction.dataset import TextGradientBatches


class Items:
    """Four items, two a batch unless told otherwise."""

    def __init__(self, batch_size=2):
        if batch_size is not None:
            self.batch_size = batch_size

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {
            "factual": {"x": torch.full((index + 1,), float(index))},
            "alternative": {"x": torch.zeros(index + 1)},
            "label": [1, -1][index // 2],
            "input_text": f"text {index}",
            "metadata": {"number": index},
        }


class Creator:
    """Sums, and how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        return torch.stack([inputs["x"].sum(), torch.tensor(float(inputs["x"].numel()))])


class TestGeneric:
    def test_items(self):
        data = GradientTrainingDataset(Items(), Creator())
        assert len(data) == 2
        item = data[1]
        # Items 2 and 3, padded to four entries each: 2·3 + 3·4 against zeros.
        assert item["source"].tolist() == [18.0, 8.0]
        assert item["target"].tolist() == [18.0, 0.0]
        assert item["label"] == [-1, -1]
        assert "metadata" not in item
        assert len(list(data)) == 2
        with pytest.raises(IndexError):
            data[2]

    @pytest.mark.parametrize("batch_size", [None, 1])
    def test_a_single_item_comes_as_it_is(self, batch_size):
        items, seen = Items(batch_size), []

        def creator(given):
            seen.append(given)
            return given["x"]

        data = GradientTrainingDataset(items, creator, target=None, return_metadata=True)
        assert len(data) == 4
        assert data[3]["source"].tolist() == [3.0] * 4
        assert (data[3]["label"], data[3]["metadata"], data[3]["input_text"]) == (-1, {"number": 3}, "text 3")
        assert isinstance(seen[0], dict)
        assert seen[0]["x"].shape == (4,)

    @pytest.mark.parametrize("kind", [torch.tensor, str])
    @pytest.mark.parametrize("batch_size", [None, 1, 2])
    def test_inputs_that_are_no_dicts(self, kind, batch_size):
        class Plain(Items):
            def __getitem__(self, index):
                return {"factual": kind([float(index)] * (index + 1)), "alternative": kind([0.0])}

        seen = []
        data = GradientTrainingDataset(
            Plain(batch_size),
            lambda given: seen.append(given) or torch.zeros(2),
            target=None,
            get_padding_value=lambda name: 7.0 if name == "factual" else 0.0,
        )
        data[1]
        if batch_size != 2:
            assert type(seen[0]) is type(kind([1.0]))
        elif kind is str:
            assert seen == [["[2.0, 2.0, 2.0]", "[3.0, 3.0, 3.0, 3.0]"]]
        else:
            assert seen[0].tolist() == [[2.0, 2.0, 2.0, 7.0], [3.0] * 4]

    @pytest.mark.parametrize(
        ("source", "target", "calls"), [("factual", None, 1), (None, "alternative", 1), ("diff", "diff", 2)]
    )
    def test_a_side_that_is_not_needed_costs_nothing(self, source, target, calls):
        creator = Creator()
        item = GradientTrainingDataset(Items(), creator, source=source, target=target)[0]
        assert creator.calls == calls
        assert [item["source"] is None, item["target"] is None] == [source is None, target is None]

    def test_dtype_device_and_padding(self):
        data = GradientTrainingDataset(Items(), Creator(), dtype=torch.float16, get_padding_value=lambda name: 10)
        assert data[0]["source"].dtype == torch.float16
        assert data[0]["source"].tolist() == [12.0, 4.0]
        assert data.device.type == "cpu" or torch.cuda.is_available()

    def test_a_dataloader_takes_it(self):
        batches = list(DataLoader(GradientTrainingDataset(Items(), Creator()), batch_size=1))
        assert batches[1]["source"].tolist() == [[18.0, 8.0]]

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(AssertionError, match="source"):
            GradientTrainingDataset(Items(), Creator(), source="fact")
        with pytest.raises(ValueError, match="cache_key_fields"):
            GradientTrainingDataset(Items(), Creator(), cache_dir=tmp_path)
        with pytest.raises(TypeError, match="flat gradient"):
            GradientTrainingDataset(Items(), lambda inputs: torch.zeros(2, 2))[0]


class TestCache:
    def test_the_second_time_nothing_is_computed(self, tmp_path):
        creator = Creator()
        data = GradientTrainingDataset(Items(), creator, cache_dir=tmp_path, cache_key_fields=["input_text"])
        first = data[0]
        calls = creator.calls
        second = GradientTrainingDataset(Items(), creator, cache_dir=tmp_path, cache_key_fields=["input_text"])[0]
        assert creator.calls == calls == 2
        assert torch.equal(first["source"], second["source"])
        assert torch.equal(first["target"], second["target"])
        assert len(list(tmp_path.glob("*.safetensors"))) == 2

    def test_a_missing_key_field_is_named_when_it_is_needed(self, tmp_path):
        data = GradientTrainingDataset(Items(), Creator(), cache_dir=tmp_path, cache_key_fields=["nothing"])
        with pytest.raises(KeyError, match="nothing"):
            data[0]

    def test_no_fields_where_nothing_is_cached(self, tmp_path):
        off = GradientTrainingDataset(Items(), Creator(), cache_dir=tmp_path, use_cached_gradients=False)
        assert off.cache_key_fields == []
        off[0]
        assert not list(tmp_path.iterdir())

    def test_other_inputs_under_the_same_key_are_not_mixed_up(self, tmp_path):
        """The documented keys of texts, input_text and label, do not say which word is asked for."""

        class Other(Items):
            def __getitem__(self, index):
                return {**super().__getitem__(index), "factual": {"x": torch.ones(5)}}

        fields = {"cache_dir": tmp_path, "cache_key_fields": ["input_text"]}
        GradientTrainingDataset(Items(), Creator(), **fields)[0]
        assert GradientTrainingDataset(Other(), Creator(), **fields)[0]["source"].tolist() == [10.0, 10.0]


def new_model(seed=0, **kwargs):
    base = tiny.bert(seed=seed)
    gradiend = build_gradiend_from_base_model(base, "tiny", param_map=kwargs.pop("param_map", ["*layer.1*"]))
    return TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer(), source="alternative", **kwargs)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return tiny_data.trainer(tiny_data.save_bert(tmp_path_factory.mktemp("bert")))


class TestText:
    def test_the_generic_class_and_the_engine_give_the_same_gradients(self, trainer):
        model = new_model()
        data = trainer.create_training_data(model)
        slow = TextGradientTrainingDataset(data, model.tokenizer, model, source="alternative", target="diff")
        fast = TextGradientBatches(data, model, source="alternative", target="diff")
        assert len(slow) == 12
        in_order = {tuple(batch): number for number, batch in enumerate(map(tuple, data._flat))}
        for group, batches in enumerate(data.batches):
            for number, rows in enumerate(batches):
                item = slow[in_order[tuple(rows)]]
                expected = fast._gradients((group, number), [torch.empty(len(model.gradiend)) for _ in range(2)])
                assert tiny.distance(item["source"], expected[0]) < 1e-5
                assert tiny.distance(item["target"], expected[1]) < 1e-4
                assert set(item["label"]) == {data.data.iloc[rows[0]]["label"]}

    def test_training_takes_a_dataset_or_its_dataloader(self, trainer, tmp_path):
        found = []
        for name in ("dataset", "loader"):
            torch.manual_seed(0)
            model = new_model()
            data = TextGradientTrainingDataset(trainer.create_training_data(model), model.tokenizer, model)
            given = data if name == "dataset" else DataLoader(data, batch_size=1)
            path = train_core(model, given, TrainingArguments(max_steps=3), output_dir=str(tmp_path / name))
            assert Path(path).is_dir()
            found.append(model.gradiend.encoder_linear.weight.detach().clone())
        assert torch.equal(*found)

    def test_no_data_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="no training batch"):
            train_core(new_model(), [], output_dir=str(tmp_path))
        with pytest.raises(ValueError, match="length"):
            train_core(new_model(), iter([]), output_dir=str(tmp_path))

    def test_caches_of_texts(self, trainer, tmp_path):
        model = new_model()
        data = trainer.create_training_data(model)
        cached = TextGradientTrainingDataset(data, model.tokenizer, model, cache_dir=tmp_path)
        assert cached.cache_key_fields == ["input_text", "label"]
        assert TextGradientTrainingDataset(data, model.tokenizer, model).cache_key_fields == []
        first = cached[0]["source"]
        model.base_model.requires_grad_(False)
        assert torch.equal(cached[0]["source"], first)


class TestTrainerCache:
    """use_cached_gradients: what depends on a gradient decides whether it is read."""

    def gradients(self, trainer, model, directory, **sides):
        data = trainer.create_training_data(model)
        batches = trainer.create_gradient_training_dataset(data, model, cache_dir=str(directory), **sides)
        return [(batch["source"], batch["target"]) for batch in batches]

    def counted(self, directory):
        return len(list(directory.glob("*.safetensors")))

    def test_what_is_read_is_what_was_computed(self, trainer, tmp_path, monkeypatch):
        model = new_model()
        first = self.gradients(trainer, model, tmp_path)
        assert self.counted(tmp_path) == 24
        with monkeypatch.context() as patched:
            patched.setattr(type(model.engine), "gradients", lambda *args, **kwargs: pytest.fail("computed again"))
            second = self.gradients(trainer, model, tmp_path)
        plain = [
            (batch["source"], batch["target"])
            for batch in trainer.create_gradient_training_dataset(trainer.create_training_data(model), model)
        ]
        for one, two, three in zip(first, second, plain, strict=True):
            assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(one, two, three, strict=True))

    @pytest.mark.parametrize("change", ["weights", "data pointer", "map", "words", "source", "config"])
    def test_whatever_changes_is_computed_again(self, trainer, tmp_path, change):
        model = new_model()
        self.gradients(trainer, model, tmp_path)
        sides, other = {}, trainer
        if change == "weights":
            with torch.no_grad():
                model.base_model.bert.embeddings.word_embeddings.weight[3] += 1e-3
        elif change == "data pointer":
            model.base_model.bert.embeddings.word_embeddings.weight.data[3] += 1e-3
        elif change == "map":
            model = new_model(param_map=["*layer.0*"])
        elif change == "words":
            other = tiny_data.trainer(trainer.base_model_path, data=tiny_data.rows({"SG": ("it",), "PL": ("they",)}))
        elif change == "source":
            sides = {"source": "factual", "target": "factual"}
        else:
            model.base_model.bert.encoder.layer[0].attention.self.scaling *= 2
            model.base_model.config.layer_norm_eps = 1e-3
        found = self.gradients(other, model, tmp_path, **sides)
        data = other.create_training_data(model)
        plain = other.create_gradient_training_dataset(data, model, **sides)
        for (source, target), batch in zip(found, plain, strict=True):
            assert torch.equal(source, batch["source"])
            assert torch.equal(target, batch["target"])

    def test_every_epoch_looks_at_the_weights_again(self, trainer, tmp_path):
        model = new_model()
        data = trainer.create_training_data(model)
        batches = trainer.create_gradient_training_dataset(data, model, cache_dir=str(tmp_path))
        first = next(iter(batches))["source"]
        # PyTorch does not count changes made through .data.
        model.base_model.bert.embeddings.word_embeddings.weight.data[3] += 1e-1
        expected = next(iter(trainer.create_gradient_training_dataset(data, model)))["source"]
        assert not torch.equal(first, expected)
        assert torch.equal(next(iter(batches))["source"], expected)

    def test_a_training_uses_it_for_all_seeds(self, trainer, tmp_path):
        fields = {"experiment_dir": str(tmp_path), "max_seeds": 2, "min_convergent_seeds": None, "seed": 3}
        weights = []
        for cached in (False, True):
            run = tiny_data.trainer(trainer.base_model_path, {**fields, "use_cached_gradients": cached}).train()
            weights.append(torch.cat([p.detach().reshape(-1) for p in run.get_model().parameters()]))
            assert (tmp_path / "cache" / "gradients").is_dir() == cached
        assert torch.equal(*weights)

    def test_without_an_experiment_no_file_stays(self, trainer, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        (tmp_path / "temporary").mkdir()
        caplog.set_level(logging.INFO, "gradiend")
        fields = {"output_dir": str(tmp_path / "out"), "use_cached_gradients": True}
        tiny_data.trainer(trainer.base_model_path, fields).train()
        assert not list((tmp_path / "temporary").iterdir())
        assert "use_cached_gradients has no effect on this training" in caplog.text


class TestBatches:
    def frame(self):
        return pd.DataFrame({"text": [f"t{i}" for i in range(10)], "label": [0, 1] * 5, "group": ["x", "y"] * 5})

    @pytest.mark.parametrize("criterion", ["label", ["label", "group"], lambda row: row["group"]])
    def test_batches_never_mix(self, criterion):
        data = TextBatchedDatasetBase(self.frame(), None, 2, criterion)
        rows = [data[i] for i in range(len(data))]
        assert {row["text"] for row in rows} == set(self.frame()["text"])
        for one, two in zip(rows[::2], rows[1::2], strict=True):
            assert one["label"] == two["label"]

    def test_other_options(self):
        order = lambda data: [data[i]["text"] for i in range(len(data))]  # noqa: E731
        capped = [TextBatchedDatasetBase(self.frame(), None, 2, "label", max_size=9, seed=seed) for seed in (1, 1, 2)]
        assert [len(data) for data in capped] == [8, 8, 8]
        first, again, other = ({data[i]["text"] for i in range(8)} for data in capped)
        # Whatever order the rows come in, the first are not more than any others.
        assert first == again != other
        plain = TextBatchedDatasetBase(self.frame(), None, 5, "label", shuffle_batches=False, shuffle_within=False)
        assert order(plain) == [f"t{i}" for i in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)]
        turns = TextBatchedDatasetBase(self.frame(), None, 1, "label", balance_column="group")
        assert [turns[i]["label"] for i in range(10)] == [0, 1] * 5
        shuffled = TextBatchedDatasetBase(self.frame(), None, 2, "label", seed=1)
        before = order(shuffled)
        shuffled.reshuffle()
        assert order(shuffled) != before
        assert order(TextBatchedDatasetBase(self.frame(), None, 2, "label", seed=1)) == before

    def test_bad_arguments(self):
        with pytest.raises(KeyError, match="nope"):
            TextBatchedDatasetBase(self.frame(), None, 2, "nope")
        with pytest.raises(ValueError, match="batch_size=6"):
            TextBatchedDatasetBase(self.frame(), None, 6, "label")
        with pytest.raises(ValueError, match=r"max_size=7 for 2 classes.*batch_size=4.*at least 8"):
            TextBatchedDatasetBase(self.frame(), None, 4, "label", max_size=7)
