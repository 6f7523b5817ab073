"""`Part`: which shards of a job one of several independent processes computes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sdediff._utils.checks import shown
from sdediff.jobs.errors import JobError


@dataclass(frozen=True)
class Part:
    """Part `i` of `n`: the shards whose number is i modulo n. Parts are numbered from 0, as SLURM's and torchrun's."""

    i: int = 0
    n: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.i < self.n:
            raise JobError(
                f"part={self.i}/{self.n}: parts of {self.n} are numbered 0/{self.n} to {self.n - 1}/{self.n}"
            )

    def __str__(self) -> str:
        return f"{self.i}/{self.n}"

    @classmethod
    def of(cls, text: str | None) -> Part:
        """The part in a text "i/n"; without one that of torchrun's RANK and WORLD_SIZE, else the whole job."""
        if text is None:
            rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
            text = f"{rank}/{size}" if rank and size else "0/1"
        try:
            i, n = (int(number) for number in text.split("/"))
        except (AttributeError, TypeError, ValueError):
            raise JobError(
                f"part={shown(text)}: write the part and their number, such as 0/8 for the first of 8"
            ) from None
        return cls(i, n)

    def mine(self, count: int) -> range:
        """The numbers of this part's shards, of `count`."""
        return range(self.i, count, self.n)

    @property
    def suffix(self) -> str:
        """What tells the files of this part from those of others; nothing for a whole job."""
        return "" if self.n == 1 else f"-{self.i:0{len(str(self.n - 1))}d}-of-{self.n}"
