"""Joining a cluster: what cannot work is said in one line, soon; and Ray is imported only there."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from impala_tf.errors import UserError
from impala_tf.launch.ray import cluster
from impala_tf.transport import ports


def fails(address: str, message: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=message) as error, cluster.joined(address):
        raise AssertionError
    assert "\n" not in str(error.value) and time.monotonic() - start < 30


def test_an_address_where_nothing_listens():
    fails(f"localhost:{ports.free_port()}", r"no Ray cluster can be reached there \(Connection refused\)")


@pytest.mark.parametrize("address", ["localhost:70000", "localhost:x", "no.such.host.invalid:6379"])
def test_an_address_that_is_none(address):
    fails(address, f"--address={address}: no Ray cluster can be reached there")


def test_an_address_from_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"localhost:{ports.free_port()}")
    fails("", "no Ray cluster can be reached there")


def test_a_cluster_that_this_machine_is_no_part_of():
    fails("ray://10.0.0.1:10001", "must be on a machine of the cluster; start it there with --address=auto")


def test_no_cluster_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def find(*_, **__):
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    monkeypatch.setattr("ray.init", find)
    fails("auto", "no cluster runs on this machine; `ray start --head` starts one")


def test_other_problems_of_the_cluster_of_this_machine_are_said(monkeypatch):
    """Ray raises them from within a ConnectionError."""

    def mismatch(*_, **__):
        try:
            raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379") from error

    def several(*_, **__):
        raise ConnectionError("Found multiple active Ray instances: {'10.0.0.1:1', '10.0.0.1:2'}.")

    monkeypatch.setattr("ray.init", mismatch)
    fails("auto", r"^--address=auto: .*Version mismatch: The cluster was started with: Ray: 2\.9\.0$")
    monkeypatch.setattr("ray.init", several)
    fails("auto", "Found multiple active Ray instances")


def test_ray_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    fails("auto", r'^--cluster=ray needs Ray: pip install "impala-tf\[ray\]"\.$')


def test_nothing_else_imports_ray():
    """The launcher of one machine and the command, whose start it would slow down."""
    modules = "impala_tf.launch.local, impala_tf.run.train, impala_tf.launch.ray.host"
    code = f"import sys, {modules}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
