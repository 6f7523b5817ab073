"""Bad input is one line that names it."""

import os

import pytest

BAD = [
    (["smaple"], ["sample"]),
    (["sample"], ["MODEL"]),
    (["sample", "nope"], ["MODEL", "nope"]),
    (["sample", "points.npy"], ["MODEL", "folder"]),
    (["sample", "points", "--wrong"], ["--wrong"]),
    (["sample", "points", "-n", "0"], ["-n", "1"]),
    (["sample", "points", "--steps", "x"], ["--steps", "integer"]),
    (["sample", "points", "--steps", "3", "--calls", "4"], ["--calls", "one of them"]),
    (["sample", "points", "--calls", "1"], ["--calls", "at least 2"]),
    (["sample", "points", "--calls", "5", "--solver", "ode"], ["--calls", "rtol"]),
    (["sample", "points", "--solver", "dimm"], ["--solver", "ddim"]),
    (["sample", "points", "--grid", "karas"], ["--grid", "karras"]),
    (["sample", "points", "--grid", "knots"], ["--grid", "Table"]),
    (["sample", "points", "--option", "eta=1"], ["--option", "no options"]),
    (["sample", "points", "--solver", "ddim", "--option", "etta=1"], ["--option", "eta"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta"], ["--option", "key=value"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta=few"], ["--option", "number"]),
    (["sample", "points", "--solver", "ddim", "--option", "eta=3"], ["--option", "[0, 1]"]),
    (["sample", "points", "--device", "gpu"], ["--device", "cpu"]),
    (["sample", "points", "--device", "meta"], ["--device", "cpu"]),
    (["sample", "points", "--dtype", "float23"], ["--dtype", "float32"]),
    (["sample", "points", "--seed", "-1"], ["--seed"]),
    (["sample", "points", "--index", "99999999999"], ["indices"]),
    (["sample", "points", "--out", "points.npy"], ["--out", "points.npy"]),
    (["sample", "points", "--out", "points.npy/deep"], ["--out", "folder"]),
    (["sample", "points", "--shape", "3"], ["--shape", "(2,)"]),
    (["sample", "bare"], ["--shape", "1,8,8"]),
    (["sample", "bare", "--shape", "two"], ["--shape", "1,8,8"]),
    (["likelihood", "points"], ["DATA"]),
    (["likelihood", "points", "digts"], ["DATA", "digits"]),
    (["likelihood", "points", "digits"], ["DATA", "(2,)"]),
    (["likelihood", "points", "absent.npy"], ["DATA", "absent.npy"]),
    (["likelihood", "points", "points.npy", "--end", "nosied"], ["--end", "noised"]),
    (["likelihood", "points", "points.npy", "--prior", "ful"], ["--prior", "full"]),
    (["likelihood", "points", "empty.npy"], ["DATA", "empty.npy"]),
    (["likelihood", "points", "broken.npz"], ["DATA", "broken.npz"]),
    (
        ["likelihood", "points", "nan.npy", "--limit", "9", "--no-check", "--out", "nan"],
        ["nan.npy", "row 7", "--skip-bad"],
    ),
    (["likelihood", "points", "wide.npy"], ["DATA", "(3,)", "(2,)"]),
    (["likelihood", "points", "bytes.npy", "--levels", "4", "--range", "0,3"], ["bytes.npy", "[0, 3]"]),
    (["likelihood", "points", "bytes.npy", "--range", "3"], ["--range", "0,255"]),
    (["likelihood", "points", "bytes.npy", "--range", "5,1"], ["--range", "0,255"]),
    (["likelihood", "points", "points.npy", "--key", "a"], ["DATA", "key"]),
    (["likelihood", "pictures", "digits", "--split", "tets"], ["--split", "test"]),
    (["likelihood", "pictures", "digits", "--levels", "16"], ["--levels"]),
    (["likelihood", "points", "points.npy", "--trace", "exakt"], ["--trace", "exact"]),
    (["likelihood", "points", "points.npy", "--method", "RK54"], ["--method", "RK45"]),
    (["likelihood", "points", "points.npy", "--rtol", "nan"], ["--rtol", "1e-5"]),
    (["likelihood", "points", "points.npy", "--atol", "-1"], ["--atol", "1e-5"]),
    (["likelihood", "points", "points.npy", "--t0", "2"], ["--t0", "T=1.0"]),
    (["likelihood", "points", "points.npy", "--micro-batch", "0"], ["--micro-batch"]),
    (["likelihood", "points", "points.npy", "--out", "points.npy"], ["--out"]),
    (["bench", "--targets", "gmm46"], ["--targets", "gmm64"]),
    (["bench", "--targets", "ring", "--solvers", "hun"], ["--solvers", "heun"]),
    (["bench", "--targets", "ring", "--solvers", "ddim:eta"], ["--solvers", "key=value"]),
    (["bench", "--targets", "ring", "--calls", "few"], ["--calls", "5,10,20"]),
    (["bench", "--targets", "ring", "--calls", "0"], ["--calls", "5,10,20"]),
    (["bench", "--targets", "ring", "--samples", "5", "--out", "b"], ["samples=5", "at least 20"]),
    (["bench", "--targets", "ring", "--distances", "mdd"], ["--distances", "mmd"]),
    (["bench", "--targets", "ring", "--solvers", "heun", "--calls", "1", "--out", "b"], ["calls=1", "at least 3"]),
    (["bench", "--targets", "ring", "--out", "points.npy"], ["--out"]),
    (["conformance"], ["SOLVER"]),
    (["conformance", "huen"], ["SOLVER", "heun"]),
    (["conformance", "nowhere.at_all:Mine"], ["SOLVER", "nowhere"]),
    (["conformance", "plugin:Absent"], ["SOLVER", "Absent"]),
    (["conformance", "plugin:Needy"], ["SOLVER", "without arguments"]),
    (["conformance", "plugin:process"], ["SOLVER", "VP"]),
    (["conformance", "torn:Mine"], ["SOLVER", "SyntaxError"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda v: " ".join(v))
def test_bad_input_is_one_line_that_names_it(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("sdediff: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(run, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = run("sample", "points", "--out", tmp_path / "deep")
    tmp_path.chmod(0o700)
    assert code == 2
    assert "--out" in err
