from dataclasses import dataclass

import sdediff as sd


@dataclass(frozen=True)
class AB2(sd.Solver):
    """x_s = x + dt (v + (v - v_last) dt / (2 dt_last)), v the flow's velocity: two-step Adams-Bashforth, order 2."""

    order = 2
    grid = "log_snr"

    def step(self, model, x, t, s, state, noise):
        dt, v = s.time - t.time, model(x, t).velocity
        dt_last, v_last = state or (dt, v)
        return x + dt * (v + (v - v_last) * dt / (2 * dt_last)), (dt, v)
