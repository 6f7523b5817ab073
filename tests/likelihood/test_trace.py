"""The trace of the augmented ODE: exact and estimated.

Statistical tests have a fixed seed and pass by chance but less than once in a million: |z| < 4.9 a comparison.
"""

import math

import pytest
import torch

import sdediff as sd
from sdediff.likelihood import divergence, probe_vectors
from sdediff.noise.counter import indices
from tests.likelihood.gaussian_data import SPACE, Gaussian, ode, true_prior

F64 = torch.float64
Z = 4.9


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_a8_variance_of_the_trace_estimate(kind):
    # 2 (|A|^2 - sum a_ii^2) and 2 |A|^2; at 20,000 probes a relative standard error of 1 %.
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(64, 64, generator=generator, dtype=F64)
    a = (a + a.T) / 2
    n = 20_000
    x = torch.zeros(n, 64, dtype=F64, requires_grad=True)
    estimates = divergence(x @ a, x, probe_vectors(kind, x, 1, seed=1, index=indices(0, n)))[0]
    total = a.square().sum()
    variance = 2 * (total - a.diagonal().square().sum() if kind == "rademacher" else total)
    assert estimates.var().item() == pytest.approx(variance.item(), rel=0.05)
    assert abs(estimates.mean() - a.trace()) < Z * torch.sqrt(variance / n)


def test_the_exact_trace_is_the_jacobians():
    def field(x):
        return torch.sin(x) * x.flip(1) + x.square().sum(1, keepdim=True)

    x = torch.randn(3, 70, generator=torch.Generator().manual_seed(1), dtype=F64)  # more than one block
    inner = x.clone().requires_grad_(True)
    found = divergence(field(inner), inner, None)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda row: field(row[None])[0], x[i])
        assert found[0, i].item() == pytest.approx(jacobian.trace().item(), rel=1e-12)


@pytest.mark.parametrize("probes", [None, 3])
def test_the_trace_of_an_operation_without_a_batched_derivative(probes):
    # Group normalisation of states that lie channels last, as attention of diffusers leaves them.
    torch.manual_seed(0)
    norm, x = torch.nn.GroupNorm(2, 4), torch.randn(2, 4, 3, 3, requires_grad=True)
    vectors = None if probes is None else probe_vectors("rademacher", x, probes, 0, indices(0, 2))
    value = norm((x * 1).contiguous(memory_format=torch.channels_last))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.autograd.grad(value, x, torch.stack([value, value]), is_grads_batched=True, retain_graph=True)
    torch.testing.assert_close(divergence(value, x, vectors), divergence(norm(x), x, vectors))


def test_probes_are_signs_or_normals_and_follow_their_sample():
    x = torch.zeros(6, 2, 3, dtype=F64)
    signs = probe_vectors("rademacher", x, 4, seed=1, index=indices(0, 6))
    assert signs.shape == (4, 6, 2, 3)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    for kind in ("rademacher", "gaussian"):
        whole = probe_vectors(kind, x, 4, seed=1, index=indices(0, 6))
        assert torch.equal(probe_vectors(kind, x[:2], 4, seed=1, index=indices([4, 1], 2)), whole[:, [4, 1]])
        assert torch.equal(probe_vectors(kind, x, 2, seed=1, index=indices(0, 6)), whole[:2])
        assert not torch.equal(probe_vectors(kind, x, 4, seed=2, index=indices(0, 6)), whole)
    assert len(whole.flatten(0, 1).flatten(1)[:, 0].unique()) == 24
    assert probe_vectors("exact", x, 1, seed=0, index=indices(0, 6)) is None


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_probes_are_averaged_not_summed(probes):
    # Isotropic Gaussian data: the Jacobian is a multiple of I and every sign vector gives its trace exactly.
    round_ = Gaussian([0.2] * 4, (0.3 * torch.eye(4)).tolist())
    sde, x = sd.VP(), round_.sample(5, seed=7)
    options = {"rtol": 1e-8, "atol": 1e-8, "probes": probes, "prior": true_prior(round_, sde), "dtype": F64}
    found = ode(round_.model(sde), x, trace="rademacher", **options)
    torch.testing.assert_close(found.log_prob, round_.log_prob(x, sde, 1e-5), rtol=0, atol=1e-6)
    if probes == 1:
        assert found.std_error.isnan().all()
    else:
        assert found.std_error.max() < 1e-6


@pytest.mark.parametrize(("kind", "probes"), [("rademacher", 3), ("gaussian", 3), ("rademacher", 1)])
def test_hutchinsons_estimate_is_unbiased(kind, probes):
    sde, n = sd.VP(), 400
    x = SPACE.sample(n, seed=8)
    options = {"rtol": 1e-5, "atol": 1e-5, "probes": probes, "trace": kind, "prior": true_prior(SPACE, sde)}
    found = ode(SPACE.model(sde), x, seed=3, micro_batch=n, **options)
    error = found.log_prob - SPACE.log_prob(x, sde, 1e-5)
    # For Gaussian data the trace error does not depend on the sample: one standard error for all, from the spread.
    assert abs(error.mean()) < Z * error.std() / math.sqrt(n)
    assert error.std() > 1e-2
    if probes == 1:
        assert found.std_error.isnan().all()
    else:
        # Student's factor only widens it.
        assert found.std_error.square().mean().sqrt() > 0.9 * error.std()


def test_hutchinsons_numbers_follow_seed_and_index():
    sde, x = sd.VP(), SPACE.sample(5, seed=9)
    options = {"rtol": 1e-9, "atol": 1e-9, "integrator": "DOP853", "dtype": F64}
    model = SPACE.model(sde)
    base = ode(model, x, seed=1, index=10, **options).log_prob
    order = [3, 0, 4]
    shuffled = ode(model, x[order], seed=1, index=[13, 10, 14], **options).log_prob
    torch.testing.assert_close(shuffled, base[order], rtol=0, atol=1e-7)
    assert (ode(model, x, seed=2, index=10, **options).log_prob - base).abs().max() > 1e-2
