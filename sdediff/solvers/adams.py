"""Exponential Adams methods in x0, eps or the whitened velocity, and the samplers of the literature among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdediff._utils.checks import known
from sdediff._utils.suggestions import nearest
from sdediff.grids.levels import Level
from sdediff.model.bound import BoundModel
from sdediff.sde.base import linear
from sdediff.solvers.base import SolverError
from sdediff.solvers.multistep import Family, Multistep
from sdediff.solvers.weights import Rule, Weights, whitened


@dataclass(frozen=True)
class Adams(Multistep):
    """x_s = c x_t + sum_j w_j P_j + sigma_s sqrt(1 - e^(-2 eta^2 h)) z over the last `points` outputs P.

    basis: x0, eps, or F (the whitened velocity, over `scale`). variable: lam, sigma, rho = sigma^(1/7),
    angle, t. eta: 0 the flow, 1 the reverse SDE (x0 basis), where sigma/alpha lies in `within`.
    scaler: "power", or "er" for ER-SDE's noise. second, third: how two and three points are weighted
    (`weights.Weights.of`). Order `points`, with a corrector one more; 1 call a step.
    """

    basis: str = "x0"
    eta: float = 0.0
    scale: float = 1.0
    second: str = "exact"
    third: str = "exact"
    scaler: str = "power"
    within: tuple[float, float] | None = None

    reference = "Lu et al. 2022b; Zhang and Chen 2023; Zhao et al. 2023"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SolverError(nearest(getattr(self, name), choices, name))
        if not self.eta >= 0 or not self.scale > 0:
            raise SolverError(f"eta={self.eta}, scale={self.scale}: eta must not be negative, scale must be positive")
        if self.stochastic and self.basis != "x0":
            raise SolverError(f"eta={self.eta}, scaler={self.scaler!r} need basis='x0', given {self.basis!r}")
        if self.scaler == "er" and (self.eta or self.within is not None):
            given = "eta=" if self.eta else "within="
            raise SolverError(f"{given} is of the noise of scaler='power': leave it out beside scaler='er'")
        if self.within is not None and not self.eta:
            raise SolverError(f"within={self.within} has no effect with eta=0, which adds no noise: leave it out")
        if self.scale != 1 and self.basis != "F" and self.variable != "angle":
            raise SolverError(
                f"scale={self.scale} has no effect with basis={self.basis!r} over {self.variable!r}: it is for "
                "basis='F' and for variable='angle'"
            )

    @property
    def order(self) -> int | None:
        if self.stochastic:
            return None
        return 2 if self.third != "exact" and self.points > 2 and not self.corrector_points else super().order

    @property
    def at_zero_alpha(self) -> bool:
        return self.basis != "eps"

    @property
    def stochastic(self) -> bool:
        return self.eta > 0 or self.scaler == "er"

    def family(self, model: BoundModel, levels: Sequence[Level]) -> Family:
        if self.basis == "eps" and not levels[0].alpha:
            raise SolverError(
                f"at t={levels[0].time} alpha is 0, where eps does not change x: start below it (start=sde.t_max)"
            )
        basis = "er" if self.scaler == "er" else self.basis
        inverse = linear(model.sde).times_at if self.variable == "t" else None
        rule = Rule(basis, self.variable, self.scale, self.second, self.third, inverse)
        parameter = np.array([[self.scale if basis == "F" else self.eta**2]])
        if self.within is not None:
            kappa = np.array([v.sigma / v.alpha if v.alpha else np.inf for v in levels[:-1]])
            inside = (self.within[0] <= kappa) & (kappa <= self.within[1])
            parameter = np.where(inside, self.eta**2, 0.0)[:, None]
        weights = Weights(levels, rule, parameter)
        transfer, noise = weights.transfer, None
        if self.stochastic:
            t, s = weights.columns(np.s_[:-1]), weights.columns(np.s_[1:])
            decay = transfer * t.sigma / s.sigma
            noise = (s.sigma * np.sqrt(np.maximum(1 - decay, 0.0) * (1 + decay)))[:, 0]
            if len(parameter) > 1:
                noise = np.where(parameter[:, 0] > 0, noise, 0.0)
        output = whitened(weights.columns(np.s_[:]), self.scale) if basis == "F" else self.basis
        return Family(transfer, weights.of, output, noise=noise)


_CHOICES = {
    "basis": ("x0", "eps", "F"),
    "second": ("exact", "bh1", "bh2"),
    "third": ("exact", "half", "er"),
    "scaler": ("power", "er"),
}


# The samplers of the literature that are points of the family, by their papers' names and defaults.


def _order(order: int, most: int) -> int:
    if order not in range(1, most + 1):
        raise SolverError(f"order={order}: write 1 to {most}")
    return order


def dpm_solver_multistep(order: int = 2) -> Adams:
    """DPM-Solver's multistep version, in eps. Lu et al. 2022b, section 4; the rules are those of dpmpp_3m."""
    return Adams(_order(order, 3), basis="eps", second="bh2", third="half")


