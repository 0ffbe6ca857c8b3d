"""The analytic GRADIEND step is the autograd step, compiled or not."""

import logging
import shutil

import pytest
import torch
import torch._inductor.config
from torch._inductor.utils import fresh_cache

from gradiend import GradiendModel, TrainingArguments
from gradiend.trainer.core import _step
from gradiend.trainer.core._step import (
    AnalyticOptimizer,
    AutogradOptimizer,
    CompiledOptimizer,
    fused_step,
    optimizer_for,
)


def networks(n, **kwargs):
    """Two networks with the same weights."""
    torch.manual_seed(0)
    first = GradiendModel(n, 1, torch_dtype=torch.float64, **kwargs)
    second = GradiendModel(n, 1, torch_dtype=torch.float64, **kwargs)
    second.load_state_dict(first.state_dict())
    return first, second


def assert_equals_autograd(optimizer, optim, activation, bias_decoder):
    """Twelve steps in float64 of an optimizer class and of autograd, inverted on the way."""
    arguments = TrainingArguments(learning_rate=1e-2, weight_decay=0.1, optim=optim, torch_compile=True)
    analytic, reference = networks(257, activation_encoder=activation, bias_decoder=bias_decoder)
    steps = optimizer(analytic, arguments), AutogradOptimizer(reference, arguments, reference)
    for number in range(12):
        source, target = torch.randn(2, 257, dtype=torch.float64)
        losses = [step.step(source, target).item() for step in steps]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
        if number == 5:
            for step, network in zip(steps, (analytic, reference), strict=True):
                step.invert()
                network.invert_encoding()
    for name, tensor in analytic.state_dict().items():
        assert torch.allclose(tensor, reference.state_dict()[name], rtol=1e-10, atol=1e-14), name


def warnings_of(caplog):
    """What the package has said; the compiler logs too."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("gradiend")]


def each_network(test):
    """Run a test for every network and optimizer that the analytic step is for."""
    for name, values in (
        ("bias_decoder", [True, False]),
        ("activation", ["tanh", "id"]),
        ("optim", ["adamw", "adam"]),
    ):
        test = pytest.mark.parametrize(name, values)(test)
    return test


@each_network
def test_the_analytic_step_equals_autograd(optim, activation, bias_decoder, monkeypatch):
    monkeypatch.setattr(_step, "CHUNK", 100)
    assert_equals_autograd(AnalyticOptimizer, optim, activation, bias_decoder)


@each_network
def test_the_step_that_is_compiled_equals_autograd(optim, activation, bias_decoder, monkeypatch):
    monkeypatch.setattr(_step, "compiled_step", lambda: fused_step)
    assert_equals_autograd(CompiledOptimizer, optim, activation, bias_decoder)


@pytest.mark.slow  # The compiler takes half a minute when it first runs.
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, g++")
@each_network
def test_the_compiled_step_equals_autograd(optim, activation, bias_decoder, caplog):
    assert_equals_autograd(CompiledOptimizer, optim, activation, bias_decoder)
    assert not warnings_of(caplog)


@pytest.mark.slow  # Importing and tracing take ten seconds.
def test_without_a_compiler_the_step_is_the_plain_one(caplog):
    torch._dynamo.reset()
    nothing = {"cpp.cxx": ("no-such-compiler",)}
    with fresh_cache(), torch._inductor.config.patch(nothing), caplog.at_level(logging.WARNING):
        assert_equals_autograd(CompiledOptimizer, "adamw", "tanh", True)
    assert [message[:37] for message in warnings_of(caplog)] == ["torch_compile has no effect here: Inv"]


def test_an_inverted_run_is_the_mirror_image_of_the_other():
    """Negating W_e, b_e, W_d and their moments commutes with training: encodings mirrored, reconstructions equal."""
    plain, inverted = networks(50)
    arguments = TrainingArguments(learning_rate=1e-2)
    steps = AnalyticOptimizer(plain, arguments), AnalyticOptimizer(inverted, arguments)
    batches = torch.randn(10, 2, 50, dtype=torch.float64)
    for number, (source, target) in enumerate(batches):
        for step in steps:
            step.step(source, target)
        if number == 4:
            steps[1].invert()
            inverted.invert_encoding()
    assert torch.allclose(plain.forward_encoder(source), -inverted.forward_encoder(source), rtol=1e-10)
    assert torch.allclose(plain(source), inverted(source), rtol=1e-10)


@pytest.mark.parametrize(
    "network",
    [
        {"latent_dim": 3},
        {"latent_dim": 1, "activation_encoder": "relu"},
        {"latent_dim": 1, "activation_decoder": "tanh"},
        {"latent_dim": 1, "torch_dtype": torch.float16},
    ],
    ids=str,
)
def test_other_networks_use_autograd(network):
    gradiend = GradiendModel(20, **network)
    assert isinstance(optimizer_for(gradiend, TrainingArguments()), AutogradOptimizer)


def test_other_criteria_use_autograd():
    arguments = TrainingArguments(criterion=torch.nn.L1Loss())
    assert isinstance(optimizer_for(GradiendModel(20, 1), arguments), AutogradOptimizer)
    assert type(optimizer_for(GradiendModel(20, 1), TrainingArguments())) is AnalyticOptimizer


def test_only_the_analytic_step_is_compiled(caplog):
    arguments = TrainingArguments(torch_compile=True)
    assert isinstance(optimizer_for(GradiendModel(20, 1), arguments), CompiledOptimizer)
    assert not warnings_of(caplog)
    assert isinstance(optimizer_for(GradiendModel(20, 3), arguments), AutogradOptimizer)
    assert [message[:28] for message in warnings_of(caplog)] == ["torch_compile has no effect:"]
