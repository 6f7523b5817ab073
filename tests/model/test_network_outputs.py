"""What a network returns, how it is wrapped, and which clock it wants: the samples are those of the plain network."""

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import sdediff as sd

VP = sd.VP()


class Net(nn.Module):
    """A layer and the clock."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3, dtype=dtype)
        with torch.no_grad():
            self.layer.weight.copy_(0.3 * torch.eye(3) + 0.1)
            self.layer.bias.zero_()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x) + 0.1 * t[:, None].to(x.dtype)


class Returning(Net):
    """Its output in something else."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.wrap(super().forward(x, t))


@dataclass
class One:
    logits: Tensor
    loss: Any = None


@dataclass
class Two:
    eps: Tensor
    features: Tensor


class Pair(NamedTuple):
    eps: Tensor
    variance: Tensor


def drawn(net: Any, **fields: Any) -> Tensor:
    model = sd.ScoreModel(net.eval() if type(net).__module__ == __name__ else net, VP, **fields)
    return sd.sample(model, (4, 3), steps=4)


PLAIN = drawn(Net())


@pytest.mark.parametrize(
    "wrap",
    [
        One, lambda y: {"out": y}, lambda y: OrderedDict(logits=y), lambda y: (y, y), lambda y: [y],
        lambda y: SimpleNamespace(sample=y, other=y), lambda y: Pair(y, y), lambda y: torch.cat([y, y], 1),
        lambda y: {"sample": y, "other": y},
    ],
)  # fmt: skip
def test_an_output_that_is_clear_needs_no_word(wrap: Any) -> None:
    assert torch.equal(drawn(Returning(wrap)), PLAIN)


@pytest.mark.parametrize(
    ("wrap", "output"),
    [
        (lambda y: Two(y, 0 * y), "eps"),
        (lambda y: Two(0 * y, y), "features"),
        (lambda y: {"a": 0 * y, "b": y}, "b"),
        (lambda y: {0: 0 * y, 1: y}, 1),
        (lambda y: (0 * y, y), 1),
        (lambda y: (None, 0 * y, y), -1),
        (lambda y: Pair(0 * y, y), "variance"),
        (lambda y: SimpleNamespace(sample=0 * y, prediction=y), "prediction"),
    ],
)
def test_a_part_of_the_output_by_name_or_index(wrap: Any, output: str | int) -> None:
    assert torch.equal(drawn(Returning(wrap), output=output), PLAIN)


@pytest.mark.parametrize(
    ("wrap", "output", "match"),
    [
        (lambda y: Two(y, y), None, r'Two with eps, features, .*: say which by ScoreModel\(\.\.\., output="eps"\)'),
        (lambda y: Two(y, y), "epss", "no output 'epss'; did you mean 'eps'"),
        (lambda y: (y,), 3, "tuple of length 1, which has no output 3"),
        (lambda y: {"a": None}, None, "returned dict, needed: a tensor of shape"),
        (lambda y: (), None, "returned tuple"),
    ],
)
def test_an_output_that_is_not_clear_is_refused(wrap: Any, output: Any, match: str) -> None:
    with pytest.raises(sd.ModelError, match=match):
        drawn(Returning(wrap), output=output)


def _exported(dtype: torch.dtype = torch.float32) -> Any:
    batch = torch.export.Dim("batch")
    example = torch.ones(4, 3, dtype=dtype), torch.ones(4, dtype=dtype)
    return torch.export.export(Net(dtype).eval(), example, dynamic_shapes=({0: batch}, {0: batch}))


def test_exported_networks() -> None:
    program = _exported()
    assert torch.equal(drawn(program.module()), PLAIN)
    half = drawn(_exported(torch.bfloat16).module())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, drawn(Net(torch.bfloat16)))
    with pytest.raises(sd.Error, match=r"give program\.module\(\)"):
        sd.ScoreModel(program, VP)


@pytest.mark.parametrize("kind", ["traced", "scripted", "frozen", "parallel", "compiled", "exported"])
def test_likelihoods_of_wrapped_networks(kind: str) -> None:
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net().eval()
        wrapped = {
            "traced": lambda: torch.jit.trace(net, (torch.ones(4, 3), torch.ones(4))),
            "scripted": lambda: torch.jit.script(net),
            "frozen": lambda: torch.jit.freeze(torch.jit.script(net)),
            "parallel": lambda: nn.DataParallel(net),
            "compiled": lambda: torch.compile(net, backend="aot_eager"),
            "exported": lambda: _exported().module(),
        }[kind]()
        result = sd.log_likelihood(sd.ScoreModel(wrapped, VP), x).log_prob
    torch.testing.assert_close(result, sd.log_likelihood(sd.ScoreModel(net, VP), x).log_prob, rtol=1e-5, atol=1e-5)


class Lookup(Net):
    """Looks its clock up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(x) + self.table(t)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_network_that_looks_fractions_up_is_told_of_whole_clocks(steps: int) -> None:
    with pytest.raises(sd.ModelError, match=r'reads 0\.\d+: write time=sd\.Clock\("t", 999, whole=True\)'):
        sd.sample(sd.ScoreModel(Lookup().eval(), sd.VP(T=0.999)), (4, 3), steps=steps)
    with pytest.raises(sd.ModelError, match="looks its clock up as an integer"):
        drawn(Lookup())
