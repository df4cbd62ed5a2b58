"""An evaluation in its own process, which plays environments that need processes of their own."""

from __future__ import annotations

import csv
import threading

import pytest

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.networks.agent import make_agent
from impala_tf.records.logdir import LogDir
from impala_tf.roles.exports import Exports


def test_an_export_is_evaluated_in_vizdoom(tmp_path, caplog):
    pytest.importorskip("vizdoom")
    config = config_lib.from_values({"env": "vizdoom/Basic", "evaluate_every": 10, "evaluate_episodes": 1})
    tasks, logdir = task_set.resolve(config.environment), LogDir(str(tmp_path))
    exports = Exports(config, tasks, logdir, 0)
    exports.add(make_agent(tasks.spec, config), frames=10, learner_step=1, final=True)
    exports.finish(threading.Event())
    exports.close()
    assert not caplog.messages
    (row,) = csv.DictReader(logdir.evaluations.read_text().splitlines())
    assert (row["frames"], row["task"], row["episodes"]) == ("10", "vizdoom/Basic", "1")
