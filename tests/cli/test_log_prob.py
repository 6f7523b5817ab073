"""`sdediff sample --log-prob steps`: densities beside the samples."""

from __future__ import annotations

import numpy as np
import pytest

import sdediff as sd


def test_densities_times_and_states_are_written_beside_the_samples(run, tmp_path):
    code, _, err = run(
        *("sample", "digits-vp", "--solver", "ancestral", "--steps", 3, "-n", 2, "--log-prob", "steps"),
        *("--out", tmp_path),
    )
    assert (code, err) == (0, "")
    written = np.load(tmp_path / "samples.npz")
    record = sd.sample("digits-vp", (2, 1, 8, 8), solver="ancestral", steps=3, log_prob="steps")
    assert set(written) == {"x", "log_prob", "times", "trajectory"}
    np.testing.assert_array_equal(written["log_prob"], record.log_prob.numpy())
    np.testing.assert_array_equal(written["trajectory"], record.trajectory.numpy())
    np.testing.assert_array_equal(written["times"], record.times.numpy())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--log-prob", "steps"], "it is deterministic: take ancestral"),
        (["--log-prob", "step", "--solver", "ancestral"], "write steps"),
        (["--log-prob", "steps", "--solver", "ancestral", "-n", 300], "a job keeps no paths"),
    ],
)
def test_what_has_none_is_refused_in_one_line(run, tmp_path, options, words):
    code, _, err = run("sample", "digits-vp", "--steps", 2, "--out", tmp_path, *options)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("sdediff: --log-prob: ")
    assert words in err
