"""What every grid keeps to."""

import pytest
import torch

import sdediff as sd
from sdediff.grids import GRIDS
from tests.grids.counted import SMOOTH, Counted

F64 = torch.float64


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_grids_fall_from_start_to_stop_in_n_moves(sde, kind, n):
    times = sd.grid(kind, sde, n)
    assert times.dtype == F64
    assert len(times) == n + 1
    assert (times.diff() < 0).all()
    assert times[0].item() in (sde.T, sde.t_max)
    assert times[-1].item() == sde.t_min
    assert (sde.sigma(times) > 0).all()
    part = sd.grid(kind, sde, n, start=0.7 * sde.t_max, stop=0.3 * sde.t_max)
    assert (part[0].item(), part[-1].item()) == (0.7 * sde.t_max, 0.3 * sde.t_max)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("uniform", lambda sde, t: t),
        ("quadratic", lambda sde, t: t.sqrt()),
        ("log_snr", lambda sde, t: torch.log(sde.alpha(t) / sde.sigma(t))),
        ("karras", lambda sde, t: (sde.sigma(t) / sde.alpha(t)) ** (1 / 7)),
        ("angle", lambda sde, t: torch.atan2(sde.sigma(t), sde.alpha(t))),
        ("polynomial", lambda sde, t: torch.log(sde.sigma(t) / sde.alpha(t))),
    ],
)
def test_grids_are_even_in_their_variable(sde, kind, variable):
    times = sd.grid(kind, sde, 20, start=0.9 * sde.t_max)
    steps = variable(sde, times).diff()
    torch.testing.assert_close(steps, steps.mean().expand(20), rtol=1e-8, atol=0)


def test_options_reach_the_grid():
    times = sd.grid("karras", sd.EDM(), 6, rho=3.0)
    torch.testing.assert_close(times ** (1 / 3), torch.linspace(80 ** (1 / 3), 0.002 ** (1 / 3), 7, dtype=F64))
    times = sd.grid("quadratic", sd.VP(), 6, power=3.0)
    torch.testing.assert_close(times ** (1 / 3), torch.linspace(1, 0.1, 7, dtype=F64), rtol=1e-12, atol=0)
    times = sd.grid("angle", sd.EDM(), 6, sigma_data=0.5)
    phi = torch.atan(times / 0.5)
    torch.testing.assert_close(phi.diff(), phi.diff().mean().expand(6), rtol=1e-8, atol=0)


def test_a_function_or_plain_times_are_grids():
    halves = sd.grid(lambda sde, n, start, stop: start * 0.5 ** torch.arange(n + 1.0), sd.VP(), 3, stop=0.125)
    assert halves.tolist() == [1.0, 0.5, 0.25, 0.125]
    given = sd.grid([1.0, 0.4, 0.05], sd.VP())
    assert given.tolist() == [1.0, 0.4, 0.05]
    assert given.dtype == F64


class DriftAlone(sd.SDE):
    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return torch.ones_like(torch.as_tensor(t, dtype=F64))


@pytest.mark.parametrize("kind", SMOOTH)
def test_grids_need_alpha_and_sigma_or_time_alone(kind):
    if kind in ("uniform", "quadratic", "beta"):
        assert len(sd.grid(kind, DriftAlone(), 4)) == 5
        return
    with pytest.raises(sd.SDEError, match=f"the grid '{kind}' needs alpha and sigma, which DriftAlone does not give"):
        sd.grid(kind, DriftAlone(), 4)


def test_a_registered_function_is_a_grid_by_its_name(monkeypatch):
    def thirds(sde, n, start, stop, power=1.0):
        return start * (1 / 3) ** (torch.arange(n + 1.0, dtype=F64) * power)

    with monkeypatch.context() as patch:
        patch.setitem(GRIDS, "thirds", thirds)
        assert sd.grid("thirds", sd.VP(), 2, stop=1 / 9).tolist() == pytest.approx([1, 1 / 3, 1 / 9], rel=1e-15)
        assert sd.grid("thirds", sd.VP(), 2, stop=1 / 9, power=1.5)[1] == pytest.approx(3**-1.5)
        record = sd.sample(sd.ScoreModel(Counted(), sd.VP()), (1, 2), grid="thirds", steps=2, stop=1 / 9, full=True)
        assert record.times.tolist() == pytest.approx([1, 1 / 3, 1 / 9])
    assert "thirds" not in GRIDS


def test_times_that_were_given_are_nobody_s_to_change():
    given = torch.tensor([1.0, 0.4, 0.05], dtype=F64)
    times = sd.grid(given, sd.VP())
    times[1] = 0.3
    assert given.tolist() == [1.0, 0.4, 0.05]
    # A function's times end at start and stop whatever it says; the tensor that it handed over stays as it was.
    assert sd.grid(lambda sde, n, start, stop: given, sd.VP(), 2, start=0.9, stop=0.1).tolist() == [0.9, 0.4, 0.1]
    assert given.tolist() == [1.0, 0.4, 0.05]
