"""Likelihoods of data sets: a job that can be killed at any moment, resumed, and shared by many processes."""

from sdediff.likelihood.job.errors import JobError, Stopped
from sdediff.likelihood.job.job import likelihood_job
from sdediff.likelihood.job.summary import Summary, paired

__all__ = ["JobError", "Stopped", "Summary", "likelihood_job", "paired"]
