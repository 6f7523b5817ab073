r"""
A process of your own
=====================

A process is two functions of time, :math:`\alpha` and :math:`\sigma`, in a class with two
one-line methods. Drift, diffusion, transition kernels, the reverse process and the probability
flow are derived from them.
"""

# %%
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

import sdediff as sd


@dataclass(frozen=True)
class Sine(sd.LinearSDE):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2)^power."""

    power: float = 1.5

    def alpha(self, t):
        return torch.cos(torch.pi * t / 2)

    def sigma(self, t):
        return torch.sin(torch.pi * t / 2) ** self.power


# %%
# Checked
# -------
# The conformance kit compares what is derived with independent computations, and samples with
# it:

sde = Sine()
for check in sd.testing.check_sde(sde):
    print(f"{check.name:20} {check.detail}")

# %%
# What is derived
# ---------------

t = torch.linspace(0.02, 0.98, 200, dtype=torch.float64)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for process, colour in ((sd.VP(), "C0"), (sde, "C1")):
    name = type(process).__name__
    left.plot(t, process.alpha(t), colour, label=f"{name}: alpha")
    left.plot(t, process.sigma(t), f"{colour}--", label=f"{name}: sigma")
    right.plot(t, process.lam(t), colour, label=name)
left.set(xlabel="t", title="alpha and sigma")
right.set(xlabel="t", title="lam, half the log-SNR")
left.legend(frameon=False, fontsize=8)
plt.show()

# %%
# Used
# ----
# Every solver, grid and likelihood takes it. A network that was trained on another process
# serves it as well, since times are matched by their log-SNR:

digits = sd.reschedule(sd.load("digits-vp"), sde)
x = sd.sample(digits, (24, 1, 8, 8), solver="dpmpp_2m", calls=15, seed=0)
figure, axis = plt.subplots(figsize=(7, 1.5), layout="constrained")
axis.imshow(sd.datasets.grid_image(x, columns=12), cmap="gray")
axis.set(xticks=[], yticks=[], title="digits-vp on a process of one's own")
plt.show()

# %%
# A process that is not linear gives ``drift`` and ``diffusion`` alone: :doc:`/extending`.
