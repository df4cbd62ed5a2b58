"""Memory: the rules, and that only the first observation shows the cue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.environments.memory import CUES, LONGEST, SHORTEST, MemoryEnvironment


@given(st.integers(0, 2**40), st.lists(st.integers(0, CUES - 1), min_size=30, max_size=60))
def test_the_rules(seed, actions):
    environment = MemoryEnvironment(1, seed)
    episode = [environment.reset().observation[0]]
    for action in actions:
        output = environment.step(np.array([action]))
        if output.terminated[0]:
            assert SHORTEST <= len(episode) <= LONGEST
            (cue,) = np.flatnonzero(episode[0])
            assert cue < CUES and episode[0][cue] == 1
            assert not np.any(episode[1:-1])
            np.testing.assert_array_equal(episode[-1], [0] * CUES + [1])
            assert output.reward[0] == output.episode_return[0] == (action == cue)
            assert output.episode_length[0] == len(episode)
            episode = []
        else:
            assert output.reward[0] == output.episode_length[0] == 0
        assert not output.truncated[0]
        episode.append(output.observation[0])


def test_one_who_remembers_is_always_right_and_one_who_does_not_is_at_chance():
    environment = MemoryEnvironment(200, seed=0)
    output, right, lengths = environment.reset(), [], []
    cue = np.zeros(200, int)
    for _ in range(200):
        shown = output.observation[:, :CUES].any(1)
        cue[shown] = output.observation[shown, :CUES].argmax(1)
        output = environment.step(cue)
        right.extend(output.episode_return[output.terminated])
        lengths.extend(output.episode_length[output.terminated])
    assert np.mean(right) == 1
    assert set(lengths) == set(range(SHORTEST, LONGEST + 1))
    constant = []
    for _ in range(400):
        output = environment.step(np.zeros(200))
        constant.extend(output.episode_return[output.terminated])
    assert np.mean(constant) == pytest.approx(1 / CUES, abs=0.02)


def test_seeds():
    a, b, c = (MemoryEnvironment(64, seed).reset().observation for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
