"""
Choose a solver
===============

Which solver should you use, and with how many network evaluations? This page measures the
answer on one network, first by hand and then with :func:`sdediff.recommend`, which tries grids
as well and tunes one.

A deterministic solver follows the probability flow, so it has an exact answer: the end of the
flow from the same noise. We take it from a run of 200 evaluations, and compare shorter runs
with it.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd

model = sd.load("digits-vp")  # a U-Net on 8x8 digits, inside the package
noise = model.sde.prior_std() * torch.randn(
    32, 1, 8, 8, generator=torch.Generator().manual_seed(3)
)
exact = sd.sample(model, x=noise, solver="dpmpp_3m", calls=200)


def error(x):
    """Median over samples of the rms error of a pixel, whose values lie in [-1, 1]."""
    return (x - exact).flatten(1).square().mean(1).sqrt().median().item()


# %%
# Error against evaluations
# -------------------------
# Every run starts from the same noise. ``heun`` evaluates the network twice a step, so it takes
# half as many steps: too few to be drawn below eleven evaluations, where a run brings an
# ``sd.StepsWarning`` that says so.

budgets = (5, 7, 11, 15, 21, 31)
solvers = {
    "euler": budgets,
    "ddim": budgets,
    "heun": budgets[2:],
    "dpmpp_2m": budgets,
    "unipc": budgets,
}
errors = {}
for name, counts in solvers.items():
    errors[name] = {n: error(sd.sample(model, x=noise, solver=name, calls=n)) for n in counts}

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name, values in errors.items():
    axis.loglog(values.keys(), values.values(), "o-", label=name, markersize=4)
axis.set_xticks(budgets, [str(n) for n in budgets])
axis.minorticks_off()
axis.set(
    xlabel="network evaluations",
    ylabel="median error of a pixel",
    title="Five solvers from the same noise",
)
axis.legend(frameon=False)
plt.show()

# %%
# At eleven evaluations:

for name, values in errors.items():
    print(f"{name:9} {values[11]:.3f}")

# %%
# What the error looks like
# -------------------------
# With few evaluations the digits of ``euler`` are soft, and its errors can change what a
# picture shows. Each row is one solver at seven evaluations; the last row is the exact end of
# the flow.

rows = [
    sd.sample(model, x=noise[:12], solver=name, calls=7)
    for name in ("euler", "ddim", "dpmpp_2m")
]
figure, axes = plt.subplots(4, 1, figsize=(7, 2.9), layout="constrained")
for axis, x, name in zip(
    axes, [*rows, exact[:12]], ("euler", "ddim", "dpmpp_2m", "exact"), strict=True
):
    axis.imshow(sd.datasets.grid_image(x, columns=12), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Seven evaluations")
plt.show()

# %%
# Let a measurement choose
# ------------------------
# ``recommend`` does the same for many candidates on its own starting noise, tunes grids for the
# best, and measures the winners again on fresh noise. Here with few candidates and starts, to
# be quick; without ``candidates`` it tries some two hundred pairs of solver and grid.

best = sd.recommend(model, calls=7, candidates=["ddim", "dpmpp_2m", "angle"], starts=16)
print(best)

# %%
# The solver and its times are used like any others:

x = sd.sample(model, x=noise, solver=best.solver, grid=best.times)
print(f"7 calls: recommended {error(x):.3f}, dpmpp_2m {errors['dpmpp_2m'][7]:.3f}")

# %%
# ``sd.sample(..., solver="auto", calls=7)`` is the same in one line, and ``sdediff recommend
# digits-vp --calls 7`` in the shell. Samples that are compared as distributions, stochastic
# solvers among them, are the subject of :ref:`sphx_glr_examples_read_a_report.py`.
