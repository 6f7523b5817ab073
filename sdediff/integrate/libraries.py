"""The only module that calls torchdiffeq, torchode, scipy and torchsde; independent of diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdediff._utils.checks import known
from sdediff._utils.errors import Error, InputError, MissingPackageError
from sdediff._utils.suggestions import nearest

TORCHDIFFEQ = (
    "dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun",
    "euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams",
)  # fmt: skip
TORCHDIFFEQ_ADAPTIVE = TORCHDIFFEQ[:5]
# Methods of torchode, with a step size for each row; an optional dependency.
TORCHODE = {"torchode_dopri5": "Dopri5", "torchode_tsit5": "Tsit5", "torchode_heun": "Heun"}
SCIPY = ("RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF")
IMPLICIT = ("Radau", "BDF", "LSODA")
# Calls of the drift for each step, and once a run. The noise is additive, so Ito and Stratonovich integrals agree.
TORCHSDE: dict[str, tuple[int, int]] = {
    "euler": (1, 0), "milstein": (1, 0), "srk": (4, 0),
    "euler_heun": (1, 0), "heun": (2, 0), "midpoint": (2, 0), "reversible_heun": (1, 1),
}  # fmt: skip
_ITO = ("euler", "milstein", "srk")
# An implicit method builds a dense Jacobian by differences: one call a dimension.
MAX_IMPLICIT_DIMS = 4096

ODES = (*TORCHDIFFEQ, *SCIPY, *TORCHODE)
GRADIENTS = ("direct", "adjoint")

Field = Callable[[Any, Tensor], Tensor]


class IntegrationError(Error, RuntimeError):
    """A black-box integrator gave up; the message quotes it and says what to change."""


def odeint(
    field: Field,
    x: Tensor,
    start: float,
    stop: float,
    method: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    steps: int | None = None,
    gradient: str | None = None,
    parameters: Sequence[Tensor] = (),
) -> Tensor:
    """x(stop) of dx/dt = field(t, x), x(start) given; either direction of time.

    field: (float, tensor) -> tensor shaped like x, for torchode's methods with times (B,). method: a name of ODES.
    steps: number of equal steps, for torchdiffeq's fixed-step methods. The state keeps its dtype; the error norm of
    torchdiffeq and scipy is taken over the whole tensor, so a sample's result depends on its batch at the
    tolerance. gradient: by torchdiffeq, "direct" back through its steps, or "adjoint" by an ODE backwards in
    constant memory for x and the `parameters` of the field (Chen et al. 2018); None promises none.
    Raises InputError on bad arguments, IntegrationError when the method gives up.
    """
    if not (rtol > 0 and atol > 0):
        raise InputError(f"tolerances must be positive, given rtol={rtol}, atol={atol}")
    if not known(method, ODES):
        raise InputError(nearest(method, ODES, "ODE method"))
    if gradient is not None and not known(gradient, GRADIENTS):
        raise InputError(nearest(str(gradient), GRADIENTS, "kind of gradient"))
    if method not in TORCHDIFFEQ:
        if gradient is not None:
            raise InputError(f"{method} gives no gradients here: write one of {', '.join(TORCHDIFFEQ)}")
        return (_scipy if method in SCIPY else _torchode)(field, x, start, stop, method, rtol, atol)
    adjoint = tuple(parameters) if gradient == "adjoint" else None
    return _torchdiffeq(field, x, start, stop, method, rtol, atol, steps, gradient == "direct", adjoint)


def _torchdiffeq(
    field: Field,
    x: Tensor,
    start: float,
    stop: float,
    method: str,
    rtol: float,
    atol: float,
    steps: int | None,
    direct: bool,
    adjoint: tuple[Tensor, ...] | None,
) -> Tensor:
    import torchdiffeq

    low, high = min(start, stop), max(start, stop)
    times = torch.tensor([start, stop], dtype=torch.float64, device=x.device)
    options: dict[str, Any]
    if method in TORCHDIFFEQ_ADAPTIVE:
        # step_t makes the last step land on the end; the clamp is for the trial step that the library takes past it.
        options = {"dtype": torch.float64, "step_t": times[1:]}
        if direct:
            # By default the library differentiates its guess of the first step, but not the times that follow.
            options["first_step"] = (high - low) / 100
    else:
        options = {"step_size": (high - low) / (steps or 100)}

    def rhs(t: Tensor, state: Tensor) -> Tensor:
        return field(min(max(t.item(), low), high), state)

    settings: dict[str, Any] = {"method": method, "rtol": rtol, "atol": atol, "options": options}
    try:
        if adjoint is None:
            path = torchdiffeq.odeint(rhs, x, times, **settings)
        else:
            back = {key: value for key, value in options.items() if key != "step_t"}
            path = torchdiffeq.odeint_adjoint(rhs, x, times, **settings, adjoint_params=adjoint, adjoint_options=back)
    except AssertionError as error:
        raise IntegrationError(f"torchdiffeq's {method} gave up between t={start} and {stop}: {error}") from error
    return path[-1].to(x.dtype)


def _torchode(field: Field, x: Tensor, start: float, stop: float, method: str, rtol: float, atol: float) -> Tensor:
    try:
        import torchode
    except ImportError as missing:
        raise MissingPackageError(f"{method} needs torchode ({missing}): pip install torchode") from missing
    low, high = min(start, stop), max(start, stop)

    def rhs(t: Tensor, flat: Tensor) -> Tensor:
        return field(t.clamp(low, high), flat.reshape(x.shape)).reshape(flat.shape)

    term = torchode.ODETerm(rhs)
    control = torchode.IntegralController(atol=atol, rtol=rtol, term=term)
    begin, end = (torch.full((len(x),), v, dtype=torch.float64, device=x.device) for v in (start, stop))
    initial = torchode.InitialValueProblem(y0=x.reshape(len(x), -1), t_start=begin, t_end=end)
    with torch.no_grad():
        solution = torchode.AutoDiffAdjoint(getattr(torchode, TORCHODE[method])(term=term), control).solve(initial)
    bad = solution.status.nonzero().flatten()
    if len(bad):
        raise IntegrationError(
            f"{method} gave up on row {bad[0].item()}: {torchode.Status(solution.status[bad[0]].item())}"
        )
    return solution.ys[:, -1].reshape(x.shape).to(x.dtype)


def _scipy(field: Field, x: Tensor, start: float, stop: float, method: str, rtol: float, atol: float) -> Tensor:
    from scipy.integrate import solve_ivp

    if method in IMPLICIT and x.numel() > MAX_IMPLICIT_DIMS:
        raise InputError(
            f"{method} builds a dense Jacobian, {x.numel()} x {x.numel()} for states {tuple(x.shape)}: "
            f"it serves up to {MAX_IMPLICIT_DIMS} numbers in all; use RK45, DOP853 or dopri5, or a smaller batch"
        )

    def rhs(t: float, flat: np.ndarray) -> np.ndarray:
        state = torch.from_numpy(flat).to(device=x.device, dtype=x.dtype).reshape(x.shape)
        return field(t, state).detach().reshape(-1).to(device="cpu", dtype=torch.float64).numpy()

    flat = x.detach().reshape(-1).to(device="cpu", dtype=torch.float64).numpy()
    solution = solve_ivp(rhs, (start, stop), flat, method=method, rtol=rtol, atol=atol)
    if not solution.success:
        raise IntegrationError(f"scipy's {method} gave up at t={solution.t[-1]}: {solution.message}")
    return torch.from_numpy(solution.y[:, -1].copy()).to(device=x.device, dtype=x.dtype).reshape(x.shape)


class _ReversedSDE:
    """The SDE as torchsde takes it: diagonal noise, and a rising time tau = -t for a process that runs down."""

    noise_type = "diagonal"

    def __init__(self, drift: Field, diffusion: Callable[[float], float], shape: torch.Size, method: str) -> None:
        self.sde_type = "ito" if method in _ITO else "stratonovich"
        self._drift, self._diffusion, self._shape = drift, diffusion, shape
        self._drifts: dict[tuple[float, int], tuple[Tensor, Tensor]] = {}

    def f(self, tau: Tensor, flat: Tensor) -> Tensor:
        # srk evaluates the drift of its earlier stages repeatedly: 10 calls a step, of which 4 differ.
        key = (float(tau), id(flat))
        if key not in self._drifts:
            if len(self._drifts) == 4:
                self._drifts.pop(next(iter(self._drifts)))
            value = -self._drift(-key[0], flat.reshape(self._shape)).reshape(flat.shape)
            self._drifts[key] = (flat, value)
        return self._drifts[key][1]

    def g(self, tau: Tensor, flat: Tensor) -> Tensor:
        # Written with the state so that milstein can differentiate it; the derivative is zero.
        return self._diffusion(-float(tau)) + 0.0 * flat


class _BrownianPath:
    """A Brownian path with the interface of torchsde, over tau = -t, from (W, H) of an interval of t."""

    levy_area_approximation = "space-time"

    def __init__(self, increment: Callable[[float, float], tuple[Tensor, Tensor]], like: Tensor) -> None:
        self._increment = increment
        self.shape, self.dtype, self.device = like.shape, like.dtype, like.device

    def __call__(self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False) -> Any:
        low, high = -float(tb), -float(ta)
        w, h = self._increment(low, high)
        w, h = w.reshape(self.shape), h.reshape(self.shape)
        # The path over tau is -W(-tau): its increments are those of W, its area changes sign.
        return (w, (high - low) * (0.5 * w - h)) if return_U else w


def sdeint(
    drift: Field,
    diffusion: Callable[[float], float],
    x: Tensor,
    start: float,
    stop: float,
    method: str,
    steps: int,
    increment: Callable[[float, float], tuple[Tensor, Tensor]],
) -> Tensor:
    """x(stop) of dx = drift dt + diffusion dw for stop < start, by torchsde with `steps` equal steps.

    drift: (float, tensor) -> tensor; diffusion: float -> float; increment: (low, high) -> (W(high) - W(low),
    H), both shaped like x, H the space-time Levy area. method: a name of TORCHSDE.
    """
    from torchsde import sdeint as solve

    if not known(method, TORCHSDE):
        raise InputError(nearest(method, TORCHSDE, "SDE method"))
    flat = x.reshape(x.shape[0], -1)
    times = torch.tensor([-start, -stop], dtype=torch.float64, device=x.device)
    # Slightly above the exact step, so that rounding does not add one more, tiny step.
    dt = (start - stop) / steps * (1 + 1e-9)
    reversed_sde = _ReversedSDE(drift, diffusion, x.shape, method)
    path = solve(reversed_sde, flat, times, bm=_BrownianPath(increment, flat), method=method, dt=dt)
    return path[-1].reshape(x.shape).to(x.dtype)
