"""Places of files, hashes, fingerprints, and the files of decoder results."""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gradiend import util
from gradiend.evaluator import read_decoder_stats_file
from gradiend.util import paths
from gradiend.util._bits import ROW, digest_tensors, digest_weights
from gradiend.util._cache import FINGERPRINT, Cache, differences
from gradiend.util._digest import digest_frame


class TestPlaces:
    """Where results go."""

    @pytest.mark.parametrize(
        ("artifact", "place"),
        [
            (paths.ARTIFACT_MODEL, "model"),
            (paths.ARTIFACT_ENCODED_VALUES, "encoded_values.csv"),
            (paths.ARTIFACT_ENCODER_PLOT, "encoder_analysis.pdf"),
            (paths.ARTIFACT_CONVERGENCE_PLOT, "training_convergence.pdf"),
            (paths.ARTIFACT_DECODER_ANALYSIS_DIR, "decoder_analysis"),
            (paths.ARTIFACT_DECODER_ANALYSIS_SUMMARY, "decoder_analysis.json"),
            (paths.ARTIFACT_CACHE_GRADIENTS, "cache/gradients"),
        ],
    )
    def test_an_explicit_path_wins_then_the_experiment(self, artifact, place):
        assert paths.resolve_output_path("exp", "mine", artifact) == "mine"
        assert paths.resolve_output_path("exp", None, artifact) == str(Path("exp") / place)
        assert paths.resolve_output_path(None, None, artifact) is None
        with pytest.raises(ValueError, match="experiment_dir"):
            paths.require_output_path(None, None, artifact)

    def test_a_rewritten_model_is_called_like_its_class(self):
        changed = paths.resolve_output_path("exp", None, paths.ARTIFACT_MODEL_CHANGED, target_class="3SG")
        assert changed == str(Path("exp") / "3SG")
        assert paths.resolve_output_path("exp", None, paths.ARTIFACT_MODEL_CHANGED) is None

    def test_keys_are_sorted_and_none_is_skipped(self):
        assert (
            paths.create_readable_key({"split": "test", "max_size": 100, "source": None}) == "max_size_100_split_test"
        )
        assert paths.resolve_encoder_analysis_path("e", split="test") == str(
            Path("e") / "encoded_values_split_test.csv"
        )
        assert paths.resolve_encoder_analysis_path("e") == str(Path("e") / "encoded_values.csv")
        assert paths.resolve_encoder_plot_path("e", max_size=3) == str(Path("e") / "encoder_analysis_max_size_3.pdf")
        assert paths.resolve_encoder_eval_result_path("e", a=1) == str(Path("e") / "encoded_values_a_1.json")
        assert paths.resolve_encoder_analysis_path(None, split="test") is None
        assert "/" not in paths.create_readable_key({"model": "a/b"})

    def test_decoder_files(self, tmp_path):
        stats = Path(paths.resolve_decoder_stats_path(str(tmp_path / "new"), metric_name="3SG", lrs=[0.1, 1.0]))
        assert stats.name == "decoder_stats_lrs_0.1_1.0_metric_name_3SG.json"
        assert stats.parent.is_dir()
        assert paths.resolve_decoder_stats_path(None, metric_name="3SG") is None
        assert paths.resolve_decoder_per_model_cache_path("e") == str(Path("e") / "decoder" / "base.json")
        assert paths.resolve_decoder_per_model_cache_path("e", "1.0_0.1") == str(Path("e") / "decoder" / "1.0_0.1.json")
        assert paths.resolve_decoder_grid_cache_path("e") == str(Path("e") / "decoder_grid_cache.json")

    def test_a_saved_model_has_config_and_weights(self, tmp_path):
        assert not paths.has_saved_model(None)
        (tmp_path / "config.json").touch()
        assert not paths.has_saved_model(tmp_path)
        (tmp_path / "pytorch_model.bin").touch()
        assert paths.has_saved_model(str(tmp_path))

    def test_invalidating_removes_evaluations_only(self, tmp_path):
        gone = ["encoded_values_a.csv", "encoded_values.json", "decoder/base.json", "decoder_grid_cache.json",
                "decoder_stats_metric_name_x.json"]  # fmt: skip
        stays = ["model/config.json", "seeds/seed_report.json", "encoder_analysis.png"]
        for name in gone + stays:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        paths.invalidate_experiment_caches(str(tmp_path))
        paths.invalidate_experiment_caches(None)
        assert [name for name in gone + stays if (tmp_path / name).exists()] == stays

    def test_temporary_directories_and_wanted_caches(self, tmp_path):
        assert paths.is_under_temp_dir(Path(tempfile.gettempdir()) / "x")
        assert not paths.is_under_temp_dir("/usr")
        assert not paths.is_under_temp_dir(None)
        assert paths.should_use_cached(tmp_path, True)
        assert not paths.should_use_cached(tmp_path, None)
        assert not paths.should_use_cached(tmp_path / "no", True)
        assert not paths.should_use_cached(None, True)


