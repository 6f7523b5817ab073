"""
Watch a trajectory
==================

:func:`sdediff.iterate` yields the state of a run at every level: the time, the noisy state
``x``, and what the network predicts there. This page draws a run as a strip of pictures, as
lines in the plane, and as an animation.
"""

# %%
import matplotlib.pyplot as plt
import torch

import sdediff as sd

model = sd.load("digits-vp")
states = list(sd.iterate(model, (6, 1, 8, 8), solver="dpmpp_2m", calls=12, seed=1))
for state in states[::4]:
    print(f"t = {state.t.time:.3f}, sigma/alpha = {state.t.sigma / state.t.alpha:6.2f}")

# %%
# A strip
# -------
# Above the states :math:`x_t`, scaled to the same range; below what the network takes the clean
# image to be, its ``prediction.x0``. The network knows the digit long before the noise is gone,
# which is why few steps are enough.

middle = [state for state in states if state.prediction is not None]
noisy = torch.cat([state.x[:1] / (state.t.alpha + state.t.sigma) for state in middle])
clean = torch.cat([state.prediction.x0[:1] for state in middle])
figure, axes = plt.subplots(2, 1, figsize=(8, 1.9), layout="constrained")
for axis, x, name in zip(axes, (noisy, clean), ("x", "x0"), strict=True):
    axis.imshow(sd.datasets.grid_image(x, columns=len(x)), cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("One digit from noise, left, to data, right")
plt.show()

# %%
# Lines in the plane
# ------------------
# On data in two dimensions the paths can be drawn. Under the probability flow they are smooth;
# the reverse SDE reaches the same distribution by paths that are rough.

ring = sd.target("ring").model(sd.VP())
figure, axes = plt.subplots(
    1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained"
)
for axis, solver in zip(axes, ("dpmpp_2m", "euler_maruyama"), strict=True):
    path = torch.stack(
        [state.x for state in sd.iterate(ring, (40, 2), solver=solver, steps=150, seed=0)]
    )
    axis.plot(path[:, :, 0], path[:, :, 1], lw=0.6, color="C0", alpha=0.6)
    axis.plot(*path[-1].T, "o", color="C3", markersize=3)
    axis.set(title=solver, aspect="equal")
figure.suptitle("From noise to a ring: the probability flow and the reverse SDE")
plt.show()

# %%
# An animation
# ------------
# Pillow joins pictures to a GIF. Six digits, a frame for every step of a run of forty:

run = sd.iterate(model, (6, 1, 8, 8), solver="dpmpp_2m", calls=40, seed=1)
frames = [
    sd.datasets.grid_image(s.x / (s.t.alpha + s.t.sigma), columns=6, scale=8) for s in run
]
frames[0].save(
    "trajectory.gif",
    save_all=True,
    append_images=frames[1:] + frames[-1:] * 12,
    duration=90,
    loop=0,
)

# %%
# Stop and go on
# --------------
# A state holds all that a run needs. A run that is resumed from one of its states ends where
# the first one did, to the bit.

*_, end = sd.iterate(model, solver="dpmpp_2m", resume=states[5])
print(torch.equal(end.x, states[-1].x))
