"""Bad input gives an error in one clear line and a failing exit status, immediately or after the given timeout."""

from __future__ import annotations

import json
import socket

import pytest

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.records.logdir import LogDir
from impala_tf.roles import actor as actor_role

AT_ONCE = 10
AFTER_A_WAIT = 60


@pytest.fixture(scope="module")
def warm():
    """The commands start as users start them: it takes no imports to find a mistake."""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--total_frame=3"], ["total_frame", "Did you mean", "total_frames"]),
        (["--num_actors=many"], ["--num_actors=many"]),
        (["--torso=wide"], ["--torso=wide", "shallow", "deep"]),  # More of its kind in tests/test_flags.py.
        (["--rho_bar=0.5", "--c_bar=1"], ["--rho_bar", "--c_bar"]),
        (["--env=catch", "runs/catch"], ["runs/catch", "--name=value"]),
        (["--env=catch"], ["--logdir"]),
        (["--env=catch", "--num_actors=0"], ["--logdir"]),
        (["--env=catch", "--role=actor"], ["--address"]),
        (["--env=catch", "--role=actor", "--address=nonsense"], ["nonsense", "host:port"]),
        (["--env=catch", "--role=actor", "--address=localhost:http"], ["localhost:http", "host:port"]),
        (["--role=relay"], ["--role=relay needs --address"]),
        (["--role=actor", "--address=localhost:9", "--relay=here"], ["--relay='here'", "the relay's host:port"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_wrong_flags(start, error_of, flags, message):
    error = error_of(start(*flags), AT_ONCE)
    assert all(part in error for part in message), error


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--env=atari/brekout", ["did you mean atari/breakout"]),
        ("--env=cach", ["'cach'", "did you mean catch"]),
        ("--env=gymnasium/CartPol-v1", ["CartPole"]),
        ("--reverb_config=of_policy", ["--reverb_config=of_policy", "on_policy"]),
        ("--reverb_config=no/such.textproto", ["no/such.textproto", "No such file"]),
    ],
)
def test_wrong_names_leave_no_trace(start, error_of, tmp_path, flag, message):
    """The corrected command must not fail because the folder holds a run with other settings."""
    error = error_of(start("--env=catch", flag, f"--logdir={tmp_path}/run"), AT_ONCE)
    assert all(part in error for part in message), error
    assert not (tmp_path / "run").exists()


def test_a_queue_that_is_too_small_does_not_claim_the_folder(start, error_of, tmp_path):
    error = error_of(start("--env=catch", "--queue_size=16", f"--logdir={tmp_path}/run"), 60)
    assert "--queue_size" in error
    assert not (tmp_path / "run" / "config.json").exists() and not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("path", ["file/run", "file", "/proc/run"])
def test_logdir_that_cannot_be_written(start, error_of, tmp_path, path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / path) in error_of(start("--env=catch", f"--logdir={tmp_path / path}"), AT_ONCE)


@pytest.mark.parametrize("content", ['{"env": "catch",', "[1]", "\xff"])
def test_damaged_settings(start, error_of, tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    error = error_of(start("--env=catch", f"--logdir={tmp_path}"), AT_ONCE)
    assert str(tmp_path / "config.json") in error and "damaged" in error
    assert (tmp_path / "config.json").read_bytes() == content.encode("latin-1")


def test_logdir_of_another_run(start, error_of, tmp_path):
    values = {"env": "catch", "logdir": str(tmp_path), "learning_rate": 0.5, "unroll_length": 7}
    logdir = LogDir(str(tmp_path))
    logdir.prepare(config_lib.from_values(values))
    (logdir.checkpoints / "000000000700").mkdir(parents=True)  # Without a checkpoint, its settings bind nobody.
    before = (tmp_path / "config.json").read_text()
    error = error_of(start("--env=catch", "--unroll_length=7", "--core=lstm", f"--logdir={tmp_path}"), AT_ONCE)
    assert "--learning_rate: 0.5 there, 0.0006 now" in error and "--core: none there, lstm now" in error
    assert "unroll_length" not in error and "--env" not in error
    assert (tmp_path / "config.json").read_text() == before and json.loads(before)["learning_rate"] == 0.5


@pytest.mark.parametrize("num_actors", [0, 1])
def test_logdir_in_use(start, error_of, tmp_path, num_actors):
    with LogDir(str(tmp_path)).lock():
        error = error_of(start("--env=catch", f"--num_actors={num_actors}", f"--logdir={tmp_path}"), AT_ONCE)
    assert "Another run" in error and str(tmp_path) in error
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("role", ["all", "learner"])
def test_port_in_use(start, error_of, tmp_path, role):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        error = error_of(start("--env=catch", f"--role={role}", f"--port={port}", f"--logdir={tmp_path}"), AT_ONCE)
    assert f"--port={port}" in error and "in use" in error


def test_missing_package(start, error_of, tmp_path):
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'ale_py':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from run.train import main\n"
        "main()\n"
    )
    error = error_of(start("--env=atari/pong", f"--logdir={tmp_path}/run", command=("-c", program)), AT_ONCE)
    assert "ale-py" in error and "pip install" in error


@pytest.mark.slow(11)
def test_nobody_listens(start, error_of):
    """What the command says of one address, an actor in this process says of another."""
    actor = start("--env=catch", "--role=actor", "--connect_timeout=1", "--address=localhost:9")
    config = config_lib.from_values({"env": "catch", "role": "actor", "connect_timeout": 1.0})
    with pytest.raises(UserError, match=r"No learner answered at no-such-host.invalid:8000 within 1 s"):
        actor_role.connect(config, task_set.resolve(config.environment), "no-such-host.invalid:8000")
    assert "No learner answered at localhost:9 within 1 s" in error_of(actor, AFTER_A_WAIT)
