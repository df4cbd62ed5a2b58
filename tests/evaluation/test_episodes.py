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
from impala_tf.environments import base, task_set
from impala_tf.environments.remote.lockstep import Lockstep
from impala_tf.environments.remote.pool import WorkerPool
from impala_tf.errors import UserError
from impala_tf.evaluation import episodes
from impala_tf.evaluation.episodes import Episode, RandomPolicy, TaskFailed
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


def seed_of(number: int) -> int:
    return episodes.seed_of(5, number)


def make(seed: int):
    return environments.make("memory", 1, seed, autoreset=False)


def play(policy, numbers, num_envs, **others) -> dict[int, Episode]:
    ended: dict[int, Episode] = {}

    def add(episode: Episode) -> None:
        assert episode.number not in ended
        ended[episode.number] = episode

    arguments = {"make": make, "add": add, "greedy": False, "go_on": lambda steps: True, **others}
    episodes.play(policy, seed_of=seed_of, numbers=numbers, num_envs=num_envs, label="memory", **arguments)
    return ended


def slowly(agent: Agent, number: int, greedy: bool) -> Episode:
    """Plays one episode step by step with the agent and one environment."""
    seed = seed_of(number)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
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

    def __call__(self, seed: int):
        environment = make(seed)
        self.made += 1
        if seed == seed_of(2) and self._left:
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
    with pytest.raises(TaskFailed, match=r"memory: episode 2 failed 3 times \(ZeroDivisionError"):
        play(policy, range(6), num_envs=3, make=breaks)
    assert breaks.closed == breaks.made  # Exactly once each: ALE environments must not be closed twice.


def test_processes_play_the_same_episodes_and_one_that_dies_is_replaced(memory, caplog):
    _, policy = memory
    kills = iter([True])

    def make_process(seed: int):
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

    def never(seed):
        raise UserError("no such level")

    with pytest.raises(TaskFailed, match="memory: no such level"):
        play(policy, range(6), num_envs=3, make=never)


def test_watches_every_step_and_the_end(memory):
    """At the end, the last reward and the whole return are shown."""
    _, policy = memory
    moments = []
    ended = play(policy, range(40), num_envs=7, watch=moments.append)
    for number, episode in ended.items():
        *steps, last = (moment for moment in moments if moment.number == number)
        assert [moment.step for moment in steps] == list(range(episode.length))
        assert not any(moment.ended for moment in steps) and last.ended
        assert (last.step, last.episode_return) == (episode.length, episode.episode_return)
        assert last.reward == episode.episode_return - steps[-1].episode_return
        assert steps[0].reward == 0 and steps[0].logits.shape == (4,)
    assert any(moment.reward for moment in moments if moment.ended)


def test_the_random_policy_draws_all_actions_equally_often():
    chosen = []

    class Environment:
        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __init__(self, seed):
            self.inner = make(seed)

        def send(self, actions):
            chosen.extend(actions.tolist())
            self.inner.send(actions)

    ended = play(RandomPolicy(4), range(300), num_envs=30, make=Environment, greedy=False)
    assert len(ended) == 300 and ended == play(RandomPolicy(4), range(300), num_envs=7)
    expected = len(chosen) / 4
    assert np.bincount(chosen) == pytest.approx([expected] * 4, abs=4 * expected**0.5)


def seeds_of_training(seed: int, learner_step: int) -> set[int]:
    """The seeds of the games of 64 actors with 32 environments each."""
    from impala_tf.roles import actor

    config, found = config_lib.from_values({"env": "catch", "seed": seed}), set()
    for number in range(64):
        of_actor, _ = actor.seeds(config, number, learner_step)
        found |= {of_actor, *base.instance_seeds(of_actor, 32).tolist()}
        for environment in range(32):  # Those in processes of their own.
            found.add(int(np.random.SeedSequence([of_actor, environment, 0]).generate_state(1)[0] >> 1))
    return found


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_evaluation_training_and_its_evaluations_play_different_games(seed):
    def seeds(purpose):
        found = [episodes.seed_of(seed, number, purpose) for number in range(500)]
        return {*found, *(int(base.instance_seeds(one, 1)[0]) for one in found)}

    final, in_training = seeds(episodes.FINAL), seeds(episodes.IN_TRAINING)
    assert len(final) == len(in_training) == 1000
    assert final.isdisjoint(in_training)
    assert (final | in_training).isdisjoint(seeds_of_training(seed, 0) | seeds_of_training(seed, 125))


def test_actions_are_not_drawn_from_the_environments_generator():
    """Environments such as Catch seed theirs with the episode's seed itself."""
    player = episodes._Player(0, 5, make(5), RandomPolicy(4))
    assert player._random.random() != np.random.default_rng(5).random()


def test_what_breaks_while_the_evaluation_ends_is_not_reported(memory, caplog):
    _, policy = memory
    breaks = Breaks(99)
    assert play(policy, [2], num_envs=1, make=breaks, go_on=lambda steps: steps < 3) == {}
    assert caplog.messages == [] and breaks.closed == breaks.made == 1


def test_a_policy_that_is_not_finite(tmp_path):
    config, tasks = run_of_memory()
    broken = make_agent(tasks.spec, config)
    broken.head_variables[0].assign(broken.head_variables[0] * np.nan)
    Exporter(tasks, config).write(tmp_path / "model", broken, 0, 0)
    with pytest.raises(UserError, match="not finite"):
        play(SavedPolicy(str(tmp_path / "model")), range(3), num_envs=3)
