"""The projection against numbers computed by hand."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from impala_tf.benchmark import projection
from impala_tf.benchmark.projection import Cluster

ROOT = pathlib.Path(__file__).parents[2]
COSTS = {
    "frames_per_unroll": 80,
    "batch_size": 32,
    "envs_per_actor": 10,
    "environment_core_us_per_frame": 150.0,
    "inference_core_us_per_frame": 40.0,
    "update_core_us_per_frame": 60.0,
    "unroll_host_cpu_ms": 1.0,
    "unroll_actor_cpu_ms": 0.4,
    "bytes_per_unroll": 10_000.0,
    "publish_cpu_ms": 8.0,
    "pull_host_cpu_ms": 2.0,
    "pull_actor_cpu_ms": 4.0,
    "bytes_per_pull": 2_000_000.0,
    "pass_on_cpu_ms": 10.0,
}
DIRECT = Cluster(
    frames_per_second=256_000,
    learners=2,
    batch_size=32,
    envs_per_actor=10,
    cores_per_machine=16,
    relay_rate=0.0,
    all_reduce_ms_per_mb=3.0,
)
CORES = 256_000 * (150 + 40 + 5 + 5) * 1e-6  # The writer's 0.4 ms per 80 frames, a pull's 4 ms per 800 frames.


def test_two_learners_from_which_actors_pull():
    needs = projection.project(COSTS, DIRECT)
    expected = {
        **dataclasses.asdict(DIRECT),
        "unrolls_per_second": 3200,
        "updates_per_second": 50,  # Of the group: each takes 2 x 32 unrolls.
        "ms_per_update": 20,
        "all_reduce_cpu_ms_per_update": 6,
        "actor_cores": CORES,  # 51.2
        "actor_machines": 4,
        "update_cores": 15.36,
        "intake_cores_per_learner": 1.6,
        "serving_cores_per_learner": 0.32,  # 320 pulls a second, shared by two.
        "publishing_cores_per_learner": 0.4,
        "all_reduce_cores_per_learner": 0.3,
        "cores_per_learner": 2.62,
        "relays": 0,
        "cores_per_relay": 0,
        "mb_per_second_into_learner": 16 + 100,  # A ring of two sends the 2 MB once each way.
        "mb_per_second_out_of_learner": 320 + 100,
        "policy_lag_about": 50 * CORES / 320,
    }
    assert needs == pytest.approx(expected)


def test_relays_take_the_pulls():
    needs = projection.project(COSTS, dataclasses.replace(DIRECT, relay_rate=10.0))
    assert needs["relays"] == 4
    assert needs["serving_cores_per_learner"] == pytest.approx(4 * 10 / 2 * 0.002)
    assert needs["mb_per_second_out_of_learner"] == pytest.approx(4 * 10 / 2 * 2 + 100)
    assert needs["cores_per_relay"] == pytest.approx(10 * 0.010 + 320 / 4 * 0.002)
    assert needs["policy_lag_about"] == pytest.approx(50 * CORES / 320 + 5)


def test_a_relay_does_not_pull_more_often_than_is_published():
    needs = projection.project(COSTS, dataclasses.replace(DIRECT, relay_rate=200.0))
    assert needs["cores_per_relay"] == pytest.approx(50 * 0.010 + 320 / 4 * 0.002)


def test_a_learner_alone_exchanges_no_gradients():
    needs = projection.project(COSTS, dataclasses.replace(DIRECT, learners=1))
    assert needs["all_reduce_cpu_ms_per_update"] == needs["all_reduce_cores_per_learner"] == 0
    assert needs["mb_per_second_into_learner"] == pytest.approx(32)


def test_layouts_are_compared_with_and_without_relays():
    rows = projection.compare(COSTS, dataclasses.replace(DIRECT, relay_rate=5.0), [1, 4])
    assert [(row["learners"], row["relay_rate"]) for row in rows] == [(1, 0), (1, 5), (4, 0), (4, 5)]
    lines = projection.table(rows).splitlines()
    assert len(lines) == len(rows[0])
    assert lines[1].split() == ["learners", "1", "1", "4", "4"]


def _command(*flags):
    arguments = [sys.executable, "-m", "run.projection", *flags]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_command_reads_costs_and_writes_rows(tmp_path):
    costs, output = tmp_path / "costs.json", tmp_path / "rows.json"
    costs.write_text(json.dumps({"constants": COSTS}))
    flags = ("--num_learners=2", "--frames_per_second=256000", "--cores_per_machine=16", "--all_reduce_ms_per_mb=3")
    done = _command(f"--costs={costs}", f"--output={output}", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    direct, relayed = json.loads(output.read_text())["rows"]
    assert direct == pytest.approx(projection.project(COSTS, DIRECT))
    assert relayed["relay_rate"] == 10
    assert "actor_cores        51.2" in done.stdout


def test_the_command_refuses_what_it_cannot_read(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    done = _command(f"--costs={tmp_path / 'other.json'}")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: --costs=") and done.stderr.count("\n") == 1
