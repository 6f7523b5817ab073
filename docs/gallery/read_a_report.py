"""
Read a benchmark report
=======================

:func:`sdediff.bench` compares solvers for quality and speed on one network, from the same
starts. This page runs a small sweep, and says what each number of its report means and what it
does not.
"""

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import sdediff as sd
from sdediff.benchmark import compare

folder = Path(tempfile.mkdtemp())
solvers = ["ddim", "heun", "dpmpp_2m", "ancestral", "dpmpp_2m_sde"]
options = {
    "targets": ["gmm64"],
    "solvers": solvers,
    "calls": (11, 21),
    "samples": 64,
    "distances": ["energy"],
}
report = sd.bench(seeds=3, out=folder / "bench", **options)
report

# %%
# One row
# -------
# A row is one solver at one number of network evaluations, the mean over three seeds with its
# standard error.
#
# - ``error`` is the distance to the end of the exact flow from the same start: what the
#   *solver* adds. A stochastic solver has none, since it does not follow the flow.
# - ``energy`` is a distance between the samples and true data. It holds the network's error as
#   well as the solver's. The first row is real data in place of samples: no solver can be seen
#   to be better than that at so many samples.
# - ``ratio`` is the time over the time inside the network: what the solver itself costs.

for row in report.rows:
    error, energy = row.quality.get("error_median", "-"), row.quality["energy"]
    print(f"{row.label:14} {row.calls or '':>3} {error!s:>20} {energy!s:>18}")

# %%
# Error and distance
# ------------------
# The same rows drawn. Differences of the distance that lie within the standard errors are no
# differences.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for name in solvers:
    rows = [row for row in report.rows if row.solver == name]
    if rows[0].error is not None:
        left.loglog([row.calls for row in rows], [row.error for row in rows], "o-", label=name)
    energies = [row.quality["energy"] for row in rows]
    values, errors = zip(*((e.value, e.std_error) for e in energies), strict=True)
    right.errorbar([row.calls for row in rows], values, errors, marker="o", label=name)
real = next(row for row in report.rows if row.real).quality["energy"]
right.axhline(real.value, color="gray", lw=1, label="real data")
for axis in (left, right):
    axis.set_xticks((11, 21), ["11", "21"])
    axis.minorticks_off()
left.set(xlabel="network evaluations", title="error against the exact flow")
right.set(xlabel="network evaluations", title="energy distance to the data")
left.legend(frameon=False)
right.legend(frameon=False, fontsize=8)
plt.show()

# %%
# Two reports compared
# --------------------
# Is one result better than another, or is it noise? ``compare`` pairs the seeds and corrects
# for the number of comparisons. The same sweep repeated gives the same numbers; with fewer
# evaluations for one solver it would say which rows are worse, and ``sdediff compare`` would
# end with exit code 1.

again = sd.bench(seeds=3, **options)
print(compare(report, again))

# %%
# What is kept
# ------------
# The folder holds the cells, the times, the machine and the versions; ``Report.load`` reads it
# again, and ``sdediff compare`` takes two folders. ``report.page("report.html")`` writes a page
# to sort, filter and hover over.

print(sd.benchmark.Report.load(folder / "bench"))
print(", ".join(sorted(path.name for path in (folder / "bench").iterdir())))

# %%
# :doc:`/benchmark` has all columns, budgets of time, and how a sweep is cut into parts.
