"""The parts that are measured, where their processes start others."""

from __future__ import annotations

import pytest

from impala_tf import config
from impala_tf.benchmark import parts, setup
from impala_tf.benchmark.measure import Bench


def test_environments_that_need_processes_of_their_own():
    pytest.importorskip("vizdoom")
    resolved = setup.resolve(config.from_values({"env": "vizdoom/Basic", "num_actors": 1, "envs_per_actor": 1}))
    with Bench(parts.environment, resolved, 0) as bench:
        bench.wait_until_ready(120)
        bench.begin(0.2)
        measured = bench.end(30)
    assert measured.frames >= 4 and measured.frames % 4 == 0
