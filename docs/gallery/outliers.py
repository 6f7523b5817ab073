"""
Outliers, and why likelihood fails there
========================================

A density alone is no test for outliers: simple pictures can have a higher density than any of
the data (Nalisnick et al. 2019). :func:`sdediff.path_statistics` measures more along the same
flow: the norm of the score on the way to noise, how fast it changes, the divergence, and the
local dimension of the data around the sample.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import mannwhitneyu

import sdediff as sd
from sdediff.datasets import DataSet

COUNT = 24
model, digits = sd.load("digits-vp"), sd.data("digits")

# %%
# Pictures that are no digits
# ---------------------------
# Two bright columns on an empty page, blurred digits, mirrored digits, and digits without the
# noise that dequantises them.


def as_data(levels):
    """Pictures (N, 8, 8) of levels 0..16 as the network sees digits."""
    return DataSet(levels[:, None], digits.levels, digits.range, None, "pictures").dequantised(
        seed=3
    )


other = digits.x[COUNT : 2 * COUNT, 0].astype(float)
stripes = np.zeros((COUNT, 8, 8))
stripes[:, :, 3:5] = np.random.default_rng(0).integers(8, 17, size=(COUNT, 8, 2))
blurred = np.stack([gaussian_filter(digit, 1.5, mode="constant") for digit in other]).round()
sets = {
    "blurred": as_data(blurred),
    "stripes": as_data(stripes),
    "mirrored": as_data(other[:, :, ::-1].copy()),
    "without noise": (2 * torch.from_numpy(other)[:, None].float() + 1) / 17 - 1,
}
held_out = digits.dequantised(seed=0, index=range(COUNT))

figure, axes = plt.subplots(5, 1, figsize=(7, 3.6), layout="constrained")
for axis, (name, x) in zip(axes, {"digits": held_out, **sets}.items(), strict=True):
    axis.imshow(sd.datasets.grid_image(x[:12], columns=12), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Digits and four sets of outliers")
plt.show()

# %%
# Statistics of paths
# -------------------
# Each row is a sample, each column a noise level :math:`\kappa = \sigma/\alpha`, the same for
# all. ``typicality`` compares a sample's features with those of a reference set, by their
# squared Mahalanobis distance: higher is more typical, as with log p.

options = {"kappa": 8, "probes": 1, "rtol": 1e-2, "atol": 1e-2}
known = sd.data("digits", "train").dequantised(seed=1, index=range(72))
reference = sd.path_statistics(model, known, seed=1, **options)
inside = sd.path_statistics(model, held_out, **options)
outside = {name: sd.path_statistics(model, x, **options) for name, x in sets.items()}


def area(of_data, of_others):
    """The area under the ROC curve: how often a digit scores higher. 0.5 is chance."""
    return mannwhitneyu(of_data, of_others).statistic / (len(of_data) * len(of_others))


print(f"{'':14}{'mean log p':>11}{'area by log p':>15}{'by typicality':>15}")
print(f"{'digits':14}{inside.log_prob.mean():11.1f}")
for name, found in outside.items():
    by_log_p = area(inside.log_prob, found.log_prob)
    typical = area(inside.typicality(reference), found.typicality(reference))
    print(f"{name:14}{found.log_prob.mean():11.1f}{by_log_p:15.2f}{typical:15.2f}")

# %%
# Both scores
# -----------
# Stripes, and digits without noise, are *more* probable than the held-out digits: log p ranks
# them the wrong way round. Typicality detects them. Mirrored digits are made of the same
# strokes as digits, and neither score is perfect there.

figure, axes = plt.subplots(2, len(sets), figsize=(9, 4), layout="constrained")
for column, (name, found) in zip(axes.T, outside.items(), strict=True):
    pairs = {
        "log p": (inside.log_prob, found.log_prob),
        "typicality": (inside.typicality(reference), found.typicality(reference)),
    }
    for axis, (kind, (a, b)) in zip(column, pairs.items(), strict=True):
        b = b.clamp(
            min=2.5 * a.min() - 1.5 * a.max()
        )  # what lies farther to the left is drawn at the edge
        bins = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 21)
        axis.hist(a.numpy(), bins, alpha=0.6, label="digits")
        axis.hist(b.numpy(), bins, alpha=0.6, label="others")
        axis.set(xlabel=kind, yticks=[])
    column[0].set_title(name)
axes[0, 0].legend(frameon=False)
figure.suptitle("Digits and outliers by log p, above, and by typicality, below")
plt.show()

# %%
# A dimension of the data
# -----------------------
# ``dimension`` is how many directions around a sample look like data rather than noise at level
# :math:`\kappa` (FLIPD, Kamkari et al. 2024). Read it where :math:`\kappa` is above the
# dequantisation noise, 0.034 here, and below the data's structure. A dimension above that of
# the data means that the sample lies off the data.

column = (inside.kappa - 0.1).abs().argmin()
print(
    f"at kappa = {inside.kappa[column]:.2f}: digits {inside.dimension[:, column].median():.0f}"
)
for name, found in outside.items():
    print(f"{name:14} {found.dimension[:, column].median():.0f}")

# %%
# :doc:`/outliers` has the figures for more sets and larger samples, and what each statistic is.
