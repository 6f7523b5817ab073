"""A corrector leaves p_t as it is: alone it does not take noise to data, and is refused where it would have to."""

import pytest
import torch

import sdediff as sd
from sdediff.cli import main

ALONE = [name for name, solver in sd.list_solvers().items() if not solver.alone]


def model():
    return sd.target("ring").model(sd.VP())


def test_langevin_is_the_registered_corrector_and_annealed_langevin_a_sampler():
    assert ALONE == ["langevin"]
    assert {name: sd.solver(name).kind for name in ("langevin", "annealed_langevin", "predictor_corrector")} == {
        "langevin": "corrector", "annealed_langevin": "SDE", "predictor_corrector": "SDE"
    }  # fmt: skip


@pytest.mark.parametrize("solver", ["langevin", sd.solver("langevin", n=3)])
def test_it_is_refused_from_noise_with_what_to_write(solver):
    words = r"Langevin\(.*\) is a corrector.*write solver='predictor_corrector'.*or 'annealed_langevin'"
    calls = (
        lambda: sd.sample(model(), (3, 2), solver=solver, steps=4),
        lambda: next(sd.iterate(model(), (3, 2), solver=solver, steps=4)),
        lambda: sd.Sampler(model(), solver=solver, steps=4)((3, 2)),
        lambda: sd.sample(model(), (3, 2), solver=solver, grid=[1.0, 0.5, 0.1]),
    )
    for call in calls:
        with pytest.raises(sd.SolverError, match=words):
            call()


def test_it_runs_on_given_states_and_beside_a_predictor():
    x = torch.zeros(400, 2, dtype=torch.float64)
    moved = sd.sample(model(), x=x, solver=sd.solver("langevin", n=200), grid=[0.5, 0.5 - 1e-9], denoise=False)
    drawn = sd.target("ring").sample(4000, seed=1).double()
    schedule = sd.VP().schedule(0.5)
    variance = schedule.alpha.item() ** 2 * drawn.var().item() + schedule.sigma.item() ** 2
    assert moved.var().item() == pytest.approx(variance, rel=6 * (2 / 800) ** 0.5)
    assert sd.sample(model(), (3, 2), solver="predictor_corrector", steps=4).isfinite().all()
    assert sd.sample(model(), (3, 2), solver="annealed_langevin", steps=4).isfinite().all()


def test_the_command_refuses_it_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "digits-vp", "--solver", "langevin", "-n", "2"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("sdediff: --solver: Langevin(")
    assert "predictor_corrector" in said.err
    assert (said.out, said.err.count("\n"), list(tmp_path.iterdir())) == ("", 1, [])
