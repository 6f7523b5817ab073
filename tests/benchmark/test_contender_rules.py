"""Equal conditions: a contender that breaks one of the rules is named with it."""

from itertools import pairwise

import pytest
import torch

import sdediff as sd
from sdediff.benchmark.contenders import RULES, Contender, ContenderError, Finish, contend, errors, exact_end

F64 = torch.float64
TARGET = sd.target("target_m")


class Euler(Contender):
    """Euler's method in the process's time, then the denoiser: what a third party writes."""

    library, name = "mine", "euler"

    def run(self, model, x_T, calls, seed):
        times, x = torch.linspace(model.sde.T, model.sde.t_min, calls).tolist(), x_T
        for t, s in pairwise(times):
            x = x + (s - t) * model(x, t).velocity
        return Finish(model(x, times[-1]).x0, calls=calls)


class Variant(Euler):
    """Euler with one thing changed."""

    name = "variant"

    def __init__(self, change):
        self.change = change

    def run(self, model, x_T, calls, seed):
        return self.change(super().run, model, x_T, calls, seed)


@pytest.fixture(scope="module")
def model():
    return TARGET.model(sd.VP())


@pytest.fixture(scope="module")
def x():
    return torch.randn(16, 2, dtype=F64, generator=torch.Generator().manual_seed(3))


def one_more(run, model, x, calls, seed):
    return run(model, x, calls + 1, seed)


def swallows(run, model, x, calls, seed):
    try:
        return run(model, x, calls + 1, seed)
    except Exception:
        return Finish(x.clone())


def miscounts(run, model, x, calls, seed):
    return Finish(run(model, x, calls, seed).x, calls=calls - 1)


def another_network(run, model, x, calls, seed):
    return run(TARGET.model(sd.VP()), x, calls, seed)


def other_states(run, model, x, calls, seed):
    return run(model, x.flip(0), calls, seed)


def later(run, model, x, calls, seed):
    model(x, 0.5)
    return Finish(run(model, x, calls - 1, seed).x)


def in_place(run, model, x, calls, seed):
    finish = run(model, x, calls, seed)
    x.mul_(1.0)
    return finish


def through_numpy(run, model, x, calls, seed):
    finish = run(model, x, calls, seed)
    x.numpy()[0] += 1
    return finish


def single(run, model, x, calls, seed):
    return Finish(run(model, x, calls, seed).x.float())


def no_finish(run, model, x, calls, seed):
    return run(model, x, calls, seed).x


def nan(run, model, x, calls, seed):
    end = run(model, x, calls, seed).x
    return Finish(torch.where(torch.arange(len(end))[:, None] == 2, torch.nan, end))


def beyond(run, model, x, calls, seed):
    return Finish(run(model, x, calls, seed).x, time_end=2.0)


def hidden_noise(run, model, x, calls, seed):
    return Finish(run(model, x, calls, seed).x + 1e-3 * torch.randn_like(x))


@pytest.mark.parametrize(
    ("change", "rule", "said"),
    [
        (one_more, "calls", "more than the 5 network evaluations"),
        (swallows, "calls", "more than the 5 network evaluations"),
        (miscounts, "count", "claims 4 evaluations, counted were 5"),
        (another_network, "count", "did not evaluate the model"),
        (other_states, "start", "correlation"),
        (later, "start", "first evaluation is at t=0.5, it claims t=1"),
        (in_place, "input", "have changed"),
        (through_numpy, "input", "have changed"),
        (single, "shape", "gave torch.float32"),
        (no_finish, "shape", "needed is a benchmark.Finish"),
        (nan, "finite", "1 of 16 states"),
        (beyond, "end", "ends at t=2.0"),
        (hidden_noise, "deterministic", "seeds 0 and 1 differ"),
    ],
)
def test_each_rule_names_who_breaks_it(model, x, change, rule, said):
    before = x.clone()
    with pytest.raises(ContenderError, match=said) as caught:
        contend(Variant(change), model, x, 5)
    assert caught.value.rule == rule
    assert f"mine:variant breaks the rule '{rule}'" in str(caught.value)
    assert rule in RULES
    assert torch.equal(x, before)


