"""Names of other libraries and user interfaces on the command line."""

import pytest

import sdediff as sd
from tests.cli.output import parsed

COMMANDS = ("solvers", "models", "sample", "likelihood", "recommend", "bench", "check", "conformance")


@pytest.mark.parametrize(
    ("name", "solver", "grid"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras"),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential"),
        ("Euler a", "euler_ancestral", None),
    ],
)
def test_sample_takes_a_user_interface_s_name(run, home, tmp_path, name, solver, grid):
    base = ("sample", "points", "-n", 2, "--steps", 4, "--json", "--out")
    given = parsed(run(*base, tmp_path / "a", "--solver", name))
    ours = ("--solver", solver) if grid is None else ("--solver", solver, "--grid", grid)
    expected = parsed(run(*base, tmp_path / "b", *ours))
    assert given["solver"] == expected["solver"] == repr(sd.solver(solver))
    assert (tmp_path / "a" / "samples.npz").read_bytes() == (tmp_path / "b" / "samples.npz").read_bytes()


def test_a_grid_of_its_own_goes_before_the_name_s(run, tmp_path):
    base = ("sample", "points", "-n", 2, "--steps", 4, "--grid", "angle", "--json", "--out")
    for folder, name in (("a", "DPM++ 2M Karras"), ("b", "dpmpp_2m")):
        parsed(run(*base, tmp_path / folder, "--solver", name))
    assert (tmp_path / "a" / "samples.npz").read_bytes() == (tmp_path / "b" / "samples.npz").read_bytes()


def test_recommend_measures_the_solver_on_its_grid(run):
    said = parsed(run("recommend", "points", "--calls", 5, "--starts", 4, "--solver", "DPM++ 2M Karras", "--json"))
    assert said["solver"] == repr(sd.solver("dpmpp_2m"))
    assert any(row["grid"] == "karras" for row in said["candidates"])


def test_check_takes_a_name_without_a_grid(run):
    assert parsed(run("conformance", "DDIM", "--json"))["solver"] == repr(sd.solver("ddim"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "points", "--solver", "Eulr"], "--solver: unknown solver 'Eulr': did you mean 'euler'"),
        (["sample", "points", "--solver", "rk45"], "--solver: unknown solver 'rk45': that is 'ode' with method='RK45'"),
        (["sample", "points", "--grid", "sgm_uniform"], "--grid: unknown grid 'sgm_uniform': that is 'uniform' here"),
        (
            ["conformance", "DPM++ 2M Karras"],
            "names the grid 'karras' too, which this command does not take: write dpmpp_2m",
        ),
        (["bench", "--solvers", "LMS Karras"], "names the grid 'karras' too, which this command does not take"),
        (["sample", "points", "--num-inference-steps", "5"], "'--num-inference-steps': that is '--steps' here"),
        (["sample", "points", "--nfe", "5"], "unknown option of sdediff sample '--nfe': that is '--calls' here"),
        (["sample", "points", "--num-samples", "5"], "'--num-samples': that is '-n' here"),
        (["bench", "--num-samples", "5"], "'--num-samples': that is '--samples' here"),
        (["likelihood", "points", "points.npy", "--batch-size", "5"], "'--batch-size': that is '--micro-batch' here"),
        (["sample", "points", "--slover", "heun"], "'--slover': did you mean '--solver'"),
        (["--verion"], "unknown option of sdediff '--verion': did you mean '--version'"),
        (["sample", "points", "--option", "ETA=1", "--solver", "ddim"], "unknown option of ddim 'ETA': that is 'eta'"),
    ],
)
def test_an_unknown_name_ends_in_one_line(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_has_a_short_name(run, command):
    assert run(*command, "-h") == run(*command, "--help")
    assert run(*command, "-h")[0] == 0
