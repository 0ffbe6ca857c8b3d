"""GRADIENDs by name from a model hub: the real client against a hub on loopback (`hub_server`)."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import encoding_cases
import pandas as pd
import pytest
import tiny
import tiny_data
import torch
from hub_server import HubServer, client_at, environment_of_another_machine
from huggingface_hub import constants

import gradiend
from gradiend import (
    GradiendModel,
    ModelWithGradiend,
    ParamMappedGradiendModel,
    TextPredictionTrainer,
    apply_delta,
    list_gradiends,
    read_delta,
    read_rewrite_record,
)
from gradiend.comparison import load_saved_cross_encoding_inputs
from gradiend.experiment import describe, plan_run, read_experiment
from gradiend.experiment._plan import TO_DO
from gradiend.model._context import LABELS_OF, MARKS_OF_0_2
from gradiend.util._files import read_json

RUN = "H__S"
LAYOUTS = [
    ("owner/top", {}),
    ("owner/flat", {"subfolder": "he/she"}),
    ("owner/runs", {"subfolder": RUN}),
    ("hf://owner/runs@main/H__S/model", {}),
    ("hf://models/owner/flat", {"subfolder": "he/she", "revision": "main"}),
]


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def run(hub, tmp_path_factory):
    """The folder of a run whose base model is on the hub; checkpoint, encodings and rewrites are published there."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_data.save_bert(folder / "bert")
    hub.create("owner/tiny-bert", folder / "bert")
    with client_at(hub.endpoint, folder / "cache"):
        trainer = encoding_cases.trainer(
            "owner/tiny-bert", ("H", "S"), experiment_dir=str(folder), source="alternative", use_cache=True
        )
        trainer.evaluate_encoder(split="test")
        trainer.evaluate_decoder(lrs=[0.1], max_size_training_like=4, max_size_neutral=4)
        trainer.export_delta(strengthen="H", path=folder / RUN / "deltas" / "H.safetensors")
        trainer.rewrite_base_model(strengthen="H", output_dir=folder / "rewritten")
    hub.create("owner/top", folder / RUN / "model")
    hub.create("owner/flat")
    hub.commit("owner/flat", folder / RUN / "model", under="he/she")
    hub.create("owner/runs", {"README.md": "GRADIENDs", "setup.py": "raise SystemExit", "H__S/model/evil.py": "1 / 0"})
    hub.commit("owner/runs", folder / RUN, under=RUN)
    hub.commit("owner/runs", folder / "rewritten", under="rewritten/H")
    return folder / RUN


@pytest.fixture
def client(hub, run, tmp_path):
    """This process as another machine, which has nothing in its cache."""
    del run
    hub.log.clear()
    hub.faults.clear()
    with client_at(hub.endpoint, tmp_path / "home"):
        yield


def encodings(model):
    """What a model says of two texts."""
    rows = tiny_data.rows(encoding_cases.WORDS)["masked"][:2]
    return [model.encode(text, factual="he", alternative="she", return_float=True) for text in rows]


def rewritten(model):
    """The weights of the rewritten model."""
    return model.rewrite_base_model(learning_rate=0.1, feature_factor=1.0).state_dict()


