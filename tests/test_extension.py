"""What is added in one place works everywhere: a kind of model, an activation, an optimizer, an argument, a policy."""

import dataclasses
import json
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM
from transformers.modeling_outputs import MaskedLMOutput

from gradiend import GradiendModel, ModelWithGradiend, TextPredictionTrainer, TrainingArguments
from gradiend.evaluator import LMSThresholdPolicy, SharePolicy
from gradiend.gradients import TokenizedWord
from gradiend.model._activations import ACTIVATIONS, Activation
from gradiend.objectives import OBJECTIVES, Masked, ModelWithHead, Objective, kind_of, register
from gradiend.trainer.core import _step
from gradiend.trainer.core._argument_parsers import whole
from gradiend.trainer.core._optimizers import OPTIMIZERS, OptimizerKind
from gradiend.trainer.core._step import AutogradOptimizer, optimizer_for
from gradiend.util._argument_fields import argument


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def weights(trainer):
    return torch.cat([tensor.flatten() for tensor in trainer.get_model().gradiend.state_dict().values()])


def step_of(**arguments):
    """The step that the arguments choose for a network of one latent."""
    args = TrainingArguments(**arguments)
    return type(optimizer_for(GradiendModel(20, 1, activation_encoder=args.activation_encoder or "tanh"), args))


LABELS = ("he", "she", "they")


class ReadOut(ModelWithHead):
    """Which word the text had, read linearly from the mean hidden state of the text without it."""

    def __init__(self, bert, weight):
        super().__init__(bert)
        self.register_buffer("weight", weight)

    def forward(self, input_ids, attention_mask):
        hidden = self.bert(input_ids, attention_mask).last_hidden_state
        mask = attention_mask[:, :, None].to(hidden)
        logits = (hidden * mask).sum(1) / mask.sum(1) @ self.weight.T
        return MaskedLMOutput(logits=logits[:, None].expand(-1, input_ids.shape[1], -1))


class MeanReadOut(Objective):
    """One token, the word's number, scored at the first position, from a text with a mask in place of the word."""

    name = "mean read-out"
    folder = "read_out"
    unknown_id = None

    @classmethod
    def fits(cls, model):
        return isinstance(model, ReadOut)

    def _written(self, word):
        return LABELS[0]

    def _right_of(self, after):
        return after

    def _word(self, span, word):
        before, after = span.ids[: span.start], span.ids[span.end :]
        ids = (*span.prefix, *before, self.tokenizer.mask_token_id, *after, *span.suffix)
        return TokenizedWord(ids, (0,), (LABELS.index(word),))

    def save(self, model, directory):
        directory.mkdir(parents=True)
        save_file({"weight": model.weight}, directory / "weight.safetensors")

    @classmethod
    def is_saved(cls, directory):
        return (Path(directory) / "weight.safetensors").is_file()

    @classmethod
    def put_on(cls, base_model, directory):
        return ReadOut(base_model, load_file(Path(directory) / "weight.safetensors")["weight"])


