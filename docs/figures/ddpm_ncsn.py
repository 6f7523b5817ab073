"""Draws ddpm_ncsn.png: tables on the curves of their processes, and the limit of their chains."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff.testing.gaussian import exact_moments

F64 = torch.float64


def variance_error(name: str, n: int) -> float:
    """Relative error of the output variance on Gaussian data, exact: chains on a table of n betas, or VP itself."""
    vp = sd.VP(t_min=1 / n)
    betas = (vp.beta_min + (vp.beta_max - vp.beta_min) * (torch.arange(n, dtype=F64) + 1) / n) / n
    process = vp if name == "euler_maruyama" else sd.Table.from_betas(betas)
    moments = exact_moments(sd.solver(name), process, n - 1)
    assert moments is not None
    return abs(moments[1])


def main() -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), constrained_layout=True)
    t = torch.linspace(0.001, 1, 400, dtype=F64)
    vp = sd.VP()
    ddpm = sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
    timesteps = torch.arange(25, 1001, 75, dtype=F64)
    left.plot(t, vp.alpha(t), color="C0", label="VP: alpha(t), sigma(t)")
    left.plot(t, vp.sigma(t), color="C0", linestyle="--")
    left.plot(timesteps / 1000, ddpm.alpha(timesteps), "o", color="C1", label="DDPM's timesteps")
    left.plot(timesteps / 1000, ddpm.sigma(timesteps), "o", color="C1")
    ve, noise_levels = sd.VE(0.01, 1.0), torch.logspace(-2, 0, 10, dtype=F64)
    left.plot(t, ve.sigma(t), color="C2", linestyle="--", label="VE: sigma(t)")
    left.plot(ve.t_of_lam(-noise_levels.log()), noise_levels, "s", color="C3", label="NCSN's levels")
    left.set(xlabel="t / T", ylabel="alpha (solid), sigma (dashed)", title="Tables lie on their processes")
    left.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    counts = [25, 50, 100, 200, 400, 800]
    labels = {
        "ancestral": "DDPM's chain, small variance",
        "ddpm": "DDPM's chain, large variance",
        "euler_maruyama": "Euler-Maruyama on VP",
    }
    for name, label in labels.items():
        errors = [variance_error(name, n) for n in counts]
        right.loglog(counts, errors, "o-", label=label)
        print(name, [f"{e:.4f}" for e in errors])
    right.loglog(counts, [25 * errors[0] / n for n in counts], ":", color="gray", label="slope -1")
    right.set(xlabel="N, timesteps or steps", ylabel="relative error of the variance", title="One law in the limit")
    right.set_xticks(counts, [str(n) for n in counts])
    right.minorticks_off()
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
