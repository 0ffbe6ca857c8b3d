"""The analytic GRADIEND step is the autograd step."""

import pytest
import torch

from gradiend import GradiendModel, TrainingArguments
from gradiend.trainer.core import optimizers
from gradiend.trainer.core.optimizers import AnalyticOptimizer, AutogradOptimizer, create_optimizer


def networks(n, **kwargs):
    """Two networks with the same weights."""
    torch.manual_seed(0)
    first = GradiendModel(n, 1, torch_dtype=torch.float64, **kwargs)
    second = GradiendModel(n, 1, torch_dtype=torch.float64, **kwargs)
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("bias_decoder", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "id"])
@pytest.mark.parametrize("optim", ["adamw", "adam"])
def test_the_analytic_step_equals_autograd(optim, activation, bias_decoder, monkeypatch):
    monkeypatch.setattr(optimizers, "CHUNK", 100)
    arguments = TrainingArguments(learning_rate=1e-2, weight_decay=0.1, optim=optim)
    analytic, reference = networks(257, activation_encoder=activation, bias_decoder=bias_decoder)
    steps = AnalyticOptimizer(analytic, arguments), AutogradOptimizer(reference, arguments)
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
    assert isinstance(create_optimizer(gradiend, TrainingArguments()), AutogradOptimizer)


def test_other_criteria_use_autograd():
    arguments = TrainingArguments(criterion=torch.nn.L1Loss())
    assert isinstance(create_optimizer(GradiendModel(20, 1), arguments), AutogradOptimizer)
    assert isinstance(create_optimizer(GradiendModel(20, 1), TrainingArguments()), AnalyticOptimizer)
