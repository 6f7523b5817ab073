"""Encode and decode along the flow."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.gaussian_data import PLANE, TIGHT, TargetM, ode

F64 = torch.float64


@pytest.fixture(scope="module")
def points():
    return TargetM().sample(256, seed=1)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "edm", "cosine", "flow", "table_betas", "table_sigmas", "own"])
def test_encode_after_sample_returns_the_start(processes, name, normals):
    # A table's lam has a kink at every knot, at which a fine tolerance would be spent.
    sde, kinks = processes[name], name.startswith("table")
    tolerance, bound = (1e-6, 1e-2) if kinks else (1e-8, 1e-5)
    tight = sd.solver("ode", method="RK45" if kinks else "DOP853", rtol=tolerance, atol=tolerance)
    model = PLANE.model(sde)
    z = sde.prior_sample(normals(4, 2, seed=12))
    x = sd.sample(model, x=z, solver=tight, stop=sde.t0, denoise=False)
    back = sd.encode(model, x / sd.level(sde, sde.t0).alpha, solver=tight)
    close = {"rtol": bound, "atol": bound}
    torch.testing.assert_close(back, z, **close)
    torch.testing.assert_close(sd.decode(model, back, solver=tight), x / sd.level(sde, sde.t0).alpha, **close)


def test_decode_after_encode_returns_the_data(points):
    m, sde = TargetM(), sd.VP()
    tight = sd.solver("ode", method="DOP853", rtol=1e-9, atol=1e-9)
    z = sd.encode(m.model(sde), points, solver=tight)
    torch.testing.assert_close(sd.decode(m.model(sde), z, solver=tight), points, rtol=0, atol=1e-5)
    # The code of the likelihood's heat end is the same one.
    found = ode(m.model(sde), points, **TIGHT, end="heat")
    torch.testing.assert_close(found.latent, z, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [n for n, i in sd.list_solvers().items() if not (i.corrector or i.stochastic)])
@pytest.mark.parametrize("process", ["vp", "edm", "flow", "cosine"])
def test_every_deterministic_solver_encodes_and_decodes(processes, name, process):
    # With many steps the way up and down is the identity at the solver's own order; never NaN.
    sde = processes[process]
    base = PLANE.model(sde)
    # v stays finite where alpha = 0.
    model = sd.ScoreModel(lambda x, t: base(x, t.double().clamp(max=sde.t_max)).v, sde, predicts="v", time="t")
    x = PLANE.sample(3, seed=13)
    steps = {} if name == "ode" else {"steps": 60}
    z = sd.encode(model, x, solver=name, stop=max(sde.t0, 1e-2), **steps)
    assert z.isfinite().all()
    back = sd.decode(model, z, solver=name, stop=max(sde.t0, 1e-2), **steps)
    torch.testing.assert_close(back, x, rtol=0, atol=0.4)


@pytest.mark.parametrize("name", [n for n, i in sd.list_solvers().items() if i.stochastic or i.corrector])
def test_encoding_with_noise_is_refused(name):
    with pytest.raises(sd.SolverError, match="draws noise: encode and decode need a deterministic solver"):
        sd.encode(PLANE.model(sd.VP()), torch.zeros(1, 2, dtype=F64), solver=name, steps=3)


@pytest.mark.parametrize("asked", [None, torch.float16, torch.float32, F64])
@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32, F64])
def test_codes_have_the_type_that_was_asked_for_or_given(given, asked):
    model, x = PLANE.model(sd.VP()), PLANE.sample(3, seed=13).to(given)
    for run in (sd.encode, sd.decode):
        found = run(model, x, solver="ddim", steps=3, dtype=asked)
        assert found.dtype is (asked or given)
        wide = run(model, x.double(), solver="ddim", steps=3)
        torch.testing.assert_close(found.double(), wide, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["digits-ve", "digits-vp", "digits-ddpm"])
def test_a_short_encoding_is_not_tried_as_sampling_is(name):
    x = sd.data("digits", "test").tensor()[:2]
    assert sd.encode(sd.load(name), x, solver="ddim", steps=5).isfinite().all()
