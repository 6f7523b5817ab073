"""Integrators independent of diffusion: those of other libraries, and pairs with a step size for every sample."""

from sdediff.integrate.arrays import rows_of, scaled_norm
from sdediff.integrate.libraries import (
    IMPLICIT,
    MAX_IMPLICIT_DIMS,
    ODES,
    SCIPY,
    TORCHDIFFEQ,
    TORCHDIFFEQ_ADAPTIVE,
    TORCHODE,
    TORCHSDE,
    Field,
    IntegrationError,
    odeint,
    sdeint,
)
from sdediff.integrate.pairs import adaptive
from sdediff.integrate.per_sample import STATUS, Control, Counted, Result, Step, Tried, march
from sdediff.integrate.tableaus import PAIRS, TABLEAUS, Tableau

__all__ = [
    "IMPLICIT",
    "MAX_IMPLICIT_DIMS",
    "ODES",
    "PAIRS",
    "SCIPY",
    "STATUS",
    "TABLEAUS",
    "TORCHDIFFEQ",
    "TORCHDIFFEQ_ADAPTIVE",
    "TORCHODE",
    "TORCHSDE",
    "Control",
    "Counted",
    "Field",
    "IntegrationError",
    "Result",
    "Step",
    "Tableau",
    "Tried",
    "adaptive",
    "march",
    "odeint",
    "rows_of",
    "scaled_norm",
    "sdeint",
]