class TestHashes:
    """Equal things have equal hashes, other things others."""

    def test_hash_it_ignores_the_order_of_keys_only(self):
        assert util.hash_it({"b": 1, "a": (1, 2)}) == util.hash_it({"a": (1, 2), "b": 1})
        distinct = ["a", ["a"], {"a": 1}, {"a": "1"}, {(1, 2): 3}, 1, None]
        assert len({util.hash_it(value) for value in distinct}) == len(distinct)
        assert len(util.hash_it("a")) == 64
        assert util.hash_it("a", return_num=True) == int(util.hash_it("a"), 16)

    def test_tuple_keys_survive_json(self):
        value = {(1.0, 0.1): {"x": [{(1, 2): 3}]}, "base": 1, "[no": 2}
        text = json.dumps(util.convert_tuple_keys_recursively(value))
        assert util.restore_tuple_keys_recursively(util.json_loads(text)) == value
        assert util.json_loads("no json") == ["no json"]

    def test_a_frame_may_have_two_columns_of_one_name(self):
        frame = pd.DataFrame([[1, "a"], [2, "b"]], columns=["x", "x"])
        assert digest_frame(frame) != digest_frame(frame.replace("b", "c"))

    @pytest.mark.parametrize("digest", [digest_tensors, digest_weights])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
    def test_weights_hash_by_every_bit(self, dtype, digest):
        tensor = torch.arange(6).to(dtype)
        changed = tensor.clone()
        changed[-1] = 0
        same = digest([("w", tensor.reshape(2, 3).T.T)])
        assert digest([("w", tensor.reshape(2, 3))]) == same
        others = [("v", tensor.reshape(2, 3)), ("w", tensor), ("w", changed.reshape(2, 3)), ("w", tensor.reshape(3, 2))]
        assert len({same, *(digest([other]) for other in others)}) == 5

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8])
    @pytest.mark.parametrize("size", [1, 7, ROW, 6 * ROW + 3])
    def test_one_changed_bit_anywhere_is_noticed(self, dtype, size):
        generator = torch.Generator().manual_seed(size)
        tensor = torch.randn(size, generator=generator).mul(9).to(dtype)
        same = digest_weights([("", tensor)])
        assert digest_weights([("", torch.cat([tensor, tensor])[size:])]) == same
        changed = tensor.clone().view(torch.uint8)
        for place in (0, len(changed) - 1, *torch.randint(len(changed), (20,), generator=generator).tolist()):
            for bit in (1, 128):
                changed[place] ^= bit
                assert digest_weights([("", changed.view(dtype))]) != same
                changed[place] ^= bit
        if size > 1:
            assert digest_weights([("", tensor.flip(0))]) != same
            assert digest_weights([("", -tensor)]) != same

    def test_modules(self):
        one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        assert util.hash_model_weights(one) != util.hash_model_weights(other)
        other.load_state_dict(one.state_dict())
        assert util.hash_model_weights(one) == util.hash_model_weights(other)
        one.requires_grad_(False)
        util.set_requires_grad_true(one)
        assert all(parameter.requires_grad for parameter in one.parameters())

    def test_frames_hash_by_values_and_names(self):
        frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, np.nan]})
        assert digest_frame(frame.set_index(pd.Index([5, 6]))) == digest_frame(frame)
        others = [frame[::-1], frame.rename(columns={"a": "c"}), frame.assign(a=["x", "z"]), frame.fillna(0)]
        assert len({digest_frame(frame), *map(digest_frame, others)}) == 5
        mixed = [pd.DataFrame({"a": [value]}, dtype=object) for value in (1, "1", None, [1])]
        assert len(set(map(digest_frame, mixed))) == 4


