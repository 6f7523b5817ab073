"""Draws grids.png: the times of each grid, and the error of two solvers on it."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

import sdediff as sd

F64 = torch.float64
GRIDS = {
    "uniform": {},
    "quadratic": {},
    "beta": {},
    "log_snr": {},
    "polynomial": {"rho": 1.5},
    "karras": {},
    "angle": {},
    "time_shift": {"shift": 3.0},
}


def errors(sde: sd.LinearSDE, solver: str, counts: list[int]) -> dict[str, list[float]]:
    """Median distance from the exact flow, 256 starts on the mixture `target_m`, for every grid."""
    model = sd.target("target_m").model(sde)
    z = sde.prior_std() * torch.randn(256, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    fine = sd.solver("ode", method="DOP853", rtol=1e-10, atol=1e-10)
    exact = sd.sample(model, x=z, solver=fine, denoise=False)
    medians: dict[str, list[float]] = {}
    for name, options in GRIDS.items():
        medians[name] = []
        for n in counts:
            x = sd.sample(model, x=z, solver=solver, grid=sd.grid(name, sde, n, **options), denoise=False)
            medians[name].append((x - exact).norm(dim=1).median().item())
    return medians


def main() -> None:
    sde, counts = sd.VP(), [5, 7, 10, 14, 20, 28, 40]
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), constrained_layout=True)
    for i, (name, options) in enumerate(GRIDS.items()):
        times = sd.grid(name, sde, 12, **options)
        label = name + "".join(f", {key}={value:g}" for key, value in options.items())
        axes[0].semilogx(sde.sigma(times) / sde.alpha(times), torch.full((13,), -i), "|-", ms=11, lw=0.5, label=label)
    axes[0].set_yticks([-i for i in range(len(GRIDS))], GRIDS)
    axes[0].set(xlabel="sigma / alpha", title="12 steps on VP")
    for axis, solver in zip(axes[1:], ("dpmpp_2m", "heun"), strict=True):
        for name, row in errors(sde, solver, counts).items():
            axis.loglog(counts, row, "o-", ms=3, label=name)
            print(solver, name, [f"{e:.4f}" for e in row])
        axis.set(xlabel="steps", ylabel="median distance from the exact flow", title=solver)
        axis.set_xticks(counts, [str(n) for n in counts])
        axis.minorticks_off()
    axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
