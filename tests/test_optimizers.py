"""Our optimizers against torch's classes."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from studylib.training.optimizers import Adam, Sgd, zero_grad

RATES = [0.1, 0.05, 0.2, 0.01]
CASES = {
    "adam": (Adam, torch.optim.Adam, {}),
    "sgd": (Sgd, torch.optim.SGD, {"momentum": 0.9}),
    "sgd without momentum": (Sgd, torch.optim.SGD, {"momentum": 0.0}),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(3, 5, 2), nn.BatchNorm1d(5), nn.Flatten(), nn.Linear(20, 2))


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return model(torch.randn(8, 3, 5, generator=generator)).square().sum()


def descend(model: nn.Module, optimizer, steps: range) -> None:
    for step in steps:
        zero_grad(model.parameters())
        loss_of(model, step).backward()
        optimizer.step(RATES[step])


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("fused", [None, True])
def test_the_weights_are_bit_for_bit_those_of_torchs_class(case, decay, fused):
    ours, theirs, keys = CASES[case]
    model, reference = network(), network()
    optimizer = ours(model.parameters(), weight_decay=decay, fused=fused, **keys)
    descend(model, optimizer, range(4))
    expected = theirs(reference.parameters(), lr=1.0, weight_decay=decay, fused=fused, **keys)
    for step, rate in enumerate(RATES):
        expected.param_groups[0]["lr"] = rate
        expected.zero_grad()
        loss_of(reference, step).backward()
        expected.step()
    assert torch.equal(weights(model), weights(reference))


@pytest.mark.parametrize("case", CASES)
def test_what_is_restored_goes_on_with_the_same_bits(case, tmp_path):
    ours, _, keys = CASES[case]
    model = network()
    optimizer = ours(model.parameters(), weight_decay=0.01, fused=None, **keys)
    descend(model, optimizer, range(2))
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "saved.pt")
    descend(model, optimizer, range(2, 4))
    resumed = network()
    again = ours(resumed.parameters(), weight_decay=0.01, fused=None, **keys)
    saved_model, saved_optimizer = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed.load_state_dict(saved_model)
    again.load_state_dict(saved_optimizer)
    descend(resumed, again, range(2, 4))
    assert torch.equal(weights(model), weights(resumed))


def test_a_weight_without_gradient_stays_and_is_not_counted():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.ones(2)
    optimizer = Adam([used, unused], weight_decay=0.1, fused=None)
    optimizer.step(0.1)
    assert torch.equal(unused, torch.ones(2))
    assert [step.item() for step in optimizer.steps] == [1, 0]


def test_a_training_process_does_not_import_torchs_compiler():
    code = """
import sys, torch
from studylib.training.acceleration import set_arithmetic
from studylib.training.settings import TrainSettings
from studylib.training.optimizers import Adam, Sgd
settings = TrainSettings(crops=1, speakers_per_batch=1, utterances_per_speaker=1)
set_arithmetic(settings, torch.device("cpu"))
weight = torch.nn.Parameter(torch.ones(2))
weight.grad = torch.ones(2)
Adam([weight], weight_decay=0.0, fused=None).step(0.1)
Sgd([weight], momentum=0.9, weight_decay=0.0, fused=None).step(0.1)
sys.exit("torch._dynamo" in sys.modules or "torch._inductor" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
