"""The recorded spans of real actors and a real learner show how the schemes wait."""

import collections
import itertools
import pathlib
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parents[2] / "paper_figures"))
import timeline

UNROLL_LENGTH, UPDATES, ACTORS = 3, 20, 2


def backward(start, end):
    return (timeline.LEARNER, timeline.BACKWARD, start, end)


def test_the_busiest_updates():
    steps = [("actor 0", timeline.ENVIRONMENT_STEP, t, t + 0.2) for t in (3.1, 3.9, 4.4, 4.7, 6.1)]
    updates = [backward(0, 1), backward(3, 4), backward(4.5, 5), backward(5.5, 6), backward(8, 9)]
    kept = timeline.busiest_updates(steps + updates, 2)  # From 4 to 6.
    times = [(start, end) for _, what, start, end in kept if what == timeline.ENVIRONMENT_STEP]
    assert np.allclose(times, [(-100, 100), (400, 600), (700, 900)])
    times = [(start, end) for _, what, start, end in kept if what == timeline.BACKWARD]
    assert np.allclose(times, [(500, 1000), (1500, 2000)])


@pytest.mark.slow(2)
@pytest.mark.parametrize("scheme", timeline.SCHEMES)
def test_who_waits_for_whom(scheme, monkeypatch):
    monkeypatch.setattr(timeline, "NUM_ACTORS", ACTORS)
    rows = timeline.record(scheme, timeline.settings("catch", UNROLL_LENGTH, 1), UPDATES)
    times = collections.defaultdict(list)
    for who, what, start, end in rows:
        assert start <= end
        times[who, what].append((start, end))
    updates = times[timeline.LEARNER, timeline.BACKWARD]
    steps = [times[f"actor {i}", timeline.ENVIRONMENT_STEP] for i in range(ACTORS)]
    assert len(updates) == UPDATES
    assert sum(map(len, steps)) >= UPDATES * UNROLL_LENGTH * ACTORS  # IMPALA's actors need not take as many each.

    if scheme == timeline.SYNC_STEP:
        forward = times[timeline.LEARNER, timeline.FORWARD]
        assert len(forward) == UPDATES * UNROLL_LENGTH == len(steps[0]) == len(steps[1])
        for t, (before, after) in enumerate(itertools.pairwise(forward)):
            for its in steps:
                assert before[1] <= its[t][0] and its[t][1] <= after[0]
    elif scheme == timeline.SYNC_TRAJECTORY:
        for k, update in enumerate(updates):
            for its in steps:
                assert its[UNROLL_LENGTH * (k + 1) - 1][1] <= update[0]
                assert all(update[1] <= start for start, _ in its[UNROLL_LENGTH * (k + 1) :])
    else:
        pairs = itertools.product(updates, itertools.chain(*steps))
        assert any(step[0] < update[1] and update[0] < step[1] for update, step in pairs)
