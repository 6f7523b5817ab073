"""Explicit Runge-Kutta methods as Butcher tableaux: data alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial


class Tableau(NamedTuple):
    """An explicit method of `order`: stages at t + c h, c in `nodes`, of slopes mixed by `rows`, summed by `weights`.

    nodes and rows begin with the second stage. error: the weights minus those of the embedded method, whose
    order is embedded; one entry more than `weights` where the slope at the new point is the last stage ("first
    same as last"). dense: the addition of the continuous extension to the cubic Hermite polynomial, over theta^2
    (1 - theta)^2; empty for nothing.
    """

    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    order: int
    error: tuple[float, ...] = ()
    embedded: int = 0
    dense: tuple[float, ...] = ()

    @property
    def fsal(self) -> bool:
        """Whether the slope at the new point is the last stage, so that it is the first of the next step."""
        return len(self.error) > len(self.weights)

    def between(self, theta: np.ndarray, rate: bool = False) -> np.ndarray:
        """Weights (stages, n) of the continuous extension at the shares theta (n,) of a step; rate: of its slope.

        With the slope at the new point: Hermite's cubic and `dense`; without it the parabola through both
        ends with the first slope, of order 2.
        """
        powers = np.zeros((5, max(len(self.error), len(self.weights))))
        rise = np.asarray(self.weights)
        if self.fsal:
            powers[:4, :-1] = np.outer((0.0, 0.0, 3.0, -2.0), rise)
            powers[1:4, 0] += 1.0, -2.0, 1.0
            powers[2:4, -1] += -1.0, 1.0
        else:
            powers[2] = rise
            powers[1:3, 0] += 1.0, -1.0
        if self.dense:
            powers[2:] += np.outer((1.0, -2.0, 1.0), self.dense)
        return polynomial.polyval(theta, polynomial.polyder(powers) if rate else powers)


_DOPRI5 = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
)
# Tsitouras 2011, table 1: decimals are all that is published.
_TSIT5 = (
    (0.161,),
    (-0.008480655492356989, 0.335480655492357),
    (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
    (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
    (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
)

TABLEAUS: dict[str, Tableau] = {
    "euler": Tableau((), (), (1.0,), 1),
    "midpoint": Tableau((1 / 2,), ((1 / 2,),), (0.0, 1.0), 2),
    "heun": Tableau((1.0,), ((1.0,),), (1 / 2, 1 / 2), 2),
    "ralston": Tableau((2 / 3,), ((2 / 3,),), (1 / 4, 3 / 4), 2),
    "kutta3": Tableau((1 / 2, 1.0), ((1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), 3),
    "ssprk3": Tableau((1.0, 1 / 2), ((1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3), 3),
    "rk4": Tableau(
        (1 / 2, 1 / 2, 1.0), ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4
    ),
    "rk38": Tableau(
        (1 / 3, 2 / 3, 1.0), ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), 4
    ),
    "butcher5": Tableau(
        (1 / 4, 1 / 4, 1 / 2, 3 / 4, 1.0),
        (
            (1 / 4,),
            (1 / 8, 1 / 8),
            (0.0, -1 / 2, 1.0),
            (3 / 16, 0.0, 0.0, 9 / 16),
            (-3 / 7, 2 / 7, 12 / 7, -12 / 7, 8 / 7),
        ),
        (7 / 90, 0.0, 16 / 45, 2 / 15, 16 / 45, 7 / 90),
        5,
    ),
    "heun12": Tableau((1.0,), ((1.0,),), (1 / 2, 1 / 2), 2, error=(-1 / 2, 1 / 2), embedded=1),
    "bosh3": Tableau(
        (1 / 2, 3 / 4),
        ((1 / 2,), (0.0, 3 / 4)),
        (2 / 9, 1 / 3, 4 / 9),
        3,
        error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        embedded=2,
    ),
    "dopri5": Tableau(
        (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
        _DOPRI5,
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        5,
        error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
        embedded=4,
        dense=(
            -12715105075 / 11282082432,
            0.0,
            87487479700 / 32700410799,
            -10690763975 / 1880347072,
            701980252875 / 199316789632,
            -1453857185 / 822651844,
            69997945 / 29380423,
        ),
    ),
    "tsit5": Tableau(
        (0.161, 0.327, 0.9, 0.9800255409045097, 1.0),
        _TSIT5,
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
        5,
        error=(
            -0.00178001105222577714,
            -0.0008164344596567469,
            0.007880878010261995,
            -0.1447110071732629,
            0.5823571654525552,
            -0.45808210592918697,
            0.015151515151515152,
        ),
        embedded=4,
        dense=(
            -1.0530884977290216,
            0.1017,
            2.490627285651252793,
            -16.54810288924490272,
            47.37952196281928122,
            -34.87065786149660974,
            2.5,
        ),
    ),
}  # fmt: skip
# The tableaus with an embedded method, which estimates the error of a step.
PAIRS: tuple[str, ...] = tuple(name for name, tableau in TABLEAUS.items() if tableau.error)
