"""What a user writes, checked by mypy: the lines are right, apart from those that say which error mypy must report."""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor

import sdediff as sd


def network(x: Tensor, t: Tensor) -> Tensor:
    return -x


model = sd.ScoreModel(network, sd.VP(), predicts="score")
samples = sd.sample(model, (16, 2), solver="dpmpp_2m", calls=10, seed=1)
assert_type(samples, Tensor)
record = sd.sample(model, (16, 2), steps=10, full=True)
assert_type(record, sd.SampleRecord)
assert_type(record.calls, int)
sampler = sd.Sampler(model, solver="unipc", calls=10)
assert_type(sampler((4, 2), seed=0), Tensor)
assert_type(sampler((4, 2), full=True), sd.SampleRecord)
for state in sd.iterate(model, (4, 2), solver=sd.solvers.DDIM(eta=1.0), grid="karras", steps=5):
    assert_type(state.x, Tensor)
latent = sd.encode(model, samples, solver="unipc", steps=8)
assert_type(sd.decode(model, latent, solver="unipc", steps=8), Tensor)
assert_type(sd.solver("ddim", eta=0.5), sd.Solver)
assert_type(sd.list_solvers()["unipc"].order, int | None)
assert_type(sd.grids.karras(sd.VP(), 10, 1.0, 1e-3), Tensor)
likelihood = sd.log_likelihood(model, samples, probes=4)
assert_type(likelihood, sd.Likelihood)
assert_type(sd.bits_per_dim(likelihood, levels=256, range=(-1, 1)), Tensor)
settings = sd.LikelihoodSettings(rtol=1e-3)
sd.log_likelihood(model, samples, settings=settings)
assert_type(sd.load("digits-vp"), sd.ScoreModel)
sd.save(model, Path("folder"))
assert_type(sd.loss(model, samples), Tensor)
target = sd.target("ring")
assert_type(target.model(sd.VE()), sd.ScoreModel)
clipped = sd.guidance.clip(model, -1, 1)
assert_type(clipped, sd.ScoreModel)
try:
    sd.sample(model, (16, 2), solver="euler")
except sd.Error as error:
    print(error)


class Mine(sd.LinearSDE):
    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t)


sd.sample(sd.ScoreModel(network, Mine()), (4, 2))

sd.log_likelihod(model, samples)  # error: Module has no attribute "log_likelihod"
sd.solvers.DDM()  # error: Module has no attribute "DDM"
sd.sample(model, (16, 2), solvr="ddim")  # error: No overload variant
sd.sample(model, (16, 2), calls="10")  # error: No overload variant
sd.iterate(model, (16, 2), step=5)  # error: Unexpected keyword argument "step"
sd.encode(model, samples, t0=1e-3)  # error: Unexpected keyword argument "t0"
sd.log_likelihood(model, samples, probe=4)  # error: Unexpected keyword argument "probe"
sd.log_likelihood(model, samples, probes="4")  # error: Argument "probes" to "log_likelihood" has incompatible type
sd.ScoreModel(network, sd.VP(), predict="eps")  # error: Unexpected keyword argument "predict"
sd.VP(beta_max="20")  # error: Argument "beta_max" to "VP" has incompatible type
sd.Sampler(model, solver=10)  # error: Argument "solver" to "Sampler" has incompatible type
sd.recommend(model, (16, 2), call=10)  # error: Unexpected keyword argument "call"
sd.analyse("ddim", sd.VP(), "log_snr", torch.ones(3), stps=10)  # error: Unexpected keyword argument "stps"
sd.bench(tasks=())  # error: Unexpected keyword argument "tasks"
