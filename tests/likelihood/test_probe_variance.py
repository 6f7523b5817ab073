"""The variance of a trace by few probes, and its degrees of freedom, on matrices of any rank."""

import math

import numpy as np
import pytest
import torch

from sdediff.likelihood.probe_variance import probe_spread
from sdediff.likelihood.trace import moments, probe_vectors

F64, D, N = torch.float64, 16, 4000


def _symmetric(values):
    """A matrix with these eigenvalues in random directions."""
    values = torch.tensor(values, dtype=F64)
    q = torch.linalg.qr(torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(5), dtype=F64))[0]
    return (q * values) @ q.T


MATRICES = {
    "one direction": _symmetric([1.0] + [0.0] * 15),
    "one direction beside all": _symmetric([9.0] + [1.0] * 15),
    "two of either sign": _symmetric([2.0, -2.0] + [0.0] * 14),
    "falling": _symmetric([1 / (k + 1) for k in range(16)]),
    "many": _symmetric([1.0, -1.0] * 8),
}


def drawn(matrix, kind, probes, n=N, node=None):
    """Estimates of the trace (n,) and their spread."""
    x = torch.zeros(n, len(matrix), dtype=F64, requires_grad=True)
    v = probe_vectors(kind, x.detach(), probes, 3, np.arange(n), node)
    found = moments(x @ matrix.T, x, v)
    return found.trace.mean(0), probe_spread(kind, v, found.pulled, found.trace[0])


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
@pytest.mark.parametrize("probes", [4, 6, 11, 15])
def test_two_in_forty_lie_outside(name, kind, probes):
    found, spread = drawn(MATRICES[name], kind, probes)
    covered = ((found - MATRICES[name].trace()).abs() <= 1.96 * spread.std_error).double().mean()
    # The standard error of a share of .95 of 4000 is .0034. The law is taken as that of eigenvalues of one sign, whose
    # estimates are low where their spread is low.
    assert 0.93 - 5 * 0.0034 < covered < (1 if name == "two of either sign" else 0.97 + 5 * 0.0034)


@pytest.mark.parametrize("kind", ["hadamard", "rademacher", "gaussian"])
@pytest.mark.parametrize("probes", [2, 5])
def test_the_variance_is_unbiased(kind, probes):
    matrix = MATRICES["falling"] + 2 * torch.diag(torch.arange(16, dtype=F64))
    found, spread = drawn(matrix, kind, probes)
    exact = 2 * (matrix.square().sum() - (0 if kind == "gaussian" else matrix.diagonal().square().sum())) / probes
    if kind == "hadamard":
        exact = exact * (16 - probes) / 15
    error = spread.variance.std() / math.sqrt(N)
    assert abs(spread.variance.mean() - exact) < 5 * error
    assert found.var().item() == pytest.approx(exact.item(), rel=0.15)


def test_of_a_matrix_that_is_not_symmetric_it_is_no_less():
    generator = torch.Generator().manual_seed(1)
    skew = torch.randn(D, D, generator=generator, dtype=F64)
    for matrix in (skew, skew - skew.T, skew + 3 * skew.T):
        found, spread = drawn(matrix, "rademacher", 4)
        assert found.var() < 1.1 * spread.variance.mean()


def test_signs_are_exact_for_diagonal_matrices():
    found, spread = drawn(torch.diag(torch.arange(16, dtype=F64)), "rademacher", 3, n=8)
    assert spread.std_error.max() < 1e-7
    torch.testing.assert_close(found, torch.full((8,), 120.0, dtype=F64))


def test_one_probe_has_no_spread_and_all_of_them_have_none():
    assert drawn(MATRICES["many"], "rademacher", 1, n=3)[1].std_error.isnan().all()
    assert drawn(MATRICES["many"], "hadamard", 16, n=3)[1].std_error.abs().max() == 0


def test_the_freedom_is_probes_times_the_rank():
    # Rank one is known from any two probes.
    spread = drawn(MATRICES["one direction"], "gaussian", 4)[1]
    freedom = spread.variance**2 / spread.squares - 2
    torch.testing.assert_close(freedom, torch.full_like(freedom, 4.0))
    spread = drawn(_symmetric([1.0, -1.0] * 32), "gaussian", 4)[1]
    freedom = spread.variance**2 / spread.squares - 2
    assert freedom.median() > 4 * 32
