"""Counting: intact unrolls pass the check, and any damage to the data is found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from impala_tf.environments.counting import CountingEnvironment, TornUnroll, check_unroll, episode_lengths


class Unroll(NamedTuple):
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


def play(steps: int, num_envs: int = 3, seed: int = 0, tag: int | None = None) -> tuple[Unroll, np.ndarray, np.ndarray]:
    """Returns steps + 1 entries of each instance, [steps + 1, B, ...], with episode returns and lengths."""
    environment = CountingEnvironment(num_envs, seed, tag=tag)
    random, action = np.random.default_rng(seed), np.zeros(num_envs, np.int32)
    entries, output = [], environment.reset()
    for _ in range(steps + 1):
        entries.append((output.observation, action, *output[1:]))
        action = random.integers(8, size=num_envs).astype(np.int32)
        output = environment.step(action)
    *unroll, returns, lengths = (np.stack(column) for column in zip(*entries, strict=True))
    return Unroll(*unroll), returns, lengths


RECORDING = play(80, tag=7)[0]


def cut(unroll: Unroll, start: int, stop: int, instance: int) -> Unroll:
    return Unroll(*(x[start:stop, instance].copy() for x in unroll))


@settings(deadline=None, max_examples=50)
@given(tag=st.integers(0, 2**31 - 1), start=st.integers(0, 50), length=st.integers(0, 30))
def test_every_intact_unroll_passes(tag: int, start: int, length: int):
    unroll, _, _ = play(80, tag=tag)
    for instance in range(3):
        check_unroll(*cut(unroll, start, start + length + 1, instance))


def test_the_check_passes_where_the_exact_rewards_wrap_around():
    check_unroll(*cut(play(1100)[0], 1000, 1101, 0))


def test_returns_and_lengths_are_those_of_the_episodes():
    unroll, returns, lengths = play(200)
    ended = unroll.terminated | unroll.truncated
    assert not (unroll.terminated & unroll.truncated).any()
    assert unroll.terminated.sum() > 10 and unroll.truncated.sum() > 10
    np.testing.assert_array_equal(lengths > 0, ended)
    for instance in range(3):
        ends = np.flatnonzero(ended[:, instance])
        for episode, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            assert returns[end, instance] == unroll.reward[start + 1 : end + 1, instance].sum()
            instance_id = unroll.observation[end, instance, 0]
            assert lengths[end, instance] == end - start == episode_lengths(instance_id, np.array(episode))
            assert unroll.truncated[end, instance] == episode % 2


def test_an_independent_account_of_the_rewards():
    unroll, _, _ = play(100)
    np.testing.assert_array_equal(unroll.reward[1:], np.arange(1, 101)[:, None] + unroll.action[1:] * 0.125)
    assert not unroll.reward[0].any()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_every_damage_is_found(data):
    """Entries are lost, doubled or swapped, or an array is shifted or taken from another instance."""
    start, t = data.draw(st.integers(1, 50)), data.draw(st.integers(0, 19))
    good = cut(RECORDING, start, start + 21, 0)
    damage = data.draw(st.sampled_from(["lost", "doubled", "swapped", "shifted", "mixed"]))
    field = data.draw(st.sampled_from(Unroll._fields))
    if damage == "lost":
        bad = Unroll(*(np.delete(x, t if t > 0 else 1, axis=0) for x in good))
    elif damage == "doubled":
        bad = Unroll(*(np.insert(x, t, x[t], axis=0) for x in good))
    elif damage == "swapped":
        order = np.arange(21)
        order[[t, t + 1]] = t + 1, t
        bad = Unroll(*(x[order] for x in good))
    elif damage == "shifted":
        bad = good._replace(**{field: getattr(cut(RECORDING, start - 1, start + 20, 0), field)})
    else:
        bad = good._replace(**{field: getattr(cut(RECORDING, start, start + 21, 1), field)})
    with pytest.raises(TornUnroll, match=r"entry \d+: "):
        check_unroll(*bad)


@pytest.mark.parametrize("field", Unroll._fields)
def test_every_single_change_is_found(field: str):
    for place in np.ndindex(getattr(cut(RECORDING, 5, 26, 0), field).shape):
        bad = cut(RECORDING, 5, 26, 0)
        array = getattr(bad, field)
        array[place] = ~array[place] if array.dtype == bool else array[place] + 1
        with pytest.raises(TornUnroll, match=r"entry \d+: "):
            check_unroll(*bad)


def test_a_gap_of_whole_episodes_is_found():
    bad = cut(RECORDING, 5, 26, 0)
    bad.observation[10:, 1] += 1024
    with pytest.raises(TornUnroll, match="entry 10: step counter is 1039, should be 15"):
        check_unroll(*bad)


def test_the_message_says_where_and_what():
    unroll = cut(play(40)[0], 5, 26, 0)
    unroll.action[7] = (unroll.action[7] + 1) % 8
    with pytest.raises(TornUnroll, match=r"entry 7: reward is .*, should be "):
        check_unroll(*unroll)
    with pytest.raises(TornUnroll, match="shapes"):
        check_unroll(*unroll._replace(reward=unroll.reward[1:]))


def test_instance_ids():
    def ids(seed: int, tag: int | None = None) -> set[int]:
        return set(CountingEnvironment(50, seed, tag=tag).reset().observation[:, 0].tolist())

    assert ids(0, tag=7) == ids(0, tag=7)
    distinct = [ids(0, tag=7), ids(1, tag=7), ids(0, tag=8), ids(0), ids(0)]
    assert len(set.union(*distinct)) == 250
    assert min(set.union(*distinct)) >= 0
