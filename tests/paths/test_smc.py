"""`smc`: weighted particles of a tilted chain against its closed form."""

from __future__ import annotations

import math

import pytest
import torch

import sdediff as sd
from sdediff.paths.particles import systematic
from tests.paths.chains import EXACT, F64, levels, of_alpha, times, variances


def log_tilt(x):
    return -2 * (x[:, 0] - 1.5) ** 2


def chain(n):
    """Variance of the chain's samples x0 = D(x), mean and variance of the tilted law, log Z."""
    variance = levels(n)[-1][0] ** 2 * variances(n)[-1]
    width = 1 / (1 / variance + 4)
    log_z = -0.5 * math.log(1 + 4 * variance) - 0.5 * 1.5**2 / (variance + 0.25)
    return variance, 6 * width, width, log_z


@pytest.mark.parametrize(
    ("n", "variance", "log_z"),
    [(10, 0.548881, -1.989095), (20, 0.711232, -1.843751), (50, 0.857696, -1.759910), (1000, 0.991069, -1.707610)],
)
def test_the_chains_closed_form_is_the_published_one(n, variance, log_z):
    assert chain(n)[0] == pytest.approx(variance, abs=1e-6)
    assert chain(n)[3] == pytest.approx(log_z, abs=1e-6)


RUNS, COUNT, STEPS = 40, 1000, 50


# The denoiser of the tilted data N(0, 1), as long as there is noise: where it ends, weights of paths have heavy tails.
@of_alpha
def GUIDED(x, alpha):
    variance = torch.where(alpha**2 < 0.9, 1 - alpha**2, 0.0)
    return (alpha * x + 6 * variance) / (1 + 4 * variance)


def expected_tilt(prediction):
    variance = prediction.level.sigma**2
    return -0.5 * math.log(1 + 4 * variance) - 0.5 * (prediction.x0[:, 0] - 1.5) ** 2 / (variance + 0.25)


def _runs(**options):
    return [
        sd.smc(EXACT, (COUNT, 1), log_tilt, grid=times(STEPS), seed=seed, dtype=F64, **options) for seed in range(RUNS)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"twist": expected_tilt},
        {"twist": expected_tilt, "proposal": GUIDED},
        {"twist": lambda prediction: log_tilt(prediction.x0) / 2, "threshold": 0.8},
    ],
    ids=["at the end", "expected", "guided", "half of the tilt"],
)
def test_the_evidence_is_unbiased_for_the_chain_and_its_error_is_told(options):
    """Over 40 runs of 1,000 particles within 3 standard errors; the error that a run tells is the spread of runs."""
    _, mean, width, log_z = chain(STEPS)
    runs = _runs(**options)
    ratio = torch.tensor([math.exp(run.log_evidence - log_z) for run in runs], dtype=F64)
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(RUNS)
    spread = torch.tensor([run.std_error for run in runs], dtype=F64).square().mean().sqrt()
    # The standard deviation of 40 numbers is known to 11 %.
    assert 0.7 < spread / ratio.std() < 1.4
    means = torch.tensor([run.weights @ run.x[:, 0] for run in runs], dtype=F64)
    assert abs(means.mean() - mean) < 5 * means.std() / math.sqrt(RUNS) + 1e-3, "self-normalised: biased by 1/K"
    second = torch.tensor([run.weights @ (run.x[:, 0] - mean) ** 2 for run in runs], dtype=F64)
    assert second.mean() == pytest.approx(width, rel=0.05)


def test_a_twist_and_a_proposal_save_particles():
    plain, twisted, guided = (
        sd.smc(EXACT, (COUNT, 1), log_tilt, grid=times(50), dtype=F64, **options)
        for options in ({}, {"twist": expected_tilt}, {"twist": expected_tilt, "proposal": GUIDED})
    )
    assert not plain.resampled.any()
    assert plain.ess[:-1].tolist() == pytest.approx([COUNT] * 50)
    assert twisted.resampled.any()
    assert twisted.ess[-1] > 2 * plain.ess[-1]
    assert guided.ess[:-1].mean() > 1.1 * twisted.ess[:-1].mean()
    assert (plain.calls, guided.calls) == (51, 101)


def test_equal_draws_follow_the_weights():
    particles = sd.smc(EXACT, (COUNT, 1), log_tilt, grid=times(20), dtype=F64)
    drawn = particles.draw(4000)
    assert drawn.shape == (4000, 1)
    assert drawn.mean().item() == pytest.approx((particles.weights @ particles.x[:, 0]).item(), abs=0.01)
    assert torch.equal(drawn, particles.draw(4000))


def test_systematic_resampling_rounds_every_share_up_or_down_and_is_fair():
    weights = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=F64)
    counts = torch.stack([systematic(weights, 7, seed, 0).bincount(minlength=5) for seed in range(2000)]).double()
    assert ((counts - 7 * weights).abs() < 1).all()
    assert (counts[:, 2] == 0).all()
    # A count is one of two neighbours: a standard deviation of at most 1/2.
    assert ((counts.mean(0) - 7 * weights).abs() < 5.5 * 0.5 / math.sqrt(2000)).all()


def test_particles_of_no_weight_die_and_a_target_out_of_reach_is_refused():
    def upper(x):
        return torch.where(x[:, 0] > 0, 0.0, -math.inf)

    particles = sd.smc(EXACT, (500, 1), upper, grid=times(20), dtype=F64)
    assert (particles.x[particles.weights > 0] > 0).all()
    assert math.exp(particles.log_evidence) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(500))
    with pytest.raises(sd.Error, match="on the way would lose samples"):
        sd.smc(EXACT, (500, 1), upper, twist="denoised", grid=times(20))
    with pytest.raises(sd.Error, match="weight 0"):
        sd.smc(EXACT, (10, 1), lambda x: torch.full((10,), -math.inf), grid=times(5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "dpmpp_2m"}, "is deterministic"),
        ({"threshold": 2.0}, "threshold"),
        ({"twist": "x0"}, "write 'denoised'"),
        ({"log_tilt": lambda x: x}, r"one log weight a particle, \(4,\)"),
        ({"log_tilt": lambda x: x[:, 0] * math.nan}, "NaN"),
    ],
)
def test_what_makes_no_target_is_refused(options, words):
    with pytest.raises(sd.Error, match=words):
        sd.smc(EXACT, (4, 1), **{"log_tilt": log_tilt, "steps": 3, **options})


def test_a_multistep_solver_keeps_the_history_of_every_particle():
    """Resampled at every level, 2M SDE has the law that it has without: the mean of all particles' weights is Z."""
    options = {"solver": "dpmpp_2m_sde", "grid": times(20), "dtype": F64}
    runs = [sd.smc(EXACT, (400, 1), log_tilt, twist="denoised", threshold=1.0, seed=i, **options) for i in range(20)]
    whole = sd.smc(EXACT, (20_000, 1), log_tilt, seed=99, **options)
    found = torch.tensor([math.exp(run.log_evidence - whole.log_evidence) for run in runs])
    assert abs(found.mean() - 1) < 3 * (found.std() / math.sqrt(20) + whole.std_error)
