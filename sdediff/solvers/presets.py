"""The samplers of the literature that are points of the Adams family, by their papers' names and defaults."""

from __future__ import annotations

from sdediff.solvers.base import SolverError
from sdediff.solvers.multistep import Adams


def _order(order: int, most: int) -> int:
    if order not in range(1, most + 1):
        raise SolverError(f"order={order}: write 1 to {most}")
    return order


def dpm_solver_multistep(order: int = 2) -> Adams:
    """DPM-Solver's multistep version, in eps. Lu et al. 2022b, section 4; the rules are those of dpmpp_3m."""
    return Adams(_order(order, 3), basis="eps", second="bh2", third="half")


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
    if variant not in variables:
        raise SolverError(f"variant={variant!r}: write one of {', '.join(variables)}")
    return Adams(_order(order, 4), variable=variables[variant], basis="eps")


def lms(order: int = 4) -> Adams:
    """Linear multistep over sigma/alpha with exact weights, as k-diffusion has it."""
    return Adams(_order(order, 4), variable="sigma", basis="eps")


def sa_solver(
    predictor: int = 3,
    corrector: int = 4,
    tau: float = 1.0,
    within: tuple[float, float] | None = (0.05, 1.0),
    second: str = "exact",
) -> Adams:
    """Stochastic Adams: noise tau where sigma/alpha lies in `within`; corrector 0 for none. Xue et al. 2023.

    second: two points by the exact integral as in the paper, or "bh1" as in its released code.
    """
    return Adams(_order(predictor, 4), corrector, eta=tau, within=within, second=second)


def er_sde(order: int = 3) -> Adams:
    """Extended reverse-time SDE with the paper's noise scaler and its derivative estimates. Cui et al. 2023."""
    return Adams(_order(order, 3), variable="sigma", scaler="er", third="er")


def res_multistep(order: int = 2) -> Adams:
    """Refined exponential solver, multistep: exact Adams in the data prediction over lam. Zhang et al. 2023."""
    return Adams(_order(order, 3))
