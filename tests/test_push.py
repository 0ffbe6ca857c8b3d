"""Publishing, with the real client against a hub on loopback: what is staged, what is sent, and what loads again."""

from __future__ import annotations

import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_data
from documents import DOCS
from hub_server import HubServer, client_at, environment_of_another_machine
from huggingface_hub import ModelCard
from model_cases import bits, same_bits
from transformers import AutoModelForMaskedLM

from gradiend import ModelWithGradiend, PostPruneConfig, apply_delta, push_to_hub, read_delta, read_rewrite_record
from gradiend.cli import main
from gradiend.trainer import load_training_stats

OWNER = "hf_owner"
BASE = "owner/tiny"
TEXT = "the old baker was near the door and then [MASK] saw the bread ."


def trained(base, root):
    """A trainer with a tiny trained GRADIEND, its evaluations and its rewrites on disk."""
    trainer = tiny_data.trainer(base, {"experiment_dir": str(root), "learning_rate": 1e-2})
    trainer.train()
    trainer.evaluate_encoder()
    trainer.evaluate_decoder(lrs=[0.1], feature_factors=[-1.0, 1.0])
    return trainer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(trainer, folder of its run, the base model's folder)."""
    root = tmp_path_factory.mktemp("made")
    base = tiny_data.save_bert(root / "base")
    trainer = trained(base, root / "run")
    trainer.rewrite_base_model(strengthen="SG", output_dir=str(root / "run" / "rewritten"))
    trainer.export_delta(strengthen="SG", path=root / "run" / "deltas" / "SG.safetensors")
    return trainer, root / "run", Path(base)


@pytest.fixture
def hub(tmp_path):
    """A hub, to which the client of this process is logged in."""
    with HubServer() as server, client_at(server.endpoint, tmp_path / "client", token=OWNER):
        yield server


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def checkpoint(run, tmp_path):
    """A copy of the checkpoint that a test may change."""
    return Path(shutil.copytree(run / "model", tmp_path / "model"))


def places(made):
    _, run, _ = made
    return {"GRADIEND": run, "rewritten model": run / "rewritten", "delta": run / "deltas" / "SG.safetensors"}


# What is staged


def test_a_dry_run_sends_nothing_and_shows_nothing_of_this_machine(made, tmp_path):
    _, run, base = made
    for kind, place in places(made).items():
        folder = tmp_path / kind
        found = push_to_hub(place, "owner/name", subfolder="en/x", base_model=BASE, dry_run=folder)
        assert (found.kind, found.commit, found.folder) == (kind, None, str(folder))
        assert found.files == {name: len(content) for name, content in contents(folder).items()}
        assert "owner/name" in repr(found)
        assert "nothing was published" in repr(found)
        for name, content in contents(folder).items():
            for private in (run.parent, base, Path.home(), socket.gethostname()):
                assert str(private).encode() not in content, (name, private)
            assert not re.search(rb"20\d\d-\d\d-\d\d", content), name
    training = load_training_stats(tmp_path / "GRADIEND" / "en" / "x")
    assert training["time"] == {}
    assert training["training_args"]["experiment_dir"] is training["training_args"]["output_dir"] is None
    assert training["losses"] == load_training_stats(run / "model")["losses"]


def test_what_is_staged_loads_with_equal_bits(made, tmp_path):
    trainer, _, base = made
    folders = {}
    for kind, place in places(made).items():
        folders[kind] = tmp_path / kind
        push_to_hub(place, "owner/name", base_model=BASE, dry_run=folders[kind])
    model, own = ModelWithGradiend.from_pretrained(folders["GRADIEND"], base_model=str(base)), trainer.get_model()
    assert same_bits(bits(model.gradiend), bits(own.gradiend))
    assert model.gradiend.kwargs["base_model"] == BASE
    words = {"factual": "he", "alternative": "they", "return_float": True}
    assert model.encode(TEXT, **words) == own.encode(TEXT, **words)
    rewritten = AutoModelForMaskedLM.from_pretrained(folders["rewritten model"])
    assert read_rewrite_record(folders["rewritten model"]).base_model == BASE
    plain = AutoModelForMaskedLM.from_pretrained(base)
    assert not same_bits(bits(plain), bits(rewritten))
    apply_delta(plain, folders["delta"])
    assert same_bits(bits(plain), bits(rewritten))
    assert read_delta(folders["delta"]).base_model == BASE


def test_equal_runs_publish_equal_files(made, tmp_path):
    _, run, base = made
    again = trained(str(base), tmp_path / "again")
    push_to_hub(run, "owner/name", base_model=BASE, dry_run=tmp_path / "one")
    found = again.push_to_hub("owner/name", base_model=BASE, dry_run=tmp_path / "two")
    assert found.kind == "GRADIEND"
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_base_model_can_be_published_too(made, tmp_path):
    _, run, base = made
    folder = tmp_path / "staged"
    push_to_hub(run, "owner/name", include_base_model=True, dry_run=folder)
    loaded = ModelWithGradiend.from_pretrained(folder)
    assert same_bits(bits(loaded.base_model), bits(AutoModelForMaskedLM.from_pretrained(base)))
    # The card must not call a local folder a model on the hub.
    card = (folder / "README.md").read_text()
    assert "base_model:" not in card.split("---")[1]
    assert "| Base model | base, from a local folder |" in card
    assert "This folder holds the GRADIEND and its base model." in card


def test_a_relative_place_of_the_base_model_is_replaced_and_nothing_else(made, tmp_path, monkeypatch):
    """A folder may have the name of anything, such as "bert", which parameters begin with."""
    monkeypatch.chdir(tmp_path)
    tiny_data.save_bert("bert")
    trainer = tiny_data.trainer("bert", {"experiment_dir": "run", "params": ["bert.encoder.*"]})
    trainer.train()
    trainer.push_to_hub("owner/name", base_model=BASE, dry_run="staged")
    metadata = json.loads(Path("staged/config.json").read_text())["metadata"]
    assert (metadata["base_model"], metadata["tokenizer"]) == (BASE, BASE)
    training = load_training_stats("staged")
    assert training["training_args"]["params"] == ["bert.encoder.*"]


def test_a_base_model_that_changed_since_is_not_published(made, tmp_path):
    _, run, _ = made
    copy = checkpoint(run, tmp_path)
    other = tiny_data.tiny.bert(seed=1)
    other.save_pretrained(tmp_path / "base")
    tiny_data.tiny.bert_tokenizer().save_pretrained(tmp_path / "base")
    config = json.loads((copy / "config.json").read_text())
    config["metadata"]["base_model"] = str(tmp_path / "base")
    del config["checksum"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"not the one that the GRADIEND .* was trained on"):
        push_to_hub(copy, "owner/name", include_base_model=True, dry_run=tmp_path / "staged")


def test_an_untrained_model_is_not_published(made, tmp_path):
    _, _, base = made
    model = ModelWithGradiend.from_pretrained(str(base))
    with pytest.raises(ValueError, match="not trained"):
        model.push_to_hub("owner/name", base_model=BASE, dry_run=tmp_path / "staged")


def test_a_model_in_memory_is_published_as_it_is(made, tmp_path):
    trainer, _, base = made
    model = ModelWithGradiend.from_pretrained(trainer.model_path)
    model.prune_gradiend(topk=100)
    model.push_to_hub("owner/name", base_model=BASE, dry_run=tmp_path / "staged")
    loaded = ModelWithGradiend.from_pretrained(tmp_path / "staged", base_model=str(base))
    assert len(loaded) == 100
    assert same_bits(bits(loaded.gradiend), bits(model.gradiend))


def test_a_trainer_publishes_the_model_that_it_has(made, tmp_path):
    _, run, base = made
    trainer = tiny_data.trainer(str(base), {"experiment_dir": str(run), "learning_rate": 1e-2})
    trainer.post_prune(PostPruneConfig(topk=50))
    trainer.push_to_hub("owner/name", base_model=BASE, dry_run=tmp_path / "staged")
    assert len(ModelWithGradiend.from_pretrained(tmp_path / "staged", base_model=str(base))) == 50


def a_token(folder, token="hf_" + "a" * 34):
    config = json.loads((folder / "config.json").read_text())
    config["metadata"]["note"] = f"made with {token}"
    del config["checksum"]
    (folder / "config.json").write_text(json.dumps(config))


def pickled(folder):
    ModelWithGradiend.from_pretrained(folder).save_pretrained(folder, use_safetensors=False)


def damaged(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-9] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (a_token, {}, "config.json contains an access token"),
        (damaged, {}, "model.safetensors was damaged"),
        (pickled, {}, "pytorch_model.bin is loaded by unpickling"),
        (shutil.rmtree, {}, "does not exist"),
        (lambda folder: (folder / "config.json").unlink(), {}, "neither a trained GRADIEND"),
        (None, {"base_model": None}, "is on this machine alone.*base_model=.*include_base_model=True"),
        (None, {"base_model": "a b"}, "base_model must be a name on the hub"),
        (None, {"base_model": ""}, "base_model must not be empty"),
        (None, {"repo_id": "name"}, "repo_id must be 'owner/name'"),
        (None, {"repo_id": "owner/../name"}, "repo_id must be 'owner/name'"),
        (None, {"subfolder": "../up"}, "subfolder must be a folder in the repository"),
        (None, {"subfolder": "a|b"}, "subfolder must be a folder in the repository"),
        (None, {"subfolder": "a//b"}, "subfolder must be a folder in the repository"),
        (None, {"license": ""}, "license must not be empty"),
        (None, {"privat": True}, "unknown argument 'privat'. Did you mean 'private'"),
        (None, {"private": "yes"}, "private must be True or False"),
        (None, {"create_pr": True, "revision": "x"}, "branch of its own"),
        (None, {"token": 7}, "token must be a string; got int"),
        (None, {"place": 7}, "place must be the path"),
    ],
)
def test_what_cannot_be_published_says_why(made, tmp_path, change, options, message):
    copy = checkpoint(made[1], tmp_path)
    if change is not None:
        change(copy)
    options = {"place": copy, "repo_id": "owner/name", "base_model": BASE, "dry_run": tmp_path / "staged", **options}
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message) as raised:
        push_to_hub(options.pop("place"), options.pop("repo_id"), **options)
    assert "aaaa" not in str(raised.value)
    assert not (tmp_path / "staged").exists()


