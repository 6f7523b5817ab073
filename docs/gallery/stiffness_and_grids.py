"""
Stiffness and grids
===================

Near the data a score is steep: along a direction of the data that is narrow it changes as fast
as the noise level. A step that is too long there makes some solvers unstable, whatever their
order. This page shows where, and how the times of the steps, the grid, decide how many steps
are needed.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff.analysis import spectrum, stability, tuned

sde = sd.VP()

# %%
# Eight grids
# -----------
# Twelve steps each, by the noise level :math:`\sigma/\alpha` that they visit. Even steps in
# time spend most of them at high noise; ``log_snr`` and ``karras`` are dense near the data.

names = ("uniform", "quadratic", "beta", "log_snr", "karras", "angle", "time_shift")
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
for row, name in enumerate(names):
    times = sd.grid(name, sde, 12)
    axis.semilogx(
        sde.sigma(times) / sde.alpha(times), torch.full((13,), -row), "|-", ms=11, lw=0.5
    )
axis.set_yticks([-row for row in range(len(names))], names)
axis.set(xlabel="sigma / alpha", title="Twelve steps on VP")
plt.show()

# %%
# Where steps are too long
# ------------------------
# Gaussian data whose standard deviation is 0.01 in one direction: ``analyse`` gives the
# standard deviation of a solver's output exactly. It should be that of the data. With even
# steps in time Euler-Maruyama, Heun and Runge-Kutta make it up to 200 times too wide, since the
# last step is far longer than the time in which the score pulls a state back. Solvers that
# integrate the linear part exactly, ``ddim`` and ``dpmpp_2m``, cannot: they are stable at every
# step. On the grid ``log_snr`` ten to twenty steps are enough for all of them.

counts = (5, 10, 20, 40, 80, 160)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for axis, grid in zip(axes, ("uniform", "log_snr"), strict=True):
    for name in ("euler_maruyama", "heun", "rk4", "ddim", "dpmpp_2m"):
        runs = [sd.analyse(name, sde, grid, (1e-4,), n, denoise=False) for n in counts]
        ratios = [(run.variance / run.exact_variance).sqrt().item() for run in runs]
        axis.loglog(counts, ratios, "o-", markersize=4, label=name)
        print(f"{grid:8} {name:15} {ratios[1]:6.2f} at 10 steps, {ratios[2]:6.2f} at 20")
    axis.axhline(1, color="gray", lw=0.5)
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.set(title=grid, xlabel="steps")
axes[0].set(ylabel="standard deviation over the true one", ylim=(0.1, 500))
axes[1].legend(frameon=False, fontsize=8)
figure.suptitle("A narrow direction: too wide where steps are too long")
plt.show()

# %%
# :func:`sdediff.analysis.stability` finds the fewest steps for which the output stays bounded,
# here by twice the data's own:

print(stability("heun", sde, grid="uniform", spectrum=(1e-4,)))
print(stability("heun", sde, grid="log_snr", spectrum=(1e-4,)))

# %%
# The error by grid
# -----------------
# The same two solvers on every grid, on a mixture of Gaussians whose flow is known.

model = sd.target("target_m").model(sde)
z = sde.prior_std() * torch.randn(
    128, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
exact = sd.sample(
    model, x=z, solver=sd.solver("ode", method="DOP853", rtol=1e-10, atol=1e-10), denoise=False
)
counts = (5, 10, 20, 40)
figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True, layout="constrained")
for axis, solver in zip(axes, ("dpmpp_2m", "heun"), strict=True):
    for name in names:
        runs = [
            sd.sample(model, x=z, solver=solver, grid=sd.grid(name, sde, n), denoise=False)
            for n in counts
        ]
        axis.loglog(
            counts,
            [(x - exact).norm(dim=1).median() for x in runs],
            "o-",
            markersize=3,
            label=name,
        )
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.minorticks_off()
    axis.set(title=solver, xlabel="steps")
axes[0].set_ylabel("median distance to the flow's end")
axes[1].legend(frameon=False, fontsize=8)
figure.suptitle("Two solvers on seven grids")
plt.show()

# %%
# A grid that is made for the data
# --------------------------------
# ``grid="tuned"`` places the times so that the exact error on Gaussian data is smallest;
# ``tuned`` takes the variances of yours. :func:`sdediff.recommend` tunes on the network's own
# paths.

solver = sd.solver("adams", points=3, basis="eps", variable="rho")
variances = spectrum(sd.target("target_m").sample(2000))
grids = {
    "karras": "karras",
    "log_snr": "log_snr",
    "tuned": tuned(sde, 8, spectrum=variances, solver=solver),
}
for name, grid in grids.items():
    steps = None if name == "tuned" else 8
    x = sd.sample(model, x=z, solver=solver, grid=grid, steps=steps, denoise=False)
    print(f"{name:8} {(x - exact).norm(dim=1).median():.3f}")
