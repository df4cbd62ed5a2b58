"""Simulated actors and a real server."""

import pytest

from impala_tf import config
from impala_tf.benchmark import scaling, setup

SETUP = setup.resolve(config.from_values({"env": "catch", "batch_size": 8, "envs_per_actor": 8}))


@pytest.mark.slow(7)
@pytest.mark.parametrize("updates", [False, True])
def test_a_learner_that_keeps_up_takes_all_unrolls_of_the_simulated_actors(updates):
    row = scaling.simulated(SETUP, num_actors=5, rate=80.0, updates=updates, seconds=4.0)
    assert row["unrolls_per_second"] == pytest.approx(80.0, rel=0.2)
    assert row["frames_per_second"] == pytest.approx(20 * row["unrolls_per_second"])
    assert 0.05 < row["host_cpu_ms_per_unroll"] < 12.5
    assert row["bytes_per_unroll"] > 1000


def test_a_full_queue_takes_memory():
    small, large = (scaling.queue_memory(SETUP, size) for size in (16, 2000))
    assert small["mib"] < large["mib"]
    assert 500 < large["bytes_per_unroll"] < 50_000
