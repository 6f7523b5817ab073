r"""
Guidance, and what it does not sample
=====================================

Classifier-free guidance of scale w moves a prediction from that without a condition towards and
past that with it. The score it follows looks like that of the density :math:`p(x)^{1-w}\,p(x
\mid c)^w`, but that density is not what comes out. This page shows guided digits, and measures
what is sampled where everything is Gaussian and known.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff import guidance

# %%
# Guided digits
# -------------
# Five samples a class from the same noise at four scales: strokes become clearer, and more
# alike.

model = sd.load("digits-cond")
label = torch.arange(10).repeat_interleave(5)
figure, axes = plt.subplots(1, 4, figsize=(8, 4.4), layout="constrained")
for axis, scale in zip(axes, (1.0, 2.0, 4.0, 8.0), strict=True):
    guided = guidance.classifier_free(model, scale).given(label=label)
    x = sd.sample(guided, (50, 1, 8, 8), steps=10, seed=1)
    axis.imshow(sd.datasets.grid_image(x, columns=5), cmap="gray")
    axis.set_title(f"scale {scale:g}")
    axis.axis("off")
figure.suptitle("A row for each class, by scale")
plt.show()

# %%
# Two Gaussians
# -------------
# Without a condition the data are N(0, 4), with it N(1, 1). Both scores are exact. The tilted
# density has the variance :math:`1/(w - (w-1)/4)`. The flow contracts by
# :math:`v_\varnothing^{1-w} v_c^w` instead, and the reverse SDE samples yet another law, since
# its noise enters on the way: what comes out depends on the solver.

prior, given = sd.targets.gaussian([0.0], std=2.0), sd.targets.gaussian([1.0], std=1.0)
sde = sd.EDM(T=1e4)
nets = {"none": prior.model(sde).net, "class": given.model(sde).net}
exact = sd.ScoreModel(lambda x, t, label: nets[label](x, t), sde, predicts="v")
start = 1 + 1e4 * torch.randn(
    2000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)

scales = torch.tensor([1.0, 1.5, 2.0, 3.0, 4.0, 5.0])
measured = {"dpmpp_2m": [], "dpmpp_2m_sde": []}
for scale in scales.tolist():
    guided = guidance.classifier_free(exact, scale, negative={"label": "none"}).given(
        label="class"
    )
    for name, variances in measured.items():
        variances.append(sd.sample(guided, x=start, solver=name, steps=80).var().item())

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.plot(scales, 1 / (scales - (scales - 1) / 4), "k-", label="tilted density")
axis.plot(scales, 4.0 ** (1 - scales), "C0-", lw=1, label="the flow, exactly")
axis.plot(scales, measured["dpmpp_2m"], "oC0", label="dpmpp_2m")
axis.plot(scales, measured["dpmpp_2m_sde"], "sC1", label="dpmpp_2m_sde")
axis.set(
    yscale="log",
    xlabel="guidance scale w",
    ylabel="variance",
    title="What guidance samples on Gaussians",
)
axis.legend(frameon=False)
plt.show()

# %%
# At w = 3 the tilted density has six times the variance of what the flow gives:

flow, noisy = (variances[3] for variances in measured.values())
print(f"tilted {1 / (3 - 2 / 4):.3f}, flow {flow:.4f} (exact 0.0625), reverse SDE {noisy:.3f}")

# %%
# What it costs
# -------------
# Guidance trades diversity for agreement with the condition. :doc:`/guidance` measures both on
# digits, and lists the other methods: adaptive projected guidance, CFG++, autoguidance,
# classifiers, products of models. To sample a tilted density itself, weigh particles along the
# run: :doc:`/path_densities`.
