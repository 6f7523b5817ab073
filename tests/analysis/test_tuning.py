"""Tuned grids against what they promise."""

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.analysis import (
    NotLinear,
    analyse,
    confirm,
    paths,
    spectrum,
    tune,
    tuned,
)
from sdediff.analysis.tuning import fixed_grids, widened

F64 = torch.float64


def close(found, expected, tol=1e-10):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tol, atol=tol)


@pytest.fixture(scope="module")
def target():
    """Target M under VP: starts (256, 2), the ends of their flow by DOP853 at 1e-12, the data's variances."""
    sde, m = sd.VP(), sd.problem("target_m")
    x = sde.prior_std() * torch.randn(256, 2, dtype=F64, generator=torch.Generator().manual_seed(7))
    fine = sd.solver("ode", method="DOP853", rtol=1e-12, atol=1e-12)
    end = sd.sample(m.model(sde), x=x, solver=fine, steps=1, denoise=False)
    return m.model(sde), x, end, spectrum(m.sample(4000, dtype=F64))


RHO = {"points": 3, "basis": "eps", "variable": "rho"}


@pytest.mark.parametrize("calls", [5, 6, 7, 8, 9, 10])
def test_a16_a_grid_tuned_on_gaussian_data_beats_the_fixed_ones_on_a_mixture(target, calls):
    model, x, end, values = target
    used = sd.solver("adams", **RHO)

    def error(times):
        return (sd.sample(model, x=x, solver=used, grid=times, denoise=False) - end).norm(dim=1).median().item()

    made = tuned(model.sde, calls, spectrum=values, solver=used)
    fixed = min(error(sd.grid(kind, model.sde, calls)) for kind in ("karras", "log_snr"))
    assert error(made) < 0.85 * fixed  # measured 0.28 to 0.67


def test_a_tuned_grid_is_better_where_it_was_tuned():
    sde = sd.VE(sigma_max=20.0)
    values = torch.logspace(-2, 0, 12, dtype=F64)
    for used in (sd.solver("dpmpp_2m"), sd.solver("heun")):
        made = tuned(sde, 8, spectrum=values, solver=used, widen=1)
        assert made.dtype == F64
        assert (made.diff() < 0).all()
        assert (made[0].item(), made[-1].item()) == (sde.T, sde.t_min)

        def error(times, used=used):
            return analyse(used, sde, times, values).transfer_error.square().mean().sqrt().item()

        fixed = min(error(times) for times in fixed_grids(sde, 8, sde.T, sde.t_min).values())
        assert error(made) < 0.7 * fixed


def test_tuned_grids_are_kept_and_are_values():
    first = tuned(sd.VP(), 5)
    kept = first.clone()
    first.zero_()
    assert torch.equal(tuned(sd.VP(), 5), kept)
    x = sd.sample(sd.problem("ring").model(sd.VP()), (4, 2), solver="dpmpp_2m", steps=5, grid=tuned)
    assert torch.isfinite(x).all()
    part = tuned(sd.VP(), 4, 0.8, 0.1)
    assert (part[0].item(), part[-1].item()) == (0.8, 0.1)
    assert len(tuned(sd.VP(), 1)) == 2


def test_tuned_grids_where_alpha_ends_at_zero():
    sde = sd.RectifiedFlow()
    made = tuned(sde, 5, sde.T, solver="ddim")
    assert made[0].item() == sde.T
    assert (made.diff() < 0).all()


def test_only_what_follows_the_flow_is_tuned():
    with pytest.raises(NotLinear, match="follow the flow"):
        tuned(sd.VP(), 5, solver="ancestral")
    with pytest.raises(ValueError, match=r"widen=0\.5"):
        tuned(sd.VP(), 5, widen=0.5)


def test_spectrum_of_data_and_of_statistics(normals):
    x = normals(50, 2, 3) * torch.tensor([1.0, 2.0, 0.1], dtype=F64)
    expected = np.linalg.eigvalsh(np.cov(x.reshape(50, 6).numpy().T))[::-1]
    close(spectrum(x), expected, 1e-9)
    close(spectrum(sd.statistics(x)), expected, 1e-9)
    assert len(spectrum(x, count=3)) == 3
    assert spectrum(x, count=3)[0] == spectrum(x)[0]
    more = widened((2.0, 1.0), 30)
    close(more[:2], [2.0, 1.0])
    close([more[2:].min(), more[2:].max()], [1.5 / 30, 2.0])


def test_grids_tuned_on_a_model_s_own_paths_are_better_there_and_confirmed_elsewhere():
    model, used = sd.problem("ring").model(sd.VP()), sd.solver("dpmpp_2m")
    own = paths(model, (16, 2), seed=1, dtype=F64)
    other = paths(model, (64, 2), seed=2, dtype=F64)
    assert own.fit(used, 9) == (used, 8)
    n = 8
    fixed = fixed_grids(model.sde, n, own.options["start"], model.sde.t_min)
    made = tune(own, n, used)
    assert own.error(used, made) < min(own.error(used, times) for times in fixed.values())
    choice = confirm(other, used, {**fixed, "tuned": made})
    assert choice.errors["tuned"] == other.error(used, made)
    assert choice.error == min(choice.errors.values())
    assert torch.equal(choice.times, {**fixed, "tuned": made}[choice.name])
    # An end above the paths' own is tuned as well, and stays above it.
    above = {name: times[:-1] for name, times in fixed_grids(model.sde, n + 1, model.sde.T, model.sde.t_min).items()}
    free = tune(own, n, used, above)
    assert len(free) == n + 1
    assert free[0].item() == model.sde.T
    assert free[-1].item() > own.stop == model.sde.t_min
    assert own.error(used, free) < min(own.error(used, times) for times in above.values())
    worse = confirm(other, used, {**fixed, "tuned": sd.grid("uniform", model.sde, n)})
    assert worse.name != "tuned"
