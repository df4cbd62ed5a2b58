"""A learner and actors started by hand, each with --role."""

from __future__ import annotations

import re
import signal

import pytest

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.roles import actor as actor_role
from impala_tf.transport import ports

AFTER_A_WAIT = 60
NUM_ACTORS = 64
ENVS_PER_ACTOR = 8  # The default with that many actors; an actor that counted its own cores would use 12.


@pytest.fixture(scope="module")
def learner(start_shared, tmp_path_factory):
    """A learner of Catch that waits for actors, and the flags with which an actor finds it."""
    port = ports.free_port()
    run = start_shared(
        "--role=learner",
        "--env=catch",
        "--batch_size=8",
        f"--num_actors={NUM_ACTORS}",
        f"--port={port}",
        f"--logdir={tmp_path_factory.mktemp('learner') / 'run'}",
        "--log_interval=0.1",
    )
    run.wait_until(lambda: "learner ready at" in run.out, AFTER_A_WAIT)
    return run, ("--role=actor", f"--address=localhost:{port}", "--connect_timeout=20")


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"env": "counting"}, "--env: catch at the learner, counting here"),
        ({"sticky_actions": 0.25}, "--sticky_actions: 0.0 at the learner, 0.25 here"),
        ({"full_action_set": True}, "--full_action_set: False at the learner, True here"),
        ({"core": "lstm"}, "--core: none at the learner, lstm here"),
        ({"unroll_length": 5}, "--unroll_length: 20 at the learner, 5 here"),
    ],
)
def test_an_actor_with_other_settings_is_refused(learner, other, difference):
    """In this process, which is not made anew for each; the command is tested below."""
    run, (_, address, _) = learner
    config = config_lib.from_values({"env": "catch", "connect_timeout": 20.0, **other})
    with pytest.raises(UserError) as error:
        actor_role.connect(config, task_set.resolve(config.environment), address.removeprefix("--address="))
    assert difference in str(error.value)
    assert str(error.value).count(" here") == 1, error.value  # Nothing else differs.
    assert run.process.poll() is None


def test_all_differences_are_reported(start, error_of, learner):
    _, flags = learner
    error = error_of(start("--env=counting", "--unroll_length=5", *flags), AFTER_A_WAIT)
    assert "does not fit the learner at localhost:" in error
    assert "--env: catch at the learner, counting here; --unroll_length: 20 at the learner, 5 here" in error


@pytest.mark.slow(13)
def test_a_relay_and_an_actor_that_pulls_from_it_end_when_their_learner_has_finished(start, tmp_path):
    port, own = ports.free_port(), ports.free_port()
    catch = ("--env=catch", "--batch_size=8")
    flags = ("--role=learner", "--num_actors=1", f"--port={port}", f"--logdir={tmp_path}", "--total_frames=5000")
    learner = start(*catch, *flags)
    relay = start("--role=relay", f"--address=localhost:{port}", f"--port={own}")
    actor = start(*catch, "--role=actor", f"--address=localhost:{port}", f"--relay=localhost:{own}")
    assert learner.finish(90) == 0, learner.describe()
    for started in (relay, actor):
        assert started.finish(10) == 0, started.describe()
        assert f"The learner at localhost:{port} has finished its run." in started.out, started.describe()
        assert "ERROR" not in started.err, started.describe()
    assert f"ready: actors of this machine can pull parameters with --relay=localhost:{own}" in relay.out


def test_an_actor_takes_part_and_has_as_many_environments_as_the_learner_says(start, learner, frames_saved):
    """Then the learner, asked to end, saves what it has learned."""
    run, flags = learner
    actor = start("--env=catch", "--actor_id=3", "--log_interval=0.2", *flags)

    def unrolls():
        return [int(number) for number in re.findall(r"(\d+) unrolls in", actor.err)]

    actor.wait_until(lambda: len(unrolls()) > 3 and any(number % 12 for number in unrolls()), AFTER_A_WAIT)
    assert all(number % ENVS_PER_ACTOR == 0 for number in unrolls()), unrolls()
    assert "ready" in actor.out
    run.wait_until(lambda: " frames/s " in run.out, AFTER_A_WAIT)
    run.process.send_signal(signal.SIGINT)
    assert run.finish(AFTER_A_WAIT) == 128 + signal.SIGINT, run.describe()
    assert run.err == "", run.describe()
    assert frames_saved(run.logdir)[-1] > 0
