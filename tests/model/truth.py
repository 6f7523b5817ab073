"""What an exact network says."""

import torch

F64 = torch.float64


def edm_output(here, x, x0, sd_):
    """Karras et al. 2022, table 1, on x/alpha: the F that says x0, (x0 - c_skip y) / c_out."""
    alpha, sigma = (torch.as_tensor(v, dtype=F64).reshape(-1, 1) for v in (here.alpha, here.sigma))
    s, y = sigma / alpha, x / alpha
    return (x0 - sd_**2 / (s**2 + sd_**2) * y) / (s * sd_ / torch.sqrt(s**2 + sd_**2))