def test_a_dry_run_needs_an_empty_folder(made, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="new or empty folder"):
        push_to_hub(made[1], "owner/name", base_model=BASE, dry_run=tmp_path)


# What is sent


def test_one_commit_in_a_private_repository(made, hub):
    _, run, _ = made
    found = push_to_hub(run, "owner/name", subfolder="sg_pl", base_model=BASE, license="cc-by-4.0")
    repository = hub.repositories["owner/name"]
    assert repository.private
    assert found.private
    assert len(repository.commits) == 2  # that of the new repository, and this
    assert found.commit == repository.refs["main"]
    assert found.place == f"hf://owner/name@{found.commit}/sg_pl"
    files = hub.files("owner/name")
    assert found.files == {name: len(files[name]) for name in files if name != ".gitattributes"}
    assert "license: cc-by-4.0" in files["sg_pl/README.md"].decode()
    listed = ModelCard(files["README.md"].decode())
    assert "(sg_pl/README.md) | GRADIEND |" in listed.text
    assert (listed.data.base_model, listed.data.base_model_relation) == ([BASE], "adapter")

    # Once more: nothing differs, and nothing is sent. The license need not be given again.
    sent = len(hub.requests("^(POST|PUT)"))
    again = push_to_hub(run, "owner/name", subfolder="sg_pl", base_model=BASE)
    assert (again.commit, again.changed) == (found.commit, ())
    assert len(hub.requests("^(POST|PUT)")) == sent


