"""
Orders of solvers
=================

A solver of order p has an error that falls as the p-th power of the step. This page measures
orders, by the slope of the error over the number of steps, where the exact answer is known.

The target is a mixture of Gaussians in two dimensions, whose score is exact at every time, so
that nothing but the solver errs. The reference is an eighth-order Runge-Kutta method at a
tolerance of 1e-12.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import sdediff as sd

sde = sd.VP(t_min=0.05)
model = sd.target("target_m").model(sde)
z = sde.prior_std() * torch.randn(
    128, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
reference = sd.solver("ode", method="DOP853", rtol=1e-12, atol=1e-12)
exact = sd.sample(model, x=z, solver=reference, denoise=False)

# %%
# Slopes
# ------
# Each run ends at the last time of its grid, without the jump to the data, and is compared
# there with the flow. The slope is fitted to the three finest runs.

steps = np.array([16, 32, 64, 128, 256])
solvers = ("ddim", "heun", "dpmpp_2m", "dpm_solver_3", "unipc", "rk4")
slopes = {}
figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name in solvers:
    grids = [sd.grid("log_snr", sde, int(n)) for n in steps]
    runs = [sd.sample(model, x=z, solver=name, grid=grid, denoise=False) for grid in grids]
    errors = [(x - exact).norm(dim=1).median().item() for x in runs]
    slopes[name] = -np.polyfit(np.log(steps[-3:]), np.log(errors[-3:]), 1)[0]
    axis.loglog(steps, errors, "o-", markersize=4, label=f"{name}, slope {slopes[name]:.2f}")
axis.set_xticks(steps, [str(n) for n in steps])
axis.minorticks_off()
axis.set(
    xlabel="steps",
    ylabel="median distance to the flow's end",
    title="Errors by steps on an exact score",
)
axis.legend(frameon=False)
plt.show()

# %%
# The measured slope beside the order that each solver declares:

for name, slope in slopes.items():
    print(f"{name:13} declared {sd.solver(name).order}, measured {slope:.2f}")

# %%
# What an order is worth
# ----------------------
# An order is a statement about many steps. With five or ten, and on a network that is itself
# inexact, a third-order solver may be worse than a second-order one; measure there, as on
# :ref:`sphx_glr_examples_choose_a_solver.py`.
#
# On Gaussian data the error is known in closed form, since every linear solver is a linear map
# there. ``analyse`` gives it in milliseconds without drawing a sample, for deterministic and
# stochastic solvers alike:

for name in ("ddim", "dpmpp_2m", "ancestral"):
    a, b = (sd.analyse(name, sd.VP(), "log_snr", (0.25,), n, denoise=False) for n in (200, 400))
    ratio = (a.relative_error / b.relative_error).abs().item()
    print(f"{name:10} twice the steps divide the error of the variance by {ratio:.1f}")
