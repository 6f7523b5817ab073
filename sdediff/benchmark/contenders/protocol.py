"""What takes part in a benchmark: the protocol of a contender, and what a run of it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from sdediff._utils.errors import Error
from sdediff.model.score_model import ScoreModel


class ContenderError(Error, ValueError):
    """A contender broke a rule of the benchmark: `rule` names it, the message says what was seen."""

    def __init__(self, contender: str, rule: str, seen: str) -> None:
        super().__init__(f"{contender} breaks the rule {rule!r}: {seen}")
        self.contender, self.rule = contender, rule


@dataclass(frozen=True)
class Finish:
    """What a contender ends with.

    x: states (B, ...). time_end: the time of the process whose level they have, 0 for data: what a last denoising
    step gives. None where the contender cannot tell. calls: the network evaluations that it claims, the denoising
    step's included; None leaves the count to the benchmark.
    """

    x: Tensor
    time_end: float | None = 0.0
    calls: int | None = None


class Contender(ABC):
    """A sampler of any library, run beside this package's solvers under the same conditions.

    A class with a `name` and a method `run` is complete. library, name: in tables it is `library:name`. stochastic: it
    draws noise of its own. adaptive: a tolerance that it holds chooses its calls, and those that it is given are a
    limit. `start` is for one that does not begin at the process's T.
    """

    if TYPE_CHECKING:  # read-only to a type checker, so that a class may compute them

        @property
        def library(self) -> str: ...

        @property
        def name(self) -> str: ...

        @property
        def stochastic(self) -> bool: ...

        @property
        def adaptive(self) -> bool: ...

    else:
        library, name, stochastic, adaptive = "own", "", False, False

    @abstractmethod
    def run(self, model: ScoreModel, x_T: Tensor, calls: int, seed: int) -> Finish:
        """Move states x_T (B, ...) from `start` towards data with at most `calls` network evaluations.

        model: `model(x, t)` is one evaluation and counts itself; x and t are the process's. x_T: not to be changed.
        seed: of all noise that it draws; torch's global generator has been seeded with it. Raise InputError where
        the calls are too few for a step.
        """

    def start(self, model: ScoreModel, calls: int) -> float:
        """The time at which its states begin; x_T, drawn at T, is scaled to its level by sigma."""
        return model.sde.T

    @property
    def label(self) -> str:
        """`library:name`."""
        return f"{self.library}:{self.name}"
