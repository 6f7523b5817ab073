"""Weights of the papers at given SNR, and a network of a table beside one of continuous time."""

import dataclasses

import pytest
import torch

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import Objective, TrainingSettings, build, output_weight, train

# SNR: min-SNR with gamma = 5 on x0, eps and v, and P2 on eps (Hang et al. 2023; Choi et al. 2022).
GOLDEN = {
    100.0: (5.0, 0.05, 0.0495049504950, 0.00990099009901),
    5.0: (5.0, 1.0, 0.833333333333, 0.166666666667),
    0.01: (0.01, 1.0, 0.00990099009901, 0.990099009901),
}


@pytest.mark.parametrize("snr", GOLDEN)
def test_hang_2023_min_snr_and_choi_2022_p2(snr):
    process = sd.VP()
    t = sd.level(process, process.t_of_lam(torch.tensor([snr], dtype=torch.float64).log() / 2))
    names = (("min_snr", "x0"), ("min_snr", "eps"), ("min_snr", "v"), ("p2", "eps"))
    found = [output_weight(name, t, output).item() for name, output in names]
    assert found == pytest.approx(GOLDEN[snr], rel=1e-9)


def trained(process, updates, seed):
    net = build(lambda: MLP(2, 48, blocks=2, clock="linear", clock_scale=50.0), 7)
    model = sd.ScoreModel(net, process, time="lam")
    settings = TrainingSettings(updates=updates, batch=128, rate=4e-3, warmup=20, average=0.99, seed=seed)
    x = sd.target("ring").sample(4000, seed=1).float()
    train(model, x, settings, Objective("simple"))
    return model


@pytest.mark.slow
def test_a_network_of_the_table_is_that_of_continuous_time():
    # The same data, first weights and updates; the times are whole numbers on the table, and any in (0, 1].
    table = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    continuous = dataclasses.replace(sd.VP(), t_min=1e-3)
    discrete, one, two = trained(table, 500, 0), trained(continuous, 500, 0), trained(continuous, 500, 1)
    x0 = sd.target("ring").sample(2000, seed=2).float()
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    knots = torch.arange(50.0, 801.0, 50.0, dtype=torch.float64)

    def denoised(model):
        own = model if model is discrete else sd.reschedule(model, table)
        parts = [sd.level(table, k) for k in knots]
        with torch.no_grad():
            return torch.stack([own(p.alpha * x0 + p.sigma * eps, k).x0 for p, k in zip(parts, knots, strict=True)])

    d, first, second = (denoised(model) for model in (discrete, one, two))
    between_seeds = (first - second).square().mean().sqrt()
    assert (d - first).square().mean().sqrt() < 1.5 * between_seeds
    assert between_seeds < 0.2 * x0.std()
