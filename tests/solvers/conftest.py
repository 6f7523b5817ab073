"""States and marches that several files share."""

from __future__ import annotations

from typing import Any

import pytest

from sdediff import integrate
from tests.solvers.equivalence import SHAPE


@pytest.fixture
def marches(monkeypatch: pytest.MonkeyPatch) -> list[integrate.Result]:
    """What `march` returned to the solvers, for the counts of each sample."""
    seen: list[integrate.Result] = []
    plain = integrate.march

    def watched(*args: Any, **options: Any) -> integrate.Result:
        seen.append(plain(*args, **options))
        return seen[-1]

    monkeypatch.setattr("sdediff.integrate.march", watched)
    monkeypatch.setattr("sdediff.integrate.pairs.march", watched)
    return seen


@pytest.fixture
def x(normals):
    return normals(*SHAPE, seed=5)
