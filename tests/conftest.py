"""What all tests share: quiet libraries, signals as in a terminal, no deadline for examples, the order of files."""

import collections
import gc
import logging
import os
import pathlib
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from absl import flags as absl_flags

from impala_tf import config
from impala_tf.processes import imports

hypothesis.settings.register_profile("any machine", deadline=None)  # A busy one takes longer now and then.
hypothesis.settings.load_profile("any machine")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# It warns of many tracings, which tests of many agents need; some tests look at all that was logged.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# On some processors, TensorFlow has oneDNN rewrite every graph, which takes time. It is off here, so that tests compute
# the same on all processors, but not in commands that are started as users do it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's own threads wait for work by spinning.
# Under nohup, or in the background of a script, these are ignored, and the commands that tests start inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects no garbage while the tests and all that they need are imported, and never looks at that afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        imports.done()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spreads files with slow tests evenly among the others, the longest of them first.

    Slow tests mostly wait for processes, others compute: side by side, they keep the cores busy. All workers end at
    about the same time, and a mistake that a fast test finds is seen within seconds. The fast files come in reverse:
    those of transport, the last by name, mostly wait too, and would leave the cores idle at the end.
    """
    seconds: dict[pathlib.Path, float] = collections.Counter()
    for item in items:
        slow = item.get_closest_marker("slow")
        seconds[item.path] += (slow.args or (10,))[0] if slow else 0
    fast = [path for path, length in seconds.items() if not length][::-1]
    slow_files = sorted((path for path, length in seconds.items() if length), key=lambda path: -seconds[path])
    place = {path: float(number) for number, path in enumerate(fast)}
    for number, path in enumerate(slow_files):
        place[path] = number * len(fast) / len(slow_files) - 0.5
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(autouse=True)
def flags_at_their_defaults() -> Iterator[None]:
    """What a test has made of the flags, which are the process's, is not there for the next."""
    yield
    absl_flags.FLAGS.unparse_flags()
    if "total_frames" in absl_flags.FLAGS:
        for _, setting in config.settings():
            absl_flags.FLAGS[setting.name].unparse()
