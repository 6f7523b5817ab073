"""A network's mode, type and device are learnt where it is, through whatever holds it; what hides them passes."""

import dataclasses
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sdediff as sd
from tests.test_truth.odd_networks import DIMS, WRAPPERS, Holder, Net, call


class Dropping(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.layer, self.part = nn.Linear(DIMS, DIMS), part

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.part(self.layer(x))


NAMED = Dropping(nn.Dropout())


def _by_global(net: nn.Module) -> Net:
    return lambda x, t: NAMED(x, t)


@dataclasses.dataclass
class Nested:
    inner: Holder

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner.evaluate(x, t)


class Slots:
    __slots__ = ("net",)

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t)


class Listed(nn.Module):
    """Its parts are not registered."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.nets = [net]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.nets[0](x, t)


def _decorated(net: nn.Module) -> Net:
    return torch.no_grad()(functools.partial(call, net))


HIDES: dict[str, Callable[[nn.Module], Net]] = {
    **WRAPPERS,
    "global": _by_global,
    "object in an object": lambda net: Nested(Holder(net)),
    "slots": Slots,
    "unregistered": Listed,
    "decorated": _decorated,
    "lambda in a partial in a lambda": lambda net: (lambda f: lambda x, t: f(x, t))(
        functools.partial(lambda n, x, t: n(x, t), net)
    ),
}
PARTS: dict[str, Callable[[], nn.Module]] = {
    "dropout": nn.Dropout,
    "alpha dropout": nn.AlphaDropout,
    "batch norm": lambda: nn.BatchNorm1d(DIMS),
    "rrelu": nn.RReLU,
}


def _run(net: Net) -> Tensor:
    return sd.sample(sd.ScoreModel(net, sd.VP()), (2, DIMS), solver="ddim", steps=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("hide", [name for name in HIDES if name != "frozen"])
@pytest.mark.parametrize("part", ["dropout", "batch norm"])
def test_a_network_in_train_mode_is_refused_wherever_it_is(hide: str, part: str) -> None:
    NAMED.train()
    net = Dropping(PARTS[part]())
    hidden = HIDES[hide](net)
    with pytest.raises(sd.ModelError, match=r"train(ed)? .*in train mode|in train mode"):
        _run(hidden)
    NAMED.eval()
    if hide != "traced":
        net.eval()
        getattr(hidden, "eval", lambda: None)()
        assert _run(hidden).shape == (2, DIMS)


@pytest.mark.parametrize("part", PARTS)
def test_the_part_itself_counts(part: str) -> None:
    net = Dropping(PARTS[part]())
    with pytest.raises(sd.ModelError, match=r"in train mode and part is active there: write net.eval\(\)"):
        _run(net)
    net.part.eval()
    _run(net)
    whole = nn.DataParallel(net.eval())
    assert whole.training
    _run(whole)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_network_traced_while_it_trained_stays_refused() -> None:
    net = torch.jit.trace(Dropping(nn.Dropout()), (torch.ones(2, DIMS), torch.ones(2)), check_trace=False).eval()
    with pytest.raises(sd.ModelError, match=r"traced in train mode.*before torch.jit.trace"):
        _run(net)


class Trainer:
    """A network that trains beside its average, which samples."""

    def __init__(self) -> None:
        self.net, self.average = Dropping(nn.Dropout()), Dropping(nn.Dropout()).eval()

    def sampled(self, x: Tensor, t: Tensor) -> Tensor:
        return self.average(x, t)

    def trained(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t)


def test_a_network_that_the_code_does_not_name_is_left_alone() -> None:
    trainer = Trainer()
    _run(trainer.sampled)
    _run(lambda x, t: trainer.sampled(x, t))
    with pytest.raises(sd.ModelError, match="in train mode"):
        _run(trainer.trained)
    with pytest.raises(sd.ModelError, match="in train mode"):
        _run(lambda x, t: trainer.trained(x, t))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("hide", [name for name in HIDES if name != "global"])
def test_states_are_of_the_networks_type(hide: str) -> None:
    net = Dropping(nn.Identity()).double().eval()
    if hide in ("traced", "frozen"):
        traced = torch.jit.trace(net, (torch.ones(2, DIMS).double(), torch.ones(2)), check_trace=False)
        hidden = torch.jit.freeze(traced) if hide == "frozen" else traced
    else:
        hidden = HIDES[hide](net)
    assert _run(hidden).dtype == torch.float64


def test_training_goes_on_in_train_mode() -> None:
    net = Dropping(nn.Dropout())
    sd.loss(sd.ScoreModel(net, sd.VP()), torch.ones(4, DIMS)).sum().backward()
    assert net.layer.weight.grad.abs().max() > 0
    half = Dropping(nn.Identity()).bfloat16()
    sd.loss(sd.ScoreModel(lambda x, t: half(x, t), sd.VP()), torch.ones(4, DIMS)).sum().backward()
    assert half.layer.weight.grad.abs().max() > 0
