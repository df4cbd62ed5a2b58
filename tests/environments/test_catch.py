"""Catch: the rules, on every board and with any actions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impala_tf.environments.catch import CatchEnvironment


def places(board: np.ndarray) -> tuple[int, int, int]:
    """Returns row and column of the ball and column of the paddle while the ball is falling."""
    (row, ball), (last_row, paddle) = np.argwhere(board)
    assert last_row == 9 and row < 9 and set(np.unique(board)) == {0, 1}
    return row, ball, paddle


@given(st.integers(0, 2**40), st.lists(st.integers(0, 2), min_size=9, max_size=40))
def test_the_rules(seed: int, actions: list[int]):
    environment = CatchEnvironment(1, seed)
    row, ball, paddle = places(environment.reset().observation[0])
    assert (row, paddle) == (0, 2)
    for t, action in enumerate(actions, 1):
        output = environment.step(np.array([action]))
        paddle = min(max(paddle + action - 1, 0), 4)
        ended = t % 9 == 0
        reward = (1 if paddle == ball else -1) if ended else 0
        assert output.reward[0] == reward and output.episode_return[0] == reward
        assert output.terminated[0] == ended and output.episode_length[0] == (9 if ended else 0)
        assert not output.truncated[0]
        place = places(output.observation[0])
        if ended:
            assert (place[0], place[2]) == (0, 2)  # The next episode's first board.
            _, ball, paddle = place
        else:
            assert place == (t % 9, ball, paddle)


def test_the_best_play_always_catches_and_random_play_rarely():
    environment = CatchEnvironment(100, seed=0)
    output, returns = environment.reset(), []
    for _ in range(90):
        ball = output.observation[:, :9].sum(1).argmax(-1)
        paddle = output.observation[:, 9].argmax(-1)
        output = environment.step(1 + np.sign(ball - paddle))
        returns.extend(output.episode_return[output.terminated])
    assert np.mean(returns) == 1 and len(returns) == 1000

    random, returns = np.random.default_rng(0), []
    for _ in range(90):
        output = environment.step(random.integers(3, size=100))
        returns.extend(output.episode_return[output.terminated])
    assert np.mean(returns) == pytest.approx(-0.6, abs=0.1)


def test_seeds_and_types():
    a, b, c = (CatchEnvironment(64, seed).reset() for seed in (0, 0, 1))
    np.testing.assert_array_equal(a.observation, b.observation)
    assert (a.observation != c.observation).any()
    assert (a.observation[:, 0].sum(0) > 0).all()  # Every column is some ball's.
    assert a.observation.shape == (64, 10, 5) and a.observation.dtype == np.float32
    kinds = [x.dtype.name for x in a[1:]]
    assert kinds == ["float32", "bool", "bool", "float32", "int32"]
    environment = CatchEnvironment(64, 0)
    environment.reset()
    assert [x.dtype.name for x in environment.step(np.ones(64))[1:]] == kinds
    with pytest.raises(ValueError, match="actions"):
        environment.step(np.full(64, 3))
