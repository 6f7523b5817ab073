"""Operators: their decompositions, the orthogonal transform of colours, and what is refused."""

from __future__ import annotations

import pytest
import torch

import sdediff as sd
from sdediff.inverse import Grey, Mask, Matrix, Problem, channel_mix, with_known
from tests.inverse.measured import F64, problem


def _operators() -> dict[str, sd.inverse.Operator]:
    rows = torch.linspace(-1, 2, 24, dtype=F64).square().reshape(3, 8).sin()
    known = torch.tensor([[True, False, True], [False, False, True]])
    low_rank = torch.stack([rows[0], 2 * rows[0], rows[1]])
    return {
        "matrix": Matrix(rows, (2, 2, 2)),
        "low rank": Matrix(low_rank),
        "mask": Mask(known),
        "grey": Grey((3, 2, 2)),
    }


@pytest.mark.parametrize("name", _operators())
def test_the_parts_are_a_singular_value_decomposition(name: str) -> None:
    operator = _operators()[name]
    basis = torch.eye(int(torch.tensor(operator.shape).prod()), dtype=F64).reshape(-1, *operator.shape)
    matrix, seen = operator(basis).T, operator.seen(basis).T
    turned = operator.turned(torch.eye(len(matrix), dtype=F64)).T
    torch.testing.assert_close(seen @ seen.T, torch.eye(len(seen), dtype=F64), rtol=0, atol=1e-12)
    torch.testing.assert_close(turned.T @ torch.diag(operator.singular) @ seen, matrix, rtol=0, atol=1e-12)
    coefficients = torch.eye(len(seen), dtype=F64)
    torch.testing.assert_close(operator.states(coefficients).flatten(1), seen, rtol=0, atol=1e-12)


def test_the_transform_of_colours_is_orthogonal_to_rounding() -> None:
    mix = channel_mix(3)
    assert (mix.T @ mix - torch.eye(3)).abs().max() < 1e-15
    torch.testing.assert_close(mix[:, 0], torch.full((3,), 3**-0.5, dtype=F64), rtol=1e-15, atol=0)
    image = torch.linspace(-1, 1, 12, dtype=F64).reshape(1, 3, 2, 2)
    torch.testing.assert_close(Grey((3, 2, 2)).seen(image)[0], 3**0.5 * image.mean(1).flatten())


def test_with_known_enforces_the_measurement() -> None:
    x = torch.linspace(-1, 1, 16, dtype=F64).reshape(2, 8)
    operator = _operators()["matrix"]
    y = torch.tensor([0.3, -0.1, 0.5], dtype=F64)
    torch.testing.assert_close(operator(with_known(Problem(operator, y), x.reshape(2, 2, 2, 2))), y.expand(2, -1))
    mask = _operators()["mask"]
    known = torch.tensor([0.1, 0.2, 0.3])
    assert torch.equal(mask(with_known(Problem(mask, known), torch.randn(2, 2, 3))), known.expand(2, -1))


def test_refusals() -> None:
    for make, message in (
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), "measures nothing"),
        (lambda: Mask(torch.ones(3)), "boolean tensor"),
        (lambda: Matrix(torch.zeros(2, 3)), "is zero"),
        (lambda: Matrix(torch.ones(2, 3), (2, 2)), "have 4 numbers, the matrix 3"),
        (lambda: Grey((3, 4)), "that of an image"),
        (lambda: Problem("A", torch.ones(1)), "give an Operator, or a function"),
        (lambda: Problem(Matrix(torch.ones(1, 2)), torch.ones(1), -1.0), "standard deviation"),
        (lambda: problem().residual(torch.ones(3, 5)), "takes states of shape"),
        (lambda: Problem(Matrix(torch.eye(2)), torch.ones(3)).residual(torch.ones(1, 2)), "y has the shape"),
    ):
        with pytest.raises(sd.Error, match=message):
            make()
