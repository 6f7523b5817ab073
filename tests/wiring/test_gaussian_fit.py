"""The best Gaussian denoiser, against the textbook's formula with the whole covariance."""

import pytest
import torch

from sdediff.wiring.gaussian_fit import cross_fitted, gaussian_denoiser

F64 = torch.float64


def _rows(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, dtype=F64, generator=generator) / d**0.5
    return 0.3 + torch.randn(n, d, dtype=F64, generator=generator) @ mixing


@pytest.mark.parametrize(("n", "d"), [(40, 7), (30, 50), (20, 1100), (300, 1100)])
def test_it_is_the_conditional_mean_of_a_shrunk_covariance(n, d):
    rows, y, kappa = _rows(n, d), _rows(5, d, 1), 0.7
    fitted = rows if d <= 1024 else rows[:256]
    covariance = torch.cov(fitted.T)
    share = len(fitted) / (len(fitted) + d)
    shrunk = share * covariance + (1 - share) * torch.diag(torch.diag(covariance))
    mean = fitted.mean(0)
    gain = torch.linalg.solve(shrunk + kappa**2 * torch.eye(d, dtype=F64), shrunk)
    torch.testing.assert_close(gaussian_denoiser(rows)(y, kappa), mean + (y - mean) @ gain, rtol=1e-8, atol=1e-10)


def test_no_row_is_denoised_by_a_fit_of_itself():
    x = _rows(20, 3)
    for others, count in ((x[:0], 4), (x[:30], 4), (_rows(60, 3, 2), 1)):
        fits = cross_fitted(x, others)
        assert len(fits) == count
        assert sorted(torch.cat([part for part, _ in fits]).tolist()) == list(range(20))
        for part, denoise in fits:
            moved = x.clone()
            moved[part] += 100
            again = next(f for p, f in cross_fitted(moved, others) if torch.equal(p, part))
            assert torch.equal(denoise(x, 0.5), again(x, 0.5))
