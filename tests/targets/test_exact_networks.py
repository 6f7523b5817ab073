"""The exact networks of problems: precision, clocks, derivatives, copies."""

import copy
import io
import pickle

import pytest
import torch

from sdediff.sde.processes import EDM, VP, RectifiedFlow
from sdediff.targets import (
    ExactNet,
    problem,
)
from tests.targets.problems import SMALL, noised


@pytest.mark.parametrize("name", ["target_m", "gmm64", "gmm768"])
def test_float32_keeps_its_digits_and_its_dtype(name):
    m = problem(name)
    for sde, t in ((RectifiedFlow(), 1e-5), (VP(), 1e-3), (VP(), 0.5), (EDM(), 5.0), (EDM(), 80.0)):
        x = noised(m, sde, t, n=50).float()
        t32 = torch.tensor([t], dtype=torch.float32).expand(len(x))
        net = m.model(sde).net
        fine, coarse = net(x.double(), t32.double()), net(x, t32)
        assert coarse.dtype == m.model(sde)(x, t).raw.dtype == m.score(x, sde, t).dtype == torch.float32
        assert m.flow(x, sde, t, t).dtype == torch.float32 if len(m.weights) == 1 else True
        assert m.log_prob(x, sde, t).dtype == torch.float64
        assert ((coarse - fine).abs().flatten(1).amax(1) <= 2e-5 * fine.abs().flatten(1).amax(1)).all()
        assert net(x.half(), t32).dtype == torch.float16


@pytest.mark.parametrize("name", ["ring", "gmm64"])
def test_one_clock_for_the_batch_changes_nothing(name):
    m, sde = problem(name), VP()
    x = m.sample(12, dtype=torch.float64)
    net = m.model(sde).net
    clock = torch.linspace(0.01, 0.99, 12, dtype=torch.float64)
    apart = torch.cat([net(x[i : i + 1], clock[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(net(x, clock), apart, rtol=1e-11, atol=1e-11)
    same = torch.full((12,), 0.4, dtype=torch.float64)
    last = torch.cat([same, clock[:1]])
    torch.testing.assert_close(net(x, same), net(torch.cat([x, x[:1]]), last)[:12], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(m.score(x, sde, clock), m.model(sde)(x, clock).score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["target_m", "low_rank"])
def test_differentiable_by_every_route(name):
    m = SMALL[name]
    net, x = m.model(VP()).net, m.sample(3, dtype=torch.float64)
    clock = torch.full((3,), 0.2, dtype=torch.float64)
    jacobian = torch.stack([torch.func.jacrev(lambda y: net(y, clock[:1]))(v[None])[0, ..., 0, :] for v in x])
    jacobian = jacobian.reshape(3, m.dim, m.dim)
    live = x.clone().requires_grad_(True)
    eye = torch.eye(m.dim, dtype=torch.float64).reshape(m.dim, 1, *m.shape).expand(m.dim, 3, *m.shape)
    batched = torch.autograd.grad(net(live, clock), live, eye, is_grads_batched=True)[0]
    torch.testing.assert_close(batched.transpose(0, 1).reshape(3, m.dim, m.dim), jacobian)
    mapped = torch.func.vmap(lambda y, t: net(y[None], t[None])[0])(x, clock)
    torch.testing.assert_close(mapped, net(x, clock))
    pairs = torch.func.vmap(net)(torch.stack([x, x + 1]), torch.stack([clock, clock + 0.1]))
    torch.testing.assert_close(pairs[1], net(x + 1, clock + 0.1))
    step = 1e-6 * torch.ones_like(x)
    numeric = (net(x + step, clock) - net(x - step, clock)).reshape(3, -1) / 2e-6
    torch.testing.assert_close(jacobian.sum(2), numeric, rtol=1e-6, atol=1e-7)
    slope = torch.func.jacrev(lambda t: net(x, t))(clock).reshape(3, m.dim, 3)
    ahead = (net(x, clock + 1e-6) - net(x, clock - 1e-6)).reshape(3, -1) / 2e-6
    torch.testing.assert_close(slope.diagonal(dim1=0, dim2=2).T, ahead, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["target_m", "gmm64"])
def test_net_copies_pickles_and_keeps_its_constants(name):
    m = problem(name)
    net, x = m.model(VP()).net, m.sample(4)
    clock = torch.full((4,), 0.3)
    expected = net(x, clock)
    stored = io.BytesIO()
    torch.save(net.state_dict(), stored)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.to(torch.float16), net.half().cpu()):
        assert isinstance(other, ExactNet)
        assert torch.equal(other(x, clock), expected)
    assert all(b.dtype == torch.float64 for b in net.buffers())
    twin = pickle.loads(pickle.dumps(m))
    assert torch.equal(twin.sample(3), m.sample(3))
