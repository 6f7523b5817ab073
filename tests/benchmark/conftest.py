"""One small sweep that the tests of this folder share."""

import pytest

from tests.benchmark.small import small


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "out"
    small(path)
    return path


@pytest.fixture(scope="session")
def report(folder):
    from sdediff.benchmark import Report

    return Report.load(folder)
