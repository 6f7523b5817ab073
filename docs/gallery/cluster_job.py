"""
A cluster job
=============

Likelihoods of a data set, or many samples, are computed in shards: pieces that are written
whole, hashed, and skipped when the job is started again. This page cuts one job into parts as a
batch system would, loses one of them, and joins the result, which is the same to the byte as
that of one process.
"""

# %%
import hashlib
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pyarrow.parquet as pq

import sdediff as sd

folder = Path(tempfile.mkdtemp())
settings = {
    "limit": 24,
    "shard": 4,
    "micro_batch": 4,
    "rtol": 3e-2,
    "atol": 3e-2,
    "probes": 2,
    "draws": 1,
}
digits = sd.data("digits")

# %%
# What would it take?
# -------------------
# ``estimate`` computes one micro-batch and says what the whole would cost.

work = sd.jobs.samples_work("digits-vp", samples=50_000, calls=20)
found = sd.jobs.estimate(work, micro_batch=16, slots=8)
print(f"{found.units} samples in micro-batches of {found.micro_batch}, by eight processes")

# %%
# Parts
# -----
# On SLURM each element of an array runs one part, ``sdediff likelihood MODEL DATA --out scores
# --part $SLURM_ARRAY_TASK_ID/3``; the parts need a folder that all can see, and nothing else.
# Part i computes the shards whose number is i modulo 3. Here they run one after the other, and
# part 2 is lost at first.

for part in ("0/3", "1/3"):
    sd.likelihood_job("digits-vp", digits, folder / "parts", part=part, **settings)
status = sd.jobs.job_status(folder / "parts")
print(f"{status.shards_done} of {status.shards} shards are done")

# %%
# The lost part is run again alone. The part that ends last writes the result.

summary = sd.likelihood_job("digits-vp", digits, folder / "parts", part="2/3", **settings)
bits, error = summary.bits_per_dim, summary.bits_per_dim_std_error
print(f"{bits:.2f} +- {error:.2f} bits/dim of {summary.samples} digits")

# %%
# The same in one process, to the byte
# ------------------------------------

sd.likelihood_job("digits-vp", digits, folder / "whole", **settings)
hashes = {
    name: hashlib.sha256((folder / name / "likelihood.parquet").read_bytes()).hexdigest()[:16]
    for name in ("parts", "whole")
}
print(hashes["parts"] == hashes["whole"])

# %%
# What is written
# ---------------
# A row a sample with its errors, a summary, a report as a page, the manifest of what defines
# the job, and the journal of its shards.

print(", ".join(sorted(path.name for path in (folder / "whole").iterdir())))
rows = pq.read_table(folder / "whole" / "likelihood.parquet")
print(rows.column_names)

# %%

bits = rows["bits_per_dim"].to_numpy()
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.hist(bits, bins=12)
axis.axvline(bits.mean(), color="C1", label=f"mean {bits.mean():.2f}")
axis.set(xlabel="bits/dim", ylabel="digits", title="24 digits, scored in parts")
axis.legend(frameon=False)
plt.show()

# %%
# A job that differs is refused
# -----------------------------
# The manifest holds hashes of data and weights, settings and versions. Another tolerance in the
# same folder is another job:

try:
    sd.likelihood_job("digits-vp", digits, folder / "whole", **{**settings, "rtol": 1e-2})
except sd.Error as error:
    print(str(error).removeprefix(f"{folder}/"))

# %%
# Worker processes (``workers=4``), Ray (``engine="ray"``) and torchrun run the same job:
# :doc:`/jobs`, with the arithmetic of a billion rows on a thousand GPUs.
