"""What the score does along a path, against the closed forms of Gaussian data, and how typical it is."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import sdediff as sd
from sdediff.likelihood.typicality import shrunk_covariance
from sdediff.targets import Mixture, gaussian

F64 = torch.float64
TIGHT = {"trace": "exact", "rtol": 1e-9, "atol": 1e-9}


def covariances(g, sde, kappa):
    """alpha and sigma (K,), and alpha^2 C + sigma^2 I, (K, D, D), of a Gaussian at noise levels."""
    times = sde.t_of_lam(-kappa.log())
    alpha, sigma = sde.alpha(times), sde.sigma(times)
    eye = torch.eye(g.dim, dtype=F64)
    return times, alpha, sigma, alpha[:, None, None] ** 2 * g.cov + sigma[:, None, None] ** 2 * eye


@pytest.fixture(scope="module")
def g():
    return sd.target("gaussian")


# --- closed forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vp", "ve", "cosine", "flow"])
def test_a_gaussians_path_has_the_closed_forms(processes, g, name):
    sde, x = processes[name], g.sample(4, seed=2, dtype=F64)
    found = sd.path_statistics(g.model(sde), x, kappa=5, **TIGHT)
    times, alpha, sigma, s = covariances(g, sde, found.kappa)
    begin = sd.level(sde, sde.t0).alpha * x
    eps = []
    for k, t in enumerate(times.tolist()):
        there = g.flow(begin, sde, sde.t0, t)
        eps.append(sigma[k] * torch.linalg.solve(s[k], (there - alpha[k] * g.mean).T).T)
    eps = torch.stack(eps, 1)
    torch.testing.assert_close(found.score_norm, eps.norm(dim=2) / math.sqrt(2), rtol=0, atol=1e-6)
    bend = eps.diff(dim=1).norm(dim=2) / math.sqrt(2) / found.kappa.log().diff()
    torch.testing.assert_close(found.bend, bend, rtol=0, atol=1e-6)
    spread = -(sigma**2 * torch.linalg.inv(s).diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(found.divergence, spread.expand(4, -1), rtol=0, atol=1e-9)
    assert found.divergence_error.abs().max() == 0
    still = torch.linalg.solve(s, (alpha[:, None] * (x[:, None] - g.mean))[..., None])[..., 0]
    flipd = 2 + spread + sigma**2 * still.square().sum(2)
    torch.testing.assert_close(found.dimension, flipd, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dims", [0, 3, 8])
def test_the_dimension_of_a_linear_subspace(dims):
    # Kamkari et al. 2024: between the floor and the data's scale it is the subspace's, whatever its directions.
    basis = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=F64))[0]
    flat = Mixture(
        torch.ones(1), torch.ones(1, 12), torch.linspace(0.5, 2, max(dims, 1))[None, :dims], basis[None, :, :dims],
        torch.tensor([1e-10]),
    )  # fmt: skip
    x = flat.sample(6, seed=1, dtype=F64)
    found = sd.path_statistics(flat.model(sd.VP()), x, kappa=[0.005, 0.01], rtol=1e-3, trace="exact", atol=1e-3)
    assert (found.dimension - dims).abs().max() < 5e-3
    # Off the subspace it is not a dimension: the square of the distance over sigma comes on top.
    off = x + 0.1 * basis[:, -1]
    away = sd.path_statistics(flat.model(sd.VP()), off, kappa=[0.01], trace="exact")
    assert (away.dimension - dims - 100).abs().max() < 0.1


def test_latents_of_the_prior_have_even_p_values(g):
    # Exact score, prior matched in full: p is uniform, so the greatest gap of 400 to the diagonal is below 2.6/20.
    stats = sd.statistics(g.sample(20_000, seed=3, dtype=F64))
    model = dataclasses.replace(g.model(sd.VP()), stats=stats)
    found = sd.path_statistics(model, g.sample(400, seed=5, dtype=F64), kappa=[1.0], micro_batch=400)
    gap = (found.p_value.sort().values - (torch.arange(400) + 0.5) / 400).abs().max()
    assert gap < 0.13
    far = sd.path_statistics(model, g.mean[None] + torch.tensor([[0.0, 0.0], [9.0, -9.0]]).double(), kappa=[1.0])
    assert (far.p_value < 1e-4).all()


def test_probes_know_their_error_and_the_likelihood_is_the_one_of_two_passes():
    target = sd.target("gmm64")
    model, x = target.model(sd.VP()), target.sample(24, seed=2, dtype=F64)
    exact = sd.path_statistics(model, x, kappa=4, trace="exact", rtol=1e-3, atol=1e-3)
    found = sd.path_statistics(model, x, kappa=4, probes=8, seed=3)
    for name in ("divergence", "dimension"):
        error = (getattr(found, name) - getattr(exact, name)) / getattr(found, name + "_error")
        # 96 ratios of Student's law with 7 degrees of freedom, of variance 1.4.
        assert 0.7 < error.square().mean() < 2.4
    same = sd.log_likelihood(model, x, trace="hadamard", probes=8, seed=3)
    torch.testing.assert_close(found.log_prob, same.log_prob, rtol=0, atol=1e-9)
    assert (found.calls > same.calls).all()
    assert len(found) == 24


# --- batches and seeds --------------------------------------------------------------------------------------------


def test_a_sample_does_not_know_its_batch():
    target = sd.target("target_m")
    model, x = target.model(sd.VP()), target.sample(20, seed=1, dtype=F64)
    whole = sd.path_statistics(model, x, kappa=4, probes=1, seed=2)
    columns = ("score_norm", "bend", "divergence", "dimension", "p_value", "calls")
    for size, pick in ((3, [0, 1, 2, 3, 4]), (2, [9, 3, 5])):
        part = sd.path_statistics(model, x[pick], kappa=4, probes=1, seed=2, index=pick, micro_batch=size)
        for name in columns:
            torch.testing.assert_close(getattr(part, name), getattr(whole, name)[pick], rtol=0, atol=1e-9)
    other = sd.path_statistics(model, x, kappa=4, probes=1, seed=3)
    assert torch.equal(other.score_norm, whole.score_norm)
    assert not torch.equal(other.divergence, whole.divergence)


def test_conditions_go_with_their_sample():
    base = sd.target("target_m").model(sd.VP())
    model = sd.ScoreModel(lambda x, t, shift: base.net(x - shift, t), sd.VP(), predicts="v", time="t")
    x, shift = sd.target("target_m").sample(5, seed=1, dtype=F64), torch.linspace(0, 1, 5, dtype=F64)[:, None]
    found = sd.path_statistics(model, x, kappa=3, cond={"shift": shift}, micro_batch=2, trace="exact")
    alone = sd.path_statistics(model, x[4:], kappa=3, cond={"shift": shift[4].item()}, trace="exact")
    torch.testing.assert_close(found.score_norm[4:], alone.score_norm, rtol=0, atol=1e-9)


# --- typicality ---------------------------------------------------------------------------------------------------


def test_ledoit_and_wolfs_covariance_is_scikit_learns():
    from sklearn.covariance import ledoit_wolf

    z = np.random.default_rng(0).normal(size=(30, 12)) * np.linspace(0.2, 2, 12)
    z -= z.mean(0)
    exact, share = ledoit_wolf(z, assume_centered=True)
    assert 0.01 < share < 0.9
    np.testing.assert_allclose(shrunk_covariance(torch.from_numpy(z)).numpy(), exact, rtol=1e-10, atol=1e-12)


def test_a_mode_is_likely_and_not_typical():
    # In many dimensions the mean of a Gaussian has the greatest density and is like no sample: Nalisnick et al. 2019.
    g = gaussian(torch.zeros(32), std=torch.linspace(0.2, 1.5, 32))
    model = g.model(sd.VP())
    options = {"kappa": 4, "trace": "exact", "rtol": 1e-3, "atol": 1e-3}
    reference = sd.path_statistics(model, g.sample(80, seed=1, dtype=F64), **options)
    inside = sd.path_statistics(model, g.sample(30, seed=2, dtype=F64), **options)
    outside = sd.path_statistics(model, 0.3 * g.sample(30, seed=3, dtype=F64), **options)
    assert outside.log_prob.min() > inside.log_prob.max()
    assert outside.typicality(reference).max() < inside.typicality(reference).min()
    assert outside.p_value.max() < 0.01
    z = inside.z_scores(reference)
    assert z.shape == (30, 12)
    # Means of 30 samples over those of 80: their standard error is sqrt(1/30 + 1/80) = 0.21.
    assert (z[:, :8].mean(0).abs() < 1.1).all()


def test_a_failed_sample_is_nan_and_leaves_the_reference(g):
    model = g.model(sd.VP()).map_net(lambda net: lambda x, t: torch.where(x[:, :1] > 50, math.nan, net(x, t)))
    x = g.sample(12, seed=1, dtype=F64)
    x[5] = 100.0
    options = {"kappa": 2, "trace": "exact"}
    found = sd.path_statistics(model, x, **options)
    assert "not finite" in found.likelihood.status[5]
    assert found.score_norm[5].isnan().any()
    told = found.typicality(found)
    assert told.isnan().tolist() == [i == 5 for i in range(12)]
    good = [i for i in range(12) if i != 5]
    clean = sd.path_statistics(model, x[good], **options)
    torch.testing.assert_close(clean.typicality(clean), told[good], rtol=1e-6, atol=1e-6)


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [[0.5, 0.2], [0.0, 1.0], [1.0, 1e9], [math.nan], [], [[0.1, 0.2]]])
def test_levels_that_do_not_rise_within_the_process_are_refused(g, kappa):
    with pytest.raises(ValueError, match=r"needed are rising noise levels sigma/alpha between 0.001\d*, where t="):
        sd.path_statistics(g.model(sd.VP()), g.sample(2), kappa=kappa)


def test_what_cannot_be_scored_is_refused(g):
    model, x = g.model(sd.VP()), g.sample(3, dtype=F64)
    with pytest.raises(ValueError, match="kappa=1: at least two levels"):
        sd.path_statistics(model, x, kappa=1)
    bad = x.clone()
    bad[1, 0] = math.nan
    with pytest.raises(ValueError, match="x is NaN or infinite in row 1"):
        sd.path_statistics(model, bad)
    with pytest.raises(ValueError, match="unknown trace 'exakt': did you mean 'exact'"):
        sd.path_statistics(model, x, trace="exakt")
    few, other = (sd.path_statistics(model, x[:n], kappa=k, trace="exact") for n, k in ((3, 3), (1, 2)))
    with pytest.raises(ValueError, match=r"other levels or of other samples: 2 of 2 numbers, here 3 of 2"):
        few.typicality(other)
    with pytest.raises(ValueError, match="at least two samples that did not fail, given 1"):
        other.z_scores(other)


class Drift(sd.SDE):
    T, t_min = 1.0, 1e-3

    def drift(self, x, t):
        return -x

    def diffusion(self, t):
        return 1.0


def test_a_process_without_alpha_is_refused():
    model = sd.ScoreModel(lambda x, t: -x, Drift(), predicts="score")
    with pytest.raises(ValueError, match="Drift gives drift and diffusion alone: write it as a LinearSDE"):
        sd.path_statistics(model, torch.zeros(2, 2))
