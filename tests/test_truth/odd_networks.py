"""Networks with odd ways, each beside the plain network whose samples it must give."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

Net = Callable[[Tensor, Tensor], Tensor]
DIMS = 3


class Plain(nn.Module):
    """A layer and a function of the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(DIMS, DIMS)
        with torch.no_grad():
            self.layer.weight.copy_(0.4 * torch.eye(DIMS) + 0.1)
            self.layer.bias.copy_(torch.arange(DIMS) / 10)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) * (0.5 + t)[:, None]


PLAIN = Plain().eval()


def halved(x: Tensor, t: Tensor) -> Tensor:
    return PLAIN(x / 2, t)


def writes(x: Tensor, t: Tensor) -> Tensor:
    return PLAIN(x.div_(2), t)


def writes_unseen(x: Tensor, t: Tensor) -> Tensor:
    """Past the counter of versions."""
    x.data.div_(2)
    return PLAIN(x, t)


def writes_clock(x: Tensor, t: Tensor) -> Tensor:
    output = PLAIN(x / 2, t)
    t.zero_()
    return output


def in_place(x: Tensor, t: Tensor) -> Tensor:
    return x.mul_(0.3)


def linear(x: Tensor, t: Tensor) -> Tensor:
    return 0.3 * x


class Buffered:
    """Its output lies in one of some buffers in turn."""

    def __init__(self, count: int = 1) -> None:
        self.count, self.calls, self.buffers = count, 0, {}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        buffers = self.buffers.setdefault((x.shape, x.dtype), [torch.empty_like(x) for _ in range(self.count)])
        self.calls += 1
        buffer = buffers[self.calls % self.count]
        return buffer.copy_(halved(x, t))


class BufferedPair(Buffered):
    """The same, with a second output."""

    def __call__(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        output = super().__call__(x, t)
        return output, output


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([[0.1, -0.2, 0.3]]))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.value.expand(x.shape)


class Holder:
    """An object with a network in it."""

    def __init__(self, net: Net) -> None:
        self.parts = {"net": net}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.evaluate(x, t)

    def evaluate(self, x: Tensor, t: Tensor) -> Tensor:
        return self.parts["net"](x, t)


def call(net: Net, x: Tensor, t: Tensor) -> Tensor:
    return net(x, t)


def _traced(net: nn.Module) -> nn.Module:
    return torch.jit.trace(net, (torch.ones(2, DIMS), torch.ones(2)), check_trace=False)


WRAPPERS: dict[str, Callable[[nn.Module], Net]] = {
    "DataParallel": nn.DataParallel,
    "lambda": lambda net: lambda x, t: net(x, t),
    "default": lambda net: lambda x, t, inner=net: inner(x, t),
    "partial": lambda net: functools.partial(call, net),
    "object": Holder,
    "method": lambda net: Holder(net).evaluate,
    "traced": _traced,
    "frozen": lambda net: torch.jit.freeze(_traced(net)),
    "scripted": torch.jit.script,
    "compiled": lambda net: torch.compile(net, backend="eager"),
}

# The network with odd ways, and the one whose samples are right.
WAYS: dict[str, tuple[Callable[[], Net], Net]] = {
    "writes into its input": (lambda: writes, halved),
    "writes past the counter": (lambda: writes_unseen, halved),
    "writes into its clock": (lambda: writes_clock, halved),
    "returns its input, changed": (lambda: in_place, linear),
    "returns its input": (lambda: lambda x, t: x, lambda x, t: x.clone()),
    "returns a view of its input": (lambda: lambda x, t: x.flip(0).flip(0).view_as(x), lambda x, t: x.clone()),
    "returns its own buffer": (Buffered, halved),
    "returns two buffers in turn": (lambda: Buffered(2), halved),
    "returns its own buffer in a pair": (BufferedPair, halved),
    "returns a parameter": (Constant, lambda x, t: torch.tensor([[0.1, -0.2, 0.3]], dtype=x.dtype).repeat(len(x), 1)),
}
