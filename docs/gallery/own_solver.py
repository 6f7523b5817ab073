"""
A solver of your own
====================

A solver is one frozen dataclass with a ``step`` and an ``order``. This page writes one, lets
the conformance kit measure it, and compares it with others.
"""

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

import sdediff as sd


@dataclass(frozen=True)
class AB2(sd.Solver):
    """x_s = x + dt (v + (v - v_last) dt / (2 dt_last)), v the flow's velocity. Order 2."""

    order = 2
    grid = "log_snr"

    def step(self, model, x, t, s, state, noise):
        dt, v = s.time - t.time, model(x, t).velocity
        dt_last, v_last = state or (dt, v)
        return x + dt * (v + (v - v_last) * dt / (2 * dt_last)), (dt, v)


# %%
# Checked
# -------
# The kit measures the order against the declared one, counts calls, samples on every process,
# resumes, and compares batches. Where something is wrong it says so in a sentence.

for check in sd.testing.check_solver(AB2()):
    print(f"{check.name:15} {check.detail}")

# %%
# Compared
# --------
# From the same starts, on a mixture of Gaussians with an exact score.

sde = sd.VP()
model = sd.target("target_m").model(sde)
z = sde.prior_std() * torch.randn(
    128, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
)
exact = sd.sample(
    model, x=z, solver=sd.solver("ode", method="DOP853", rtol=1e-10, atol=1e-10), denoise=False
)
counts = (12, 24, 48, 96)
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for solver in (AB2(), "euler", "heun", "dpmpp_2m"):
    name = solver if isinstance(solver, str) else type(solver).__name__
    solver = sd.solver(solver) if isinstance(solver, str) else solver
    runs = [
        sd.sample(
            model, x=z, solver=solver, steps=n // solver.calls, grid="log_snr", denoise=False
        )
        for n in counts
    ]
    axis.loglog(
        counts, [(x - exact).norm(dim=1).median() for x in runs], "o-", markersize=4, label=name
    )
axis.set_xticks(counts, [str(n) for n in counts])
axis.minorticks_off()
axis.set(
    xlabel="network evaluations",
    ylabel="median distance to the flow's end",
    title="AB2 beside others",
)
axis.legend(frameon=False)
plt.show()

# %%
# A name for it
# -------------
# With a line in the ``pyproject.toml`` of your package,
# ``[project.entry-points."sdediff.solvers"]`` and ``ab2 = "my_solvers:AB2"``, every function
# and command takes ``"ab2"``. :doc:`/solver_authors` says what a step may rely on.
