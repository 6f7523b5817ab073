"""k-diffusion's samplers as contenders."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.errors import InputError, MissingPackageError
from sdediff._utils.suggestions import nearest
from sdediff.benchmark.contenders.frame import SPACINGS, Frame, spaced, too_few
from sdediff.benchmark.contenders.protocol import Contender, Finish
from sdediff.model.score_model import ScoreModel
from sdediff.sde.base import linear

INSTALL = "pip install k-diffusion"
# Network evaluations a step; that to sigma = 0 is one.
_STEPS = {
    "euler": 1, "heun": 2, "dpm_2": 2, "lms": 1, "dpmpp_2m": 1, "euler_ancestral": 1, "dpm_2_ancestral": 2,
    "dpmpp_2s_ancestral": 2, "dpmpp_sde": 2, "dpmpp_2m_sde": 1, "dpmpp_3m_sde": 1,
}  # fmt: skip
# By default these draw from a Brownian tree.
_TREE = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
_RANGED = ("dpm_fast", "dpm_adaptive")
_PRIVATE = "_sdediff_k_diffusion"

DEFAULT = ("euler", "heun", "dpm_2", "lms", "dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde")


def sampling() -> Any:
    """Its module of samplers, also where the rest of its package cannot be imported for want of torchvision."""
    if importlib.util.find_spec("k_diffusion") is None:
        raise MissingPackageError(f"k_diffusion is not installed: {INSTALL}")
    if _PRIVATE in sys.modules:
        return _alone()
    try:
        return importlib.import_module("k_diffusion.sampling")
    except ImportError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "k_diffusion"]:
            del sys.modules[name]
    return _alone()


def _alone() -> Any:
    """The module of samplers under a name of its own, with the one function of its package's utils that it calls."""
    if f"{_PRIVATE}.sampling" in sys.modules:
        return sys.modules[f"{_PRIVATE}.sampling"]
    spec = importlib.util.find_spec("k_diffusion")
    package, utils = types.ModuleType(_PRIVATE), types.ModuleType(f"{_PRIVATE}.utils")
    package.__path__ = list(spec.submodule_search_locations or []) if spec else []
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules[_PRIVATE], sys.modules[f"{_PRIVATE}.utils"] = package, utils
    return importlib.import_module(f"{_PRIVATE}.sampling")


@dataclass(frozen=True)
class KDiffusion(Contender):
    """A sampler of k-diffusion in its own frame, at its list of levels and the step to sigma = 0.

    sampler: its name without "sample_". grid: karras, exponential or rho3, the spacing of its levels between the
    process's ends. options: the sampler's own, such as eta; tolerance: rtol of dpm_adaptive.
    """

    sampler: str
    grid: str = "karras"
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 0.05
    library = "k_diffusion"

    def __post_init__(self) -> None:
        if self.sampler not in _STEPS and self.sampler not in _RANGED:
            raise InputError(nearest(self.sampler, (*_STEPS, *_RANGED), "sampler of k_diffusion"))
        if self.grid not in SPACINGS:
            raise InputError(nearest(self.grid, SPACINGS, "grid of k_diffusion"))

    @property
    def name(self) -> str:
        grid = [] if self.sampler in _RANGED else [self.grid]
        return ":".join([self.sampler, *grid, *(f"{k}={v}" for k, v in self.options.items())])

    @property
    def stochastic(self) -> bool:
        drawing = self.sampler in _TREE or self.sampler.endswith("_ancestral")
        return bool(self.options.get("eta", float(drawing))) or self.options.get("s_churn", 0) > 0

    @property
    def adaptive(self) -> bool:
        return self.sampler == "dpm_adaptive"

    def start(self, model: ScoreModel, calls: int) -> float:
        return linear(model.sde).t_max

    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the Brownian tree's, of its ends in float32
            return self._run(model, x_T, calls, seed)

    def _run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        frame = Frame(model, x_T, self.start(model, calls))

        def denoiser(y: Tensor, sigma: Tensor, **_: Any) -> Tensor:
            return frame.denoise(y, sigma[0])

        if self.sampler in _RANGED:
            return Finish(self._ranged(frame, denoiser, calls))
        a_step = _STEPS[self.sampler]
        count = (calls - 1) // a_step + 1
        if count < 2:
            raise too_few(self.label, calls, a_step + 1)
        y = frame.y
        levels = spaced(self.grid, count, frame.low, frame.high)
        sigmas = torch.cat([levels, levels.new_zeros(1)]).to(y)
        options = dict(self.options)
        if self.sampler in _TREE:
            options["noise_sampler"] = sampling().BrownianTreeNoiseSampler(y, sigmas[-2], sigmas[0], seed=seed)
        run = getattr(sampling(), f"sample_{self.sampler}")
        return Finish(run(denoiser, y, sigmas, disable=True, **options), calls=a_step * (count - 1) + 1)

    def _ranged(self, frame: Frame, denoiser: Callable[..., Tensor], calls: int) -> Tensor:
        """Samplers that make their own levels between two ends, and the denoiser at the lower one."""
        ends: Any = frame.low, frame.high
        if self.sampler == "dpm_fast":
            if calls < 2:
                raise too_few(self.label, calls, 2)
            y = sampling().sample_dpm_fast(denoiser, frame.y, *ends, calls - 1, disable=True, **self.options)
        else:
            tolerances = {"rtol": self.tolerance, "atol": 0.0078 / 0.05 * self.tolerance}
            y = sampling().sample_dpm_adaptive(denoiser, frame.y, *ends, disable=True, **tolerances, **self.options)
        return frame.denoise(y, frame.low)


def named(name: str, grid: str | None = None, **options: Any) -> Contender:
    """A sampler by name: k_diffusion:dpmpp_2m, k_diffusion:dpmpp_2m_sde:exponential:eta=0."""
    held: dict[str, Any] = {} if grid is None else {"grid": grid}
    if "tolerance" in options:
        held["tolerance"] = options.pop("tolerance")
    return KDiffusion(name, options=options, **held)


def everything() -> Iterator[Contender]:
    """Every sampler on every spacing; stochastic ones as an ODE too."""
    for sampler in _STEPS:
        drawing = sampler in _TREE or sampler.endswith("_ancestral")
        for grid in SPACINGS:
            yield KDiffusion(sampler, grid)
            if drawing and "eta" not in sampler:
                yield KDiffusion(sampler, grid, {"eta": 0.0})
            if sampler == "dpmpp_2m_sde":
                yield KDiffusion(sampler, grid, {"eta": 0.0, "solver_type": "heun"})
    yield KDiffusion("dpm_fast")
    for order in (2, 3):
        yield KDiffusion("dpm_adaptive", options={"order": order})
