"""Which settings tell one run from another."""

import pytest

from impala_tf import config as config_lib
from impala_tf.records import differences


def settings(**values):
    return config_lib.to_values(config_lib.from_values({"env": "catch", **values}))


@pytest.mark.parametrize(
    ("values", "differs"),
    [
        ({"logdir": "elsewhere", "checkpoint_interval": 5.0, "log_interval": 2.0, "port": 1234}, False),
        ({"learning_rate": 0.5}, True),
        ({"seed": 2}, True),
        ({"learner_threads": 1}, True),
        ({"total_frames": 1000}, True),
        ({"annealing_frames": 5000}, True),
    ],
)
def test_what_has_no_effect_is_not_compared(values, differs):
    assert (differences.compared(settings(**values)) != differences.compared(settings())) == differs


def test_the_number_of_frames_has_no_effect_on_a_schedule_of_its_own():
    short, long = (settings(total_frames=n, annealing_frames=5000) for n in (1000, 2000))
    assert differences.compared(short) == differences.compared(long)


def test_settings_that_an_earlier_version_did_not_have_are_at_their_defaults():
    earlier = settings()
    del earlier["correction"], earlier["policy_lag"]
    assert differences.compared(earlier) == differences.compared(settings())


def test_those_that_are_not_the_defaults():
    values = {**settings(learning_rate=0.5, logdir="x"), "unknown": 3}
    assert differences.from_defaults(values) == {"env": "catch", "learning_rate": 0.5, "unknown": 3}