def test_a_second_push_changes_only_what_differs(made, hub, tmp_path):
    trainer, run, _ = made
    push_to_hub(run, "owner/name", base_model=BASE)
    before = hub.files("owner/name")
    copy = checkpoint(run, tmp_path)
    (copy / "training.json").unlink()
    found = push_to_hub(copy, "owner/name", base_model=BASE)
    assert found.changed == ("README.md", "training.json")
    after = hub.files("owner/name")
    assert before.keys() - after.keys() == {"training.json"}
    # Another form of the map is another file, and the old one goes.
    model = ModelWithGradiend.from_pretrained(trainer.model_path)
    model.prune_gradiend(topk=50)
    found = model.push_to_hub("owner/name", base_model=BASE)
    assert any(name.startswith("mapping_") for name in found.changed)
    assert "base_model_digest.safetensors" not in found.changed


def test_repositories_hold_several(made, hub):
    trainer, run, _ = made
    hub.create("owner/name", {"notes.txt": "mine"}, private=True)
    push_to_hub(run, "owner/name", subfolder="sg_pl", base_model=BASE)
    assert trainer.push_to_hub("owner/name", subfolder="sg", strengthen="SG").kind == "rewritten model"
    found = trainer.push_to_hub("owner/name", subfolder="sg-delta", strengthen="SG", as_delta=True, base_model=BASE)
    assert found.kind == "delta"
    files = hub.files("owner/name")
    assert files["notes.txt"] == b"mine"
    listed = re.findall(r"\]\((.*?)/README.md\) \| (.*) \|$", files["README.md"].decode(), re.MULTILINE)
    assert listed == [("sg", "rewritten model"), ("sg-delta", "delta"), ("sg_pl", "GRADIEND")]
    with pytest.raises(ValueError, match="holds a rewritten model in sg, which a GRADIEND would replace"):
        push_to_hub(run, "owner/name", subfolder="sg", base_model=BASE)


