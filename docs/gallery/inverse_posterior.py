"""
An inverse problem against the exact posterior
==============================================

A measurement :math:`y = A x_0 + s z` leaves much of :math:`x_0` open. Methods such as DPS,
PiGDM or TMPD sample it by a model of the data alone; each approximates the posterior in its own
way. On a mixture of Gaussians the posterior is a mixture too, so that the approximations can be
seen.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff import inverse

# %%
# The problem
# -----------
# Two-dimensional data, of which the first coordinate is measured as 0.9 with noise of standard
# deviation 0.2.

target = sd.target("target_m")
operator, y, noise = [[1.0, 0.0]], [0.9], 0.2
problem = inverse.Problem(inverse.Matrix(operator), y, noise=noise)
posterior, evidence = sd.targets.posterior(target, operator, y, noise)
exact = posterior.sample(600, seed=1)
print(f"log p(y) = {evidence:.4f}")

# %%
# Four methods
# ------------
# 600 samples of each in 50 steps, with the exact denoiser. The numbers are the distance of the
# mean to the posterior's, and the ratio of the covariances' traces, which should be 0 and 1.

model = target.model(sd.VP())
methods = {"dps": {"scale": 0.3}, "pigdm": {}, "tmpd": {}, "ddrm": {}}
figure, axes = plt.subplots(
    1, 5, figsize=(10, 2.6), sharex=True, sharey=True, layout="constrained"
)
data = target.sample(600)
for axis, name in zip(axes, ("exact", *methods), strict=True):
    x = exact
    if name != "exact":
        x = inverse.solve(
            model, problem, 600, by=name, steps=50, dtype=torch.float64, **methods[name]
        )
    spread = x.T.cov().trace()
    offset = (x.mean(0) - posterior.mean.to(x)).norm()
    ratio = spread / posterior.cov.trace()
    print(f"{name:6} mean off by {offset:.2f}, covariance {ratio:.2f} of the true one")
    axis.plot(*data.T, ".", color="0.85", markersize=2)
    axis.plot(*x.T, ".C0", markersize=2)
    axis.axvline(y[0], color="C3", lw=0.8)
    axis.set(title=name, aspect="equal")
figure.suptitle("Posterior samples, blue; data, grey; the measurement, red")
plt.show()

# %%
# Half a digit
# ------------
# The same on pictures: the right half is lost, and is filled in by replacement, RePaint, PiGDM
# and TMPD. Known pixels are exact in all of them.

digits = sd.load("digits-vp")
image = sd.data("digits").tensor()[:10]
known = torch.ones(1, 8, 8, dtype=torch.bool)
known[:, :, 4:] = False
rows = {"digits": image, "known": torch.where(known, image, -0.2)}
options = {"replacement": {}, "repaint": {"resamplings": 2}, "pigdm": {"std": 0.7}, "tmpd": {}}
for by, more in options.items():
    rows[by] = inverse.inpaint(digits, image, known, by=by, steps=15, **more)
    assert torch.equal(rows[by][:, known], image[:, known])
figure, axes = plt.subplots(6, 1, figsize=(7, 4.2), layout="constrained")
for axis, (name, x) in zip(axes, rows.items(), strict=True):
    axis.imshow(sd.datasets.grid_image(x, columns=10), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Digits whose right half is filled in")
plt.show()

# %%
# :doc:`/inverse_problems` has the table of all methods by solvers on three measurements.