class TestFingerprints:
    """A cache is used where nothing differs, and the differences have names."""

    def test_differences_are_named(self):
        saved = {"rows": "blake2b:1", "lr": 0.1, "classes": ["a"], "gone": 1}
        assert differences({**saved, "classes": ("a",)}, saved) == []
        found = differences({"rows": "blake2b:2", "lr": 0.2, "classes": ["a"], "new": 1}, saved)
        named = ["other rows", "lr was 0.1 and is 0.2", "it was made without new", "it was made with gone"]
        assert found == named
        assert differences({"lr": 0.1}, None) == ["it does not say what it was made from"]

    @pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"fingerprint": {"lr": 1}}'])
    def test_damaged_and_unmarked_files_are_no_cache(self, tmp_path, content):
        (tmp_path / "x.json").write_text(content)
        value, why = Cache(tmp_path / "x.json", {"lr": 2}).read()
        assert value is None
        assert why

    def test_the_same_is_read(self, tmp_path):
        (tmp_path / "x.json").write_text(json.dumps({"value": 1, FINGERPRINT: {"lr": 2}}))
        assert Cache(tmp_path / "x.json", {"lr": 2}).read() == ({"value": 1}, [])
        assert Cache(tmp_path / "no.json", {}).read() == (None, [])

    def test_a_result_in_another_file_is_watched(self, tmp_path):
        table = tmp_path / "table.txt"
        table.write_text("1")
        cache = Cache(tmp_path / "x.json", {"lr": 2}, table.read_text)
        assert cache.read() == (None, [])
        cache.write({"rows": 1})
        assert cache.read() == ({"rows": 1}, [])
        assert Cache(cache.path, {"lr": 3}, table.read_text).read() == (None, ["lr was 2 and is 3"])
        table.write_text("2")
        assert cache.read() == (None, ["it was changed after it was made"])
        Cache(cache.path, None, table.read_text).write({"rows": 1})
        assert cache.read() == (None, ["it does not say what it was made from"])
        cache.forget()
        assert not cache.path.exists()


class TestDecoderResultFiles:
    """Flat, legacy, list, dict: one result."""

    def test_every_form_reads_the_same(self, tmp_path):
        summary = {"3SG": {"value": 0.5}}
        base = {"id": "base", "lms": {"lms": 0.4}}
        point = {"id": {"feature_factor": -1.0, "learning_rate": 0.1}, "lms": {"lms": 0.3}}
        bare = {key: value for key, value in point.items() if key != "id"}
        forms = [
            {**summary, "grid": [base, point], FINGERPRINT: {}},
            {"summary": summary, "grid": [base, point]},
            {**summary, "grid": {"base": base, "[-1.0, 0.1]": bare}},
        ]
        for form in forms:
            (tmp_path / "x.json").write_text(json.dumps(form))
            assert read_decoder_stats_file(tmp_path / "x.json") == {
                **summary,
                "grid": {"base": base, (-1.0, 0.1): point},
            }

    @pytest.mark.parametrize("content", ["[]", '{"grid": 3}', '{"grid": [{}]}', '{"grid": [{"id": {"lr": 1}}]}'])
    def test_other_files_are_named(self, tmp_path, content):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match=r"x\.json"):
            read_decoder_stats_file(tmp_path / "x.json")


def test_long_texts_can_be_tokenized_in_silence(caplog):
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.addHandler(caplog.handler)
    try:
        with util.suppress_tokenizer_length_warning():
            logger.warning("Token indices sequence length is longer than the specified maximum sequence length")
            logger.warning("within")
        logger.warning("Token indices sequence length is longer than")
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.message[:6] for record in caplog.records if record.message] in (
        ["within", "Token "],
        ["within", "within", "Token ", "Token "],
    )