class TestObjective:
    """One class: how a linear read-out on the mean hidden state reads a row, and what is saved of it."""

    @pytest.fixture
    def read_out(self, bert, monkeypatch):
        for name, kind in list(OBJECTIVES.items()):
            monkeypatch.setitem(OBJECTIVES, name, kind)
        register(MeanReadOut)
        weight = torch.randn(len(LABELS), 16, generator=torch.Generator().manual_seed(1))
        yield ModelWithGradiend.from_pretrained(
            ReadOut(BertForMaskedLM.from_pretrained(bert), weight), tokenizer=tiny.bert_tokenizer()
        )
        del OBJECTIVES[MeanReadOut.name]

    def test_it_is_found_by_the_model_s_class_or_by_name(self, read_out):
        assert kind_of(read_out.base_model) is MeanReadOut
        assert kind_of(tiny.bert()).name == "masked"
        assert kind_of(tiny.bert(), "mean read-out") is MeanReadOut
        names = "mean read-out, causal with head, masked, causal"
        with pytest.raises(ValueError, match=rf"objective must be one of {names}; got 'maskd'.*'masked'"):
            kind_of(tiny.bert(), "maskd")

    def test_a_name_chooses_the_kind_and_a_checkpoint_keeps_it(self, bert, tmp_path, monkeypatch):
        class Plural(Masked):
            """A masked model that is asked for the same word, whatever the text had."""

            name = "always they"

            def _written(self, word):
                return "they"

        kinds = {**OBJECTIVES, Plural.name: Plural}
        for name, kind in kinds.items():
            monkeypatch.setitem(OBJECTIVES, name, kind)
        text, plain = "the nurse said [MASK] was near the house .", ModelWithGradiend.from_pretrained(bert)
        for given in (bert, BertForMaskedLM.from_pretrained(bert)):
            model = ModelWithGradiend.from_pretrained(given, tokenizer=tiny.bert_tokenizer(), objective=Plural.name)
            assert type(model.objective) is Plural
            assert torch.equal(model.create_gradients(text, "he"), plain.create_gradients(text, "they"))
            model.save_pretrained(str(tmp_path / "named"))
            again = ModelWithGradiend.from_pretrained(str(tmp_path / "named"))
            assert type(again.objective) is Plural
            assert torch.equal(again.encode(text, "he"), model.encode(text, "he"))
        with pytest.raises(ValueError, match="has the objective 'always they', not 'masked'"):
            ModelWithGradiend.from_pretrained(str(tmp_path / "named"), objective="masked")
        with pytest.raises(ValueError, match=r"objective must be one of .*; got 'maskd'.*'masked'"):
            ModelWithGradiend.from_pretrained(bert, objective="maskd")
        plain.save_pretrained(str(tmp_path / "plain"))
        known = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("named", "plain")]
        assert ["always they" in json.dumps(config) for config in known] == [True, False]

    def test_it_is_what_trains_and_is_kept(self, read_out, tmp_path):
        text = "the old nurse was near the house and then [MASK] saw the bread ."
        model, mapping = read_out.base_model, read_out.gradiend.mapping
        ids = torch.tensor([tiny.bert_tokenizer()(text).input_ids])

        def loss():
            state = model.bert(ids).last_hidden_state.mean(1)
            return -(state @ model.weight.T)[0].log_softmax(-1)[LABELS.index("she")]

        expected = tiny.naive_gradient(model, mapping, loss)
        assert tiny.distance(read_out.create_gradients(text, "she"), expected) <= 1e-5
        slope = (read_out.gradiend.encoder_linear.weight @ expected + read_out.gradiend.encoder_linear.bias).tanh()
        assert torch.allclose(read_out.encode_texts([text], ["she"], ["they"])[0], slope, atol=1e-5)

        args = TrainingArguments(**tiny_data.QUICK, experiment_dir=str(tmp_path))
        trainer = TextPredictionTrainer(read_out, data=tiny_data.rows(), target_classes=["SG", "PL"], args=args)
        before = trainer.get_model().encode_texts([text], ["she"], ["they"])
        trained = trainer.train().get_model()
        after = trained.encode_texts([text], ["she"], ["they"])
        assert not torch.equal(after, before)
        again = ModelWithGradiend.from_pretrained(trainer.model_path)
        assert type(again.objective) is MeanReadOut
        assert torch.equal(again.encode_texts([text], ["she"], ["they"]), after)
        # Measured and rewritten is the model without the read-out.
        result = trainer.evaluate_decoder(lrs=[0.1])
        assert 0 < result["grid"]["base"]["lms"]["lms"] < 1
        assert type(trainer.rewrite_base_model(result, "SG")) is BertForMaskedLM
        assert trainer.evaluate_encoder(max_size=8)["n_samples"] > 0


SOFTSIGN = Activation(
    torch.nn.Softsign, odd=True, slope=lambda h: (1 - h.abs()) ** 2, inverse=lambda h: h / (1 - abs(h))
)


