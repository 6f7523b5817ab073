"""
A likelihood with its error budget
==================================

:func:`sdediff.log_likelihood` integrates the divergence of the probability flow from a sample
to noise. The number has errors of its own: of the probes that estimate the divergence, of the
steps along the path, of the ends. Each comes with the result, and this page compares them with
the truth.
"""

# %%
import dataclasses
import math

import matplotlib.pyplot as plt

import sdediff as sd

# %%
# Where the density is known
# --------------------------
# The data are a mixture of Gaussians in 64 dimensions and the score is exact, so the error of
# each sample can be seen.

target = sd.target("gmm64")
model = dataclasses.replace(
    target.model(sd.VP()), stats=sd.statistics(target.sample(2000, seed=1))
)
x = target.sample(64, seed=0)
truth = target.log_prob(x.double())
result = sd.log_likelihood(model, x, probes=8, rtol=1e-2, atol=1e-2)
result

# %%
# ``terms`` holds the parts of log p, a number for each sample: they sum to it.

for name, values in result.terms.items():
    print(f"{name:12} {values.mean():9.3f} nats")
print(f"{'log p':12} {result.log_prob.mean():9.3f} nats, exact {truth.mean():.3f}")

# %%
# Each sample's error and its bound
# ---------------------------------
# ``std_error`` is the standard error of the probes, ``solver_error`` a bound of everything
# else. The error should lie within 1.96 standard errors plus the bound for at least 95 % of the
# samples.

error = (result.log_prob - truth).abs()
bound = 1.96 * result.std_error + result.solver_error
figure, axis = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
axis.loglog(bound, error, "o", markersize=4)
line = [bound.min() / 2, bound.max() * 2]
axis.loglog(line, line, color="gray", lw=1, label="error = bound")
axis.set(
    xlabel="1.96 std_error + solver_error, nats",
    ylabel="error, nats",
    title="64 samples in 64 dimensions",
)
axis.legend(frameon=False)
plt.show()
print(f"{(error <= bound).double().mean():.0%} of the samples are within the bound")

# %%
# What a probe is worth
# ---------------------
# The variance of the estimate falls as one over the number of probes, and the network
# evaluations that the divergence takes rise with it. As many probes as dimensions are the exact
# trace, and no error of the probes is left.

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
counts = (1, 4, 16, 64)
runs = {k: sd.log_likelihood(model, x, probes=k, rtol=1e-2, atol=1e-2) for k in counts}
measured = [(run.log_prob - truth).square().mean().sqrt() for run in runs.values()]
reported = [run.std_error.square().mean().sqrt() for run in runs.values()]
axis.loglog(counts, measured, "o-", label="measured rms error")
axis.loglog(counts[:-1], reported[:-1], "s--", label="reported std_error, rms")
axis.set_xticks(counts, [str(k) for k in counts])
axis.minorticks_off()
axis.set(xlabel="probes", ylabel="nats", title="The error by probes; 64 are the exact trace")
axis.legend(frameon=False)
plt.show()

# %%
# Bits per dimension of digits
# ----------------------------
# On a network the truth is not known, and the reported errors are what there is. Pixels of 17
# levels are dequantised by uniform noise; the range of the network's input is stated, since
# bits depend on it.

digits = sd.load("digits-vp")
pictures = sd.data("digits").dequantised(seed=0, index=range(24))
result = sd.log_likelihood(digits, pictures)
bits = sd.bits_per_dim(result, levels=17, range=(-1, 1))
by_probes = result.std_error.mean() / (64 * math.log(2))
by_solver = result.solver_error.mean() / (64 * math.log(2))
print(f"{bits.mean():.2f} bits/dim, +- {bits.std() / 24**0.5:.2f} by the choice of digits,")
print(f"+- {by_probes:.3f} a digit by the probes, {by_solver:.3f} by the solver")

# %%
# :doc:`/likelihood` explains the two passes and what each setting costs. A whole data set is
# scored by a job that resumes: :ref:`sphx_glr_examples_cluster_job.py`.
