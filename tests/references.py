"""Reference flows that the tests of many solvers share."""

from __future__ import annotations

import functools

import sdediff as sd
from sdediff.testing import ReferenceFlow


@functools.cache
def reference(sde: sd.LinearSDE) -> ReferenceFlow:
    """The reference flow under this process, computed once in a test run."""
    return ReferenceFlow.of(sde)