def same_bits(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.usefixtures("client")
class TestPlaces:
    def test_every_layout_gives_the_encodings_and_rewrites_of_the_local_folder(self, run):
        local = ModelWithGradiend.from_pretrained(str(run / "model"))
        expected, weights = encodings(local), rewritten(local)
        for place, named in LAYOUTS:
            model = ModelWithGradiend.from_pretrained(place, **named)
            same_bits(model.gradiend.state_dict(), local.gradiend.state_dict())
        assert encodings(model) == expected
        same_bits(rewritten(model), weights)
        for cls in (ParamMappedGradiendModel, GradiendModel):
            same_bits(cls.from_pretrained("owner/runs", subfolder=RUN).state_dict(), local.gradiend.state_dict())

    def test_a_local_run_is_a_place_too(self, run):
        expected = ParamMappedGradiendModel.from_pretrained(run / "model").state_dict()
        for place, named in (
            (run, {}),
            (str(run), {}),
            (run.parent, {"subfolder": RUN}),
            (run, {"subfolder": "model"}),
        ):
            same_bits(ParamMappedGradiendModel.from_pretrained(place, **named).state_dict(), expected)
            same_bits(ModelWithGradiend.from_pretrained(place, **named).gradiend.state_dict(), expected)

    def test_a_trainer_takes_the_names(self, run, hub):
        def trainer(model, **fields):
            args = encoding_cases.arguments(source="alternative", **fields)
            return TextPredictionTrainer(model, data=encoding_cases.rows(), target_classes=["H", "S"], args=args)

        local, there = trainer(str(run)), trainer("hf://owner/runs/H__S")
        assert "hf://owner/runs/H__S" in repr(there)
        assert there.base_model_path == "hf://owner/runs/H__S"
        assert not hub.log  # nothing is asked before it is needed
        assert there.has_model()
        same_bits(gradiend_of(there), gradiend_of(local))
        other = trainer("owner/tiny-bert")
        same_bits(other.load_model("owner/flat", subfolder="he/she").gradiend.state_dict(), gradiend_of(local))
        same_bits(other.get_model(load_directory="hf://owner/runs/H__S").gradiend.state_dict(), gradiend_of(local))
        # What is on the hub is only read: nothing is written beside the checkpoint in the cache.
        assert there.evaluate_encoder(max_size=2)["correlation"] > 0.9
        listed = sorted(path.name for path in Path(there.model_path).parent.iterdir())
        assert listed == ["model"]

    @pytest.mark.slow
    def test_a_training_goes_on_from_a_gradiend_on_the_hub(self, run):
        def trained(place):
            args = encoding_cases.arguments(source="alternative", max_steps=2)
            return TextPredictionTrainer(
                place, data=encoding_cases.rows(), target_classes=["H", "S"], args=args
            ).train()

        same_bits(*(gradiend_of(trained(place)) for place in (str(run), "owner/top")))

    def test_saved_encodings_are_compared(self, run):
        local = load_saved_cross_encoding_inputs(run.parent)
        for named in ({}, {"run_ids": [RUN]}):
            there = load_saved_cross_encoding_inputs("owner/runs", **named)
            assert list(there) == list(local) == [RUN]
            pd.testing.assert_frame_equal(there[RUN].rows, local[RUN].rows)
            same_bits(there[RUN].model.gradiend.state_dict(), local[RUN].model.gradiend.state_dict())
        with pytest.raises(FileNotFoundError, match="no encoded_values"):
            load_saved_cross_encoding_inputs("owner/runs", split="validation")
        with pytest.raises(FileNotFoundError, match="has no run"):
            load_saved_cross_encoding_inputs("owner/tiny-bert")

    def test_deltas_and_records(self, run, hub):
        file = run / "deltas" / "H.safetensors"
        local = read_delta(file)
        for place, named in (
            ("owner/runs", {"subfolder": f"{RUN}/deltas/H.safetensors"}),
            (f"hf://owner/runs/{RUN}/deltas/H.safetensors", {}),
        ):
            assert read_delta(place, **named).fingerprint == local.fingerprint
            base = tiny.bert()
            with apply_delta(base, place, **named):
                assert not torch.equal(next(base.parameters()), next(tiny.bert().parameters()))
        hub.log.clear()
        found = read_rewrite_record("owner/runs", subfolder="rewritten/H")
        assert found == read_rewrite_record(run.parent / "rewritten")
        assert not hub.requests("safetensors|/store/")

    def test_a_base_model_keeps_its_name(self, hub):
        model = ModelWithGradiend.from_pretrained("owner/tiny-bert", revision="main")
        assert model.name_or_path == "owner/tiny-bert"
        hub.commit("owner/tiny-bert", {"note.md": "x"}, branch="main")

    def test_an_experiment_names_a_place_as_its_model(self, run):
        rows = run.parent / "rows.csv"
        encoding_cases.rows().to_csv(rows, index=False)
        flags = {"model": "hf://owner/runs/H__S", "experiment_dir": str(run.parent / "experiment")}
        flags |= {
            "data.data": str(rows),
            "data.target_classes": "[H, S]",
            "train.train_batch_size": "2",
            "train.max_steps": "2",
        }
        plan = plan_run(read_experiment(flags=flags))
        assert plan.steps["train"] == TO_DO
        assert plan.memory is not None


def gradiend_of(trainer):
    return trainer.get_model().gradiend.state_dict()


def as_written_by(version, run, folder):
    """A copy of the checkpoint as another version has written it."""
    model = ModelWithGradiend.from_pretrained(str(run / "model"))
    model.save_pretrained(str(folder), labels_of="alternative" if version == "0.2" else "factual")
    if version == "ours":
        return folder
    context, config = folder / "gradiend_context.json", folder / "config.json"
    kept = {key: value for key, value in read_json(context).items() if key not in (LABELS_OF, "checksum")}
    context.write_text(json.dumps(kept))
    content = {key: value for key, value in read_json(config).items() if key not in ("files", "checksum")}
    if version == "0.2":
        content["metadata"] |= dict.fromkeys(MARKS_OF_0_2, "auto")
    config.write_text(json.dumps(content))
    (folder / "base_model_digest.safetensors").unlink()
    return folder


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("version", ["0.1.0", "0.2", "ours"])
def test_checkpoints_of_other_versions_have_the_right_sign(version, run, hub, tmp_path):
    hub.create("owner/old")
    hub.commit("owner/old", as_written_by(version, run, tmp_path / "old"), under="run/model")
    expected = encodings(ModelWithGradiend.from_pretrained(str(run)))
    model = ModelWithGradiend.from_pretrained("owner/old", subfolder="run")
    assert encodings(model) == expected
    assert model.feature_class_encoding_direction == {"H": 1, "S": -1, "T": 0}


@pytest.mark.usefixtures("client")
class TestRevisions:
    def test_a_pinned_revision_stays_when_main_moves_on(self, run, hub):
        first = hub.create("owner/moving", run / "model")
        hub.repositories["owner/moving"].refs["v1"] = first
        old = ParamMappedGradiendModel.from_pretrained("owner/moving").state_dict()
        model = ModelWithGradiend.from_pretrained(str(run))
        model.invert_encoding()
        model.save_pretrained(str(run.parent / "inverted"))
        hub.commit("owner/moving", run.parent / "inverted")
        new = ParamMappedGradiendModel.from_pretrained("owner/moving").state_dict()
        assert not all(torch.equal(new[name], old[name]) for name in old)
        for place, revision in (("owner/moving", first), ("owner/moving", "v1"), (f"hf://owner/moving@{first}", None)):
            same_bits(ParamMappedGradiendModel.from_pretrained(place, revision=revision).state_dict(), old)

    @pytest.mark.parametrize("place", ["owner/busy", "hf://owner/busy"])
    def test_all_files_are_of_one_commit_while_somebody_publishes(self, run, hub, monkeypatch, place):
        hub.create("owner/busy", run / "model")
        model = ParamMappedGradiendModel.from_pretrained(run)
        weights = model.state_dict()
        published = []

        def publish(logged):
            if logged.method == "GET" and logged.path.endswith("config.json") and not published:
                published.append(hub.commit("owner/busy", {"model.safetensors": b"", "gradiend_context.json": "{"}))

        monkeypatch.setattr(hub, "watch", publish)
        same_bits(ModelWithGradiend.from_pretrained(place).gradiend.state_dict(), weights)
        assert published

    def test_the_base_model_is_that_of_the_recorded_commit(self, run, hub, tmp_path, caplog):
        hub.create("owner/base", run.parent / "bert")
        commit = hub.repositories["owner/base"].refs["main"]
        model = ModelWithGradiend.from_pretrained("owner/base")
        model.save_pretrained(str(tmp_path / "made"))
        assert read_json(tmp_path / "made" / "config.json")["metadata"]["base_model_revision"] == commit
        assert not (tmp_path / "made" / "base_model").exists()
        tiny.bert(seed=1).save_pretrained(tmp_path / "other")
        hub.commit("owner/base", tmp_path / "other")
        hub.create("owner/made", tmp_path / "made")
        with client_at(hub.endpoint, tmp_path / "third"), caplog.at_level(logging.WARNING):
            again = ModelWithGradiend.from_pretrained("owner/made")
            same_bits(again.base_model.state_dict(), model.base_model.state_dict())
            again.save_pretrained(str(tmp_path / "again"))
            assert read_json(tmp_path / "again" / "config.json")["metadata"]["base_model_revision"] == commit
            assert not caplog.records
            moved = ModelWithGradiend.from_pretrained("owner/made", base_model="owner/base")
            (warned,) = caplog.records
            assert "is not the one that the GRADIEND" in warned.getMessage()
            moved.save_pretrained(str(tmp_path / "moved"))
            recorded = read_json(tmp_path / "moved" / "config.json")["metadata"]["base_model_revision"]
            assert recorded == hub.repositories["owner/base"].refs["main"]
        hub.repositories["owner/base"].commits.pop(commit)
        with (
            client_at(hub.endpoint, tmp_path / "fourth"),
            pytest.raises(FileNotFoundError, match=rf"'owner/base' \(revision {commit}\).*base_model="),
        ):
            ModelWithGradiend.from_pretrained("owner/made")


@pytest.mark.usefixtures("client")
class TestTransfers:
    def test_a_broken_transfer_goes_on_where_it_broke(self, run, hub, monkeypatch):
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
        weights = (run / "model" / "model.safetensors").read_bytes()
        request = f"GET /store/{hashlib.sha256(weights).hexdigest()}"
        hub.cut(request, len(weights) // 2, times=2)
        model = ParamMappedGradiendModel.from_pretrained("owner/top")
        same_bits(model.state_dict(), ParamMappedGradiendModel.from_pretrained(run).state_dict())
        begins = [
            int((one.headers["Range"] or "bytes=0-").removeprefix("bytes=")[:-1]) for one in hub.requests(request)
        ]
        assert len(begins) == 3
        assert begins == sorted(begins)
        assert begins[1] > len(weights) // 2 - 1024

    def test_after_a_lost_connection_the_next_call_goes_on(self, hub):
        hub.cut("GET /store", 100, times=20)
        with pytest.raises(ConnectionError, match="hf://owner/top"):
            ParamMappedGradiendModel.from_pretrained("owner/top")
        hub.faults.clear()
        hub.log.clear()
        ParamMappedGradiendModel.from_pretrained("owner/top")
        assert not hub.requests("GET .*config.json")

    @pytest.mark.parametrize("name", ["model.safetensors", "gradiend_context.json", "config.json"])
    def test_a_changed_file_is_refused_and_downloaded_again(self, run, hub, name):
        content = (run / "model" / name).read_bytes()
        hub.replace_content("owner/top", name, content[:-1] + bytes([content[-1] ^ 1]))
        try:
            with pytest.raises(ValueError, match=rf"{name} of hf://owner/top@\w* is not the file that the hub lists"):
                ParamMappedGradiendModel.from_pretrained("owner/top")
        finally:
            hub.replace_content("owner/top", name, content)
        ParamMappedGradiendModel.from_pretrained("owner/top")

    def test_without_a_connection_a_full_cache_does(self, hub, tmp_path):
        expected = encodings(ModelWithGradiend.from_pretrained("owner/runs", subfolder=RUN))
        for place in ("owner/top", "hf://owner/flat/he/she"):
            ParamMappedGradiendModel.from_pretrained(place)
        delta = f"hf://owner/runs/{RUN}/deltas/H.safetensors"
        fingerprint = read_delta(delta).fingerprint
        for settings in ({"offline": True}, {}):
            endpoint = hub.endpoint if settings else "http://127.0.0.1:9"
            hub.log.clear()
            with client_at(endpoint, tmp_path / "home", **settings):
                assert encodings(ModelWithGradiend.from_pretrained("owner/runs", subfolder=RUN)) == expected
                for place in ("owner/top", "hf://owner/flat/he/she"):
                    ParamMappedGradiendModel.from_pretrained(place)
                assert read_delta(delta).fingerprint == fingerprint
            assert not hub.log

    def test_without_a_connection_and_files_the_error_says_so(self, hub, tmp_path):
        ParamMappedGradiendModel.from_pretrained("owner/top")
        weights = next((tmp_path / "home").rglob("model.safetensors"))
        for place, named in (("owner/flat", {"subfolder": "he/she"}), ("hf://owner/top", {})):
            with client_at(hub.endpoint, tmp_path / "home", offline=True):
                weights.unlink(missing_ok=True)
                with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
                    ModelWithGradiend.from_pretrained(place, **named)
            with (
                client_at("http://127.0.0.1:9", tmp_path / "home"),
                pytest.raises(ConnectionError, match="cannot be reached for hf://owner/"),
            ):
                ModelWithGradiend.from_pretrained(place, **named)
        with client_at(hub.endpoint, tmp_path / "home", offline=True):
            with pytest.raises(FileNotFoundError, match="There is no model 'owner/unknown'"):
                ModelWithGradiend.from_pretrained("owner/unknown")
            with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE is set"):
                list_gradiends("owner/runs")


REFUSED = [
    # (requests that fail, statuses, place, error, what the message says)
    ("", [], "owner/none", FileNotFoundError, "no repository 'owner/none'.*private.*log in"),
    ("", [], "owner/secret", FileNotFoundError, "no repository 'owner/secret'.*private.*log in"),
    ("", [], "owner/gated", PermissionError, "hf://owner/gated.* is restricted.*log in"),
    ("", [], "hf://owner/flat@v9", FileNotFoundError, "no revision 'v9'.*It has main"),
    ("", [], "owner/flat", FileNotFoundError, "no GRADIEND at the top.*It has GRADIENDs in he/she: give subfolder"),
    ("", [], "hf://owner/flat/he_she", FileNotFoundError, "no GRADIEND in 'he_she'.*GRADIENDs in he/she"),
    ("", [], "hf://owner/tiny-bert", FileNotFoundError, "no GRADIEND: give its name, 'owner/tiny-bert'"),
    ("owner/top", [403] * 9, "hf://owner/top", PermissionError, "may not read hf://owner/top"),
    ("owner/top", [401] * 9, "hf://owner/top", PermissionError, "does not accept the token.*hf auth login"),
    ("owner/top", [429] * 20, "hf://owner/top", ConnectionError, "asked too often.*wait"),
    ("owner/top", [500] * 20, "hf://owner/top", ConnectionError, r"fails \(500\) for hf://owner/top"),
    ("/store/", [500] * 20, "hf://owner/top", ConnectionError, r"fails \(500\) for hf://owner/top"),
    ("", [], "hf://owner", ValueError, "write hf://owner/name"),
    ("", [], "hf://datasets/owner/top", ValueError, "no address of a model repository"),
    ("", [], "hf://owner/top/../../x", ValueError, "leads out"),
    ("", [], "hf://owner/top@main", ValueError, "revision='v2' another"),
]


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("fails", "statuses", "place", "error", "says"), REFUSED)
def test_errors_say_what_was_asked_for_and_the_way_out(fails, statuses, place, error, says, run, hub):
    hub.create("owner/secret", run / "model", private=True)
    hub.create("owner/gated", run / "model", gated=True)
    if statuses:
        hub.fail(fails, *statuses)
    named = {"revision": "v2"} if "v2" in says else {}
    with pytest.raises(error, match=says):
        ModelWithGradiend.from_pretrained(place, **named)


@pytest.mark.usefixtures("client")
def test_short_failures_are_asked_again_and_a_login_opens_what_is_private(run, hub, tmp_path):
    hub.create("owner/secret", run / "model", private=True)
    hub.fail("tree", 500, 429)
    ParamMappedGradiendModel.from_pretrained("owner/top")
    with client_at(hub.endpoint, tmp_path / "owner", token="hf_owner"):
        assert list_gradiends("owner/secret")[0].classes == ("H", "S")
        ParamMappedGradiendModel.from_pretrained("owner/secret")
    assert hub.requests("secret")[-1].headers["Authorization"] == "Bearer hf_owner"
    assert not any(one.headers["Authorization"] for one in hub.requests("/store/"))
    with (
        client_at(hub.endpoint, tmp_path / "wrong", token="hf_wrong"),
        pytest.raises(PermissionError, match="does not accept the token") as raised,
    ):
        ParamMappedGradiendModel.from_pretrained("owner/top")
    assert "hf_wrong" not in str(raised.value)


@pytest.mark.usefixtures("client")
class TestNothingIsRun:
    def test_only_files_without_code_are_downloaded(self, hub, tmp_path):
        hub.create("owner/others", hub.files("owner/runs"))
        hub.commit("owner/others", {f"{RUN}/model/pytorch_model.bin": b"\x80\x04.", f"{RUN}/model/base.py": "1 / 0"})
        ModelWithGradiend.from_pretrained("owner/others", subfolder=RUN, trust_remote_code=True)
        load_saved_cross_encoding_inputs("owner/others")
        list_gradiends("owner/others")
        assert hub.requests("config.json")
        assert not hub.requests(r"\.(py|bin|pt|pth|pkl)$")
        kept = {path.suffix for path in (tmp_path / "home" / "hub").rglob("*") if path.is_symlink()}
        assert kept <= {".json", ".safetensors", ".txt", ".jinja", ".md", ".csv", ""}

    def test_pickled_weights_are_refused(self, run, hub, tmp_path):
        model = ParamMappedGradiendModel.from_pretrained(run)
        model.save_pretrained(str(tmp_path / "pickled"), use_safetensors=False)
        hub.create("owner/pickled", tmp_path / "pickled")
        with pytest.raises(ValueError, match=r"pytorch_model\.bin: such a file can run code"):
            ParamMappedGradiendModel.from_pretrained("owner/pickled")
        pruned = model.prune(topk=50)
        pruned.save_pretrained(str(tmp_path / "maps"), use_safetensors=False)
        pruned.save_pretrained(str(tmp_path / "weights"))
        shutil.copy(tmp_path / "weights" / "model.safetensors", tmp_path / "maps")
        hub.create("owner/maps", tmp_path / "maps")
        with pytest.raises(ValueError, match=r"\.pth: such a file can run code"):
            ParamMappedGradiendModel.from_pretrained("owner/maps")
        assert not hub.requests(r"(GET|HEAD).*\.(bin|pth)$")


@pytest.mark.usefixtures("client")
class TestListing:
    def test_a_repository_lists_what_its_folder_lists_without_weights(self, run, hub):
        listed = list_gradiends("owner/runs")
        assert [(one.subfolder, one.kind, one.classes, one.goal) for one in listed] == [
            (RUN, "GRADIEND", ("H", "S"), None),
            (f"{RUN}/deltas/H.safetensors", "delta", ("H",), "strengthen"),
            ("rewritten/H", "rewritten model", ("H",), "strengthen"),
        ]
        first = listed[0]
        assert first.base_model == "owner/tiny-bert"
        assert len(first.base_model_revision) == 40
        assert first.entries == ParamMappedGradiendModel.from_pretrained(run).input_dim
        assert first.correlation == read_json(run / "encoded_values_split_test.json")["correlation"]
        assert all(one.headers["Range"] for one in hub.requests("GET /store/"))
        assert not hub.requests(r"GET .*\.safetensors$") or all(
            one.status == 302 for one in hub.requests(r"GET .*\.safetensors$")
        )
        local = list_gradiends(run.parent)
        assert [one for one in local if one.subfolder.startswith(RUN)] == listed[:2]
        assert RUN in repr(listed)
        assert "H ↔ S" in repr(listed)
        assert list(listed.to_frame()["subfolder"]) == [one.subfolder for one in listed]

    def test_pages_of_a_tree_and_damaged_files(self, run, hub, caplog):
        hub.create("owner/many", {f"run{number}/notes.md": "x" for number in range(5)})
        hub.commit("owner/many", run / "model", under="good")
        hub.commit("owner/many", {"bad/config.json": '{"architecture": 3', "worse/config.json": '{"architecture": 3}'})
        hub.page = 4
        try:
            assert [one.subfolder for one in list_gradiends("owner/many")] == ["good"]
        finally:
            hub.page = 1000
        assert sorted(record.args[0] for record in caplog.records) == ["bad", "worse"]
        with pytest.raises(FileNotFoundError, match="names no repository"):
            list_gradiends("nothing")

    def test_info_says_what_is_there(self, hub):
        found = describe("owner/runs")
        assert found[RUN] == "GRADIEND, H, S"
        assert found["rewritten/H"] == "rewritten model, strengthen, H"
        hub.log.clear()
        one = describe(f"hf://owner/runs/{RUN}/model")
        assert (one["kind"], one["base model"], one["reads → reproduces"]) == (
            "GRADIEND",
            "owner/tiny-bert",
            "alternative → diff",
        )
        assert describe("hf://owner/runs/rewritten/H")["goal"] == "strengthen H"
        assert not hub.requests("/store/")
        assert describe(f"hf://owner/runs/{RUN}/deltas/H.safetensors")["goal"] == "strengthen H"
        with pytest.raises(ValueError, match="holds no GRADIEND"):
            describe("owner/tiny-bert")


@pytest.mark.slow
def test_another_machine_needs_only_the_name(run, hub, tmp_path):
    """A process of its own, with nothing but the settings of the client: the command, and Python."""
    code = (
        "from gradiend import ModelWithGradiend; m = ModelWithGradiend.from_pretrained('owner/runs', subfolder='H__S');"
        "print(repr(m.encode('the old baker was near the house and then [MASK] saw the bread .', factual='he',"
        " alternative='she', return_float=True)))"
    )
    with client_at(hub.endpoint, tmp_path / "here"):
        model = ModelWithGradiend.from_pretrained(str(run))
    text = "the old baker was near the house and then [MASK] saw the bread ."
    expected = model.encode(text, factual="he", alternative="she", return_float=True)
    for offline in (False, True):
        environment = environment_of_another_machine(hub.endpoint, tmp_path / "there", offline=offline)
        environment["PYTHONPATH"] = str(gradiend.__path__[0]).removesuffix("/gradiend")
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert float(done.stdout) == expected
    done = subprocess.run(
        [sys.executable, "-m", "gradiend", "info", "owner/runs"],
        env=environment | {"HF_HUB_OFFLINE": "0"}, cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "GRADIEND, H, S" in done.stdout
