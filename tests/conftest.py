"""What all tests share: quiet libraries, signals as in a terminal, no deadline for examples, slow tests last."""

import os
import signal

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # A busy one takes longer now and then.
hypothesis.settings.load_profile("any machine")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Under nohup, or in the background of a script, these are ignored, and the commands that tests start inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mistake that a fast test finds is then seen within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
