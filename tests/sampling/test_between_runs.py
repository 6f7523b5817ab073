"""What one run leaves for the next: nothing. Processes that change, gradients, threads, pickled states."""

import dataclasses
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import sdediff as sd
from sdediff.sampling import sampler as sampling

F64 = torch.float64
SOLVERS = ["deis", "unipc", "heun", "dpm_solver_2", "dpmpp_2m", "angle", "ancestral"]


class Learned(nn.Module, sd.LinearSDE):
    """sigma = rate t: a process that changes while its rate is trained."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(1.0, dtype=F64))

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return self.rate * t


@dataclasses.dataclass
class Thawed(sd.LinearSDE):
    """A process that is equal where its rate is, so has no hash."""

    rate: float = 1.0
    alpha, sigma = Learned.alpha, Learned.sigma


@pytest.mark.parametrize("make", [Learned, Thawed])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_process_changed_between_two_runs_gives_new_numbers(make, solver):
    sde, x = make(), torch.ones(2, 3, dtype=F64)
    model, options = sd.ScoreModel(lambda x, t: x, sde), {"solver": solver, "steps": 4, "start": 0.9, "stop": 0.1}
    before = sd.sample(model, x=x, **options)
    assert torch.equal(before, sd.sample(model, x=x, **options))
    with torch.no_grad():
        sde.rate *= 2.0
    assert [v.sigma for v in sd.levels(sde, [0.9, 0.1])] == [1.8, 0.2]
    after = sd.sample(model, x=x, **options)
    assert (after - before).abs().min() > 0.01
    twin = make()
    with torch.no_grad():
        twin.rate *= 2.0
    assert torch.equal(after, sd.sample(sd.ScoreModel(lambda x, t: x, twin), x=x, **options))


class Inverted(Learned):
    """The same with a closed form of its inverse, through which gradients flow."""

    def t_of_lam(self, lam):
        return torch.exp(-torch.as_tensor(lam, dtype=F64)) / self.rate


@pytest.mark.parametrize("make", [Learned, Inverted])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("solver", [n for n, s in sd.list_solvers().items() if n != "ode"])
def test_a_learned_process_is_sampled_whether_or_not_gradients_flow(solver, grad, make):
    sde, x = make(), torch.ones(2, 3, dtype=F64)
    plain = sd.sample(sd.ScoreModel(lambda x, t: x, Thawed()), x=x, solver=solver, steps=4)
    with torch.set_grad_enabled(grad):
        x = x.clone().requires_grad_(grad)
        found = sd.sample(sd.ScoreModel(lambda x, t: x, sde), x=x, solver=solver, steps=4, grad=grad)
        assert not sd.grid("karras", sde, 4).requires_grad
    torch.testing.assert_close(found.detach(), plain, rtol=1e-12, atol=1e-12)


def test_a_changed_statistic_of_the_data_gives_new_numbers():
    data = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    model = sd.ScoreModel(lambda x, t: torch.tanh(x), sd.VP())
    runs = []
    for scale in (1.0, 2.0, 1.0):
        stats = sd.statistics(scale * data)
        runs.append(
            sd.sample(dataclasses.replace(model, stats=stats), x=data[:2], solver=sd.solver("angle", scale="dims"))
        )
    assert torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("write", [lambda t: t.mul_(10.0), lambda t: t.data.mul_(10.0), lambda t: t.numpy().fill(9.0)])
def test_a_network_that_writes_into_its_clock_gets_a_new_one_in_the_next_run(write):
    def net(x, t):
        write(t)
        return x * t.reshape(-1, 1)

    model = sd.ScoreModel(net, sd.VP())
    once, again = (sd.sample(model, (2, 3), solver="ddim", steps=3, dtype=F64) for _ in range(2))
    assert torch.equal(once, again)
    sampler = sd.Sampler(model, solver="ddim", steps=3, dtype=F64)
    for _ in range(3):
        assert torch.equal(sampler((2, 3)), once)


@pytest.mark.parametrize("solver", ["adams", "unipc", "heun", "ancestral"])
def test_a_first_run_in_inference_mode_leaves_later_ones_their_gradients(solver):
    net, sde = nn.Linear(3, 3).to(F64), sd.VP(beta_max=17.0)
    sampler = sd.Sampler(sd.ScoreModel(lambda x, t: net(x) * t[:, None], sde), solver=solver, steps=3, dtype=F64)
    with torch.inference_mode():
        first = sampler((2, 3))
    for run in (sampler, lambda *a, **k: sd.sample(sampler.model, *a, solver=solver, steps=3, dtype=F64, **k)):
        net.weight.grad = None
        second = run((2, 3), grad=True)
        second.sum().backward()
        assert torch.equal(first, second.detach())
        assert net.weight.grad.abs().sum() > 0


def test_levels_evaluated_in_inference_mode_have_their_slopes():
    with torch.inference_mode():
        inside = sd.levels(sd.VP(beta_max=16.5), [0.8, 0.2])
        assert inside[1].alpha_dot < 0
    later = sd.levels(sd.VP(beta_max=16.5), [0.8, 0.2])
    with torch.inference_mode():
        assert later[0].g2 == pytest.approx(0.1 + 0.8 * 16.4)
    assert inside[0].g2 == later[0].g2


def test_runs_of_models_that_read_other_clocks_read_their_own():
    seen = []

    def net(x, t):
        seen.append(t.tolist())
        return x

    for size, options in ((2, {}), (3, {}), (2, {"time": "lam"}), (2, {"time": lambda v: 5.0})):
        sd.sample(sd.ScoreModel(net, sd.VP(), **options), (size, 1), solver="ddim", steps=1, denoise=False, dtype=F64)
    assert seen == [[1.0] * 2, [1.0] * 3, [sd.VP().lam(1.0).item()] * 2, [5.0] * 2]


@pytest.mark.parametrize("noise", ["counter", "brownian", "stream"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "ancestral", "predictor_corrector"])
def test_threads_share_a_model_a_solver_and_a_sampler(name, noise):
    model = sd.ScoreModel(lambda x, t: torch.tanh(x) * (1 + t[:, None]), sd.VP())
    options = {"solver": sd.solver(name), "steps": 6, "dtype": F64, "noise": noise}
    jobs = [((1 + i % 3, 2), i // 3) for i in range(24)]
    alone = [sd.sample(model, shape, seed=seed, **options) for shape, seed in jobs]
    shared, patience = sd.Sampler(model, **options), sys.getswitchinterval()

    def states(job):
        return [v.prediction.x0 for v in shared.states(shared.run(job[0], seed=job[1]))][-1]

    try:
        sys.setswitchinterval(1e-6)  # threads that change places at every chance
        for run in (lambda job: sd.sample(model, job[0], seed=job[1], **options), states):
            with ThreadPoolExecutor(4) as pool:
                found = list(pool.map(run, jobs))
            assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))
    finally:
        sys.setswitchinterval(patience)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "dpm_solver_2", "restart", "pndm", "angle", "deis", "ancestral"])
def test_a_state_of_a_long_run_is_pickled_and_resumed(name):
    model, options = sd.target("target_m").model(sd.VP()), {"solver": name, "steps": 400}
    states = list(sd.iterate(model, (3, 2), dtype=F64, **options))
    for i in (1, 2, 399, 400):
        pickled = pickle.dumps(states[i]._replace(prediction=None))
        assert len(pickled) < 1_000_000
        state = pickle.loads(pickled)
        assert (state.t.time, state.t.index) == (states[i].t.time, i)
        *_, end = sd.iterate(model, solver=name, resume=state)
        assert torch.equal(end.x, states[-1].x)
    whole = pickle.loads(pickle.dumps(states[5]))
    assert torch.equal(whole.prediction.x0, states[5].prediction.x0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("shape", (3, 2)), ("x", torch.zeros(3, 2)), ("steps", 4), ("calls", 4), ("grid", "karras"), ("start", 0.9),
     ("stop", 0.1)],
)  # fmt: skip
def test_what_a_state_has_fixed_is_refused_beside_it(name, value):
    model = sd.target("target_m").model(sd.VP())
    state = next(sd.iterate(model, (3, 2), steps=4))
    for run in (sd.sample, sd.iterate):
        with pytest.raises(sd.Error, match=rf"given resume= and {name}: the state has the run's own, leave {name} out"):
            run(model, resume=state, **{name: value})


def test_a_sampler_goes_on_from_a_state_of_its_own_runs_alone():
    model = sd.target("target_m").model(sd.VP())
    sampler, other = (sd.Sampler(model, solver="dpmpp_2m", steps=n, dtype=F64) for n in (8, 9))
    states = list(sampler.states(sampler.run((3, 2))))
    record = sampler(resume=states[3], full=True)
    assert torch.equal(record.x, sampler((3, 2)))
    assert record.times.tolist() == states[0].times[3:].tolist()
    assert (record.calls, len(record.trajectory)) == (6, 6)
    with pytest.raises(sd.Error, match="a run over other times: go on from it by iterate"):
        other(resume=states[3])
    for given in ({"shape": (3, 2)}, {"x": states[3].x}):
        with pytest.raises(sd.Error, match=r"given resume= and (shape|x): the state has the run's own"):
            sampler(resume=states[3], **given)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_sampler_for_half_precision_goes_on_from_its_own_states(kind):
    sampler = sd.Sampler(sd.ScoreModel(lambda x, t: 0.1 * x, sd.VP()), steps=4, dtype=kind)
    state = list(sampler.states(sampler.run((2, 3))))[2]
    assert state.x.dtype is torch.float32
    assert torch.equal(sampler(resume=state), sampler((2, 3)))
    with pytest.raises(sd.Error, match=r"^the state is torch.float32, the sampler was made with dtype=torch.float64: "):
        sd.Sampler(sampler.model, grid=state.times, dtype=F64)(resume=state)
    with pytest.raises(sd.Error, match=r"^the state is on meta, the sampler was made with device='cpu': move"):
        sd.Sampler(sampler.model, grid=state.times, device="cpu")(resume=state._replace(x=state.x.to("meta")))


def test_a_noise_is_a_noise():
    class Odd:
        def for_run(self, steps):
            return self

    with pytest.raises(sd.Error, match=r'write "counter", "brownian" or "stream", or give a Noise object'):
        sd.Sampler(sd.ScoreModel(lambda x, t: 0.1 * x, sd.VP()), noise=Odd())


def test_a_bar_counts_the_steps_that_are_left(monkeypatch):
    totals = []
    monkeypatch.setattr(sampling, "track", lambda states, total, *_: (totals.append(total), states)[1])
    sampler = sd.Sampler(sd.ScoreModel(lambda x, t: 0.1 * x, sd.VP()), steps=6)
    states = list(sampler.states(sampler.run((2, 3))))
    sampler((2, 3), progress=True)
    sampler(resume=states[4], progress=True)
    assert totals == [7, 3]
