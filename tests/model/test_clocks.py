"""The clocks that networks read."""

import math

import pytest
import torch

import sdediff as sd

F64 = torch.float64


@pytest.mark.parametrize(
    ("time", "reading"),
    [
        ("t", lambda here: here.time),
        (None, lambda here: here.time),
        ("lam", lambda here: math.log(here.alpha / here.sigma)),
        ("log_snr", lambda here: math.log(here.alpha**2 / here.sigma**2)),
        ("sigma", lambda here: here.sigma / here.alpha),
        ("c_noise", lambda here: math.log(here.sigma / here.alpha) / 4),
        (lambda here: 999 * here.time, lambda here: 999 * here.time),
    ],
)
def test_clocks_read_what_they_are_called(sde, times_inside, time, reading):
    read = []
    model = sd.ScoreModel(lambda x, t: read.append(t) or x, sde, time=time)
    x, times = torch.ones(3, 2, dtype=F64), times_inside(sde, 3)
    expected = torch.tensor([reading(sd.level(sde, t)) for t in times.tolist()], dtype=F64)
    model(x, times)
    torch.testing.assert_close(read.pop(), expected, rtol=1e-9, atol=1e-9)
    model(x, times[1].item())
    torch.testing.assert_close(read.pop(), expected[1].expand(3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("offset", "first"), [(1, 0.0), (0, 1.0)])
def test_a_ddpm_networks_clock_starts_at_zero(offset, first):
    # Knots are t = 1..N, DDPM's networks know them as 0..N-1: off by one is the classic mistake.
    betas, read = torch.linspace(1e-4, 0.02, 10, dtype=F64), []
    model = sd.ScoreModel(
        lambda x, t: read.append(t[0].item()) or 0 * x, sd.Table.from_betas(betas), time="index", offset=offset
    )
    said = model(torch.ones(1, 1, dtype=F64), 1.0)
    assert read == [first]
    assert said.x0.item() == pytest.approx(1 / math.sqrt(1 - 1e-4), rel=1e-12)  # alpha_bar of the first knot
    sd.sample(model, (1, 1), solver="ddim", grid="knots", dtype=F64)
    assert read[1:] == [first + i for i in range(9, -1, -1)]


def test_time_indices_of_a_whole_number_arrive_whole_in_float32():
    table, read = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)), []
    model = sd.ScoreModel(lambda x, t: read.append(t[0].item()) or 0 * x, table, time="index")
    sd.sample(model, (1, 1), solver="ddim", steps=50)
    assert all(v == int(v) for v in read)
    half = torch.ones(1, 1, dtype=torch.float16)
    read.clear()
    model(half, 1000.0)  # float16 would round 999 and other odd numbers past 2048 alike; clocks stay float32
    assert read == [999.0]
