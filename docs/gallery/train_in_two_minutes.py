"""
Train in two minutes
====================

A process, a network, an objective and a loop: this page trains a flow-matching model of two
moons in the plane on one core, checks how it is wired, and measures its samples. NCSN, DDPM,
score SDEs and EDM differ in three words (:doc:`/training`).
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff.nets import MLP
from sdediff.training import LogitNormal, Objective, TrainingSettings, build

moons = sd.target("moons")
data = moons.sample(4000, seed=0)
net = build(lambda: MLP(2, 64, blocks=2), seed=0)  # first weights that depend on the seed alone
model = sd.ScoreModel(net, sd.RectifiedFlow(), predicts="velocity")
print(f"{sum(p.numel() for p in net.parameters()):,} weights")

# %%
# The loop
# --------
# ``train`` changes the network in place; it holds averaged weights afterwards. Its random
# numbers are functions of the seed, the update and the number of the sample in the batch.

settings = TrainingSettings(updates=1200, batch=256, rate=4e-3)
log = sd.train(model, data, settings, Objective("velocity", LogitNormal()))
losses = torch.tensor(log.losses)
first, last = losses[:100].mean(), losses[-100:].mean()
print(f"loss {first:.2f} in the first hundred updates, {last:.2f} in the last")

# %%
# Samples
# -------

x = sd.sample(model, (1000, 2), solver="heun", steps=20, seed=1)
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
axes[0].plot(losses.unfold(0, 50, 50).mean(1).repeat_interleave(50))
axes[0].set(title="loss, means of 50 updates", xlabel="update")
for axis, points, name in zip(axes[1:], (data[:1000], x), ("data", "samples"), strict=True):
    axis.plot(*points.T, ".", markersize=2)
    axis.set(title=name, aspect="equal")
figure.suptitle("A flow trained on two moons")
plt.show()

# %%
# How good is it?
# ---------------
# The energy distance to the data, beside that of as many fresh samples of the data, which shows
# what can be seen at this number; and log p of fresh data, beside the truth.

fresh, more = moons.sample(1000, seed=1), moons.sample(1000, seed=2)
print("energy distance of the samples", sd.metrics.energy_distance(x, fresh))
print("energy distance of fresh data ", sd.metrics.energy_distance(more, fresh))

# %%

result = sd.log_likelihood(model, fresh[:200], trace="exact")
truth = moons.log_prob(fresh[:200].double())
print(f"log p of fresh data: {result.log_prob.mean():.2f} nats, exact {truth.mean():.2f}")

# %%
# Is it wired right?
# ------------------
# ``check`` says on data whether the network is read as it was trained. Here a clock that runs
# backwards is found:

print(sd.check(model, fresh).right)
wrong = sd.ScoreModel(
    net, sd.RectifiedFlow(), predicts="velocity", time=lambda level: 1 - level.time
)
print(sd.check(wrong, fresh).verdict)

# %%
# On images the same loop trains the U-Net of the package: ``sdediff train ddpm --out run``
# takes a minute for digits.
