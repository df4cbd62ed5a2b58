"""What a run asks of a cluster, by its size."""

from __future__ import annotations

import contextlib
import threading

import pytest

from impala_tf import config as config_lib
from impala_tf import topology
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.launch.ray import cluster, driver, training
from impala_tf.records.logdir import LogDir
from impala_tf.run import train


@pytest.fixture
def placed(monkeypatch):
    """What `driver.run` is called with; the cluster has as many CPUs and GPUs as "processors" says."""
    found: dict = {"processors": (8, 0)}
    monkeypatch.setattr(cluster, "processors", lambda: found["processors"])
    monkeypatch.setattr(cluster, "machines", lambda: 1)
    monkeypatch.setattr(cluster, "joined", lambda address: contextlib.nullcontext())
    monkeypatch.setattr(
        driver, "run", lambda describe, learners, actors, *_, **__: found.update(learners=learners, actors=actors)
    )
    return found


def config(tmp_path, **values):
    return config_lib.from_values({"env": "catch", "cluster": "ray", "logdir": str(tmp_path), **values})


@pytest.mark.parametrize(
    ("gpus", "takes", "says"),
    [
        (0, 0, "no GPUs: learners run on CPUs; start the run again once machines with GPUs are up"),
        (1, 1, "each of 2 learners takes a GPU, and there are 1; they wait for machines"),
        (2, 1, ""),
    ],
)
def test_what_learners_do_without_a_gpu_each_is_said(placed, tmp_path, caplog, gpus, takes, says):
    placed["processors"] = (8, gpus)
    made = config(tmp_path, num_learners=2)
    with caplog.at_level("INFO", "impala_tf"):
        training.run(made, task_set.resolve(made.environment), LogDir(str(tmp_path)), threading.Event())
    assert [learner.args[1] for learner in placed["learners"]] == [takes] * 2
    assert [message for message in caplog.messages if "learners" in message] == [says] * bool(says)


def test_tasks_share_the_environments_of_the_clusters_actors(placed, tmp_path, monkeypatch):
    """Three actors would not do, as many as this machine has cores."""
    monkeypatch.setattr(topology, "cores", lambda: 3)
    monkeypatch.setattr(train, "_conclude", lambda config, received: 0)
    monkeypatch.setattr(train, "stop_on_signal", lambda: (threading.Event(), []))
    placed["processors"] = (5, 0)
    made = config(tmp_path, env="gymnasium/CartPole-v1,gymnasium/CartPole-v0", envs_per_actor=1)
    with pytest.raises(UserError, match="tasks cannot share the environments of 3 actors"):
        topology.resolve(made, 2, topology.alone("localhost:0"))
    assert train._run_cluster(made) == 0
    assert len(placed["actors"]) == 4