def test_the_words_of_a_person_stay(made, hub, tmp_path):
    _, run, _ = made
    hub.create("owner/name", {"README.md": "# Ours\n"}, private=True)
    push_to_hub(run, "owner/name", subfolder="x", base_model=BASE)
    assert hub.files("owner/name")["README.md"] == b"# Ours\n"
    edited = hub.files("owner/name")["x/README.md"] + b"\nSee our paper.\n"
    hub.commit("owner/name", {"x/README.md": edited})
    copy = checkpoint(run, tmp_path)
    (copy / "training.json").unlink()
    assert push_to_hub(copy, "owner/name", subfolder="x", base_model=BASE).changed == ("x/training.json",)
    assert hub.files("owner/name")["x/README.md"] == edited
    # What a person wrote here is what this person publishes.
    (copy / "README.md").write_text("# My own words\n")
    push_to_hub(copy, "owner/name", subfolder="x", base_model=BASE)
    assert hub.files("owner/name")["x/README.md"] == b"# My own words\n"


def test_the_card_of_a_repository_is_not_replaced_by_a_list(made, hub):
    _, run, _ = made
    push_to_hub(run, "owner/name", base_model=BASE)
    card = hub.files("owner/name")["README.md"]
    push_to_hub(run / "rewritten", "owner/name", subfolder="sg")
    assert hub.files("owner/name")["README.md"] == card


def test_branches_and_pull_requests(made, hub):
    _, run, _ = made
    hub.create("owner/name", private=True)
    main = hub.repositories["owner/name"].refs["main"]
    found = push_to_hub(run, "owner/name", base_model=BASE, revision="v2")
    assert hub.repositories["owner/name"].refs == {"main": main, "v2": found.commit}
    proposed = push_to_hub(run, "owner/name", base_model=BASE, create_pr=True)
    assert hub.repositories["owner/name"].refs["main"] == main
    assert proposed.url.endswith("/discussions/1")
    assert hub.files("owner/name", "refs/pr/1").keys() == hub.files("owner/name", "v2").keys()
    hub.commit("owner/name", hub.files("owner/name", "v2"))
    assert push_to_hub(run, "owner/name", base_model=BASE, revision="v3").changed == ()
    assert "v3" in hub.repositories["owner/name"].refs
    push_to_hub(run, "owner/new", base_model=BASE, revision="v2")
    assert "config.json" in hub.files("owner/new", "v2")