def dpmpp_2m() -> Adams:
    """DPM-Solver++(2M): x_s = (sigma_s/sigma_t) x + alpha_s (1 - e^-h) (D + (D - D_last) h/(2 h_last)).

    Lu et al. 2022b, algorithm 2.
    """
    return Adams(2, second="bh2")


def dpmpp_3m(order: int = 3) -> Adams:
    """DPM-Solver++ multistep with the published third-order rule, which is of order 2. Lu et al. 2022b."""
    return Adams(_order(order, 3), second="bh2", third="half")


def dpmpp_2m_sde(eta: float = 1.0, kind: str = "midpoint") -> Adams:
    """SDE-DPM-Solver++(2M); kind: "midpoint" or "heun". Lu et al. 2022b; k-diffusion's eta is eta squared."""
    if kind not in ("midpoint", "heun"):
        raise SolverError(f"kind={kind!r}: write 'midpoint' or 'heun'")
    return Adams(2, eta=eta, second="bh2" if kind == "midpoint" else "exact")


def dpmpp_3m_sde(eta: float = 1.0) -> Adams:
    """SDE-DPM-Solver++(3M) as k-diffusion has it, whose eta is eta squared."""
    return Adams(3, eta=eta, third="half")


def unipc(order: int = 2, variant: str = "bh2", corrector: bool = True, basis: str = "x0") -> Adams:
    """UniP of an order with the free corrector UniC: order + 1 with it. variant: bh1, bh2. Zhao et al. 2023."""
    points = _order(order, 3)
    return Adams(points, points + 1 if corrector else 0, basis=basis, second=variant)


def deis(order: int = 3, variant: str = "tAB") -> Adams:
    """DEIS: eps extrapolated over t (tAB), kappa (rhoAB) or log kappa (logrho); the paper's tAB-q is order q + 1.

    Zhang and Chen 2023.
    """
    variables = {"tAB": "t", "rhoAB": "sigma", "logrho": "lam"}
    if not known(variant, variables):
        raise SolverError(f"variant={variant!r}: write one of {', '.join(variables)}")
    return Adams(_order(order, 4), variable=variables[variant], basis="eps")


def lms(order: int = 4) -> Adams:
    """Linear multistep over sigma/alpha with exact weights, as k-diffusion has it."""
    return Adams(_order(order, 4), variable="sigma", basis="eps")


_SA_WITHIN = (0.05, 1.0)


def sa_solver(
    predictor: int = 3,
    corrector: int = 4,
    tau: float = 1.0,
    within: tuple[float, float] | None = _SA_WITHIN,
    second: str = "exact",
) -> Adams:
    """Stochastic Adams: noise tau where sigma/alpha lies in `within`; corrector 0 for none. Xue et al. 2023.

    second: two points by the exact integral as in the paper, or "bh1" as in its released code.
    """
    if not tau and within == _SA_WITHIN:
        within = None
    return Adams(_order(predictor, 4), corrector, eta=tau, within=within, second=second)


def er_sde(order: int = 3) -> Adams:
    """Extended reverse-time SDE with the paper's noise scaler and its derivative estimates. Cui et al. 2023."""
    return Adams(_order(order, 3), variable="sigma", scaler="er", third="er")


def res_multistep(order: int = 2) -> Adams:
    """Refined exponential solver, multistep: exact Adams in the data prediction over lam. Zhang et al. 2023."""
    return Adams(_order(order, 3))
