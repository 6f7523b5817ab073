"""Likelihoods of data sets: a job that can be killed at any moment, resumed, and shared by many processes."""

from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.job import likelihood_job
from sdediff.jobs.summary import Summary, paired

__all__ = ["JobError", "Stopped", "Summary", "likelihood_job", "paired"]
