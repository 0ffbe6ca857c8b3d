"""What is added in one place works everywhere: an activation, an optimizer, an argument, a selection policy."""

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_data
import torch

from gradiend import GradiendModel, TrainingArguments
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.model._architecture import ACTIVATIONS, Activation
from gradiend.trainer.core import _step
from gradiend.trainer.core._optimizers import OPTIMIZERS, AutogradOptimizer, OptimizerKind
from gradiend.trainer.core._step import create_optimizer
from gradiend.trainer.core.arguments import whole
from gradiend.util._arguments import argument


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def weights(trainer):
    return torch.cat([tensor.flatten() for tensor in trainer.get_model().gradiend.state_dict().values()])


def step_of(**arguments):
    """The step that the arguments choose for a network of one latent."""
    args = TrainingArguments(**arguments)
    return type(create_optimizer(GradiendModel(20, 1, activation_encoder=args.activation_encoder or "tanh"), args))


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
        create_optimizer(gradiend, TrainingArguments(**given)).step(source, target)
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
        steps = create_optimizer(plain, arguments), create_optimizer(inverted, arguments)
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
