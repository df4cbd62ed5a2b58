"""What updates cost several learners, measured on tiny ones."""

from __future__ import annotations

import pytest

from impala_tf import config
from impala_tf.benchmark import learners, setup
from impala_tf.environments import task_set
from impala_tf.networks.agent import make_agent


def test_updates_and_their_sums_are_measured():
    resolved = setup.resolve(config.from_values({"env": "catch", "batch_size": 2, "unroll_length": 3}))
    result = learners.measure(resolved, 0.02, sizes=(1, 2))
    agent = make_agent(task_set.resolve(resolved.config.environment).spec, resolved.config)
    assert result["mb_per_sum"] == pytest.approx(
        4e-6 * sum(variable.shape.num_elements() for variable in agent.trainable_variables)
    )
    one, two = result["rows"]
    assert (one["learners"], two["learners"]) == (1, 2) and one["updates"] == two["updates"] >= 6
    assert one["sum_cpu_ms"] == one["sum_ms"] == 0
    assert two["sum_ms"] > 0 and all(row["update_ms"] > 0 and row["update_cpu_ms"] > 0 for row in result["rows"])
    assert len(learners.table(result).splitlines()) == 4
