"""Ray clusters of several nodes on this machine, each with processes of its own that can be killed.

The processes of a cluster belong to the process that made it. `python clusters.py <folder> <CPUs of each node>...`
makes one, prints its address and obeys lines on its standard input: "add CPUS" and "kill RAYLET"; it ends with its
input.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

ROOT = pathlib.Path(__file__).parents[3]
FAST = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
    "prestart_worker_first_driver": False,
}
"""Settings with which a machine that is lost is noticed within 9 s; and no workers that nobody needs."""
T = TypeVar("T")

PYTHONPATH = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests" / "launch"), os.environ.get("PYTHONPATH")]))
"""With which the workers find the package and what tests run."""


class Nodes:
    """A cluster in a process of its own.

    Attributes:
      address: host:port of its head.
      mark: name=value in the environment of all its processes.
    """

    def __init__(self, folder: pathlib.Path, *cpus: int):
        """Starts a head, without CPUs of its own, and a node for each of `cpus`."""
        self.mark = f"IMPALA_TF_CLUSTER={uuid.uuid4()}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder), *map(str, cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH, **dict([self.mark.split("=")])},
        )
        self.address = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the cluster could not be started"
        return line

    def _obey(self, order: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._line()

    def add(self, cpus: int) -> None:
        """Adds a node."""
        self._obey(f"add {cpus}")

    def kill(self, raylet: int) -> None:
        """Kills all processes of a node, without a farewell; named by its raylet's process id."""
        assert self._obey(f"kill {raylet}") == "done"

    def close(self) -> None:
        """Ends all processes of the cluster."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def running(mark: str) -> dict[int, str]:
    """Returns {process id: name} of the processes, dead ones left out, with name=value in their environment."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # The process has just ended.
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "comm").read_text().strip()
    return found


def _serve(folder: str, cpus: list[int]) -> None:
    os.environ["RAY_TMPDIR"] = folder
    pathlib.Path(folder).mkdir(exist_ok=True)
    import ray
    from ray.cluster_utils import Cluster

    # A node whose agents take longer than 15 s to start gives up: these have less to import.
    ray._private.utils.get_dashboard_dependency_error = lambda: ImportError("not needed")

    def options(count: int) -> dict:
        return {"num_cpus": count, "object_store_memory": 80 << 20}

    head = {**options(0), "include_dashboard": False, "_system_config": FAST}
    nodes = {}

    def patiently(start: Callable[[], T]) -> T:
        for _ in range(6):
            try:
                return start()
            except Exception:  # A busy machine takes too long to start it.
                time.sleep(1)
        raise SystemExit("a node could not be started")

    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))

    def add(count: int) -> None:
        node = patiently(lambda: cluster.add_node(**options(count)))
        nodes[node.all_processes["raylet"][0].process.pid] = node

    for count in cpus:
        add(count)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        order, value = line.split()
        if order == "add":
            add(int(value))
        else:
            cluster.remove_node(nodes.pop(int(value)), allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve(sys.argv[1], list(map(int, sys.argv[2:])))
