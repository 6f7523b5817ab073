"""Likelihoods of data sets: jobs that can be interrupted at any moment, resumed, and shared by many processes."""

from sdediff.jobs.errors import JobError, Stopped
from sdediff.jobs.likelihood import likelihood_job
from sdediff.jobs.summary import Summary, paired

__all__ = ["JobError", "Stopped", "Summary", "likelihood_job", "paired"]
