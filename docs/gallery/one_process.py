"""
DDPM and NCSN as one process
============================

DDPM samples by a chain of a thousand small Gaussian steps, NCSN by Langevin dynamics at a
falling sequence of noise levels. Both discretise one reverse-time process, and here both are
the same solver classes on a ``Table`` in place of a formula.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd

F64 = torch.float64

# %%
# Tables lie on processes
# -----------------------
# DDPM's table of a thousand betas follows the VP process, and NCSN's noise levels follow VE: a
# table is a process that is known at its training timesteps.

t = torch.linspace(0.001, 1, 400, dtype=F64)
vp, ddpm = sd.VP(), sd.Table.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64))
ve, noise_levels = sd.VE(0.01, 1.0), torch.logspace(-2, 0, 10, dtype=F64)
timesteps = torch.arange(25, 1001, 75, dtype=F64)
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.plot(t, vp.alpha(t), "C0", label="VP: alpha")
axis.plot(t, vp.sigma(t), "C0--", label="VP: sigma")
axis.plot(timesteps / 1000, ddpm.alpha(timesteps), "oC1", label="DDPM's timesteps")
axis.plot(timesteps / 1000, ddpm.sigma(timesteps), "oC1")
axis.plot(t, ve.sigma(t), "C2--", label="VE: sigma")
axis.plot(ve.t_of_lam(-noise_levels.log()), noise_levels, "sC3", label="NCSN's levels")
axis.set(xlabel="t / T", title="Tables on the curves of their processes")
axis.legend(frameon=False)
plt.show()

# %%
# One step, three names
# ---------------------
# With the denoiser :math:`D` held constant over a step from :math:`t` to :math:`s`, :math:`h =
# \lambda_s - \lambda_t`, the reverse process is solved exactly by
#
# .. math::
#
#    x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h} x_t + \alpha_s (1 - e^{-(1 + \eta^2) h}) D
#    + \sigma_s \sqrt{1 - e^{-2 \eta^2 h}}\, z .
#
# - :math:`\eta = 1` on DDPM's table is Ho et al.'s posterior with variance :math:`\tilde\beta`;
# - :math:`\eta = 1` with :math:`\alpha = 1` is NCSN's ancestral step;
# - :math:`\eta = 0` is DDIM, which is DPM-Solver of order one.
#
# One ancestral step from timestep 500 to timestep 499, by the library and as Ho et al. wrote
# it:

model = sd.target("target_m").model(ddpm)
x = torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
ours = sd.sample(model, x=x, solver="ancestral", grid=[500.0, 499.0], denoise=False, seed=3)

betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
bar = torch.cumprod(1 - betas, 0)
beta, bar_t, bar_s = betas[499], bar[499], bar[498]
x0 = model(x, 500.0).x0
mean = (1 - beta).sqrt() * (1 - bar_s) / (1 - bar_t) * x + bar_s.sqrt() * beta / (
    1 - bar_t
) * x0
levels = sd.levels(ddpm, [500.0, 499.0])
z = sd.Counter(seed=3)(levels[0], levels[1], x)  # the same noise
paper = mean + ((1 - bar_s) / (1 - bar_t) * beta).sqrt() * z
print(f"largest difference below 1e-12: {bool((ours - paper).abs().max() < 1e-12)}")

# %%
# NCSN's dynamics
# ---------------
# Annealed Langevin dynamics visits every level, the last included, and takes :math:`n` steps
# :math:`x \leftarrow x + \tfrac{\epsilon_i}{2} s + \sqrt{\epsilon_i}\, z` at each, with
# :math:`\epsilon_i = \epsilon \sigma_i^2/\sigma_L^2`.

ladder = sd.Table.from_sigmas(torch.logspace(-2, 1, 10, dtype=F64))
ncsn = sd.target("ring").model(ladder)
langevin = sd.solver("annealed_langevin", n=100, epsilon=2e-5)
samples = sd.sample(ncsn, (256, 2), solver=langevin, grid="knots")
print(f"radius of the ring {samples.norm(dim=1).mean():.2f}, exact 1.41")

# %%
# One law in the limit
# --------------------
# On Gaussian data the variance that a chain produces is known exactly. DDPM's two chains, on
# tables of N betas, and Euler-Maruyama on VP with N steps all tend to the same law at order
# one.

counts = (25, 50, 100, 200, 400, 800)


def variance_error(name, n):
    """Relative error of the output's variance on data of N(0, 0.25), exact."""
    vp = sd.VP(t_min=1 / n)
    rates = vp.beta_min + (vp.beta_max - vp.beta_min) * torch.arange(1, n + 1, dtype=F64) / n
    process, grid, steps = sd.Table.from_betas(rates / n), "knots", None
    if name == "euler_maruyama":
        process, grid, steps = vp, "uniform", n - 1
    analysis = sd.analyse(name, process, grid, (0.25,), steps, denoise=False)
    return analysis.relative_error.abs().item()


figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for name in ("ancestral", "ddpm", "euler_maruyama"):
    errors = [variance_error(name, n) for n in counts]
    axis.loglog(counts, errors, "o-", markersize=4, label=name)
axis.set_xticks(counts, [str(n) for n in counts])
axis.minorticks_off()
axis.set(
    xlabel="timesteps or steps",
    ylabel="relative error of the variance",
    title="Three chains on Gaussian data",
)
axis.legend(frameon=False)
plt.show()

# %%
# A continuous network on a table
# -------------------------------
# ``digits-ddpm`` was trained as DDPM is, on a thousand timesteps; ``digits-vp`` in continuous
# time. The second serves the table of the first as well: times are matched by their log-SNR,
# states by their noise level.

chain = sd.load("digits-ddpm")
moved = sd.reschedule(sd.load("digits-vp"), chain.sde)
figure, axes = plt.subplots(2, 1, figsize=(7, 1.9), layout="constrained")
for axis, network, name in zip(
    axes, (chain, moved), ("trained on it", "moved to it"), strict=True
):
    x = sd.sample(network, (12, 1, 8, 8), solver="ancestral", calls=50, seed=2)
    axis.imshow(sd.datasets.grid_image(x, columns=12), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("DDPM's chain in 50 calls, by two networks and the same noise")
plt.show()

# %%
# These identities, and those of some forty papers, are tests to 1e-12:
# ``tests/solvers/test_equivalence_*.py``. :doc:`/systems` trains nine systems of the field and
# compares them in one table.
