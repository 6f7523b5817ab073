"""What the fuzz calls: public functions, and for each argument values of right and of wrong kinds."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

import sdediff as sd


def net(x: torch.Tensor, t: torch.Tensor, shift: Any = 0.0) -> torch.Tensor:
    return 0.1 * x


class Backwards(sd.LinearSDE):
    """A process in reversed time: data at T."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        return t

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        return 1.01 - t


class Floats(sd.LinearSDE):
    """alpha is a number, not a tensor."""

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        return 1.0  # type: ignore[return-value]

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        return t


TABLE = sd.Table.from_betas(torch.linspace(1e-3, 0.4, 12, dtype=torch.float64))
X = torch.tensor([[0.5, -1.0], [0.25, 2.0], [1.5, 0.0], [-0.5, 0.1]])
NAN_NET = lambda x, t, shift=0.0: x * math.nan  # noqa: E731
MODELS = [sd.ScoreModel(net, sde) for sde in (sd.VP(), sd.EDM(), TABLE)]
MODELS += [sd.ScoreModel(net, sd.RectifiedFlow(), predicts="velocity"), sd.ScoreModel(NAN_NET, sd.VP())]
STATES = [X, X.double(), X[:1], X[:, :1]]
WRONG_STATES = [
    X.to(torch.complex64), X.long(), X.bool(), X[0], X[0, 0], X[:0], X[:, :0], X.to("meta"),
    X / 0, X * math.nan, X.numpy(),
    X.tolist(), X.to_sparse(), X.double().requires_grad_(), torch.tensor(1.0),
]  # fmt: skip
WRONG = [
    None, True, "x", "", 1 + 2j, b"x", object(), [], {}, (), math.nan, math.inf, -1, 0, 2.5, 10**30, np.int64(3),
    np.float64(0.5),
    np.array(2), np.array([1.0, 2.0]), torch.tensor(3), torch.tensor([1.0, 0.5]), len, sd.VP, sd.VP(), X, [X], range(3),
    ["a", "b"], np.array(["a"]), torch.float32, "cpu",
]  # fmt: skip
STATE = next(sd.iterate(MODELS[0], (4, 2), steps=2))
RIGHT: dict[str, list[Any]] = {
    "model": MODELS, "x": STATES, "z": STATES, "x0": STATES, "data": [*STATES, X.numpy(), X.tolist()], "net": [net],
    "shape": [(4, 2), [3, 1], (1, 1, 2, 2), (np.int64(2), 2), torch.Size([2, 3]), (0, 2), (2, -1), (2.0, 2),
    "22", (2,), (True, 2)],
    "solver": [
        "ddim", "heun", "dpmpp_2m", "euler_maruyama", "unipc", "rk_adaptive", "predictor_corrector", "langevin",
        "sde", "edm",
        sd.solver("ddim", eta=0.5), "dpmpp2m", "restart",
    ],
    "kind": ["uniform", "karras", "log_snr", "knots", "strided", "angle", [1.0, 0.5, 0.01],
    lambda sde, n, a, b: [a, b], "karas"],
    "steps": [1, 2, 3, np.int32(2)], "calls": [2, 3, 5, "5"], "n": [1, 3, np.int64(2)],
    "grid": ["uniform", "karras", "strided", [1.0, 0.4, 0.1], np.array([0.9, 0.1]), [0.1, 0.9],
    lambda *a: torch.ones(3)],
    "seed": [0, 3, np.int64(4), 2**64 - 1, -1, 2**64], "index": [0, 5, [1, 2, 3, 4], np.array([4, 3, 2, 1]), [0.5], -2],
    "start": [1.0, 0.9, np.float64(0.8), 11.5, 5], "stop": [0.01, 0.1, 2, 1.5],
    "cond": [{}, {"shift": 1.0}, {"shift": [1.0]}],
    "denoise": [True, False], "noise": ["counter", "brownian", "stream", sd.Counter(1), sd.Brownian()],
    "resume": [STATE],
    "dtype": [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.complex64, "float32"],
    "device": ["cpu", "meta", "nonsense", "cuda:99", torch.device("cpu")], "full": [True, False], "grad": [True, False],
    "progress": [False], "callback": [lambda s: None], "compile": [False], "sde": [sd.VP(), sd.EDM(),
    TABLE, Backwards(), Floats()],
    "t": [0.5, 1.0, 0.0, 2.0, np.float64(0.3), torch.tensor([0.1, 0.9]), 3, torch.full((4,), 0.5)], "rho": [7.0, 2],
    "predicts": ["eps", "x0", "v", "score", "edm", "velocity", "epsilon"],
    "time": ["t", "lam", "index", lambda t: 2 * t.lam],
    "sigma_data": [1.0, 0.5], "offset": [1, 0], "eta": [0.0, 0.5], "order": [1, 2], "rank": [1, 2], "variable": ["lam"],
    "weighting": ["simple", "snr", "min_snr"], "eps": STATES, "spread": ["t", "lam"], "generator": [torch.Generator()],
    "spectrum": [[1.0, 0.5], (2.0,), torch.ones(3)], "mean": [0.0, 0.5, [1.0, 2.0]], "prior": ["sigma", "exact"],
    "name": ["target_m", "ring", "gaussian", "moon"], "low": [-1.0, 0], "high": [1.0, 2], "quantile": [0.9, 1],
    "limit": [1.0],
    "method": ["vlb", "continuous_vlb", "two_pass"], "trace": ["exact", "rademacher"], "probes": [1, 2], "rtol": [0.1],
    "result": [X[:, 0], X[:, 0].double()], "levels": [4, 256], "range": [(-1.0, 1.0), (0, 1)], "dims": [2, 3],
}  # fmt: skip
RIGHT["eps"] = [X, X.double()]
WRONG_OF = dict.fromkeys(("x", "z", "x0", "data", "eps"), WRONG_STATES + WRONG)
_SET_UP = "model solver steps calls grid start stop dtype device"
_RUN = f"{_SET_UP} cond"
_SAMPLE = f"{_RUN} shape x seed index denoise noise"
FUNCTIONS: dict[str, tuple[Any, str, str]] = {
    "sample": (sd.sample, "model solver steps", f"{_SAMPLE} resume callback full grad progress compile"),
    "iterate": (lambda **k: list(sd.iterate(**k)), "model solver steps", f"{_SAMPLE} resume"),
    "sampler": (
        lambda x=None, shape=(4, 2), seed=0, index=0, **k: sd.Sampler(**k)(None if x is not None else shape, x=x,
        seed=seed, index=index),
        "model solver steps", f"{_SET_UP} shape x seed index denoise noise",
    ),
    "encode": (sd.encode, "model x", _RUN), "decode": (sd.decode, "model z", _RUN),
    "grid": (sd.grid, "kind sde n", "start stop rho"), "level": (sd.level, "sde t", ""),
    "call": (lambda x, t: MODELS[0](x, t).eps, "x t", ""), "call_edm": (lambda x, t: MODELS[1](x, t).x0, "x t", ""),
    "score_model": (sd.ScoreModel, "net sde", "predicts time sigma_data offset cond"),
    "solver": (lambda name, **k: sd.solver(name, **k), "name", "eta order variable"),
    "statistics": (sd.statistics, "data", "rank"),
    "loss": (sd.loss, "model x0", "weighting t eps spread generator"),
    "analyse": (sd.analyse, "solver sde steps", "grid spectrum mean calls start stop denoise prior"),
    "target": (sd.target, "name", ""), "clip": (sd.guidance.clip, "model", "low high"),
    "threshold": (sd.guidance.threshold, "model", "quantile limit"),
    "reschedule": (sd.reschedule, "model sde", ""),
    "log_likelihood": (functools.partial(sd.log_likelihood, rtol=0.1, atol=0.1),
    "model x", "method trace probes seed index cond"),
    "bits_per_dim": (sd.bits_per_dim, "result", "levels range dims"),
}  # fmt: skip
