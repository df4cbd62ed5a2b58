"""The tasks that --env names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from impala_tf import suites
from impala_tf.errors import UserError
from impala_tf.suites import tasks


def test_one_task_several_and_suites():
    assert tasks.names("catch") == ("catch",)
    assert tasks.names("atari/pong, atari/skiing") == ("atari/pong", "atari/skiing")
    assert tasks.names("atari57") == suites.env_ids("atari57") and len(tasks.names("atari57")) == 57
    assert tasks.names("dmlab30,catch") == (*suites.env_ids("dmlab30"), "catch")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("", "--env='' names no environment"),
        ("catch,,counting", "between two commas"),
        ("catch,counting,catch", "names catch more than once"),
        ("atari57,atari/pong", "names atari/pong more than once"),
    ],
)
def test_invalid_names_are_reported(env, message):
    with pytest.raises(UserError, match=message):
        tasks.names(env)


def test_the_module_and_the_suites_do_not_collide():
    """`from impala_tf.suites import tasks` must give the module, whether or not it was imported before."""
    code = (
        "from impala_tf import suites; from impala_tf.suites import tasks; "
        "assert tasks.names('atari57') == suites.env_ids('atari57')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
