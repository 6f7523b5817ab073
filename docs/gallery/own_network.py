"""
A network of your own
=====================

Any callable ``net(x, clock)`` is a network. What it predicts and what its clock reads are
stated once; this page wraps one, finds out with :func:`sdediff.check` what happens when that is
stated wrong, and lets :func:`sdediff.infer` guess.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd

# %%
# A network as others write it
# ----------------------------
# It takes an integer timestep and predicts the noise, as DDPM's do. Here it is made of the
# digits' network of this package, so that it is known to be right.

inner = sd.load("digits-ddpm").net


class Theirs(torch.nn.Module):
    """A network that is called as net(x, timestep), timesteps 0..999, and returns the noise."""

    def __init__(self):
        super().__init__()
        self.inner = inner

    def forward(self, x, timestep):
        return self.inner(x, timestep.float())


net = Theirs().eval()

# %%
# Wrapped
# -------
# The table of betas is the process, ``predicts`` the output, ``time`` the clock.

betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
model = sd.ScoreModel(net, sd.Table.from_betas(betas), predicts="eps", time="index")
x = sd.sample(model, (24, 1, 8, 8), solver="dpmpp_2m", calls=15, seed=0)
figure, axis = plt.subplots(figsize=(7, 1.5), layout="constrained")
axis.imshow(sd.datasets.grid_image(x, columns=12), cmap="gray")
axis.set(xticks=[], yticks=[], title="Samples of the wrapped network")
plt.show()

# %%
# Is it right?
# ------------
# A wrong word seldom raises an error: samples are just worse. ``check`` compares the network's
# predictions with data that were noised to many levels, and takes about a second.

data = sd.data("digits").dequantised(seed=0, index=range(128))
report = sd.check(model, data)
report

# %%
# The same network with a wrong word:

wrong = sd.ScoreModel(net, sd.Table.from_betas(betas), predicts="v", time="index")
print(sd.check(wrong, data).verdict)

# %%
# Let the data say
# ----------------
# ``infer`` ranks ways to read a network by how well it then denoises data.

print(sd.infer(net, data))

# %%
# One prediction, every quantity
# ------------------------------
# Whatever a network was trained to predict, all other quantities follow from it:

prediction = model(torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), 500.0)
for name in ("x0", "eps", "score", "v", "velocity"):
    print(f"{name:9} rms {getattr(prediction, name).square().mean().sqrt():.2f}")

# %%
# :doc:`/bring_your_own_network` has clocks, conditions, ranges, and files of other libraries;
# :doc:`/check` says what is measured.
