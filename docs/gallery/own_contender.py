"""
A contender of your own
=======================

Two programs that both say "DDIM, 20 steps" may start at other noise levels, end at others, and
evaluate the network 20 or 21 times. A ``Contender`` is a sampler of any library, run under
rules that are checked: the same network, the same starts, counted evaluations, compared where
it ends.
"""

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

import sdediff as sd
from sdediff.benchmark import RULES, Contender, Finish, contend, resolve_contenders

# %%
# The rules
# ---------

for name, meaning in RULES.items():
    print(f"{name:14} {meaning}")

# %%
# Written
# -------
# A class with a name and a method ``run`` is complete. This one is Euler's method on the
# probability flow, as one would write it in an afternoon.


class Euler(Contender):
    library, name = "mine", "euler"

    def run(self, model, x_T, calls, seed):
        times, x = torch.linspace(model.sde.T, model.sde.t_min, calls).tolist(), x_T
        for t, s in pairwise(times):
            x = x + (s - t) * model(x, t).velocity
        return Finish(model(x, times[-1]).x0, time_end=0.0, calls=calls)


model = sd.target("gmm64").model(sd.VP())
x = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
outcome = contend(Euler(), model, x, calls=21)
print(f"{outcome.label}: {outcome.calls} calls, ends at t = {outcome.time_end:g}")

# %%
# Compared
# --------
# Beside ``torchdiffeq``'s Euler and midpoint, and two solvers of this package, by the distance
# to the flow's end.

target = sd.target("gmm64")
exact = sd.sample(model, x=x, solver="dpmpp_3m", calls=400)
counts = (11, 21, 41)
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for contender in (Euler(), *resolve_contenders(["torchdiffeq:euler", "torchdiffeq:midpoint"])):
    runs = [contend(contender, model, x, calls=n, repeat=False) for n in counts]
    axis.loglog(
        counts,
        [(run.x - exact).flatten(1).norm(dim=1).median() for run in runs],
        "o-",
        label=runs[0].label,
    )
for name in ("euler", "dpmpp_2m"):
    runs = [sd.sample(model, x=x, solver=name, calls=n) for n in counts]
    axis.loglog(
        counts,
        [(run - exact).flatten(1).norm(dim=1).median() for run in runs],
        "s--",
        label=f"sdediff:{name}",
    )
axis.set_xticks(counts, [str(n) for n in counts])
axis.minorticks_off()
axis.set(
    xlabel="network evaluations",
    ylabel="median distance to the flow's end",
    title="Under one set of rules",
)
axis.legend(frameon=False)
plt.show()

# %%
# Refused
# -------
# One that takes an evaluation more than it was given is named with the rule that it breaks:


class OneMore(Euler):
    name = "one more"

    def run(self, model, x_T, calls, seed):
        return super().run(model, x_T, calls + 1, seed)


try:
    contend(OneMore(), model, x, calls=21)
except sd.Error as error:
    print(error)

# %%
# ``sdediff bench --contenders my_module:Euler`` puts it into the table. :doc:`/contenders`
# lists the samplers of diffusers, k-diffusion, azula, flow_matching, torchdiffeq and torchsde
# that have names here.
