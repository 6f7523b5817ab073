"""Every deterministic scheduler of diffusers with its orders and variants, for a comparison with the best of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def families() -> Iterator[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """(class, options, spacings beside the default)."""
    both, dpm = ("karras", "exponential"), ("karras", "exponential", "lu_lambdas")
    for order, kind in ((2, "midpoint"), (2, "heun"), (3, "midpoint")):
        options: dict[str, Any] = {"solver_order": order, "solver_type": kind}
        yield "DPMSolverMultistep", options, dpm
        yield "DPMSolverMultistep", options | {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, both
        for schedule in both:
            edm = options | {"sigma_schedule": schedule, "sigma_data": 0.5}
            yield "EDMDPMSolverMultistep", edm, ()
    for order in (2, 3):
        yield "DPMSolverSinglestep", {"solver_order": order}, both
        yield "DPMSolverSinglestep", {"solver_order": order, "lower_order_final": True}, both
        for variant in ("bh1", "bh2"):
            yield "UniPCMultistep", {"solver_order": order, "solver_type": variant}, both
        yield "DEISMultistep", {"solver_order": order}, both
        yield "SASolver", {"tau_func": no_noise, "predictor_order": order, "corrector_order": order + 1}, both
    yield from (("EulerDiscrete", {}, ("karras",)), ("HeunDiscrete", {}, both), ("KDPM2Discrete", {}, both))
    yield from (("LMSDiscrete", {}, both), ("DDIM", {}, ()), ("PNDM", {}, ()))


def no_noise(_: Any) -> float:
    """tau of SA-Solver's flow."""
    return 0.0
