"""Episodes of a saved policy, compared with a simple loop over one environment and the agent itself."""

import contextlib
import logging
import multiprocessing
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf import environments
from impala_tf.environments import task_set
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.evaluation import episodes
from impala_tf.evaluation.episodes import Episode
from impala_tf.export.exporter import Exporter
from impala_tf.export.saved_model import SavedPolicy
from impala_tf.networks.agent import Agent, make_agent
from impala_tf.structures import AgentInput


def run_of_memory():
    """Settings and tasks."""
    config = config_lib.from_values({"env": "memory", "core": "lstm"})
    return config, task_set.resolve(config.environment)


@pytest.fixture(scope="module")
def memory(tmp_path_factory) -> tuple[Agent, SavedPolicy]:
    """A recurrent agent whose core state makes a difference, and its SavedModel."""
    config, tasks = run_of_memory()
    agent = make_agent(tasks.spec, config)
    random = np.random.default_rng(0)
    for variable in agent.trainable_variables:
        variable.assign(variable + random.normal(0, 0.2, variable.shape))
    output = tmp_path_factory.mktemp("model") / "memory"
    Exporter(tasks, config).write(output, agent, 0, 0)
    return agent, SavedPolicy(str(output))


def make(number: int, seed: int):
    return environments.make("memory", 1, seed, autoreset=False)


def play(policy, numbers, num_envs, **others) -> dict[int, Episode]:
    ended: dict[int, Episode] = {}

    def add(episode: Episode) -> None:
        assert episode.number not in ended
        ended[episode.number] = episode

    arguments = {"make": make, "add": add, "greedy": False, "go_on": lambda steps: True, **others}
    episodes.play(policy, seed=5, numbers=numbers, num_envs=num_envs, label="memory", **arguments)
    return ended


def slowly(agent: Agent, number: int, greedy: bool) -> Episode:
    """Plays one episode step by step with the agent and one environment."""
    seed = episodes.seed_of(5, number)
    random = np.random.default_rng(seed)
    with contextlib.closing(environments.make("memory", 1, seed)) as environment:
        output = environment.reset()
        state, action = agent.initial_state(1), np.zeros(1, np.int32)
        while True:
            start = tf.constant([False])  # The state is initial, and the loop ends with the episode.
            answer, state = agent.step(AgentInput(output.observation, output.reward, action, start), state)
            logits = answer.logits.numpy()[0]
            chosen = np.argmax(logits if greedy else logits + random.gumbel(size=4))
            action = np.array([chosen], np.int32)
            output = environment.step(action)
            if output.episode_length[0]:
                return Episode(number, seed, float(output.episode_return[0]), int(output.episode_length[0]))


@pytest.mark.parametrize("greedy", [False, True])
def test_equal_to_a_slow_loop(memory, greedy, caplog):
    """Returns, lengths and seeds are equal: the core state is kept within an episode and reset between episodes."""
    agent, policy = memory
    ended = play(policy, range(40), num_envs=7, greedy=greedy)
    assert ended == {number: slowly(agent, number, greedy) for number in range(40)}
    assert {0.0, 1.0} == {episode.episode_return for episode in ended.values()}
    assert caplog.records == []


def test_episodes_do_not_depend_on_those_played_alongside(memory):
    _, policy = memory
    together = play(policy, range(12), num_envs=12)
    assert play(policy, [11, 3], num_envs=1) == {number: together[number] for number in (3, 11)}


def test_all_count_and_none_twice(memory):
    """Also with more environments than episodes."""
    _, policy = memory
    assert sorted(play(policy, range(5), num_envs=9)) == list(range(5))
    assert play(policy, [], num_envs=1) == {}


def test_stops_between_steps(memory):
    _, policy = memory
    assert 0 < len(play(policy, range(1000), num_envs=4, go_on=lambda steps: steps < 40)) < 20


class Breaks:
    """Makes environments; the first `times` ones for episode 2 raise at their third step."""

    def __init__(self, times: int):
        self._left, self.made, self.closed = times, 0, 0

    def __call__(self, number: int, seed: int):
        environment = make(number, seed)
        self.made += 1
        if number == 2 and self._left:
            self._left -= 1
            receive, steps = environment.receive, iter(range(2))
            environment.receive = lambda: receive() if next(steps, None) is not None else 1 / 0
        close = environment.close

        def closed():
            self.closed += 1
            close()

        environment.close = closed
        return environment


def test_an_episode_that_fails_is_replayed(memory, caplog):
    _, policy = memory
    breaks = Breaks(2)
    ended = play(policy, range(6), num_envs=3, make=breaks)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert (
        caplog.messages == ["memory: episode 2 failed (ZeroDivisionError: division by zero); it will be replayed"] * 2
    )
    assert ended == play(policy, range(6), num_envs=3)
    assert breaks.closed == 8


def test_an_episode_that_always_fails(memory):
    _, policy = memory
    breaks = Breaks(99)
    with pytest.raises(UserError, match=r"memory: episode 2 failed 3 times \(ZeroDivisionError"):
        play(policy, range(6), num_envs=3, make=breaks)
    assert breaks.closed == breaks.made  # Exactly once each: ALE environments must not be closed twice.


def test_processes_play_the_same_episodes_and_one_that_dies_is_replaced(memory, caplog):
    _, policy = memory
    kills = iter([True])

    def make_process(number: int, seed: int):
        pool = WorkerPool(environments.spec("memory"), ["memory"], {"autoreset": False}, seed, 60.0, restart=False)
        environment = Lockstep(pool, 60.0, pool.close)
        if next(kills, False):
            send = environment.send

            def kill(actions):
                (process,) = (child for child in multiprocessing.active_children() if child.name == "memory")
                os.kill(process.pid, signal.SIGKILL)
                send(actions)

            environment.send = kill
        return environment

    assert play(policy, [2, 0], num_envs=1, make=make_process) == play(policy, [0, 2], num_envs=1)
    (message,) = caplog.messages
    assert message.startswith("memory: episode 2 failed (EnvironmentFailed: ") and "SIGKILL" in message
    assert not [child for child in multiprocessing.active_children() if child.name == "memory"]


def test_an_episode_that_cannot_be_recorded(memory):
    _, policy = memory
    counts = Breaks(0)

    def full(episode: Episode) -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"):
        play(policy, range(6), num_envs=3, make=counts, add=full)
    assert counts.closed == counts.made > 0


def test_an_environment_that_cannot_be_made(memory):
    _, policy = memory

    def never(number, seed):
        raise UserError("no such level")

    with pytest.raises(UserError, match="no such level"):
        play(policy, range(6), num_envs=3, make=never)


def test_watches_the_first_episode(memory):
    _, policy = memory
    moments = []
    ended = play(policy, range(3), num_envs=3, watch=moments.append)
    assert [moment.step for moment in moments] == list(range(ended[0].length))
    assert moments[0].reward == 0 and moments[0].logits.shape == (4,)


def test_a_policy_that_is_not_finite(tmp_path):
    config, tasks = run_of_memory()
    broken = make_agent(tasks.spec, config)
    broken.head_variables[0].assign(broken.head_variables[0] * np.nan)
    Exporter(tasks, config).write(tmp_path / "model", broken, 0, 0)
    with pytest.raises(UserError, match="not finite"):
        play(SavedPolicy(str(tmp_path / "model")), range(3), num_envs=3)
