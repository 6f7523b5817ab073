"""The check of the wiring before a sweep, for networks under conditions: with them where they belong to the rows."""

import warnings

import pytest
import torch

import sdediff as sd
from tests.benchmark.small import tiny

LABELS = torch.arange(400) % 2
ROWS = (2 * LABELS - 1)[:, None] + 0.1 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))


class Conditional(torch.nn.Module):
    """The exact noise of N(2 label - 1, .1^2) in two dimensions; `wrong` negates it."""

    def __init__(self, wrong=False):
        super().__init__()
        self.sign = -1 if wrong else 1

    def forward(self, x, t, label):
        sde = sd.VP()
        alpha, sigma = (f(t.double()).to(x.dtype)[:, None] for f in (sde.alpha, sde.sigma))
        mean = (2.0 * label - 1)[:, None].to(x.dtype)
        return self.sign * sigma * (x - alpha * mean) / (0.01 * alpha**2 + sigma**2)


def said(model, labels):
    lines = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny(None, models={"mine": model}, targets=None, data=ROWS, cond={"label": labels}, say=lines.append)
    return [str(w.message) for w in caught if w.category is sd.WiringWarning], [k for k in lines if "wiring" in k]


def test_conditions_of_the_rows_are_checked_with_them():
    assert said(sd.ScoreModel(Conditional(), sd.VP()), LABELS) == ([], [])
    (warned,), _ = said(sd.ScoreModel(Conditional(wrong=True), sd.VP()), LABELS)
    assert "Nothing that the network learnt" in warned


@pytest.mark.parametrize("labels", [torch.tensor([1]), torch.tensor([0, 1, 1])])
def test_conditions_of_samples_alone_leave_the_check_out_and_say_so(labels):
    warned, lines = said(sd.ScoreModel(Conditional(wrong=True), sd.VP()), labels)
    assert not warned
    assert lines == ["mine: no check of its wiring, since the conditions have no row a row of the data"]
