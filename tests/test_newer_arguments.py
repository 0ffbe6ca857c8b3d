"""The arguments of the 0.2.x releases: each acts, or is refused with the reason and what does it here."""

import json
import socket
from pathlib import Path

import pandas as pd
import pytest
import tiny
import tiny_data

from gradiend import TextPredictionConfig, TextPredictionTrainer, TrainingArguments, load_training_stats

# Field → default in those releases, or what is the default here, which docs/coming_from_0_2.md says.
DEFAULTS = {
    "base_gradient_batch_size": None, "gradiend_batch_size": None, "precompute_gradient_batches": None,
    "precompute_gradient_buffer_size": 1, "gradient_timing_steps": 0, "runtime_monitor": False,
    "runtime_monitor_interval": 5.0, "runtime_monitor_system_stats": True, "lr_search_config": None,
    "include_other_classes": False, "dataset_trust_remote_code": None, "prediction_objective": "auto",
    "mask_placeholder": "[MASK]", "decoder_mlm_head_epochs": 5, "decoder_mlm_head_batch_size": 4,
    "decoder_mlm_head_lr": 1e-4, "decoder_mlm_head_max_size": None, "decoder_sequence_cloze_rhs_window": -1,
    "positive_class": None, "base_model_device_map": None, "base_model_max_memory": None,
    "split_resplit_per_seed": False, "split_resplit_strategy": "random", "saved_seed_runs": None,
    "seed_stability_topk": 1000, "seed_stability_part": "decoder-weight", "analyze_seed_stability": False,
    "reuse_pre_prune": False, "fail_on_non_convergence": False, "highlight_non_convergence": True,
}  # fmt: skip

