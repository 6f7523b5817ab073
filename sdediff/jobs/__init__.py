"""Long work in shards: likelihoods of data sets and samples, interrupted at any moment, resumed, shared, verified."""

from sdediff.jobs.engines import Engine, Local
from sdediff.jobs.errors import InputChanged, JobError, Stopped
from sdediff.jobs.likelihood import likelihood_job, likelihood_work
from sdediff.jobs.overview import JobStatus, job_status, merge_jobs, verify_job
from sdediff.jobs.part import Part
from sdediff.jobs.planning import Estimate, estimate
from sdediff.jobs.processes import Workers
from sdediff.jobs.running import Outcome, run
from sdediff.jobs.samples import Samples, sample_job, samples_work
from sdediff.jobs.summary import Summary, paired
from sdediff.jobs.work import Batch, Recipe, Taken, Work

__all__ = [
    "Batch",
    "Engine",
    "Estimate",
    "InputChanged",
    "JobError",
    "JobStatus",
    "Local",
    "Outcome",
    "Part",
    "Recipe",
    "Samples",
    "Stopped",
    "Summary",
    "Taken",
    "Work",
    "Workers",
    "estimate",
    "job_status",
    "likelihood_job",
    "likelihood_work",
    "merge_jobs",
    "paired",
    "run",
    "sample_job",
    "samples_work",
    "verify_job",
]