def test_nothing_becomes_public_by_accident(made, hub):
    _, run, _ = made
    hub.create("owner/name")
    with pytest.raises(PermissionError, match=r"is public.*private=False"):
        push_to_hub(run, "owner/name", base_model=BASE)
    assert not push_to_hub(run, "owner/name", base_model=BASE, private=False).private
    assert not push_to_hub(run, "owner/new", base_model=BASE, private=False).private
    assert not hub.repositories["owner/new"].private


# What can go wrong


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ([(r"GET /api/models", 401)], PermissionError, "does not accept the token.*hf auth login"),
        ([(r"POST .*preupload", 403)], PermissionError, "may not write to owner/name"),
        ([(r"POST .*commit", 403)], PermissionError, "may not write to owner/name.*create_pr=True"),
        ([(r"POST .*commit", 404)], FileNotFoundError, "no repository owner/name"),
        ([(r"POST .*commit", *[412] * 9)], FileExistsError, "changed owner/name in the meantime"),
        ([(r"POST .*commit", *[429] * 9)], ConnectionError, "asked too often.*is as it was"),
        ([(r"POST .*commit", *[500] * 9)], ConnectionError, r"has failed \(500\).*is as it was"),
        ([(r"PUT /store", *[500] * 12)], ConnectionError, "is as it was"),
    ],
)
def test_a_push_that_fails_leaves_the_repository_as_it_was(made, hub, faults, error, message, monkeypatch):
    monkeypatch.setattr("gradiend.hub._publish.WAITS", (0.0, 0.0))
    hub.create("owner/name", {"README.md": "mine"}, private=True)
    before = hub.repositories["owner/name"].refs.copy(), hub.files("owner/name")
    for pattern, *statuses in faults:
        hub.fail(pattern, *statuses)
    with pytest.raises(error, match=message):
        push_to_hub(made[1], "owner/name", base_model=BASE)
    assert (hub.repositories["owner/name"].refs, hub.files("owner/name")) == before
    hub.faults.clear()
    assert push_to_hub(made[1], "owner/name", base_model=BASE).commit


def test_a_hub_without_the_clients_own_protocol_says_how_to_do_without(made, hub, monkeypatch):
    pytest.importorskip("hf_xet", reason="the client sends large files with it only where it is installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    with pytest.raises(ConnectionError, match=r"owner/name is as it was.*HF_HUB_DISABLE_XET=1"):
        push_to_hub(made[1], "owner/name", base_model=BASE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    assert push_to_hub(made[1], "owner/name", base_model=BASE).commit


def test_what_others_commit_at_the_same_time_stays(made, hub, monkeypatch):
    monkeypatch.setattr("gradiend.hub._publish.WAITS", (0.0, 0.0))
    hub.create("owner/name", private=True)

    def meanwhile(request):
        if "preupload" in request.path and "theirs.txt" not in hub.files("owner/name"):
            hub.commit("owner/name", {"theirs.txt": "new"})

    monkeypatch.setattr(hub, "watch", meanwhile)
    push_to_hub(made[1], "owner/name", base_model=BASE)
    assert {"theirs.txt", "config.json"} <= hub.files("owner/name").keys()
    assert len(hub.requests("POST .*commit")) == 2


@pytest.mark.parametrize("pattern", ["PUT /store", "POST .*commit", "GET /api/models"])
def test_a_connection_that_breaks_is_made_again(made, hub, pattern, monkeypatch):
    """If only the answer to the commit was lost, there is no second commit."""
    monkeypatch.setattr("gradiend.hub._publish.WAITS", (0.0, 0.0))
    hub.create("owner/name", private=True)
    hub.cut(pattern, after=3)
    if pattern.startswith("GET"):
        # Before any work, and so cheap to call again.
        with pytest.raises(ConnectionError, match="does not answer"):
            push_to_hub(made[1], "owner/name", base_model=BASE)
    found = push_to_hub(made[1], "owner/name", base_model=BASE)
    assert hub.repositories["owner/name"].refs["main"] == found.commit
    assert len(hub.repositories["owner/name"].commits) == 2


@pytest.mark.parametrize("fault", [(r"POST .*commit", 500, 429), (r"PUT /store", 500, 503), (r"POST .*preupload", 502)])
def test_what_may_pass_is_tried_again(made, hub, fault, monkeypatch):
    monkeypatch.setattr("gradiend.hub._publish.WAITS", (0.0, 0.0))
    pattern, *statuses = fault
    hub.fail(pattern, *statuses)
    found = push_to_hub(made[1], "owner/name", base_model=BASE)
    assert hub.repositories["owner/name"].refs["main"] == found.commit
    assert len(hub.repositories["owner/name"].commits) == 2


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"token": OWNER, "offline": True}, ConnectionError, r"HF_HUB_OFFLINE is set.*dry run"),
        ({}, PermissionError, r"hf auth login.*dry run"),
        ({"token": OWNER}, ConnectionError, r"does not answer.*is as it was"),
    ],
)
def test_without_network_or_login_nothing_is_begun(made, tmp_path, settings, error, message):
    with client_at("http://127.0.0.1:9", tmp_path, **settings), pytest.raises(error, match=message):
        made[0].push_to_hub("owner/name", strengthen="no such class")


