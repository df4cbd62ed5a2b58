"""impala-benchmark, run as a command."""

from __future__ import annotations

import json

import pytest

BENCHMARK = ("-m", "run.benchmark")


def test_errors(start, error_of, tmp_path):
    cases = [
        (["--env=cach"], "did you mean catch"),
        (["--env=catch", "--repeats=0"], "--repeats"),
        (["--env=catch", "--table", "--inference=central"], "remove --inference=central"),
        (["--env=catch", f"--output={tmp_path}/missing/benchmark.json"], "--output="),
    ]
    for started, message in [(start(*flags, command=BENCHMARK), message) for flags, message in cases]:
        assert message in error_of(started, 10)


@pytest.mark.slow(15)
def test_numbers_are_consistent(start, tmp_path):
    output = tmp_path / "benchmark.json"
    flags = ("--env=catch", "--num_actors=1", "--seconds=0.3", "--repeats=1", f"--output={output}")
    run = start(*flags, command=BENCHMARK)
    assert run.finish(150) == 0, run.describe()
    assert run.err == "", run.describe()
    run.wait_until_gone()

    result = json.loads(output.read_text())
    results = {name: spread["median"] for name, spread in result["results"].items()}
    assert all(value > 0 for value in results.values()), results
    parts = [results[f"{part}_core_us_per_frame"] for part in ("environment", "inference", "learner")]
    if result["device"] == "CPU":
        assert results["limit_frames_per_second"] == pytest.approx(1e6 * result["cores"] / sum(parts))
    whole = results["whole_frames_per_second"]
    assert results["efficiency"] == pytest.approx(whole / results["limit_frames_per_second"])
    assert results["ratio_to_environment"] == pytest.approx(whole / results["environment_frames_per_second"])
    assert set(result["whole"]["cpu_seconds_per_1000_frames"]) == {"learner", "actor 0"}
    assert {"variables", "inference", "environment", "writer", "queue"} <= set(result["whole"]["actor_shares"])
    assert results["bytes_per_frame"] > 5  # No upper bound: the loopback device also carries the other tests' traffic.
    assert "efficiency (whole / limit)" in run.out
    assert (
        "learner" in run.out and "learner ready" not in run.out and "importing" not in run.out
    )  # The run's own lines.
