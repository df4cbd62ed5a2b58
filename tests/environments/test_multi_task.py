"""Several tasks in one batch: which rows belong to which task, and what a failing task does to them."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import tree

from impala_tf import environments
from impala_tf.acting.unrolls import Unrolls
from impala_tf.environments.catch import CatchEnvironment
from impala_tf.environments.counting import CountingEnvironment, check_unroll
from impala_tf.environments.multi_task import MultiTaskEnvironment
from impala_tf.errors import UserError

NAMES = ["fine", "broken", "also fine"]
TASK_IDS = np.array([0, 0, 1, 2, 2, 2])
UNROLL_LENGTH = 4


class _Breaks(CountingEnvironment):
    """Raises at certain steps, counted over all instances of the class, and cannot be made at certain attempts."""

    def __init__(self, num_envs, seed, steps, attempts, at_start):
        if next(attempts) in at_start:
            raise OSError("no level\ncache")
        super().__init__(num_envs, seed)
        self._steps, self.closed = steps, False

    def step(self, actions):
        if next(self._steps) in (7, 8, 30):
            raise RuntimeError("the engine stopped")
        return super().step(actions)

    def close(self):
        self.closed = True


def _environment(at_start=()):
    steps, attempts, made = itertools.count(), itertools.count(), []

    def make_task(task, num_envs, times_before):
        seed = 10 * task + times_before
        broken = NAMES[task] == "broken"
        args = (steps, attempts, at_start) if broken else ()
        made.append((_Breaks if broken else CountingEnvironment)(num_envs, seed, *args))
        return made[-1]

    return MultiTaskEnvironment(CountingEnvironment.spec, NAMES, TASK_IDS, make_task), made


def test_a_failing_task_is_named_and_started_again_and_the_others_go_on(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    environment, made = _environment(at_start=(2,))
    unrolls = Unrolls(environment.spec, (), environment.num_envs, UNROLL_LENGTH, environment.task_ids)
    unrolls.begin(environment.reset(), ())
    rng, by_instance, idle = np.random.default_rng(0), {}, 0
    for step in range(400):
        now[0] += 0.125
        action = rng.integers(0, 8, environment.num_envs)
        output = environment.step(action)
        idle += output.episode_length[2] < 0
        assert (output.episode_length[TASK_IDS != 1] >= 0).all()
        unrolls.append(output, action, np.zeros((6, 8), np.float32), step)
        if unrolls.finished:
            for unroll in unrolls.take(()):
                unroll = tree.map_structure(np.array, unroll)
                if unroll.observation[0, 1] == 0:
                    unroll.truncated[0] = False  # Set where it has just been started again.
                check_unroll(unroll.observation, unroll.action, unroll.reward, unroll.terminated, unroll.truncated)
                by_instance.setdefault((int(unroll.task_id), int(unroll.observation[0, 0])), []).append(unroll)
    tasks = sorted(task for task, _ in by_instance)
    assert tasks == [0, 0, 1, 1, 1, 2, 2, 2]  # Of its four lives one was too short for an unroll.
    for (task, _), its in by_instance.items():
        for earlier, later in itertools.pairwise(its):
            np.testing.assert_array_equal(earlier.observation[-1], later.observation[0])
        if task != 1:
            assert len(its) == 400 // UNROLL_LENGTH
    assert caplog.messages == [
        "task broken failed (RuntimeError: the engine stopped); starting it again in 0.5 s",
        "task broken has been started again",
        "task broken failed (RuntimeError: the engine stopped); starting it again in 1 s",
        "task broken failed (OSError: no level cache); starting it again in 2 s",
        "task broken has been started again",
        "task broken failed (RuntimeError: the engine stopped); starting it again in 4 s",
        "task broken has been started again",
    ]
    assert idle == round((0.5 + 1 + 2 + 4) / 0.125) + 3  # The waits, and each time the entry that starts again.
    broken = [made_ for made_ in made if isinstance(made_, _Breaks)]
    assert [made_.closed for made_ in broken] == [True, True, True, False]


def test_a_task_that_cannot_be_made_at_first_is_tried_again(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    environment, _ = _environment(at_start=(0,))
    assert caplog.messages == ["task broken failed (OSError: no level cache); starting it again in 0.5 s"]
    assert list(environment.reset().episode_length) == [0, 0, -1, 0, 0, 0]
    now[0] += 0.5
    assert list(environment.step(np.zeros(6)).observation[:, 1]) == [1, 1, 0, 1, 1, 1]
    assert caplog.messages[1:] == ["task broken has been started again"]
    assert not environment.step(np.zeros(6)).episode_length.any()


def test_unrolls_of_several_tasks_can_all_fail(caplog):
    """While every task is down, steps do not spin."""

    class Gone(CountingEnvironment):
        def step(self, actions):
            raise RuntimeError("gone")

    environment = MultiTaskEnvironment(
        CountingEnvironment.spec,
        ["a", "b"],
        np.array([0, 1]),
        lambda task, num_envs, before: Gone(num_envs, 0),
    )
    environment.reset()
    start = time.monotonic()
    for _ in range(4):
        output = environment.step(np.zeros(2))
        assert (output.episode_length == -1).all() and output.truncated.all() and not output.terminated.any()
    assert time.monotonic() - start >= 0.4 and len(caplog.messages) == 2


def test_rows_are_in_the_order_of_the_tasks():
    """Each row comes from its own task's environment, which gets its own actions."""
    parts = [environments.make("counting", 2, seed=task) for task in range(3)]
    environment = MultiTaskEnvironment(
        CountingEnvironment.spec,
        ["a", "b", "c"],
        np.array([0, 0, 1, 1, 2, 2]),
        lambda task, num_envs, before: parts[task],
    )
    first = environment.reset()
    assert len(set(first.observation[:, 0])) == 6
    assert np.ptp(first.observation[:2, 0]) == np.ptp(first.observation[2:4, 0]) == 1
    reward = environment.step(np.arange(6)).reward
    np.testing.assert_array_equal(reward, 1 + np.arange(6) / 8)


def test_tasks_that_look_different_cannot_share_a_network():
    closed = []

    def make_task(task, num_envs, before):
        environment = (CountingEnvironment if task == 0 else CatchEnvironment)(num_envs, 0)
        environment.close = lambda: closed.append(task)
        return environment

    with pytest.raises(
        UserError, match=r"catch cannot share one network .*: its observation is float32 \[10, 5\], theirs int32"
    ):
        MultiTaskEnvironment(CountingEnvironment.spec, ["counting", "catch"], np.array([0, 1]), make_task)
    assert closed == [1, 0]


def test_skiing_takes_all_actions_and_leaves_out_fire():
    """Its nine legal actions are those without FIRE; with FIRE they do the same."""
    skiing = [environments.make("atari/skiing", 1, 3, full_action_set=True, env_threads=1) for _ in range(2)]
    assert skiing[0].spec.num_actions == 18
    for environment in skiing:
        environment.reset()
    # RIGHT and DOWNLEFT, in the console's order of actions; with FIRE in the other one.
    for plain, with_fire in [(3, 11), (0, 1), (9, 17), (4, 12)] * 15:
        one, other = skiing[0].step([plain]), skiing[1].step([with_fire])
        np.testing.assert_array_equal(one.observation, other.observation)
    left, right = (environments.make("atari/skiing", 1, 3, full_action_set=True, env_threads=1) for _ in range(2))
    for environment in (left, right):
        environment.reset()
    for _ in range(30):
        one, other = left.step([4]), right.step([11])
    assert (one.observation != other.observation).any()
