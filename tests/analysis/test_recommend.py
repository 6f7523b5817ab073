"""Recommendations are measurements: their figures are checked by other routes, their lines are run."""

import json
import shlex

import pytest
import torch

import sdediff as sd
from sdediff.analysis import Recommendation, auto, paths, recommend
from sdediff.cli import main
from sdediff.nets import MLP

F64 = torch.float64
FEW = ["ddim", "dpmpp_2m", ("heun", "karras")]


@pytest.fixture(scope="module")
def model():
    return sd.target("target_m").model(sd.VP())


@pytest.fixture(scope="module")
def found(model):
    return recommend(model, calls=8, sample_shape=(2,), candidates=FEW, seed=3, starts=48, dtype=F64)


def exact(model, rows, seed):
    """The denoised ends of the flow by DOP853 at 1e-10, from the starts that `sample` gives these rows."""
    fine = sd.solver("ode", method="DOP853", rtol=1e-10, atol=1e-10)
    return sd.sample(model, (rows, 2), solver=fine, steps=1, seed=seed, dtype=F64)


def test_the_error_is_the_distance_to_the_exact_flow(model, found):
    x = sd.sample(model, (48, 2), solver=found.solver, grid=found.times, seed=3, dtype=F64)
    gap = (x - exact(model, 48, 3)).square().mean(1).sqrt().median().item()
    assert found.error == pytest.approx(gap, abs=found.reference_error + 1e-9)
    assert found.reference_error < 0.05 * found.error


def test_the_best_of_the_table_is_recommended(found):
    full = [row for row in found.candidates if row.starts == 48]
    assert (found.error, found.rms) == (full[0].error, full[0].rms)
    assert found.error * found.rms**2 == min(row.error * row.rms**2 for row in full)
    assert full == sorted(full, key=lambda row: row.error * row.rms**2)
    # ddim and dpmpp_2m on six grids and on six that end early, heun on one; tuned twice for the two best.
    assert len(found.candidates) == 25 + 4
    assert {row.starts for row in found.candidates} == {8, 48}
    assert sum(row.grid.startswith("tuned") for row in full) == 4
    assert {row.solver for row in found.candidates} == {"ddim", "dpmpp_2m", "heun"}
    assert found.error < min(
        row.error for row in found.candidates if not row.grid.startswith("tuned") and row.starts == 48
    )


def test_a_table_entry_is_that_solver_on_that_grid(model, found):
    row = next(row for row in found.candidates if (row.solver, row.grid) == ("heun", "karras"))
    x = sd.sample(model, (row.starts, 2), solver="heun", grid="karras", calls=8, seed=3, dtype=F64)
    gap = (x - exact(model, row.starts, 3)).square().mean(1).sqrt().median().item()
    assert row.error == pytest.approx(gap, rel=1e-3)


def test_a_free_end_is_chosen_by_measurement_and_a_given_one_is_kept(model, found):
    """In 8 calls the denoising call jumps from above t_min; an end that was asked for is where grids end."""
    assert model.sde.t_min < found.times[-1].item() < found.times[-2].item()
    at_end = recommend(model, calls=8, sample_shape=(2,), candidates=FEW, seed=3, stop=model.sde.t_min, dtype=F64)
    assert at_end.times[-1].item() == model.sde.t_min
    assert not [row for row in at_end.candidates if "early" in row.grid]
    assert found.error < at_end.error
    plain = recommend(model, calls=4, sample_shape=(2,), candidates=["ddim"], starts=4, denoise=False)
    assert plain.times[-1].item() == model.sde.t_min


def test_its_lines_can_be_pasted(model, found):
    scope = {"sd": sd, "torch": torch, "model": model, "shape": (5, 2)}
    x = eval(found.python, scope)
    again = sd.sample(model, (5, 2), solver=found.solver, grid=found.times, dtype=F64)
    assert torch.equal(x, again)
    one = recommend(model, calls=6, sample_shape=(2,), candidates=[("ddim", "log_snr")], starts=4)
    best = next(row for row in one.candidates if row.grid == "log_snr")
    assert one.command == "sdediff sample MODEL --solver ddim --grid log_snr --calls 6"
    assert best.starts == 4
    assert str(one).endswith(one.python)
    assert "ddim" in str(one)


def test_a_grid_s_name_is_given_where_the_name_is_enough(model):
    one = recommend(model, calls=2, sample_shape=(2,), candidates=[("ddim", "log_snr")], starts=4)
    assert one.grid == "log_snr"  # one move has no interior times to tune
    assert one.python == "sd.sample(model, shape, solver='ddim', grid=\"log_snr\", calls=2)"
    assert torch.equal(one.times, sd.grid("log_snr", model.sde, 1))
    with_options = recommend(model, calls=2, sample_shape=(2,), candidates=[(sd.solver("ddim"), "karras")], starts=4)
    assert "DDIM" in with_options.python
    assert with_options.command is None