def test_noise_that_the_seed_does_not_fix_is_named(model, x):
    class Noisy(Euler):
        stochastic = True
        drawn = torch.Generator().manual_seed(5)

        def run(self, model, x_T, calls, seed):
            finish = super().run(model, x_T, calls, seed)
            return Finish(finish.x + torch.randn(x_T.shape, generator=self.drawn))

    with pytest.raises(ContenderError, match="two runs with seed=0 differ"):
        contend(Noisy(), model, x, 5)


def test_every_rule_has_a_breaker():
    marks = test_each_rule_names_who_breaks_it.pytestmark[0].args[1]
    assert {rule for _, rule, _ in marks} | {"seed"} == set(RULES)


def test_global_noise_is_seeded_and_left_as_it_was(model, x):
    class Global(Euler):
        stochastic = True

        def run(self, model, x_T, calls, seed):
            return Finish(super().run(model, x_T, calls, seed).x + torch.randn_like(x_T))

    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, two = (contend(Global(), model, x, 5, seed=s).x for s in (1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(one, two)


def test_what_keeps_the_rules_equals_our_own_solver(model, x):
    outcome = contend(Euler(), model, x, 9)
    ours = sd.sample(model, x=x, solver="euler", grid=torch.linspace(1, model.sde.t_min, 9).tolist())
    assert (outcome.x - ours).abs().max() < 1e-12
    assert (outcome.calls, outcome.time_start, outcome.time_end) == (9, 1.0, 0.0)
    assert outcome.notes == ()
    assert outcome.seconds >= outcome.network_seconds > 0


def test_where_it_ends_decides_what_it_is_compared_with(model, x):
    class Half(Euler):
        """Exact down to the end that it states."""

        def __init__(self, end):
            self.end = end

        def run(self, model, x_T, calls, seed):
            fine = sd.sample(model, x=x_T, solver="rk4", steps=60, stop=0.3, denoise=False)
            return Finish(fine, time_end=self.end)

    fine = sd.solver("ode", rtol=1e-6, atol=1e-6)
    right, wrong, unknown = (contend(Half(end), model, x[:8], 10**4, repeat=False) for end in (0.3, 0.2, None))
    assert errors(right.x, exact_end(right, model, x[:8], fine)).max() < 1e-4
    assert errors(wrong.x, exact_end(wrong, model, x[:8], fine)).median() > 1e-2
    assert exact_end(unknown, model, x, fine) is None
    assert right.notes == ("ends at t=0.3, compared with the flow there",)
    assert unknown.notes == ("ends elsewhere",)


def test_a_later_start_has_the_same_states_at_its_own_level(model, x):
    class Later(Euler):
        def start(self, model, calls):
            return 0.8

        def run(self, model, x_T, calls, seed):
            self.given = x_T.clone()
            times, x = torch.linspace(0.8, model.sde.t_min, calls).tolist(), x_T
            for t, s in pairwise(times):
                x = x + (s - t) * model(x, t).velocity
            return Finish(model(x, times[-1]).x0, calls=calls)

    contender = Later()
    outcome = contend(contender, model, x, 8)
    factor = sd.level(model.sde, 0.8).sigma / sd.level(model.sde, 1.0).sigma
    assert (contender.given - factor * x).abs().max() < 1e-12
    assert outcome.notes == ("starts at t=0.8 of 1, the states scaled to its level",)


def test_guidance_counts_one_call_a_prediction(x):
    def pulled(prediction, plain):
        plain(prediction.x, prediction.level)  # a second evaluation of the network
        return prediction

    base = TARGET.model(sd.VP())
    guided = sd.ScoreModel(base.net, base.sde, predicts=base.predicts, time=base.time, changes=(pulled,))
    assert contend(Euler(), guided, x, 6).calls == 6
    with pytest.raises(ContenderError, match="more than the 6"):
        contend(Variant(one_more), guided, x, 6)
