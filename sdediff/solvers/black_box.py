"""Black-box integrators as solvers: the probability flow by ODE libraries, the reverse SDE by torchsde."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdediff import integrate
from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff._utils.tensors import times64
from sdediff.grids.levels import Level
from sdediff.model.score_model import Model
from sdediff.noise.brownian import Brownian
from sdediff.noise.counter import Noise
from sdediff.solvers.adaptive import positive
from sdediff.solvers.base import Solver, SolverError, finite


@dataclass(frozen=True)
class ODE(Solver):
    """The probability flow dx/dt = velocity from t to s by a library's integrator, one grid step by default.

    method: torchdiffeq's dopri5, dopri8, bosh3, fehlberg2, adaptive_heun, euler, midpoint, heun2, heun3,
    rk4, explicit_adams, implicit_adams; scipy's RK45, RK23, DOP853, LSODA, Radau, BDF; torchode_dopri5,
    torchode_tsit5, torchode_heun, with steps of each sample's own. substeps serves the fixed-step ones. Calls are
    chosen at run time. Song et al. 2021, section 4.3.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    substeps: int = 100

    calls = None
    adaptive = True
    needs_alpha = False
    at_zero_alpha = True
    steps = 1
    reference = "Song et al. 2021, section 4.3"

    def __post_init__(self) -> None:
        if not known(self.method, integrate.ODES):
            raise SolverError(nearest(str(self.method), integrate.ODES, "ODE method"))
        positive(rtol=self.rtol, atol=self.atol, substeps=self.substeps)
        fixed = self.method in integrate.TORCHDIFFEQ and self.method not in integrate.TORCHDIFFEQ_ADAPTIVE
        if not fixed and self.substeps != 100:
            raise SolverError(f"substeps={self.substeps} has no effect with {self.method}, which chooses its steps")
        if fixed and self.method != "implicit_adams" and (self.rtol, self.atol) != (1e-5, 1e-5):
            raise SolverError(f"rtol and atol have no effect with {self.method}, whose steps are fixed: give substeps")

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        ends = {t.time: t, s.time: s}

        def field(time: Any, x: Tensor) -> Tensor:
            if isinstance(time, float) and time != time:
                raise SolverError(
                    f"{self.method} lost its step between t={t.time:.6g} and {s.time:.6g}: the network "
                    "returned NaN or infinity there"
                )
            return model(x, time if isinstance(time, Tensor) else ends.get(time, time)).velocity

        return integrate.odeint(field, x, t.time, s.time, self.method, self.rtol, self.atol, self.substeps), None


@dataclass(frozen=True)
class ReverseSDE(Solver):
    """The reverse-time SDE from t to s by torchsde on per-sample Brownian paths.

    method: euler, milstein, euler_heun (1 call), heun, midpoint (2), srk (4), times substeps, reversible_heun (1,
    and 1 a grid step). eta as in Euler-Maruyama. The noise is additive, so Ito's and Stratonovich's readings
    agree and the strong order is 1, that of srk (Roessler's SRID2) 1.5.
    """

    method: str = "srk"
    eta: float = 1.0
    substeps: int = 1

    needs_alpha = False
    recordable = False
    reference = "Li et al. 2020; Roessler 2010"
    no_kernel = "its library draws within the step: take euler_maruyama"

    def __post_init__(self) -> None:
        if not known(self.method, integrate.TORCHSDE):
            raise SolverError(nearest(self.method, integrate.TORCHSDE, "SDE method"))
        if not self.eta > 0 or self.substeps < 1:
            raise SolverError(f"eta={self.eta}, substeps={self.substeps}: eta must be positive, substeps at least 1")

    @property
    def calls(self) -> int | None:
        each, more = integrate.TORCHSDE[self.method]
        return self.substeps * each + more

    @property
    def strong_order(self) -> float | None:
        return 1.5 if self.method == "srk" else 1.0

    @property
    def stochastic(self) -> bool:
        return True

    def step(self, model: Model, x: Tensor, t: Level, s: Level, state: Any, noise: Noise) -> tuple[Tensor, Any]:
        finite(t, t.g2, "g^2")
        path = noise if isinstance(noise, Brownian) else state
        if path is None:
            path = Brownian(noise.seed, noise.index, span=model.sde.T)

        def drift(time: float, x: Tensor) -> Tensor:
            at = t if time == t.time else s if time == s.time else time
            prediction = model(x, at)
            return prediction.mix(0.0, velocity=1.0, score=-0.5 * self.eta**2 * prediction.level.g2)

        def diffusion(time: float) -> float:
            return self.eta * times64(model.sde.diffusion(time)).item()

        def increment(low: float, high: float) -> tuple[Tensor, Tensor]:
            return path.increment(low, high, x)

        return integrate.sdeint(drift, diffusion, x, t.time, s.time, self.method, self.substeps, increment), path
