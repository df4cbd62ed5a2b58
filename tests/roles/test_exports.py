"""Evaluations of a run in progress that go wrong; those that go well are in tests/run."""

from __future__ import annotations

import threading
import types

import pytest

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.processes.child import ChildFailed
from impala_tf.records.logdir import LogDir
from impala_tf.roles import exports as exports_module
from impala_tf.roles.exports import Exports


class _Process:
    """An evaluation's process.

    Attributes:
      done: what has been done with it.
    """

    def __init__(self, status, error=None, silence=0.0):
        self.status, self.error, self.silence, self.done = status, error, silence, []

    def hangs(self, seconds):
        return self.silence > seconds

    def poll(self):
        self.done.append("poll")

    def answer(self, seconds):
        if self.error:
            raise self.error

    def end(self):
        self.done.append("end")


@pytest.fixture
def exports(tmp_path):
    config = config_lib.from_values({"env": "catch", "evaluate_every": 10})
    made = Exports(config, task_set.resolve(config.environment), LogDir(str(tmp_path)), 0)
    yield made
    made.close()


def test_lines_of_an_evaluation_are_passed_on_while_it_runs(exports):
    process = exports._process = _Process(None)
    exports.poll()
    assert process.done == ["poll"]
    exports.close()
    assert process.done == ["poll", "end"]
    exports._process = None


@pytest.mark.parametrize(
    ("error", "written", "message"),
    [
        (UserError("no such level"), None, "no such level"),
        (ChildFailed("its process was ended by SIGKILL"), None, "ChildFailed: its process was ended by SIGKILL"),
        (None, None, "FileNotFoundError"),
        (None, "{", "JSONDecodeError"),
    ],
)
def test_an_evaluation_that_fails_is_told_and_training_continues(exports, tmp_path, caplog, error, written, message):
    output = tmp_path / "result.json"
    if written is not None:
        output.write_text(written)
    exports._evaluation = types.SimpleNamespace(output=str(output))
    process = exports._process = _Process(1 if error else 0, error)
    exports.poll()
    assert process.done == ["poll", "end"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("The evaluation at 0 frames failed: ") and message in caplog.messages[0]
    exports.poll()  # There is none any more.
    assert process.done == ["poll", "end"]


def test_an_evaluation_that_cannot_be_started_is_told_and_training_continues(exports, caplog, monkeypatch):
    def no_more_processes(*_):
        raise UserError("The evaluation could not be started (BlockingIOError).")

    monkeypatch.setattr(exports_module, "Child", no_more_processes)
    exports._exported = 1200
    exports.finish(threading.Event())  # Not again and again.
    assert caplog.messages == [
        "The evaluation at 1,200 frames failed: The evaluation could not be started (BlockingIOError)."
    ]


def test_the_last_evaluation_is_not_waited_for_if_it_hangs(exports, caplog):
    exports._evaluation = types.SimpleNamespace(output="")
    process = exports._process = _Process(None, silence=301.0)
    exports.finish(threading.Event())
    assert process.done == ["poll", "end"]
    assert caplog.messages == [
        "The evaluation at 0 frames failed: ChildFailed: there was no sign of life for 301 s, and it is ended"
    ]


def test_models_and_results_that_the_run_was_not_saved_with_are_set_aside(exports, tmp_path, caplog):
    """The run reaches their frames again, with another agent."""
    exports._csv.write({"frames": 10, "task": "catch"}, {"frames": 20, "task": "catch"})
    exports.close()
    for folder, names in (
        ("exports", ["0010", "0020", "0030"]),
        ("evaluations", ["0020.json", "0030.json", "0030.mp4"]),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    config = config_lib.from_values({"env": "catch", "evaluate_every": 10})
    resumed = Exports(config, task_set.resolve(config.environment), LogDir(str(tmp_path)), 20)
    assert (resumed._exported, resumed._evaluated) == (20, 20)
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["0010", "0020", "lost-0030"]
    left = sorted(path.name for path in (tmp_path / "evaluations").iterdir())
    assert left == ["0020.json", "lost-0030.json", "lost-0030.mp4"]
    assert len(caplog.messages) == 3 and "0030 is of 30 frames, to which the run was not saved" in caplog.messages[0]
    resumed.close()


def test_an_evaluation_that_was_not_logged_is_made_again(exports, tmp_path):
    exports._csv.write({"frames": 10, "task": "catch"})
    exports.close()
    for folder, name in (("exports", "0020"), ("evaluations", "0020.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    config = config_lib.from_values({"env": "catch", "evaluate_every": 10})
    resumed = Exports(config, task_set.resolve(config.environment), LogDir(str(tmp_path)), 20)
    assert (resumed._exported, resumed._evaluated) == (20, 10)
    resumed.close()
