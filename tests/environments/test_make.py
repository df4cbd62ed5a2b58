"""Environments by id."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).parent))

import instances

from impala_tf import environments
from impala_tf.environments.base import EnvironmentFailed
from impala_tf.errors import UserError

ALL = ["atari/breakout", "gymnasium/CartPole-v1", "catch", "memory", "counting"]


@pytest.mark.parametrize("env_id", ALL)
def test_every_environment_keeps_the_contract(env_id: str):
    environment = environments.make(env_id, 3, seed=0, env_threads=1)
    assert environment.num_envs == 3 and environment.spec == environments.spec(env_id)
    spec = environment.spec.observation
    kept = []
    outputs = [environment.reset()]
    for t in range(30):
        actions = np.full(3, t % 2, np.int32)
        if t % 3:
            outputs.append(environment.step(actions))
        else:
            environment.send(actions)
            outputs.append(environment.receive())
    for output in outputs:
        assert output.observation.shape == (3, *spec.shape) and output.observation.dtype == spec.dtype
        assert [x.shape for x in output[1:]] == [(3,)] * 5
        assert [x.dtype.name for x in output[1:]] == ["float32", "bool", "bool", "float32", "int32"]
        assert not (output.terminated & output.truncated).any()
        kept.append([x.copy() for x in output])
    assert not any(x.any() for x in outputs[0][1:])
    arrays = [x for output in outputs for x in output]
    for i, array in enumerate(arrays):  # Fresh arrays, that no other output shares.
        assert not any(np.shares_memory(array, other) for other in arrays[i + 1 :])
    environment.close()


def test_outputs_are_not_written_into_later():
    for env_id in ALL:
        environment = environments.make(env_id, 2, seed=0)
        first = environment.reset()
        copy = [x.copy() for x in first]
        for _ in range(20):
            environment.step(np.ones(2, np.int32))
        for now, then in zip(first, copy, strict=True):
            np.testing.assert_array_equal(now, then)


def test_options_arrive_at_atari_and_are_ignored_elsewhere():
    assert environments.spec("atari/breakout", full_action_set=True).num_actions == 18
    assert environments.spec("catch", full_action_set=True).num_actions == 3
    environment = environments.make("atari/pong", 1, 0, max_frames_per_episode=8, life_loss_ends_episode=False)
    environment.reset()
    assert [environment.step(np.zeros(1)).truncated[0] for _ in range(4)] == [False, True] * 2


def test_each_family_gets_its_own_options(monkeypatch):
    options = {"full_action_set": True, "env_threads": 1, "dmlab_renderer": "hardware", "dmlab_test": True}
    for env_id, own in [
        ("atari/pong", {"full_action_set": True, "env_threads": 1}),
        ("dmlab/rooms_watermaze", {"renderer": "hardware", "test": True}),
        ("gymnasium/CartPole-v1", {}),
        ("minatar/breakout", {}),
        ("minigrid/BabyAI-GoToRedBall-v0", {}),
        ("vizdoom/Basic", {}),
    ]:
        calls = []
        monkeypatch.setattr(
            environments, "_get", lambda module, name, calls=calls: lambda *a, **o: calls.append((a, o))
        )
        environments.make(env_id, 2, 3, autoreset=False, **options)
        assert calls == [((env_id.partition("/")[2], 2, 3), {"autoreset": False, "render": False, **own})]


@pytest.mark.usefixtures("deepmind_lab")
def test_check_makes_nothing_and_finds_what_is_unknown():
    for env_id in [*ALL, "dmlab/rooms_watermaze", "gymnasium/no-such-id", "vizdoom/no-such-scenario"]:
        environments.check(env_id, full_action_set=True, dmlab_renderer="software", dmlab_level_cache="")
    for env_id in ["atari/brekout", "dmlab/rooms_watermase", "cach", "catch/", "gymnasium/"]:
        with pytest.raises(UserError, match="unknown"):
            environments.check(env_id)
    with pytest.raises(UserError, match="level cache /dev/null/x cannot be written to"):
        environments.check("dmlab/rooms_watermaze", dmlab_level_cache="/dev/null/x")


def test_which_environments_need_a_process():
    ids = [*ALL, "dmlab/rooms_watermaze", "vizdoom/Basic", "minatar/x", "minigrid/x", "dmlab", "no-such-family/x"]
    needing = [env_id for env_id in ids if environments.needs_process(env_id)]
    assert needing == ["dmlab/rooms_watermaze", "vizdoom/Basic", "dmlab"]


def test_every_environment_shows_itself_and_names_its_actions():
    shapes = {
        "atari/breakout": (210, 160, 3),
        "gymnasium/CartPole-v1": (400, 600, 3),
        "catch": (10, 5, 3),
        "memory": (1, 5, 3),
        "counting": (1, 4, 3),
    }
    for env_id in ALL:
        environment = environments.make(env_id, 2, seed=0, render=True, autoreset=False)
        output = environment.reset()
        images = [environment.render()]
        for _ in range(3):
            output = environment.step(np.full(2, 1, np.int32))
            images.append(environment.render())
        for image in images:
            assert image.shape == shapes[env_id] and image.dtype == np.uint8
        assert any((image != images[0]).any() for image in images)
        if env_id == "catch":
            np.testing.assert_array_equal(images[-1], 255 * output.observation[0, ..., None].repeat(3, -1))
        names = environment.spec.action_names
        assert len(names) == (0 if env_id.startswith(("gymn", "coun")) else environment.spec.num_actions)
        environment.close()


@pytest.mark.parametrize(
    "env_id, message",
    [
        ("BabyAI-GoToRedBall-v0", r"did you mean minigrid/BabyAI-GoToRedBall-v0\?"),
        ("takecover", r"did you mean vizdoom/TakeCover\?"),
    ],
)
def test_unknown_ids_of_worlds(env_id: str, message: str):
    pytest.importorskip("minigrid")
    pytest.importorskip("vizdoom")
    with pytest.raises(UserError, match=message):
        environments.make(env_id, 1, 0)


@pytest.mark.parametrize(
    "env_id, message",
    [
        ("atari/brekout", "did you mean atari/breakout"),
        ("cach", "did you mean catch"),
        ("CartPole-v1", r"did you mean gymnasium/CartPole-v1\?"),
        ("cartpole-v1", r"did you mean gymnasium/CartPole-v1\?"),
        ("breakout", r"did you mean atari/breakout\?"),
        ("ALE/MsPacman-v5", r"did you mean atari/ms_pacman\?"),
        ("gym/CartPole-v1", r"did you mean gymnasium/CartPole-v1\?"),
        ("minatr/breakout", r"did you mean minatar/breakout\?"),
        ("MinAtar/SpaceInvaders-v1", r"did you mean minatar/space_invaders\?"),
        ("catch/", r"atari/<game>, dmlab/<level>, .*, gymnasium/<id>, catch, memory, counting"),
        ("atari/", r"The forms are atari/<game>"),
        ("", r"The forms are atari/<game>"),
        ("zzzzzz", r"'zzzzzz': The forms are atari/<game>"),
    ],
)
def test_unknown_ids(env_id: str, message: str):
    with pytest.raises(UserError, match=message):
        environments.make(env_id, 1, 0)


@pytest.mark.parametrize(
    ("how", "message"),
    [("raise", "Unpicklable: no way"), ("sys.exit", r"EnvironmentFailed: .*Vector-v0 called sys.exit\(7\)")],
)
def test_a_constructor_that_fails_is_told_in_one_line(how: str, message: str, tmp_path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, how, "make"))
    with pytest.raises(UserError, match=rf"^gymnasium/instances:Vector-v0 cannot be made: {message}$"):
        environments.spec("gymnasium/instances:Vector-v0")


@pytest.mark.parametrize("when", ["reset", "step"])
def test_an_environment_that_exits_has_failed(when: str, tmp_path, monkeypatch):
    monkeypatch.setenv("INSTANCES", instances.configure(tmp_path, 0, "sys.exit", when))
    environment = environments.make("gymnasium/instances:Vector-v0", 1, 0)
    with pytest.raises(EnvironmentFailed, match=r"Vector-v0 called sys.exit\(7\)"):
        environment.reset()
        for _ in range(3):
            environment.step(np.zeros(1))


def test_numbers_out_of_range():
    with pytest.raises(UserError, match="number of environments"):
        environments.make("catch", 0, 0)
    with pytest.raises(UserError, match="seed"):
        environments.make("catch", 1, -1)


def test_importing_is_light():
    code = (
        "import sys, impala_tf.environments, impala_tf.environments.atari, impala_tf.environments.gymnasium_env;"
        "sys.exit(str({'tensorflow', 'ale_py', 'gymnasium'} & set(sys.modules)) "
        "if {'tensorflow', 'ale_py', 'gymnasium'} & set(sys.modules) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