def test_the_default_field_finds_better_than_the_default_solver(model):
    best = recommend(model, data=sd.target("target_m").sample(500), calls=10, sample_shape=(2,), seed=1, dtype=F64)
    x = sd.sample(model, (64, 2), solver=best.solver, grid=best.times, seed=8, dtype=F64)
    default = sd.sample(model, (64, 2), calls=10, seed=8, dtype=F64)
    fine = exact(model, 64, 8)
    error, usual = ((v - fine).norm(dim=1).median().item() for v in (x, default))
    assert error < 0.2 * usual  # starts that nothing was measured on
    assert len(best.candidates) > 80


def test_auto_measures_on_starts_of_its_own(monkeypatch):
    budgets, seeds = [], []

    def cheap(model, sample_shape, *, calls, seed, **options):
        budgets.append(calls)
        seeds.append(seed)
        return recommend(
            model, sample_shape, calls=calls, seed=seed, **{**options, "candidates": ["ddim"], "starts": 4}
        )

    monkeypatch.setattr("sdediff.analysis.selection.recommend", cheap)
    model = sd.target("ring").model(sd.VP())
    solver, times = auto(model, (7, 2), calls=6)
    assert solver == sd.solver("ddim")
    assert len(times) == 6
    assert torch.equal(auto(model, (3, 2), steps=5)[1], times)  # five steps and the last call
    assert budgets == [6, 6]
    assert all(seed != 0 for seed in seeds)


def test_conditions_reach_the_network():
    """A network that follows a condition: data N(label, 0.01); the starts take the labels in turn."""
    sde = sd.VP()

    def net(x, t, label=None):
        alpha, sigma = (fn(t.double()).to(x)[:, None] for fn in (sde.alpha, sde.sigma))
        mean = label.to(x)[:, None]
        return mean + alpha * 0.01 * (x - alpha * mean) / (alpha**2 * 0.01 + sigma**2)

    model = sd.ScoreModel(net, sde, predicts="x0")
    labels = torch.tensor([-2.0, 2.0])
    on = paths(model, (6, 3), cond={"label": labels}, dtype=F64)
    assert torch.equal(on.end.mean(1).sign(), torch.tensor([-1.0, 1.0] * 3, dtype=F64))
    assert torch.equal(on.subset(1, 3).options["cond"]["label"], torch.tensor([2.0, -2.0]))
    best = recommend(model, calls=4, sample_shape=(3,), candidates=["ddim"], starts=5, cond={"label": labels})
    assert best.error < 0.2


def test_a_process_whose_alpha_ends_at_zero():
    model = sd.target("ring").model(sd.RectifiedFlow())
    best = recommend(model, calls=5, sample_shape=(2,), candidates=["ddim", "heun"], starts=8)
    assert best.times[0].item() == model.sde.t_max
    assert isinstance(best.grid, tuple)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"candidates": ["ancestral"]}, "does not follow the flow"),
        ({"candidates": ["ode"]}, "does not follow the flow"),
        ({"candidates": [("ddim", "karas")]}, "karras"),
        ({"candidates": ["heun"], "calls": 2}, "too few"),
        ({"sample_shape": None}, "give sample_shape="),
        ({"starts": 0}, "starts=0"),
    ],
)
def test_bad_input_is_named(model, options, said):
    with pytest.raises(ValueError, match=said):
        recommend(model, **{"sample_shape": (2,), "starts": 2, **options})


def test_a_process_without_alpha_is_refused():
    class Walk(sd.SDE):
        def drift(self, x, t):
            return -x * x * x

        def diffusion(self, t):
            return torch.ones_like(torch.as_tensor(t, dtype=F64))

    model = sd.ScoreModel(lambda x, t: -x, Walk(), predicts="score")
    with pytest.raises(sd.SolverError, match="alpha and sigma"):
        recommend(model, sample_shape=(2,))


def test_the_command_prints_a_table_and_lines_that_work(tmp_path, capsys):
    torch.manual_seed(0)
    net = sd.ScoreModel(MLP(2, width=8, blocks=1).eval(), sd.VP())
    folder = sd.save(net, tmp_path / "points", data={"shape": [2], "range": [-1, 1]})
    base = ["recommend", str(folder), "--calls", "4", "--starts", "4", "--solver", "ddim", "--solver", "dpmpp_2m"]
    assert main(base) == 0
    out = capsys.readouterr().out
    assert "solver at 4 calls" in out
    assert "sd.sample(model, shape, solver=" in out
    assert main([*base, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == said["candidates"][0]["error"]
    assert len(said["times"]) == 4
    for command in said["commands"]:
        line = shlex.split(command)[1:]
        line[1] = str(folder)
        assert main([*line, "-n", "2", "--out", str(tmp_path / "out")]) == 0
    assert main([*base[:-1], "ancestral"]) == 2
    assert "--solver: " in capsys.readouterr().err


def test_it_is_what_its_type_says(found):
    assert isinstance(found, Recommendation)
    assert found.calls == 8
    assert found.reference_calls == 200
    assert "\n" not in repr(found)
    assert "tensor" not in repr(found)
    assert "<table>" in found._repr_html_()
