"""What all tests share: quiet libraries, signals as in a terminal, no deadline for examples, slow files last."""

import collections
import os
import pathlib
import signal
from collections.abc import Generator

import hypothesis
import pytest

from impala_tf.processes import imports

hypothesis.settings.register_profile("any machine", deadline=None)  # A busy one takes longer now and then.
hypothesis.settings.load_profile("any machine")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Under nohup, or in the background of a script, these are ignored, and the commands that tests start inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects no garbage while the tests and all that they need are imported, and never looks at that afterwards."""
    with imports.quickly():
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests last, the longest of them first.

    A mistake that a fast test finds is then seen within seconds, and all workers end at about the same time.
    """
    seconds: dict[pathlib.Path, float] = collections.Counter()
    for item in items:
        slow = item.get_closest_marker("slow")
        seconds[item.path] += (slow.args or (10,))[0] if slow else 0
    items.sort(key=lambda item: (seconds[item.path] > 0, -seconds[item.path]))
