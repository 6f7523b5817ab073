"""`PathStatistics`: features of samples along their paths, and how typical they are of a reference set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdediff._utils.errors import InputError
from sdediff.likelihood.result import Likelihood


@dataclass(frozen=True, eq=False, repr=False)
class PathStatistics:
    """Statistics of B samples at K noise levels kappa = sigma/alpha, (K,), float64 on the host; D numbers a sample.

    On the sample's probability flow: score_norm (B, K) is |sigma s|/sqrt(D), the rms of eps, 1 in the mean over
    data that are all noise; bend (B, K - 1) the rms change of eps a unit of log kappa; divergence
    (B, K) is sigma^2 tr grad s, for Gaussian data -D to 0. dimension (B, K): D + sigma^2 (tr grad s + |s|^2) at
    alpha x without noise (FLIPD, Kamkari et al. 2024), the local dimension of the data at scales above kappa; above D
    off the data. *_error: standard errors by the probes of the trace. p_value (B,): two-sided p-value of |latent|^2
    under the prior, the latent of x with the noise at t0. calls (B,): network evaluations, the
    likelihood's included. NaN where likelihood.status is not
    "ok".
    """

    kappa: Tensor
    score_norm: Tensor
    bend: Tensor
    divergence: Tensor
    divergence_error: Tensor
    dimension: Tensor
    dimension_error: Tensor
    p_value: Tensor
    calls: Tensor
    likelihood: Likelihood

    def __len__(self) -> int:
        return len(self.score_norm)

    def __repr__(self) -> str:
        low, high = self.kappa[0].item(), self.kappa[-1].item()
        levels = f"{len(self.kappa)} noise levels kappa={low:.3g}..{high:.3g}"
        return f"PathStatistics({len(self)} samples, {levels}, {self.likelihood!r})"

    @property
    def log_prob(self) -> Tensor:
        """log p(x), (B,) nats."""
        return self.likelihood.log_prob

    @property
    def features(self) -> Tensor:
        """The features that `typicality` compares, (B, 3K): log_prob, score norms, bends and divergences."""
        return torch.cat([self.log_prob.cpu()[:, None], self.score_norm, self.bend, self.divergence], 1)

    def z_scores(self, reference: PathStatistics) -> Tensor:
        """Features in standard deviations from their mean over the reference, (B, 3K)."""
        features = _reference_features(reference, self)
        mean = features.mean(0)
        # A feature that is equal in the whole reference, like a Gaussian's divergence, differs by rounding alone.
        std = torch.maximum(features.std(0, correction=0), 1e-6 * mean.abs().clamp(min=1))
        return (self.features - mean) / std

    def typicality(self, reference: PathStatistics) -> Tensor:
        """How typical the features are of the reference, (B,) nats: higher is more typical, as with log p.

        The log density of a normal fitted to the reference's features, of covariance shrunk as in Ledoit and Wolf
        2004, less its greatest value: minus half the squared Mahalanobis distance. Use a reference of training data,
        of a few times 3K samples, at the same kappa, trace and probes. After Heng et al. 2024. NaN for samples
        that failed; those of the reference are left out. ValueError: other levels, fewer than two samples.
        """
        z, reference_z = self.z_scores(reference), reference.z_scores(reference)
        cov = shrunk_covariance(reference_z[reference_z.isfinite().all(1)])
        root = torch.linalg.cholesky(cov + 1e-9 * torch.eye(len(cov), dtype=cov.dtype))
        return -0.5 * torch.linalg.solve_triangular(root, z.T, upper=False).square().sum(0)


def _reference_features(reference: PathStatistics, scored: PathStatistics) -> Tensor:
    """The reference's features (n, 3K), those of samples that failed left out."""
    if not torch.equal(reference.kappa, scored.kappa) or reference.likelihood.dims != scored.likelihood.dims:
        raise InputError(
            f"the reference was taken at other levels or of other samples: {len(reference.kappa)} of "
            f"{reference.likelihood.dims} numbers, here {len(scored.kappa)} of {scored.likelihood.dims}; "
            "give both the same kappa"
        )
    features = reference.features
    features = features[features.isfinite().all(1)]
    if len(features) < 2:
        raise InputError(f"a reference needs at least two samples that did not fail, given {len(features)}")
    return features


def shrunk_covariance(z: Tensor) -> Tensor:
    """The covariance (F, F) of centred rows z (n, F), shrunk towards its mean variance on every axis.

    (1 - r) S + r m I with m = tr S/F, r = min(1, sum_i |z_i z_i^T - S|^2 / (n^2 |S - m I|^2)). Ledoit and Wolf 2004.
    """
    n, width = z.shape
    s, eye = z.T @ z / n, torch.eye(width, dtype=z.dtype)
    m = s.trace() / width
    distance = (s - m * eye).square().sum()
    noise = (z.square().sum(1).square().sum() / n - s.square().sum()) / n
    r = (noise / distance).clamp(0, 1) if distance > 0 else 1.0
    return (1 - r) * s + r * m * eye