def test_a_token_is_nowhere(made, hub, tmp_path, caplog, capfd):
    token = "hf_marker"
    hub.tokens[token] = "owner"
    caplog.set_level(logging.DEBUG)
    told = []
    with client_at(hub.endpoint, tmp_path / "other"):
        told.append(repr(push_to_hub(made[1], "owner/name", base_model=BASE, token=token)))
        told.append(repr(push_to_hub(made[1], "owner/name", base_model=BASE, token=token).to_dict()))
        hub.read_only.add(token)
        for options in ({"subfolder": "x"}, {"subfolder": "y", "base_model": token}):
            try:
                push_to_hub(made[1], "owner/name", token=token, **{"base_model": BASE, **options})
            except (OSError, ValueError):
                told.append(traceback.format_exc())
    assert any(token in request.headers.get("Authorization", "") for request in hub.log)
    assert "may not write" in told[2]
    assert "contains an access token" in told[3]
    assert token not in "".join([*told, caplog.text, *capfd.readouterr()])
    for content in (contents(made[1]) | hub.files("owner/name") | contents(tmp_path)).values():
        assert token.encode() not in content


# The whole road

LOADING = """
import json, sys
import torch
from transformers import AutoModelForMaskedLM
from gradiend import ModelWithGradiend, PostPruneConfig, apply_delta, list_gradiends, read_rewrite_record
from gradiend.model._parameter_map import digest_of

def digests(model):
    return {name: digest_of(tensor.detach()) for name, tensor in model.named_parameters()}

def load(texts):
    listed = [[one.subfolder, one.kind, list(one.classes), one.base_model] for one in list_gradiends("owner/name")]
    model = ModelWithGradiend.from_pretrained("owner/name", subfolder="sg_pl")
    record = read_rewrite_record("hf://owner/name/sg")
    changed = model.rewrite_base_model(learning_rate=record.learning_rate, feature_factor=record.feature_factor)
    plain = AutoModelForMaskedLM.from_pretrained("owner/tiny")
    apply_delta(plain, "hf://owner/name/delta")
    return {
        "listed": listed,
        "encodings": model.encode(texts, factual="he", alternative="they", return_float=True),
        "by GRADIEND": digests(changed),
        "by delta": digests(plain),
        "as a model": digests(AutoModelForMaskedLM.from_pretrained("owner/name", subfolder="sg")),
    }
"""
TEXTS = tiny_data.rows()["masked"].tolist()[:4]


