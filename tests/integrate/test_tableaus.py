"""The tableaus against the order conditions."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest

from sdediff.integrate import PAIRS, TABLEAUS


# --- order conditions, from Butcher's theory: a method has order p when every rooted tree of at most p nodes has
# sum_i b_i Phi_i(tree) = 1 / gamma(tree). A tree is the sorted tuple of the trees that hang from its root.
@functools.cache
def _trees(size: int) -> frozenset:
    if size == 1:
        return frozenset({()})
    found = set()
    for shape in _partitions(size - 1):
        for branches in itertools.product(*(_trees(k) for k in shape)):
            found.add(tuple(sorted(branches)))
    return frozenset(found)


def _partitions(total: int, largest: int | None = None):
    if total == 0:
        yield ()
    for part in range(min(total, largest or total), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)


def _size(tree: tuple) -> int:
    return 1 + sum(_size(branch) for branch in tree)


def _gamma(tree: tuple) -> int:
    return _size(tree) * math.prod(_gamma(branch) for branch in tree)


def _phi(tree: tuple, a: np.ndarray) -> np.ndarray:
    return math.prod(((a @ _phi(branch, a)) for branch in tree), start=np.ones(len(a)))


def _matrix(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A and b, with the last stage of "first same as last" methods written out."""
    tableau = TABLEAUS[name]
    rows = [(), *tableau.rows, *([tableau.weights] if tableau.fsal else [])]
    a = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        a[i, : len(row)] = row
    return a, np.array([*tableau.weights, *([0.0] if tableau.fsal else [])])


def _gap(weights: np.ndarray, a: np.ndarray, size: int) -> float:
    """The largest violation among the trees with `size` nodes."""
    return max(abs(weights @ _phi(tree, a) - 1 / _gamma(tree)) for tree in _trees(size))


def test_the_numbers_of_rooted_trees() -> None:
    assert [len(_trees(n)) for n in (1, 2, 3, 4, 5, 6)] == [1, 1, 2, 4, 9, 20]


@pytest.mark.parametrize("name", TABLEAUS)
def test_a_tableau_has_its_order_and_no_more(name: str) -> None:
    tableau, (a, b) = TABLEAUS[name], _matrix(name)
    assert np.allclose([math.fsum(row) for row in tableau.rows], tableau.nodes, atol=2e-15, rtol=0)
    for size in range(1, tableau.order + 1):
        assert _gap(b, a, size) < 2e-14, size
    assert _gap(b, a, tableau.order + 1) > 1e-5


@pytest.mark.parametrize("name", PAIRS)
def test_an_embedded_method_has_its_order_and_no_more(name: str) -> None:
    tableau, (a, b) = TABLEAUS[name], _matrix(name)
    other = b - np.array(tableau.error)
    assert tableau.embedded == tableau.order - 1
    for size in range(1, tableau.embedded + 1):
        assert _gap(other, a, size) < 2e-14, size
    assert _gap(other, a, tableau.embedded + 1) > 1e-5


@pytest.mark.parametrize(("name", "order"), [("heun12", 2), ("bosh3", 3), ("dopri5", 4), ("tsit5", 4)])
def test_a_continuous_extension_has_its_order_at_every_share_of_a_step(name: str, order: int) -> None:
    """sum_i b_i(theta) Phi_i(tree) = theta^n / gamma(tree); C1 where the slope at the new point is a stage."""
    tableau, (a, b) = TABLEAUS[name], _matrix(name)
    shares = np.linspace(0, 1, 9)
    weights = tableau.between(shares)
    for size in range(1, order + 1):
        for tree in _trees(size):
            gap = _phi(tree, a) @ weights - shares**size / _gamma(tree)
            assert np.abs(gap).max() < 2e-14, tree
    assert np.allclose(weights[:, -1], b, atol=2e-14)
    e = 1e-6
    slope = (tableau.between(np.array([1.0])) - tableau.between(np.array([1.0 - e])))[:, 0] / e
    if tableau.fsal:
        assert np.allclose(slope, np.eye(len(b))[-1], atol=1e-4)
