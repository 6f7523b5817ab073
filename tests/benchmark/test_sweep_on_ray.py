"""A sweep under Ray: the bytes of one process."""

import pytest

from tests.benchmark.small import tiny

pytestmark = [pytest.mark.extras, pytest.mark.slow]


def test_ray_gives_the_bytes_of_one_process(tmp_path):
    pytest.importorskip("ray")
    tiny(tmp_path / "one")
    tiny(tmp_path / "ray", engine="ray", workers=2)
    assert (tmp_path / "ray" / "cells.parquet").read_bytes() == (tmp_path / "one" / "cells.parquet").read_bytes()