@contextmanager
def published(made, hub):
    """A hub with base model, GRADIEND, rewritten model and delta; the local base model is away during the block."""
    trainer, run, base = made
    hub.create(BASE, base, private=True)
    push_to_hub(run, "owner/name", subfolder="sg_pl", base_model=BASE)
    push_to_hub(run / "rewritten", "owner/name", subfolder="sg")
    push_to_hub(run / "deltas" / "SG.safetensors", "owner/name", subfolder="delta", base_model=BASE)
    there: dict[str, Any] = {}
    exec(LOADING, there)
    own = trainer.get_model().encode(TEXTS, factual="he", alternative="they", return_float=True)
    rewritten = there["digests"](AutoModelForMaskedLM.from_pretrained(run / "rewritten"))
    expected = {
        "listed": [
            ["delta/gradiend_delta.safetensors", "delta", ["SG"], BASE],
            ["sg", "rewritten model", ["SG"], "./base"],
            ["sg_pl", "GRADIEND", ["SG", "PL"], BASE],
        ],
        "encodings": own,
        **dict.fromkeys(("by GRADIEND", "by delta", "as a model"), rewritten),
    }
    away = base.rename(base.with_name("away"))
    try:
        yield expected, there["load"]
    finally:
        away.rename(base)


def test_what_is_pushed_loads_where_the_base_model_is_only_on_the_hub(made, hub, tmp_path):
    with published(made, hub) as (expected, load), client_at(hub.endpoint, tmp_path / "new", token=OWNER):
        assert load(TEXTS) == expected
        assert made[0].load_model("hf://owner/name/sg_pl").gradiend.kwargs["base_model"] == BASE


@pytest.mark.slow
def test_what_is_pushed_loads_on_another_machine(made, hub, tmp_path):
    with published(made, hub) as (expected, _):
        script = f"{LOADING}\nprint(json.dumps(load(json.loads(sys.argv[1]))))"
        environment = environment_of_another_machine(hub.endpoint, tmp_path / "home", token=OWNER)
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(TEXTS)], env=environment, cwd=tmp_path, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected


def test_the_guide_to_publishing(made, hub, tmp_path, monkeypatch):
    trainer, run, _ = made
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "runs/number")
    text = (DOCS / "share.md").read_text(encoding="utf-8").split("## Publish")[1].split("\n## ")[0]
    names = {"trainer": trainer}
    # The base model of this trainer is a folder.
    named = re.sub(r'"owner/name"(?!.*base_model)', f'"owner/name", base_model="{BASE}"', text.replace("3PL", "SG"))
    for code in re.findall(r"^```python\n(.*?)^```", named, re.DOTALL | re.MULTILINE):
        exec(code, names)
    assert Path("to-publish/number/README.md").is_file()
    assert names["published"].place.endswith("/number")
    listed = re.findall(r"\]\((.*?)/README.md\)", hub.files("owner/name")["README.md"].decode(), re.MULTILINE)
    assert listed == ["number", "plural", "plural-delta"]


# The command


def test_the_command_publishes(made, hub, capsys, monkeypatch, tmp_path):
    _, run, _ = made

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["gradiend", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return end.code, capsys.readouterr()
        return 0, capsys.readouterr()

    code, told = command("push", run, "owner/name", "--base-model", BASE, "--dry-run", tmp_path / "staged")
    assert code == 0
    assert "nothing was published" in told.out
    assert "model.safetensors" in told.out
    assert not hub.repositories
    code, told = command("push", run, "owner/name")
    assert code == 1
    assert "--base-model" in told.err
    assert "Traceback" not in told.err
    code, told = command("push", run, "owner/name", "--base-model", BASE, "--public", "--license", "mit", "--json")
    assert code == 0
    assert json.loads(told.out)["commit"] == hub.repositories["owner/name"].refs["main"]
    assert not hub.repositories["owner/name"].private
    assert contents(tmp_path / "staged")["config.json"] == hub.files("owner/name")["config.json"]
    code, told = command("push", run, "owner/name", "--base-model", BASE)
    assert code == 1
    assert "--public" in told.err