# Value that is refused → what the message names instead.
REFUSED = [
    ({"base_gradient_batch_size": 8}, "train_batch_size"),
    ({"gradiend_batch_size": 8}, "gradient_checkpointing"),
    ({"precompute_gradient_batches": True}, "kept_gradients_size"),
    ({"precompute_gradient_buffer_size": 2}, "kept_gradients_size"),
    ({"gradient_timing_steps": 5}, "training.json"),
    ({"include_other_classes": True}, "add_identity_for_other_classes"),
    ({"decoder_sequence_cloze_rhs_window": 8}, "left context"),
    ({"split_resplit_strategy": "balanced"}, "Did you mean 'balanced_cycle'"),
    ({"prediction_objective": "clm_sequence_cloze"}, "clm_mlm_head"),
    ({"prediction_objective": "seq2seq_encoder_mlm"}, "Encoder–decoder"),
    ({"prediction_objective": "mlm_mask_tokn"}, "Did you mean 'mlm_mask_token'"),
    ({"runtime_monitor_interval": 0}, "runtime_monitor_interval"),
    ({"seed_stability_topk": 0.0}, "share"),
    ({"mask_placeholder": " "}, "must not be empty"),
    ({"decoder_mlm_head_epochs": 0}, "decoder_mlm_head_epochs"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def test_all_thirty_are_there_with_their_defaults_and_survive_a_round_trip():
    arguments = TrainingArguments(**DEFAULTS)
    assert len(DEFAULTS) == 30
    assert {name: TrainingArguments().get(name) for name in DEFAULTS} == DEFAULTS
    again = TrainingArguments.from_dict(json.loads(json.dumps(arguments.to_dict())))
    assert again.to_dict() == arguments.to_dict()


def test_no_training_of_before_is_made_again_because_of_them():
    added = set(DEFAULTS) - {"lr_search_config"}
    assert not added & set(TrainingArguments.names("training", "seeds"))


@pytest.mark.parametrize(("fields", "instead"), REFUSED)
def test_what_does_not_act_is_refused_with_what_does(fields, instead):
    with pytest.raises(ValueError, match=next(iter(fields))) as error:
        TrainingArguments(**fields)
    assert instead in str(error.value)


def test_accepted_values_that_change_nothing():
    arguments = TrainingArguments(
        train_batch_size=8, base_gradient_batch_size=8, gradiend_batch_size=8, precompute_gradient_batches=False
    )
    assert arguments.base_gradient_batch_size == 8
    with pytest.raises(ValueError, match="must be train_batch_size"):
        arguments.replace(train_batch_size=4)


class TestPlaceholder:
    """Defect 10 of the existing tool: scoring and annotation looked for a literal [MASK]."""

    def data(self, own="<w>"):
        return tiny_data.rows().assign(masked=lambda frame: frame["masked"].str.replace("[MASK]", own, regex=False))

    def test_everything_is_as_with_the_usual_one(self, path):
        given = self.data()
        usual = tiny_data.trainer(path).train()
        for trainer in (
            tiny_data.trainer(path, {"mask_placeholder": "<w>"}, given),
            tiny_data.trainer(path, None, given, mask_placeholder="<w>"),
        ):
            assert trainer.config.mask_placeholder == "<w>"
            pd.testing.assert_frame_equal(trainer.combined_data, usual.combined_data)
            trainer.train()
            assert load_training_stats(trainer.model_path)["losses"] == load_training_stats(usual.model_path)["losses"]
            assert trainer.evaluate_encoder()["correlation"] == usual.evaluate_encoder()["correlation"]
            assert trainer.evaluate_decoder(lrs=[0.1]) == usual.evaluate_decoder(lrs=[0.1])
        assert given["masked"].str.contains("<w>", regex=False).all()  # the user's frame is not changed

    def test_texts_of_a_call_may_have_either(self, path):
        trainer = tiny_data.trainer(path, {"mask_placeholder": "<w>"}, self.data())
        model, rows = trainer.get_model(), self.data().query("split == 'test'")
        found = [
            trainer.evaluate_base_model(model.base_model, model.tokenizer, training_like_df=frame)["probs"]
            for frame in (rows, rows.assign(masked=rows["masked"].str.replace("<w>", "[MASK]", regex=False)))
        ]
        assert found[0] == found[1]
        assert (
            trainer.annotate_data(rows)["base_p_factual"].tolist()
            == trainer.annotate_data(split="test")["base_p_factual"].tolist()
        )
        assert trainer.balance_texts(["he and <w> .", "she and [MASK] ."]) == ["he and [MASK] .", "she and [MASK] ."]
        with pytest.raises(ValueError, match="no <w>"):
            trainer.balance_texts(["nothing"])
        with pytest.raises(ValueError, match="of sentences have no <w>"):
            trainer.modality.usual_texts(["nothing"], "sentences")

    def test_a_dict_of_frames(self, path):
        frames = dict(tuple(self.data("___").groupby("label_class")))
        trainer = tiny_data.trainer(path, {"mask_placeholder": "___"}, frames)
        assert trainer.combined_data["masked"].str.contains("[MASK]", regex=False).all()

    def test_rows_may_share_an_index_and_lack_a_text(self, path):
        data = self.data().set_axis([0] * 80)
        data.iloc[3, data.columns.get_loc("masked")] = None
        with pytest.raises(ValueError, match="1 of 80 rows have no text in 'masked'"):
            tiny_data.trainer(path, {"mask_placeholder": "<w>"}, data).combined_data  # noqa: B018

    @pytest.mark.parametrize(
        ("text", "message"),
        [("no word", r"1 of 80 texts have no <w>"), ("<w> and [MASK]", "both <w> .* and .MASK.")],
    )
    def test_a_text_without_it_or_with_both(self, path, text, message):
        data = self.data()
        data.loc[3, "masked"] = text
        with pytest.raises(ValueError, match=message):
            tiny_data.trainer(path, {"mask_placeholder": "<w>"}, data).combined_data  # noqa: B018

    def test_two_of_ones_own_do_not_go_together(self, path):
        args = TrainingArguments(mask_placeholder="<w>")
        config = TextPredictionConfig(data=self.data(), mask_placeholder="___")
        with pytest.raises(ValueError, match="give it once"):
            TextPredictionTrainer(path, config=config, args=args)
        with pytest.raises(ValueError, match="not to a call of train"):
            tiny_data.trainer(path).train(mask_placeholder="<w>")


class TestObjective:
    def test_a_masked_model(self, path):
        assert tiny_data.trainer(path, {"prediction_objective": "mlm_mask_token"}).train().has_model()
        with pytest.raises(
            ValueError, match=r"'clm_next_token' needs a causal model, but .* BertForMaskedLM is masked"
        ):
            tiny_data.trainer(path, {"prediction_objective": "clm_next_token"}).train()

    def test_a_causal_model_with_and_without_its_head(self, tmp_path):
        family = next(one for one in tiny.FAMILIES.values() if one.causal)
        place = str(tmp_path / "base")
        family.build().save_pretrained(place)
        family.tokenizer().save_pretrained(place)
        fields = {"experiment_dir": str(tmp_path / "x"), "decoder_mlm_head_epochs": 1, "decoder_mlm_head_max_size": 8}

        def trainer(objective):
            return tiny_data.trainer(place, {**fields, "prediction_objective": objective})

        with pytest.raises(ValueError, match="call train_decoder_only_mlm_head first"):
            trainer("clm_mlm_head").get_model()
        head = trainer("clm_mlm_head")
        head.train_decoder_only_mlm_head(place)
        assert head.get_model().objective.name == "causal with head"
        assert trainer("auto").get_model().objective.name == "causal with head"
        assert trainer("clm_next_token").get_model().objective.name == "causal"


def test_the_head_is_trained_with_the_arguments_unless_the_call_says_more(path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "gradiend.trainer.text.prediction.trainer.train_mlm_head",
        lambda model, rows, output, **given: seen.append((len(rows), given)) or output,
    )
    fields = {
        "decoder_mlm_head_epochs": 2, "decoder_mlm_head_batch_size": 3, "decoder_mlm_head_lr": 0.5,
        "decoder_mlm_head_max_size": 7,
    }  # fmt: skip
    trainer = tiny_data.trainer(path, fields)
    trainer.train_decoder_only_mlm_head(path, "somewhere")
    trainer.train_decoder_only_mlm_head(path, "somewhere", epochs=5, batch_size=4, lr=1e-4, max_size=9)
    tiny_data.trainer(path).train_decoder_only_mlm_head(path, "somewhere")
    found = [(n, given["epochs"], given["batch_size"], given["lr"]) for n, given in seen]
    assert found == [(7, 2, 3, 0.5), (9, 5, 4, 1e-4), (len(trainer.get_decoder_mlm_training_data()), 5, 4, 1e-4)]


def test_positive_class_is_a_target_class(path):
    tiny_data.trainer(path, {"positive_class": "PL", "max_steps": 1}).train()
    with pytest.raises(ValueError, match=r"positive_class='PLU' is none of .* Did you mean 'PL'"):
        tiny_data.trainer(path, {"positive_class": "PLU"}).train()


def test_the_data_set_of_the_arguments(path):
    assert tiny_data.trainer(path, {"dataset_trust_remote_code": True}).config.dataset_trust_remote_code
    for own in (True, False):
        assert tiny_data.trainer(path, dataset_trust_remote_code=own).config.dataset_trust_remote_code is own


def test_the_titles_of_a_training_that_has_not_converged(path, tmp_path):
    pytest.importorskip("matplotlib")
    from gradiend.visualizer import _output  # noqa: PLC0415 - matplotlib is optional

    titles = []
    for name, fields in {
        "no": {"convergent_score_threshold": 1.0},
        "unmarked": {"convergent_score_threshold": 1.0, "highlight_non_convergence": False},
        "yes": {"convergent_score_threshold": 0.0},
    }.items():
        trainer = tiny_data.trainer(path, {**fields, "experiment_dir": str(tmp_path / name)}).train()
        with _output.marked_titles(trainer):
            titles.append(_output.new_figure((2, 2), "T").get_suptitle())
    assert titles == ["T †", "T", "T"]
    assert _output.new_figure((2, 2), "T").get_suptitle() == "T"


class TestRuntimeMonitor:
    def lines(self, directory):
        text = (Path(directory) / "runtime_monitor.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()], text

    def test_what_is_in_the_file(self, path, tmp_path):
        fields = {"runtime_monitor": True, "runtime_monitor_interval": 0.01, "experiment_dir": str(tmp_path)}
        trainer = tiny_data.trainer(path, {**fields, "max_seeds": 2, "min_convergent_seeds": None})
        trainer.train()
        trainer.evaluate_encoder()
        lines, text = self.lines(tmp_path)
        events = [line["event"] for line in lines]
        assert (events[0], events[-1], events.count("monitor_start")) == ("monitor_start", "monitor_stop", 2)
        assert "heartbeat" in events
        phases = [line["phase"] for line in lines if line["event"] == "mark"]
        assert phases[:5] == ["train:start", "seed_0:start", "seed_0:end", "seed_1:start", "seed_1:end"]
        assert phases[-2:] == ["evaluate_encoder:start", "evaluate_encoder:end"]
        first = lines[events.index("monitor_stop")]["phases"]
        assert first["train"]["seconds"] >= first["seed_0"]["seconds"] + first["seed_1"]["seconds"]
        assert first["train"]["peak_rss"] >= first["seed_0"]["peak_rss"] > 1e6
        assert socket.gethostname() not in text
        assert all({"event", "time", "time_unix"} <= set(line) for line in lines)

    def test_only_on_request_and_with_a_place(self, path, tmp_path):
        tiny_data.trainer(path, {"experiment_dir": str(tmp_path), "max_steps": 1}).train()
        assert not list(tmp_path.rglob("runtime_monitor*"))
        with pytest.raises(ValueError, match="experiment_dir"):
            tiny_data.trainer(path, {"runtime_monitor": True}).train()

    def test_an_error_and_a_file_that_cannot_be_written(self, path, tmp_path, caplog):
        trainer = tiny_data.trainer(path, {"experiment_dir": str(tmp_path), "max_steps": 1})
        with pytest.raises(ValueError, match="target"):
            trainer.train(runtime_monitor=True, target="nothing")
        assert self.lines(tmp_path)[0][-1]["event"] == "monitor_stop"
        (tmp_path / "runtime_monitor.jsonl").unlink()
        (tmp_path / "runtime_monitor.jsonl").mkdir()
        trainer.train(runtime_monitor=True)
        assert "The runtime monitor ends" in caplog.text
