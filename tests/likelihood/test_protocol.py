"""The literature's protocol on every process, and what the default does otherwise, said where it is printed."""

import pytest
import torch

import sdediff as sd
from tests.likelihood.narrow_data import Narrow

F64 = torch.float64
SQUARE = Narrow([0.3, 0.8], rotated=True)
PROCESSES = {
    "vp": sd.VP(), "subvp": sd.SubVP(), "ve": sd.VE(), "ve_zero": sd.VE(zero_start=True), "edm": sd.EDM(),
    "cosine": sd.Cosine(), "flow": sd.RectifiedFlow(),
    "ddpm": sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64)),
    "ncsn": sd.Table.from_sigmas(torch.logspace(-2, 1.7, 60, dtype=F64)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("options", [{"preset": "literature"}, {"method": "ode", "variable": "t"}])
def test_every_process(name, options):
    sde = PROCESSES[name]
    x = SQUARE.noised(4, sde, sde.t0)
    prior = lambda z: SQUARE.log_prob(z, sde, sde.t_max)  # noqa: E731
    found = sd.log_likelihood(SQUARE.model(sde), x, trace="exact", prior=prior, dtype=F64, **options)
    assert (found.status, found.t0) == (("ok",) * 4, sde.t0)
    # RK45 at 1e-5 over t; a table's coefficients have kinks.
    torch.testing.assert_close(found.log_prob, SQUARE.log_prob(x, sde, sde.t0), rtol=0, atol=5e-3)


def test_the_difference_is_said_with_the_settings_that_undo_it():
    model, x = SQUARE.model(sd.VP(), stats=True), SQUARE.sample(3)
    found = sd.log_likelihood(model, x, dtype=F64)
    for text in (repr(found), found._repr_html_()):
        assert "log p of x itself" in text
        assert "full prior" in text
        assert 'the literature has end="t0", prior="sigma"' in text.replace("&quot;", '"')
    plain = sd.log_likelihood(model, x, end="t0", prior="sigma", dtype=F64)
    theirs = sd.log_likelihood(model, x, preset="literature", trace="exact", dtype=F64)
    assert plain.difference == theirs.difference == ""
    assert "literature" not in repr(plain)
    torch.testing.assert_close(plain.log_prob, theirs.log_prob, rtol=0, atol=0.02)


def test_a_job_says_it(tmp_path):
    model, x = SQUARE.model(sd.VP(), stats=True), SQUARE.sample(3).numpy()
    said = sd.likelihood_job(model, x, tmp_path / "out", progress=False)
    assert 'the literature has end="t0", prior="sigma"' in repr(said)
    assert said.to_dict()["difference"] == said.difference
