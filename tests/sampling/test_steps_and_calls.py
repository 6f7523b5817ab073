"""How steps and network calls are counted."""

import pytest
import torch

import sdediff as sd
from sdediff.sampling.run import make_plan
from sdediff.solvers import Restart
from tests.grids.counted import Counted

F64 = torch.float64


def calls_of(name, sde, **options):
    net = Counted()
    begin = {"x": torch.ones(2, 3)} if name == "langevin" else {"shape": (2, 3)}
    run = sd.sample(sd.ScoreModel(net, sde), **begin, solver=name, full=True, **options)
    assert run.calls == net.calls
    return net.calls, run


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("name", [name for name, info in sd.list_solvers().items() if not info.adaptive])
def test_steps_and_calls_are_what_the_network_counts(name, denoise):
    sde, solver = sd.VP(), sd.solver(name)
    for steps in (1, 2, 5):
        calls, run = calls_of(name, sde, steps=steps, denoise=denoise)
        assert calls == solver.spent(steps) + denoise
        assert solver.calls is None or calls == (steps + 1 if solver.corrector else steps) * solver.calls + denoise
        assert len(run.times) == steps + 1 == len(run.trajectory)
        # calls= asks for the same run.
        again, other = calls_of(name, sde, calls=calls, denoise=denoise)
        assert again == calls
        if name == "dpm_fast":  # it shares any number of calls out, in a pattern of its own
            continue
        assert torch.equal(other.times, run.times)
        # Never more than was asked for, never a step less than fits.
        most, _ = calls_of(name, sde, calls=solver.spent(steps + 1) + denoise - 1, denoise=denoise)
        assert most == calls


@pytest.mark.parametrize("method", ["dopri5", "RK45", "LSODA", "rk4"])
def test_black_boxes_count_too_and_refuse_calls(method):
    solver = sd.solver("ode", method=method, **({"substeps": 7} if method == "rk4" else {}))
    calls, run = calls_of(solver, sd.VP())
    assert calls == 29 if method == "rk4" else calls > 20
    assert len(run.times) == 2
    with pytest.raises(sd.SolverError, match="chooses its calls at run time: set rtol and atol"):
        calls_of(solver, sd.VP(), calls=50)


def test_composed_and_repeated_correctors_are_counted():
    langevin = sd.solver("langevin", n=3)
    for predictor, per in (("heun", 2), ("ddim", 1), ("dpmpp_2m", 1)):
        both = sd.solver("predictor_corrector", predictor=predictor, corrector=langevin)
        assert calls_of(both, sd.VP(), steps=4)[0] == 4 * (per + 3) + 1
    assert calls_of(sd.solver("annealed_langevin", n=7), sd.VP(), steps=3)[0] == 4 * 7 + 1
    assert calls_of(sd.solver("sde", method="srk", substeps=3), sd.VP(), steps=4)[0] == 4 * 3 * 4 + 1
    assert calls_of(sd.solver("sde", method="euler", substeps=3), sd.VP(), steps=4)[0] == 4 * 3 + 1


def test_a_tables_n_knots_are_n_calls():
    table = sd.Table.from_betas(torch.linspace(0.01, 0.3, 12, dtype=F64))
    for name in ("ddim", "ancestral", "reverse_diffusion", "euler_maruyama"):
        calls, run = calls_of(name, table, grid="knots")
        assert calls == 12
        assert run.times.tolist() == list(range(12, 0, -1))
    assert calls_of("ddim", table, calls=12)[1].times.tolist() == list(range(12, 0, -1))


def test_edms_eighteen_steps_are_35_calls():
    # Karras et al. 2022: N sigmas and a Heun step but into 0, 2N - 1 calls.
    calls, run = calls_of("heun", sd.EDM(), calls=35)
    assert (calls, len(run.times)) == (35, 18)


@pytest.mark.parametrize(
    ("name", "calls", "needed"), [("ddim", 1, 2), ("heun", 2, 3), ("annealed_langevin", 10, 11), ("rk4", 4, 5)]
)
def test_too_few_calls_are_refused_with_the_number_needed(name, calls, needed):
    with pytest.raises(ValueError, match=f"calls={calls} is too few for .*: it needs at least {needed}$"):
        calls_of(name, sd.VP(), calls=calls)
    assert calls_of(name, sd.VP(), calls=needed)[0] == needed


def test_steps_and_calls_together_or_beside_times_are_refused():
    with pytest.raises(ValueError, match="given steps=3 and calls=4: write one of them"):
        calls_of("ddim", sd.VP(), steps=3, calls=4)
    for extra in ({"steps": 3}, {"calls": 4}):
        with pytest.raises(ValueError, match="the grid's times were given: leave steps and calls out"):
            calls_of("ddim", sd.VP(), grid=[1.0, 0.5, 0.1], **extra)


def test_calls_that_a_solver_does_not_know_are_refused_for_what_they_are():
    restarted = Restart(sd.solver("dpm_fast"))
    with pytest.raises(sd.SolverError, match="cannot count its calls: write steps= in place of calls=20"):
        calls_of(restarted, sd.VP(), calls=20)
    with pytest.raises(sd.SolverError, match="set rtol and atol in place of calls=20"):
        calls_of("rk_adaptive", sd.VP(), calls=20)


def test_default_grids_are_the_solvers_then_the_processs():
    def times(name, sde):
        return make_plan(sd.ScoreModel(Counted(), sde), name, steps=6).times

    vp, edm, table = sd.VP(), sd.EDM(), sd.Table.from_betas(torch.linspace(0.01, 0.3, 50, dtype=F64))
    assert torch.equal(times("dpmpp_2m", vp), sd.grid("log_snr", vp, 6))
    assert torch.equal(times("heun", vp), sd.grid("karras", vp, 6))
    assert torch.equal(times("ddim", vp), sd.grid("uniform", vp, 6))
    assert torch.equal(times("ddim", edm), sd.grid("karras", edm, 6))
    assert torch.equal(times("ancestral", table), sd.grid("strided", table, 6))
    assert len(make_plan(sd.ScoreModel(Counted(), vp), "ode").times) == 2