class TestActivation:
    """One entry of ACTIVATIONS."""

    def test_every_step_knows_it(self, bert, monkeypatch):
        """The analytic, the fused and the autograd step train the same GRADIEND."""
        monkeypatch.setattr(_step, "compiled_step", lambda: _step.fused_step)
        arguments = {"activation_encoder": "softsign", "learning_rate": 1e-2}
        trained = {}
        for entry in (SOFTSIGN, dataclasses.replace(SOFTSIGN, slope=None)):
            monkeypatch.setitem(ACTIVATIONS, "softsign", entry)
            for fused in (False, True) if entry.slope else (False,):
                name = step_of(**arguments, torch_compile=fused).__name__
                trained[name] = weights(tiny_data.trainer(bert, {**arguments, "torch_compile": fused}).train())
        assert list(trained) == ["AnalyticOptimizer", "CompiledOptimizer", "AutogradOptimizer"]
        for found in trained.values():
            assert torch.allclose(found, trained["AutogradOptimizer"], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(trained["AutogradOptimizer"], weights(tiny_data.trainer(bert).train()), atol=1e-3)

    def test_it_has_a_closed_form_and_is_inverted(self, bert, monkeypatch):
        monkeypatch.setitem(ACTIVATIONS, "softsign", SOFTSIGN)
        closed = {"activation_encoder": "softsign", "init": "class_means", "init_samples": 8, "max_steps": 0}
        trainer = tiny_data.trainer(bert, closed).train()
        means = trainer.evaluate_encoder()["mean_by_feature_class"]
        assert means["SG"] > 0.3
        assert means["PL"] < -0.3
        gradiend, source = trainer.get_model().gradiend, torch.randn(len(trainer.get_model()))
        before = gradiend(source, return_encoded=True)
        assert gradiend.invert_encoding()
        after = gradiend(source, return_encoded=True)
        assert torch.allclose(after[0], before[0])
        assert torch.equal(after[1], -before[1])

    def test_what_an_entry_lacks_cannot_be_done(self, bert, monkeypatch, caplog):
        monkeypatch.setitem(ACTIVATIONS, "softplus", Activation(torch.nn.Softplus))
        assert step_of(activation_encoder="softplus", torch_compile=True) is AutogradOptimizer
        assert "torch_compile has no effect: it is for one latent, tanh or id" in caplog.text
        assert not GradiendModel(20, 1, activation_encoder="softplus").invert_encoding()
        arguments = {"activation_encoder": "softplus", "init": "class_means", "init_samples": 8}
        with pytest.raises(ValueError, match=r"an odd encoder activation \(tanh, smht, id\)"):
            tiny_data.trainer(bert, arguments).train()
        assert tiny_data.trainer(bert, {"activation_encoder": "softplus"}).train().get_model()


def sgd(momentum=0.0):
    return OptimizerKind(
        lambda parameters, lr, weight_decay, **_: torch.optim.SGD(
            parameters, lr=lr, weight_decay=weight_decay, momentum=momentum
        ),
        state=int(momentum > 0),
        moments=("momentum_buffer",) if momentum else (),
    )


class TestOptimizer:
    """One entry of OPTIMIZERS."""

    def test_it_is_what_trains(self, bert, monkeypatch):
        monkeypatch.setitem(OPTIMIZERS, "sgd", sgd())
        assert step_of(optim="sgd") is AutogradOptimizer
        rate, decay = 0.1, 0.01
        given = {"optim": "sgd", "learning_rate": rate, "weight_decay": decay, "torch_dtype": torch.float64}
        gradiend = GradiendModel(20, 1, torch_dtype=torch.float64)
        source, target = torch.randn(2, 20, dtype=torch.float64)
        torch.nn.functional.mse_loss(gradiend(source), target).backward()
        expected = [(w - rate * (w.grad + decay * w)).detach() for w in gradiend.parameters()]
        optimizer_for(gradiend, TrainingArguments(**given)).step(source, target)
        for found, wanted in zip(gradiend.parameters(), expected, strict=True):
            assert torch.allclose(found, wanted, rtol=1e-12)
        trained = tiny_data.trainer(bert, {"optim": "sgd", "learning_rate": 1e-2}).train()
        stats = json.loads((Path(trained.model_path) / "training.json").read_text())
        assert stats["training_args"]["optim"] == "sgd"
        assert not torch.allclose(weights(trained), weights(tiny_data.trainer(bert).train()), atol=1e-4)

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_its_memory_is_its_own(self, bert, monkeypatch, momentum):
        monkeypatch.setitem(OPTIMIZERS, "sgd", sgd(momentum))
        uses = tiny_data.trainer(bert, {"optim": "sgd"}).estimate_memory().phases["training steps"]
        found = {name: sum(use.nbytes for use in uses if use.name == name) for name in {use.name for use in uses}}
        assert found["optimizer state"] == (found["GRADIEND weights"] if momentum else 0)
        assert found["gradients of the GRADIEND"] > 0

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_it_can_be_inverted_on_the_way(self, monkeypatch, momentum):
        monkeypatch.setitem(OPTIMIZERS, "sgd", sgd(momentum))
        plain, inverted = GradiendModel(20, 1), GradiendModel(20, 1)
        inverted.load_state_dict(plain.state_dict())
        arguments = TrainingArguments(optim="sgd", learning_rate=0.1)
        steps = optimizer_for(plain, arguments), optimizer_for(inverted, arguments)
        for number in range(6):
            source, target = torch.randn(2, 20)
            for step in steps:
                step.step(source, target)
            if number == 2:
                steps[1].invert()
                inverted.invert_encoding()
        assert torch.allclose(plain.forward_encoder(source), -inverted.forward_encoder(source), rtol=1e-4)

    def test_another_name_is_refused(self):
        with pytest.raises(ValueError, match="optim must be one of adamw, adam; got 'sgd'"):
            TrainingArguments(optim="sgd")


@dataclasses.dataclass(repr=False)
class MoreArguments(TrainingArguments):
    """With a number that trainings depend on, a note that they do not, and a function that is not saved."""

    rounds: int = argument(1, whole(1))
    """Rounds."""
    remark: str | None = argument(None, affects="neither")
    """A remark."""
    on_seed: object = argument(None, save=None)
    """A function."""


class TestArgument:
    """One field, also of a subclass."""

    @pytest.mark.parametrize("wrong", [0, 1.5, None, True])
    def test_it_is_checked(self, wrong):
        with pytest.raises(ValueError, match="rounds must be an int of at least 1"):
            MoreArguments(rounds=wrong)

    def test_it_is_kept_overridden_and_saved(self, bert, tmp_path):
        def make(**more):
            args = {**tiny_data.QUICK, "experiment_dir": str(tmp_path), "use_cache": True, "on_seed": print, **more}
            return tiny_data.trainer(bert, MoreArguments(**args))

        trained = make(rounds=2).train()
        saved = json.loads((Path(trained.model_path) / "training.json").read_text())["training_args"]
        assert (saved["rounds"], saved["remark"], "on_seed" in saved) == (2, None, False)
        assert MoreArguments.from_dict(saved).rounds == 2
        assert make(rounds=2, remark="again").train().reused
        assert not make(rounds=3).train().reused
        assert make(rounds=2).train(rounds=3).reused
        with pytest.raises(TypeError, match="Did you mean 'rounds'"):
            make().train(round=3)


class TestPolicy:
    """One class."""

    @pytest.mark.parametrize("limited", [True, False])
    def test_it_says_what_need_not_be_measured(self, bert, limited):
        class Smallest:
            """The smallest step."""

            def select(self, metric, candidates, ctx):
                return min(candidates, key=lambda one: one.id["learning_rate"], default=None)

        class Limited(Smallest):
            """The smallest step, of those that better the score."""

            def least_lms(self, ctx):
                return 1.5 * ctx.base_lms

        trained = tiny_data.trainer(bert).train()
        result = trained.evaluate_decoder(lrs=[0.1, 0.5], selector=Limited() if limited else Smallest())
        rewrites = [entry for key, entry in result["grid"].items() if key != "base"]
        assert ["skipped" in entry for entry in rewrites] == [limited] * len(rewrites)
        assert result["SG"]["learning_rate"] == (None if limited else 0.1)
        if limited:
            assert "keeps 1.5 of the base model's language-modelling score" in result["SG"]["reason"]

    def test_a_limit_is_not_inherited(self, bert):
        class Lenient(LMSThresholdPolicy):
            """Chooses below the limit of its base."""

            def select(self, metric, candidates, ctx):
                return candidates[0]

        trained = tiny_data.trainer(bert).train()
        result = trained.evaluate_decoder(lrs=[0.1], selector=Lenient(ratio=1.5))
        assert result["SG"]["learning_rate"] == 0.1

    def test_a_share_of_its_own_guides_the_search(self, bert):
        class Guesses(SharePolicy):
            """The highest metric of what keeps most of the right guesses."""

            score = "right guesses"
            ratio = 0.9

            def kept(self, scores, ctx):
                return None if scores.get("lms") is None else scores["lms"] / ctx.base_lms

            def select(self, metric, candidates, ctx):
                # Entries that the search only looked at have no scores, and are no candidates.
                eligible = [one for one in candidates if one.lms >= self.ratio * ctx.base_lms]
                return max(eligible, key=lambda one: one.metrics[metric], default=None)

        trained = tiny_data.trainer(bert).train()
        wanted = trained.evaluate_decoder(lrs="auto", selector=LMSThresholdPolicy(0.9))["SG"]
        found = trained.evaluate_decoder(lrs="auto", selector=Guesses())["SG"]
        assert found["learning_rate"] == wanted["learning_rate"]
        assert found["least_share"] == 0.9
        told, refused = found["why"].split("; ")
        assert told == wanted["why"].split("; ")[0].replace("of the LMS", "of the right guesses")
        assert "of the right guesses is kept, too little for 0.9" in refused
