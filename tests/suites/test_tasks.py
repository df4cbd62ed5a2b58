"""What --env names."""

from __future__ import annotations

import pytest

from impala_tf import suites
from impala_tf.errors import UserError
from impala_tf.suites import tasks


def test_one_several_and_suites():
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
def test_what_cannot_be_meant(env, message):
    with pytest.raises(UserError, match=message):
        tasks.names(env)
