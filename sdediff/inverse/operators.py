"""Linear operators of measurements, by their singular value decomposition A = U diag(s) V^T."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdediff._utils.checks import real_tensor, shown
from sdediff._utils.errors import InputError, InputTypeError


class Operator(ABC):
    """A linear map A from states (B, *shape) to measurements (B, M), of rank M or less.

    Its singular directions are what every method works in: `seen` gives V^T x, `states` gives V c, and `turned` U^T y,
    each with R entries, one for each of the positive `singular` values (R,). shape: of one state.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The measurements (B, M) of states (B, *shape)."""

    @property
    @abstractmethod
    def singular(self) -> Tensor:
        """The positive singular values (R,), float64."""

    @abstractmethod
    def seen(self, x: Tensor) -> Tensor:
        """V^T x: what the measurements see of states (B, *shape), as (B, R)."""

    @abstractmethod
    def states(self, c: Tensor) -> Tensor:
        """V c: states (B, *shape) of coefficients (B, R)."""

    @abstractmethod
    def turned(self, y: Tensor) -> Tensor:
        """U^T y: measurements (B, M) along the singular directions, (B, R)."""


def _flat(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[1:]) != shape:
        raise InputError(f"the operator takes states of shape {shape}, given {tuple(x.shape[1:])}")
    return x.reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """Any matrix (M, D) of states that are flattened: A x. Its decomposition is computed once."""

    matrix: Tensor
    shape: tuple[int, ...] = ()
    _parts: tuple[Tensor, Tensor, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        matrix = real_tensor("matrix", self.matrix).detach()
        if matrix.ndim != 2 or 0 in matrix.shape or not bool(matrix.isfinite().all()):
            raise InputError(f"matrix={shown(self.matrix)}: give finite numbers (M, D)")
        shape = tuple(self.shape) or (matrix.shape[1],)
        if math.prod(shape) != matrix.shape[1]:
            raise InputError(f"states of shape {shape} have {math.prod(shape)} numbers, the matrix {matrix.shape[1]}")
        left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
        rank = int((singular > singular.max() * 1e-10).sum())
        if not rank:
            raise InputError("the matrix is zero: it measures nothing")
        for name, value in (("matrix", matrix), ("shape", shape)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_parts", (left[:, :rank], singular[:rank], right[:rank]))

    @property
    def singular(self) -> Tensor:
        return self._parts[1]

    def __call__(self, x: Tensor) -> Tensor:
        return _flat(x, self.shape) @ self.matrix.to(x).T

    def seen(self, x: Tensor) -> Tensor:
        return _flat(x, self.shape) @ self._parts[2].to(x).T

    def states(self, c: Tensor) -> Tensor:
        return (c @ self._parts[2].to(c)).reshape(len(c), *self.shape)

    def turned(self, y: Tensor) -> Tensor:
        return y @ self._parts[0].to(y)


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """The entries of a state where `known` (*shape), a boolean tensor, is True."""

    known: Tensor
    shape: tuple[int, ...] = field(init=False)
    _at: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.known, Tensor) or self.known.dtype is not torch.bool:
            raise InputTypeError(f"known={shown(self.known)}: give a boolean tensor, True where a value is known")
        if not bool(self.known.any()):
            raise InputError("the mask knows no value: it measures nothing, sample without it")
        object.__setattr__(self, "shape", tuple(self.known.shape))
        object.__setattr__(self, "_at", self.known.reshape(-1).nonzero()[:, 0])

    @property
    def singular(self) -> Tensor:
        return torch.ones(len(self._at)).double()

    def __call__(self, x: Tensor) -> Tensor:
        return _flat(x, self.shape)[:, self._at.to(x.device)]

    def seen(self, x: Tensor) -> Tensor:
        return self(x)

    def states(self, c: Tensor) -> Tensor:
        flat = c.new_zeros(len(c), self.known.numel())
        return flat.index_copy(1, self._at.to(c.device), c).reshape(len(c), *self.shape)

    def turned(self, y: Tensor) -> Tensor:
        return y


@dataclass(frozen=True, eq=False)
class Grey(Operator):
    """The mean over the channels of images (C, H, W): what colourisation knows.

    By the orthogonal matrix whose first column is 1/sqrt(C), which QR makes to rounding; the channel that it knows is
    sqrt(C) times the grey image. Song et al. 2021, appendix I.3.
    """

    shape: tuple[int, ...]
    _mix: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"shape={self.shape}: give that of an image, (C, H, W)")
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "_mix", channel_mix(self.shape[0]))

    @property
    def singular(self) -> Tensor:
        pixels = self.shape[1] * self.shape[2]
        return torch.full((pixels,), 1 / math.sqrt(self.shape[0]), dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        _flat(x, self.shape)
        return x.mean(1).flatten(1)

    def seen(self, x: Tensor) -> Tensor:
        _flat(x, self.shape)
        return torch.einsum("bchw,c->bhw", x, self._mix[:, 0].to(x)).flatten(1)

    def states(self, c: Tensor) -> Tensor:
        grey = c.reshape(len(c), 1, *self.shape[1:])
        return grey * self._mix[:, 0].to(c)[:, None, None]

    def turned(self, y: Tensor) -> Tensor:
        return y


def channel_mix(channels: int) -> Tensor:
    """An orthogonal matrix (C, C), float64, whose first column is 1/sqrt(C)."""
    start = torch.eye(channels).double()
    start[:, 0] = 1
    q, r = torch.linalg.qr(start)
    return q * torch.diagonal(r).sign()


@dataclass(frozen=True, eq=False)
class Problem:
    """A measurement y = A x0 + N(0, noise^2 I) of which x0 is asked for.

    operator: an Operator, or for methods that differentiate through it any function x -> (B, M). y: (M,) or (1, M) for
    all samples, or (B, M). noise: the standard deviation, 0 where y is exact.
    """

    operator: Operator | Any
    y: Tensor
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not callable(self.operator):
            raise InputTypeError(f"operator={shown(self.operator)}: give an Operator, or a function of the states")
        y = self.y if isinstance(self.y, Tensor) and self.y.is_floating_point() else real_tensor("y", self.y)
        y = y[None] if y.ndim == 1 else y
        if y.ndim != 2 or not bool(y.isfinite().all()):
            raise InputError(f"y={shown(self.y)}: give finite measurements (M,) or (B, M)")
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float) or not 0 <= self.noise < math.inf:
            raise InputError(f"noise={shown(self.noise)}: it is a standard deviation, give a number of at least 0")
        object.__setattr__(self, "y", y)

    def residual(self, x0: Tensor) -> Tensor:
        """y - A x0, (B, M)."""
        measured = self.operator(x0)
        y = self.y.to(measured)
        if len(y) not in (1, len(measured)) or y.shape[1:] != measured.shape[1:]:
            raise InputError(f"y has the shape {tuple(self.y.shape)} for measurements {tuple(measured.shape)}")
        return y - measured

    def linear(self, method: str) -> Operator:
        """The operator, refused for a method that needs its singular directions where it is a plain function."""
        if not isinstance(self.operator, Operator):
            raise InputError(
                f"{method} needs the singular directions of a linear operator, given {shown(self.operator)}: write "
                "inverse.Matrix(...), Mask(...) or Grey(...), or use method='dps'"
            )
        return self.operator

    def target(self, operator: Operator, like: Tensor) -> Tensor:
        """What y says of the seen directions, U^T y / s, (1 or B, R)."""
        return operator.turned(self.y.to(like)) / operator.singular.to(like)


Shape = Sequence[int]
